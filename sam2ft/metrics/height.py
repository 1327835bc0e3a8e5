"""Height of a disc: area over length along its axis in the image plane, in mm, of every instance."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Mask
from sam2ft.metrics.measurement import MaskPair, Measurement

NUM_CENTRAL_SLICES = 3
UNITS = {
    "height": "mm",
    "height_anterior": "mm",
    "height_middle": "mm",
    "height_posterior": "mm",
    "area": "mm2",
}
"""height: area / length of the disc's axis; anterior, middle, posterior: the same in the thirds of the axis; area: of
the disc in the slice. Each the median over the three most central slices of the instance."""


@dataclass(frozen=True)
class TissueHeightMetric:
    """Height of each 3-D component, one row per instance, and their mean as the row of the whole tissue.

    Instances are numbered by the reference; a predicted component belongs to the one it overlaps most. An instance in
    one mask only is NaN on the other side, with its own status.
    """

    name: str = "tissueheight"
    needs: tuple[str, ...] = ()
    biomarker: bool = True

    def measure(self, pair: MaskPair) -> Iterator[Measurement]:
        references = _of_instances(pair.reference_instances_zyx, pair.geometry)
        predictions = _of_instances(pair.prediction_instances_zyx, pair.geometry)
        nothing = dict.fromkeys(UNITS, math.nan)
        for instance in sorted(references.keys() | predictions.keys()):
            reference, prediction = references.get(instance), predictions.get(instance)
            status = "missed" if prediction is None else "spurious" if reference is None else "ok"
            for definition, unit in UNITS.items():
                yield Measurement(
                    "instance",
                    self.name,
                    reference=(reference or nothing)[definition],
                    prediction=(prediction or nothing)[definition],
                    instance=instance,
                    definition=definition,
                    unit=unit,
                    status=status,
                    n_reference=int(reference is not None),
                    n_prediction=int(prediction is not None),
                )
        for definition, unit in UNITS.items():
            yield Measurement(
                "volume",
                self.name,
                reference=_mean([values[definition] for values in references.values()]),
                prediction=_mean([values[definition] for values in predictions.values()]),
                definition=definition,
                unit=unit,
                n_reference=len(references),
                n_prediction=len(predictions),
            )


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _of_instances(instances_zyx: npt.NDArray[np.int32], geometry: Geometry) -> dict[int, dict[str, float]]:
    """Instance number -> its numbers, each the median over its most central slices."""
    towards_front = anterior_direction_yx(geometry)
    found = {}
    for number in np.unique(instances_zyx[instances_zyx > 0]).tolist():
        mask = instances_zyx == number
        slices = [
            disc_heights(mask[index], geometry.spacing_zyx_mm[1:], towards_front) for index in _central_slices(mask)
        ]
        found[number] = {name: float(np.median([values[name] for values in slices])) for name in UNITS}
    return found


def _central_slices(mask_zyx: Mask) -> list[int]:
    """The three slices of a component nearest to the middle of its extent, in order; fewer when it has fewer."""
    filled = np.flatnonzero(mask_zyx.any(axis=(1, 2)))
    middle = (filled[0] + filled[-1]) / 2
    nearest = sorted(filled.tolist(), key=lambda index: (abs(index - middle), index))
    return sorted(nearest[:NUM_CENTRAL_SLICES])


def anterior_direction_yx(geometry: Geometry) -> tuple[float, float]:
    """How far one goes towards anterior (RAS +y) per mm along the rows' axis y and the columns' axis x."""
    columns = geometry.affine[1, :3]
    _, dy, dx = geometry.spacing_zyx_mm
    return float(columns[1] / dy), float(columns[0] / dx)


def disc_heights(
    mask_yx: Mask, spacing_yx_mm: tuple[float, float], towards_front_yx: tuple[float, float]
) -> dict[str, float]:
    """Height, heights of thirds and area of one disc in one slice; the mask is not empty.

    The disc's axis is the direction of largest spread in mm; its length is from the first pixel to the last, both
    included. Its front is the end towards anterior.
    """
    pixel_mm2 = spacing_yx_mm[0] * spacing_yx_mm[1]
    points = np.argwhere(mask_yx) * np.asarray(spacing_yx_mm)
    centred = points - points.mean(axis=0)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    if axis @ np.asarray(towards_front_yx) < 0:
        axis = -axis
    along = centred @ axis
    # A pixel reaches half its own width along the axis to both sides.
    half_pixel = float(np.abs(axis) @ np.asarray(spacing_yx_mm)) / 2
    back, front = float(along.min()) - half_pixel, float(along.max()) + half_pixel
    length = front - back
    edges = np.linspace(back, front, 4)
    thirds = [_share_within(along, half_pixel, low, high) for low, high in pairwise(edges)]
    posterior, middle, anterior = (area * pixel_mm2 / (length / 3) for area in thirds)
    return {
        "height": len(points) * pixel_mm2 / length,
        "height_anterior": anterior,
        "height_middle": middle,
        "height_posterior": posterior,
        "area": len(points) * pixel_mm2,
    }


def _share_within(centres: npt.NDArray[np.float64], half_width: float, low: float, high: float) -> float:
    """Number of pixels between `low` and `high`, a pixel across an edge counted by the part inside."""
    inside = np.minimum(centres + half_width, high) - np.maximum(centres - half_width, low)
    return float(np.clip(inside, 0, None).sum() / (2 * half_width))
