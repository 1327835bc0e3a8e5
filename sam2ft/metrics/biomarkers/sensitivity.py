"""Sensitivity of a biomarker to the outline: its change per pixel of dilation or erosion of the reference mask.

With it, a difference to the reference can be expressed in pixels.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Mask
from sam2ft.metrics.biomarkers.rays import blur_mm
from sam2ft.metrics.measurement import MaskPair, Measurement, Metric
from sam2ft.metrics.regions import Block, block_with_room

T = TypeVar("T", bound=np.generic)

_FINER = 2
# A pixel of the finer grid and its four neighbours in the slice: half a pixel of the volume's grid.
_CROSS = ndimage.generate_binary_structure(2, 1)[None]


def with_sensitivity(metric: Metric, pair: MaskPair, found: Iterable[Measurement]) -> list[Measurement]:
    """Add the sensitivity to each measurement of the whole tissue in the volume; other measurements stay unchanged.

    Sensitivity = value of the reference dilated by half a pixel - value of the reference eroded by half a pixel, in the
    value's unit per pixel. Half a pixel is exact: each slice is upsampled by 2 in rows and columns, and the outline
    moves by one pixel of this grid (4-neighbourhood, within the slice). NaN if one of the two values is NaN.

    Args:
        metric: the metric that gave `found`.
        pair: the masks it was measured on.
        found: its measurements.
    """
    measured = list(found)
    if not any(_is_whole(one) for one in measured) or not pair.reference_zyx.any():
        return measured
    larger, smaller = (
        {_key(one): one.reference for one in metric.measure(moved) if _is_whole(one) and one.reference is not None}
        for moved in pair.once("moved", _moved_pairs)
    )
    change = {key: larger[key] - smaller[key] for key in larger.keys() & smaller.keys()}
    return [replace(one, sensitivity=change.get(_key(one), math.nan)) if _is_whole(one) else one for one in measured]


def _is_whole(one: Measurement) -> bool:
    return one.level == "volume" and one.reference is not None and one.instance is None


def _key(one: Measurement) -> tuple[str, str, str]:
    return one.measure, one.definition, one.unit


def _moved_pairs(pair: MaskPair) -> list[MaskPair]:
    """Pairs of the reference with itself on the finer grid, dilated and eroded by half a pixel."""
    block = _around(pair.reference_zyx, pair.geometry.spacing_zyx_mm)
    fine = _finer(pair.reference_zyx[block])
    larger = ndimage.binary_dilation(fine, _CROSS)
    # A tissue continues beyond the image, as everywhere in these metrics.
    smaller = ndimage.binary_erosion(fine, _CROSS, border_value=1)
    ids = pair.given_instances_zyx
    if ids is not None:
        # Voxels outside of the reference get the id of a neighbour, which they join when the outline moves.
        ids = _finer(ids[block])
        ids = np.where(fine, ids, ndimage.grey_dilation(ids, footprint=_CROSS))
    return [
        MaskPair(
            prediction_zyx=mask,
            reference_zyx=mask,
            geometry=_finer_geometry(pair.geometry, block),
            label=pair.label,
            maps={name: _finer(values[block]) for name, values in pair.maps.items()},
            bone_zyx=None if pair.bone_zyx is None else _finer(pair.bone_zyx[block]),
            vertebrae_zyx=None if pair.vertebrae_zyx is None else _finer(pair.vertebrae_zyx[block]),
            given_instances_zyx=None if ids is None else np.where(mask, ids, 0),
            given_vertebrae_zyx=None if pair.given_vertebrae_zyx is None else _finer(pair.given_vertebrae_zyx[block]),
            min_instance_mm3=pair.min_instance_mm3,
            dicom={name: values[block[0]] for name, values in pair.dicom.items()},
            settings=pair.settings,
        )
        for mask in (larger, smaller)
    ]


def _around(mask: Mask, spacing_mm: tuple[float, float, float]) -> Block:
    """Bounding box of a non-empty mask, with a margin for the blur of the bone and for rays."""
    room_mm = 4 * blur_mm(spacing_mm) + 2 * float(np.linalg.norm(spacing_mm))
    return block_with_room(mask, (math.ceil(room_mm / spacing) for spacing in spacing_mm))


def _finer(values: npt.NDArray[T]) -> npt.NDArray[T]:
    return values.repeat(_FINER, axis=1).repeat(_FINER, axis=2)


def _finer_geometry(geometry: Geometry, block: Block) -> Geometry:
    """Geometry of a block of the volume with half the pixel size; slices are unchanged."""
    shape = [len(range(size)[part]) for size, part in zip(geometry.shape_zyx, block, strict=True)]
    first_z, first_y, first_x = (part.start for part in block)
    affine = geometry.affine
    # The centre of the first finer pixel lies a quarter of a pixel before the centre of the first pixel.
    affine[:, 3] = affine @ np.array([first_x - 0.25, first_y - 0.25, first_z, 1.0])
    affine[:, :2] /= _FINER
    finer = (shape[0], shape[1] * _FINER, shape[2] * _FINER)
    return Geometry.from_affine(finer, affine, geometry.dz_source, oriented=geometry.oriented)
