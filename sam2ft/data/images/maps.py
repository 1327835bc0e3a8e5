"""Relaxation map (T2, T1rho) of a volume: read from a file or fitted to a DICOM series, on the grid of the volume."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.maps import MAP_BOUNDS_MS, MapSource
from sam2ft.core.errors import DataError, naming
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.relaxometry_series import DecaySeries, read_echoes, read_spin_locks
from sam2ft.data.images.grids import Volume, reordered_to_grid
from sam2ft.data.images.relaxometry import MODEL, fit_decay
from sam2ft.data.images.resampling import resampled_linear
from sam2ft.data.images.volumes import read_volume

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PreparedMap:
    """One map on the grid of its volume."""

    values_zyx: Values
    """ms; NaN where there is no value."""
    r2_zyx: Values | None
    """r2 (goodness of fit), also of invalid voxels; None for a map that was read from a file."""
    facts: Mapping[str, Any]
    """Origin of the map (source, model, times, bounds), as stored in the record of the volume."""


def read_map(path: Path, name: str, source: MapSource, geometry: Geometry) -> PreparedMap:
    """The map `name` on the grid of `geometry`: a file is read; a folder is a DICOM series to which the map is fitted.

    Raises:
        DataError: naming the path; when the map is on another grid and `resample` is off, when the series cannot be
            fitted, or when the map has no finite value.
    """
    if path.is_dir() and source.file:
        raise DataError(f"{path}: is a folder; sources.maps.{name}.file takes map files (NIfTI or NRRD)")
    if not path.is_dir() and source.series:
        raise DataError(f"{path}: is a file; sources.maps.{name}.series takes a folder of DICOM images")
    with naming(path):
        return _fitted(path, name, source, geometry) if path.is_dir() else _from_file(path, name, source, geometry)


def _from_file(path: Path, name: str, source: MapSource, geometry: Geometry) -> PreparedMap:
    volume = read_volume(path)
    values, moved = _moved(volume, name, source, geometry)
    if not np.isfinite(values).any():
        raise DataError(f"map {name} has no finite value {_where(volume.array_zyx)}")
    return PreparedMap(values, None, {"source": "file", "resampled": moved})


def _where(array: npt.NDArray[Any]) -> str:
    return "on the image's grid" if np.isfinite(array).any() else f"in any of its {array.size} voxels"


def _fitted(path: Path, name: str, source: MapSource, geometry: Geometry) -> PreparedMap:
    series = _read_series(path, name, source)
    low, high = source.bounds_ms or MAP_BOUNDS_MS[name]
    decay = fit_decay(series.images_tzyx, series.times_ms, (low, high), source)
    facts = {
        "source": "series",
        "model": MODEL,
        "times_ms": list(series.times_ms),
        "times_from": "EchoTime"
        if source.spin_lock_ms is None
        else f"spin_lock_ms in the order of {series.ordered_by}",
        "skip_first": source.skip_first,
        "bounds_ms": [low, high],
        "r2_min": source.r2_min,
    }
    if not np.isfinite(decay.t_ms).any():
        raise DataError(
            f"map {name}: none of its {decay.t_ms.size} voxels has a valid fit ({low:g} to {high:g} ms, r2 from "
            f"{source.r2_min:g}) to {len(series.times_ms)} images; check the times of the decay: "
            f"{', '.join(f'{time:g}' for time in series.times_ms)} ms"
        )
    values, moved = _moved(Volume(decay.t_ms, series.geometry), name, source, geometry)
    r2, _ = _moved(Volume(decay.r2, series.geometry), name, source, geometry)
    if not np.isfinite(values).any():
        raise DataError(f"map {name} has no finite value {_where(decay.t_ms)}")
    return PreparedMap(values, r2, facts | {"resampled": moved})


def _read_series(path: Path, name: str, source: MapSource) -> DecaySeries:
    if source.spin_lock_ms is not None:
        return read_spin_locks(path, source.spin_lock_ms)
    if name == "t1rho":
        raise DataError(
            f"{path}: is a folder; to fit t1rho, give sources.maps.t1rho.spin_lock_ms, which no DICOM tag contains"
        )
    return read_echoes(path)


def _moved(volume: Volume, name: str, source: MapSource, geometry: Geometry) -> tuple[Values, bool]:
    """(the values on the grid of `geometry`, whether they were resampled)."""
    try:
        return reordered_to_grid(volume, geometry, what=f"map {name}").astype(np.float32), False
    except DataError as error:
        if not source.resample:
            raise DataError(
                f"{error}; sources.maps.{name}.resample: true resamples the map to the image's grid with the affines"
            ) from None
    return resampled_linear(volume, geometry), True
