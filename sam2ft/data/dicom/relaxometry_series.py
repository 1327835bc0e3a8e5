"""Relaxometry series (multi-echo for T2, spin-lock for T1rho) from a folder of DICOM files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.file import DicomImage, dicom_files, read_image, rescaled_pixels
from sam2ft.data.dicom.series import SAME_POSITION_MM, place, refuse_mixed_planes

# Attributes that may give the acquisition order of the images at one position: the first one whose values differ
# within every position is used.
ORDERS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "EchoNumbers",
    "SeriesNumber",
    "TriggerTime",
    "AcquisitionTime",
    "InstanceNumber",
)


@dataclass(frozen=True)
class DecaySeries:
    """The same slices at increasing times."""

    images_tzyx: npt.NDArray[np.float32]
    times_ms: tuple[float, ...]
    geometry: Geometry
    ordered_by: str
    """DICOM attribute that contains the times, or that assigns the images to the times."""


def read_echoes(folder: Path) -> DecaySeries:
    """A multi-echo series; its times are the EchoTime values of the headers.

    All echoes may be in one series, or each echo in its own series.

    Raises:
        DataError: naming the folder; when an echo is missing or repeated at a position, echoes are on different grids,
            or times do not increase with EchoNumbers.
    """
    images = _images(folder)
    echoes: dict[float, list[DicomImage]] = {}
    for image in images:
        echoes.setdefault(_value(image, "EchoTime"), []).append(image)
    _refuse_disorder(folder, images)
    times = tuple(sorted(echoes))
    return _stacked(folder, {f"echo {time:g} ms": echoes[time] for time in times}, times, "EchoTime")


def read_spin_locks(folder: Path, times_ms: Sequence[float]) -> DecaySeries:
    """Images after spin locks of `times_ms` (no standard DICOM tag contains them), in the order of acquisition.

    Raises:
        DataError: as in `read_echoes`, and when a position does not have one image for each time.
    """
    images = _images(folder)
    offsets = _offsets(images)
    at_positions = [
        [image for image, offset in zip(images, offsets, strict=True) if abs(offset - position) < SAME_POSITION_MM]
        for position in _positions(offsets)
    ]
    for at_one, position in zip(at_positions, _positions(offsets), strict=True):
        if len(at_one) != len(times_ms):
            raise DataError(
                f"{folder}: {len(at_one)} images at {position:.2f} mm along the normal, but spin_lock_ms names "
                f"{len(times_ms)} times; allowed: one image of each time at each position"
            )
    order = _order(folder, at_positions)
    ordered = [sorted(at_one, key=lambda image: _value(image, order)) for at_one in at_positions]
    stacks = {f"spin lock {time:g} ms": [at[number] for at in ordered] for number, time in enumerate(times_ms)}
    return _stacked(folder, stacks, tuple(times_ms), order)


def _images(folder: Path) -> list[DicomImage]:
    images = [read_image(path) for path in dicom_files(folder)]
    refuse_mixed_planes(folder, images)
    return images


def _value(image: DicomImage, attribute: str) -> float:
    value = image.header.get(attribute)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"{image.path}: its {attribute} is {value!r}; expected a number") from None


def _offsets(images: Sequence[DicomImage]) -> list[float]:
    """Position of each image along the common normal, mm."""
    normal = images[0].normal / np.linalg.norm(images[0].normal)
    return [float(image.position_mm @ normal) for image in images]


def _positions(offsets: Sequence[float]) -> list[float]:
    """Distinct positions, increasing."""
    found: list[float] = []
    for offset in sorted(offsets):
        if not found or offset - found[-1] >= SAME_POSITION_MM:
            found.append(offset)
    return found


def _refuse_disorder(folder: Path, images: Sequence[DicomImage]) -> None:
    """Echo times must increase with the numbers of the echoes, where the headers have them."""
    if any(image.header.get("EchoNumbers") in (None, "") for image in images):
        return
    times: dict[int, float] = {}
    for image in images:
        number, time = int(_value(image, "EchoNumbers")), _value(image, "EchoTime")
        if times.setdefault(number, time) != time:
            raise DataError(f"{folder}: EchoNumbers {number} has the EchoTime {times[number]:g} and {time:g} ms")
    numbers = sorted(times)
    for first, second in pairwise(numbers):
        if times[second] <= times[first]:
            raise DataError(
                f"{folder}: echo times do not increase: EchoNumbers {first} has {times[first]:g} ms, "
                f"{second} has {times[second]:g} ms"
            )


def _order(folder: Path, at_positions: Sequence[Sequence[DicomImage]]) -> str:
    for attribute in ORDERS:
        values = [[image.header.get(attribute) for image in at_one] for at_one in at_positions]
        if all(None not in at_one and "" not in at_one and len(set(at_one)) == len(at_one) for at_one in values):
            return attribute
    raise DataError(f"{folder}: no DICOM attribute gives the order of its images; tried {', '.join(ORDERS)}")


def _stacked(
    folder: Path, stacks: Mapping[str, list[DicomImage]], times_ms: tuple[float, ...], ordered_by: str
) -> DecaySeries:
    """The stacks of all times on one grid, slices sorted along the normal."""
    every = _positions(_offsets([image for stack in stacks.values() for image in stack]))
    arrays, geometry = [], None
    for name, stack in stacks.items():
        _refuse_holes(folder, name, _offsets(stack), every)
        placed, grid = place(folder, stack)
        geometry = geometry or grid
        if difference := geometry.difference(grid):
            raise DataError(f"{folder}: {next(iter(stacks))} and {name} are on different grids: {difference}")
        arrays.append(np.stack([rescaled_pixels(image) for image in placed]))
    if geometry is None:
        raise DataError(f"{folder}: no image")
    return DecaySeries(np.stack(arrays), times_ms, geometry, ordered_by)


def _refuse_holes(folder: Path, name: str, offsets: Sequence[float], every: Sequence[float]) -> None:
    present = np.array(sorted(offsets))
    for position in every:
        count = int((np.abs(present - position) < SAME_POSITION_MM).sum())
        if count != 1:
            what = "is missing" if count == 0 else f"occurs {count} times"
            raise DataError(
                f"{folder}: {name} {what} at {position:.2f} mm along the normal (position "
                f"{list(every).index(position) + 1} of {len(every)}); allowed: each time once at each position"
            )
