"""Relaxation map (T2, T1rho) of a volume: read from a file or fitted to a DICOM series, on the grid of the volume."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.schema.maps import MAP_BOUNDS_MS, MapSource
from sam2ft.core.errors import DataError, naming
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import is_dicom
from sam2ft.data.dicom.relaxometry_series import DecaySeries, read_echoes, read_spin_locks
from sam2ft.data.dicom.series import read_finished_map
from sam2ft.data.formats.picture_stack import is_stack
from sam2ft.data.images.grid_policy import Place, placed_by_policy
from sam2ft.data.images.grids import (
    Volume,
    refuse_one_unoriented,
    refuse_unoriented_resampling,
)
from sam2ft.data.images.map_units import implausible, in_ms, unit_of, unit_of_series
from sam2ft.data.images.nifti_decay import SPIN_LOCK, holds_nifti, read_nifti_decay
from sam2ft.data.images.relaxometry import MODEL, fit_decay
from sam2ft.data.images.resampling import resampled_linear
from sam2ft.data.images.volumes import read_volume

Values = npt.NDArray[np.float32]
# A resampled map that contains less than this share of the mask belongs to another part of the body.
LEAST_SHARE_INSIDE = 0.5


@dataclass(frozen=True)
class MapTarget:
    """The volume that a map belongs to."""

    geometry: Geometry
    mask_zyx: npt.NDArray[Any] | None = None
    """Label map on this grid, 0 is background; None: how much of it a map contains is not checked."""
    reading: Reading = AS_IS
    file_axis: int = 2
    """Axis of the file of the image along which it is cut into slices."""


@dataclass(frozen=True)
class PreparedMap:
    """One map on the grid of its volume."""

    values_zyx: Values
    """ms; NaN where there is no value."""
    r2_zyx: Values | None
    """r2 (goodness of fit), also of invalid voxels; None for a map that was read from a file."""
    facts: Mapping[str, Any]
    """Origin of the map (source, model, times, bounds, unit, share_inside), as stored in the record of the volume."""
    notes: tuple[str, ...] = ()
    """What a reader of the numbers should know: one sentence each."""


def read_map(
    path: Path,
    name: str,
    source: MapSource,
    geometry: Geometry,
    mask_zyx: npt.NDArray[Any] | None = None,
    reading: Reading = AS_IS,
    *,
    image_axis: int = 2,
) -> PreparedMap:
    """The map `name` on the grid of `geometry`: a file is read; a folder holds images to which it is fitted.

    With `source.file` a folder is a DICOM series that is a finished map.

    Args:
        mask_zyx: label map on the grid of `geometry`; a resampled map must contain half of its labelled voxels.
        reading: the choices of the dataset file.
        image_axis: axis of the file of the image along which it is cut into slices, for `grid: trust-array`.

    Raises:
        DataError: naming the path; when the map is on another grid and `resample` is off, when it contains less than
            half of the mask, when the series cannot be fitted, when the map has no finite value, or when its values
            cannot be times in ms.
    """
    images = (path.is_dir() and not is_stack(path)) or (path.is_file() and is_dicom(path))
    if not images and source.series:
        found = "a folder of pictures" if path.is_dir() else "a file"
        raise DataError(
            f"{path}: is {found}; sources.maps.{name}.series takes a folder of DICOM or NIfTI images, or one DICOM file"
        )
    # A unit is that of finished values: with a table of sources it says so for a folder of DICOM images.
    finished = bool(source.file or source.unit)
    # How the image is cut into slices is no matter of the map, whose axes follow the image.
    chosen = reading.of_maps.model_copy(update={"series": source.select})
    target = MapTarget(geometry, mask_zyx, chosen, image_axis)
    with naming(path):
        if images and not finished:
            return _fitted(path, name, source, target)
        return _from_file(path, name, source, target, dicom=images)


def _from_file(path: Path, name: str, source: MapSource, target: MapTarget, *, dicom: bool) -> PreparedMap:
    if dicom:
        volume, written = read_finished_map(path, target.reading, _select(name), told=source.unit is not None)
        unit, notes = unit_of_series(name, source, written)
    else:
        volume = read_volume(path, reading=target.reading)
        unit, notes = unit_of(path, name, source)
    times = Volume(in_ms(volume.array_zyx, unit), volume.geometry)
    if not np.isfinite(times.array_zyx).any():
        raise DataError(f"map {name} has no finite value in any of its {times.array_zyx.size} voxels")
    read_as = "".join(f"{note}; " for note in notes)
    way_out = f"{read_as}give sources.maps.{name}.unit: ms, s or 1/s (unit: ms takes the values as they are)"
    notes += implausible(times.array_zyx, name, told=source.unit is not None, way_out=way_out)
    values, moved, moved_note = _moved(times, name, source, target)
    if not np.isfinite(values).any():
        raise DataError(f"map {name} has no finite value on the image's grid")
    facts = {"source": "file"} | ({} if unit == "ms" else {"unit": unit}) | moved
    return PreparedMap(values, None, facts, (*volume.notes, *notes, *moved_note))


def _fitted(path: Path, name: str, source: MapSource, target: MapTarget) -> PreparedMap:
    series = _read_series(path, name, source, target.reading)
    low, high = source.bounds_ms or MAP_BOUNDS_MS[name]
    decay = fit_decay(series.images_tzyx, series.times_ms, (low, high), source)
    facts = {
        "source": "series",
        "model": MODEL,
        "times_ms": list(series.times_ms),
        "times_from": series.ordered_by
        if source.spin_lock_ms is None or series.ordered_by == SPIN_LOCK
        else f"spin_lock_ms in the order of {series.ordered_by}",
        "skip_first": source.skip_first,
        "bounds_ms": [low, high],
        "r2_min": source.r2_min,
    }
    times = f"check the times of the decay: {', '.join(f'{time:g}' for time in series.times_ms)} ms"
    if not np.isfinite(decay.t_ms).any():
        raise DataError(
            f"map {name}: none of its {decay.t_ms.size} voxels has a valid fit ({low:g} to {high:g} ms, r2 from "
            f"{source.r2_min:g}) to {len(series.times_ms)} images; {times}"
        )
    told = source.bounds_ms is not None
    notes = implausible(decay.t_ms, name, told=told, way_out=f"{times}, or give sources.maps.{name}.bounds_ms")
    values, moved, moved_note = _moved(Volume(decay.t_ms, series.geometry), name, source, target)
    r2, _, _ = _moved(Volume(decay.r2, series.geometry), name, source, target)
    if not np.isfinite(values).any():
        raise DataError(f"map {name} has no finite value on the image's grid")
    return PreparedMap(values, r2, facts | moved, (*series.notes, *notes, *moved_note))


def _select(name: str) -> str:
    """The key that chooses among the images of a folder."""
    return f"sources.maps.{name}.select"


def _read_series(path: Path, name: str, source: MapSource, reading: Reading) -> DecaySeries:
    if holds_nifti(path):
        return read_nifti_decay(path, name, source, reading)
    if source.spin_lock_ms is not None:
        return read_spin_locks(path, source.spin_lock_ms, reading, _select(name))
    if name == "t1rho":
        raise DataError(
            f"{path}: is a folder; to fit t1rho, give sources.maps.t1rho.spin_lock_ms, which no DICOM tag contains"
        )
    return read_echoes(path, reading, _select(name))


def _moved(
    volume: Volume, name: str, source: MapSource, target: MapTarget
) -> tuple[Values, dict[str, Any], tuple[str, ...]]:
    """(the values on the grid of the volume; facts: whether they were resampled, the share inside; notes)."""
    place = Place(target.geometry, target.reading.grid, f"map {name}", slice_axis=target.file_axis, outside=np.nan)
    if source.resample:
        refuse_one_unoriented(volume, target.geometry, what=place.what)
    try:
        same = placed_by_policy(volume, place)
    except DataError as error:
        if not source.resample:
            raise DataError(
                f"{error}; sources.maps.{name}.resample: true resamples the map to the image's grid with the affines"
            ) from None
    else:
        facts: dict[str, Any] = {"resampled": False}
        if "grid" in same.facts:
            facts["grid"] = same.facts["grid"]
            if facts["grid"]["policy"] != "trust-array":
                _checked_share(name, volume.geometry, target)
        return same.array_zyx.astype(np.float32), facts, same.notes
    refuse_unoriented_resampling(volume, target.geometry, what=f"map {name}")
    values = resampled_linear(volume, target.geometry)
    share = _checked_share(name, volume.geometry, target)
    if share is None:
        return values, {"resampled": True}, (f"map {name} was resampled to the grid of the image",)
    note = f"map {name} was resampled to the grid of the image; {100 * share:.3g} % of the mask lie inside the map"
    return values, {"resampled": True, "share_inside": round(share, 4)}, (note,)


def _checked_share(name: str, of_map: Geometry, target: MapTarget) -> float | None:
    """Share of the labelled voxels inside of a map, None without a labelled voxel; DataError below a half."""
    if target.mask_zyx is None or not target.mask_zyx.any():
        return None
    share = _share_inside(of_map, target.geometry, target.mask_zyx)
    if share < LEAST_SHARE_INSIDE:
        raise DataError(
            f"map {name} contains {100 * share:.3g} % of the labelled voxels of the mask; allowed: at least "
            f"{100 * LEAST_SHARE_INSIDE:g} %; check that map and mask belong to one examination"
        )
    return share


def _share_inside(of_map: Geometry, geometry: Geometry, mask_zyx: npt.NDArray[Any]) -> float:
    """Share of the labelled voxels whose centre lies in a voxel of the map."""
    z, y, x = np.nonzero(mask_zyx)
    places = (np.linalg.solve(of_map.affine, geometry.affine) @ np.stack([x, y, z, np.ones_like(x)]))[:3]
    last = np.array(of_map.shape_zyx[::-1])[:, None] - 0.5
    rounding = 1e-6
    return float(np.all((places >= -0.5 - rounding) & (places <= last + rounding), axis=0).mean())
