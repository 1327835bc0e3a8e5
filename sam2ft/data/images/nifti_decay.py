"""Images of a decay as NIfTI files, one for each time, which its sidecar names (BIDS: EchoTime in s)."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError, naming
from sam2ft.data.dicom.relaxometry_series import DecaySeries
from sam2ft.data.images.grids import Volume, reordered_to_grid
from sam2ft.data.images.map_units import sidecar_of
from sam2ft.data.images.volumes import read_volume

ECHO, SPIN_LOCK = "EchoTime", "SpinLockTime"
_ENDINGS = (".nii", ".nii.gz")
# Sidecars give times in seconds; an echo or spin lock of a second or more is one in milliseconds.
_MOST_S = 1.0


def holds_nifti(path: Path) -> bool:
    """Whether a folder holds NIfTI files and no DICOM beside them that a map could be fitted to."""
    from sam2ft.data.dicom.file import is_dicom

    if not path.is_dir():
        return False
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    return bool(_nifti(files)) and not any(is_dicom(file) for file in files)


def read_nifti_decay(folder: Path, name: str, source: MapSource, reading: Reading) -> DecaySeries:
    """The images of a decay in the NIfTI files of a folder, by the times in their sidecars.

    Raises:
        DataError: naming the file; a time is missing, no time in seconds or given twice, it is none of `spin_lock_ms`,
            or an image is on another grid than the first.
    """
    if source.select.chosen:
        raise DataError(f"{folder}: holds NIfTI files; sources.maps.{name}.select chooses DICOM images; leave it out")
    key = ECHO if name == "t2" else SPIN_LOCK
    files: dict[float, Path] = {}
    for path in _nifti(list(folder.iterdir())):
        time = _time_ms(path, key)
        if time in files:
            raise DataError(
                f"{folder}: {files[time].name} and {path.name} both have the {key} {time / 1000:g} s; allowed: each "
                "time once; give a folder with one image of each time"
            )
        files[time] = path
    times = tuple(sorted(files))
    _refuse_other_times(folder, name, source, times)
    first = _read(files[times[0]], reading)
    images = [first.array_zyx]
    for time in times[1:]:
        with naming(files[time]):
            images.append(reordered_to_grid(_read(files[time], reading), first.geometry, what="image of a decay"))
    return DecaySeries(np.stack(images).astype(np.float32), times, first.geometry, key, first.notes)


def _nifti(files: list[Path]) -> list[Path]:
    return sorted(path for path in files if path.name.lower().endswith(_ENDINGS) and not path.name.startswith("."))


def _read(path: Path, reading: Reading) -> Volume:
    return read_volume(path, reading=reading)


def _refuse_other_times(folder: Path, name: str, source: MapSource, times: tuple[float, ...]) -> None:
    given = source.spin_lock_ms
    if given is not None and not np.allclose(sorted(given), times if len(times) == len(given) else np.inf, rtol=1e-4):
        shown = ", ".join(f"{time:g}" for time in times)
        raise DataError(
            f"{folder}: its sidecars name {SPIN_LOCK} {shown} ms; allowed: those of sources.maps.{name}.spin_lock_ms"
        )


def _time_ms(path: Path, key: str) -> float:
    sidecar = sidecar_of(path)
    if not sidecar.is_file():
        raise DataError(
            f"{path}: has no sidecar {sidecar.name} that gives its {key} in s (BIDS; dcm2niix writes it with -b y); "
            "without it the time of the image is unknown"
        )
    try:
        content: Any = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{sidecar}: not readable JSON; write it again, with {key} in s") from None
    value = content.get(key) if isinstance(content, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_S or math.isnan(value):
        shown = f"is {value:g}" if isinstance(value, int | float) else "is missing or no number"
        raise DataError(f"{sidecar}: {key} {shown}; allowed: a time in s, from 0 to below {_MOST_S:g} (BIDS)")
    return round(1000 * float(value), 6)
