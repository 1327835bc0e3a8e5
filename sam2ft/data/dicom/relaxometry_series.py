"""Relaxometry series (multi-echo for T2, spin-lock for T1rho) from a folder of DICOM files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.choice import chosen_decay
from sam2ft.data.dicom.file import DicomImage
from sam2ft.data.dicom.header import guarded, image_kinds, optional, required, text
from sam2ft.data.dicom.pixels import common_scale, stacked_signals
from sam2ft.data.dicom.placement import SAME_POSITION_MM, evened, offsets_of, place, positions_of
from sam2ft.data.dicom.stacks import joined_echoes, same_echo

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

T2_KEY, T1RHO_KEY = "sources.maps.t2.select", "sources.maps.t1rho.select"


@dataclass(frozen=True)
class DecaySeries:
    """The same slices at increasing times."""

    images_tzyx: npt.NDArray[np.float32]
    times_ms: tuple[float, ...]
    geometry: Geometry
    ordered_by: str
    """DICOM attribute that contains the times, or that assigns the images to the times."""
    notes: tuple[str, ...] = ()
    """What a reader of the fit should know, one sentence each."""


def read_echoes(folder: Path, reading: Reading = AS_IS, key: str = T2_KEY) -> DecaySeries:
    """A multi-echo series; its times are the EchoTime values of the headers.

    All echoes may be in one series, each echo in its own, or all in one file.

    Args:
        reading: `reading.series` is the choice among the images of the folder.
        key: the key of the dataset file that holds this choice, for messages.

    Raises:
        DataError: naming the folder; when an echo is missing or repeated at a position, echoes are on different grids,
            times do not increase with the EchoNumbers of a series, or the images are no echoes.
    """
    with guarded(folder):
        contents = chosen_decay(folder, reading, key)
        images = contents.images
        echoes: dict[float, list[DicomImage]] = {}
        for image in images:
            (time,) = required(image.path, image.header, "EchoTime", 1, "the time of the echo is unknown")
            if time < 0:
                raise DataError(f"{image.path}: EchoTime is {time:g}; allowed: a number from 0, ms")
            echoes.setdefault(time, []).append(image)
        echoes = joined_echoes(echoes)
        _refuse_finished_map(folder, images, len(echoes))
        _refuse_disorder(folder, images)
        times = tuple(sorted(echoes))
        stacks = {f"echo {time:g} ms": echoes[time] for time in times}
        return replace(_stacked(folder, stacks, "EchoTime", reading, contents.notes), times_ms=times)


def read_spin_locks(
    folder: Path, times_ms: Sequence[float], reading: Reading = AS_IS, key: str = T1RHO_KEY
) -> DecaySeries:
    """Images after spin locks of `times_ms` (no standard DICOM tag contains them), in the order of acquisition.

    The times may have any order; those of the result increase.

    Args:
        times_ms: in the order of acquisition.
        reading: as in `read_echoes`.
        key: as in `read_echoes`.

    Raises:
        DataError: as in `read_echoes`, and when a position does not have one image for each time.
    """
    with guarded(folder):
        contents = chosen_decay(folder, reading, key)
        images = contents.images
        offsets = offsets_of(images)
        at_positions = [
            [image for image, offset in zip(images, offsets, strict=True) if abs(offset - position) < SAME_POSITION_MM]
            for position in positions_of(offsets)
        ]
        for at_one, position in zip(at_positions, positions_of(offsets), strict=True):
            if len(at_one) != len(times_ms):
                raise DataError(
                    f"{folder}: {len(at_one)} images at {position:.2f} mm along the normal, but spin_lock_ms names "
                    f"{len(times_ms)} times; allowed: one image of each time at each position"
                )
        order, ordered = _ordered(folder, at_positions)
        acquired = {time: [at[number] for at in ordered] for number, time in enumerate(times_ms)}
        times = tuple(sorted(acquired))
        stacks = {f"spin lock {time:g} ms": acquired[time] for time in times}
        return replace(_stacked(folder, stacks, order, reading, contents.notes), times_ms=times)


def _refuse_finished_map(folder: Path, images: Sequence[DicomImage], num_times: int) -> None:
    """One time per position is no decay; scanners store finished maps in such a form."""
    kinds = image_kinds(images[0].header)
    if num_times == 1 and ("DERIVED" in kinds or any("MAP" in kind for kind in kinds)):
        raise DataError(
            f"{folder}: one image at each position, of an ImageType that is derived: a finished map; give it as "
            "sources.maps.<name>.file, with its unit"
        )


def _refuse_disorder(folder: Path, images: Sequence[DicomImage]) -> None:
    """Within a series, echo times must increase with the numbers of the echoes, where the headers number them."""
    numbers, _ = optional(images, "EchoNumbers", whole=True)
    times, _ = optional(images, "EchoTime")
    of_series: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for image, number, time in zip(images, numbers, times, strict=True):
        if number is None or time is None:
            return
        of_series[text(image.header, "SeriesInstanceUID")].append((int(number), time))
    for echoes in of_series.values():
        # Sequences that acquire echoes one by one give all of them the number 1.
        if len({number for number, _ in echoes}) > 1:
            _refuse_disordered_echoes(folder, echoes)


def _refuse_disordered_echoes(folder: Path, echoes: Sequence[tuple[int, float]]) -> None:
    times: dict[int, float] = {}
    for number, time in echoes:
        if (known := times.setdefault(number, time)) != time and not same_echo(known, time):
            raise DataError(
                f"{folder}: EchoNumbers {number} has the EchoTime {times[number]:g} and {time:g} ms; allowed: one time "
                "for each number of a series"
            )
    for first, second in pairwise(sorted(times)):
        if times[second] <= times[first]:
            raise DataError(
                f"{folder}: echo times do not increase: EchoNumbers {first} has {times[first]:g} ms, "
                f"{second} has {times[second]:g} ms"
            )


def _ordered(folder: Path, at_positions: Sequence[Sequence[DicomImage]]) -> tuple[str, list[list[DicomImage]]]:
    """(the attribute that gives the order of acquisition, the images of each position in this order)."""
    for attribute in ORDERS:
        values = [optional(at_one, attribute)[0] for at_one in at_positions]
        if all(None not in at_one and len(set(at_one)) == len(at_one) for at_one in values):
            return attribute, [_sorted_by(at_one, found) for at_one, found in zip(at_positions, values, strict=True)]
    raise DataError(f"{folder}: no DICOM attribute gives the order of its images; tried {', '.join(ORDERS)}")


def _sorted_by(images: Sequence[DicomImage], values: Sequence[float | None]) -> list[DicomImage]:
    order = np.argsort([np.nan if value is None else value for value in values])
    return [images[index] for index in order]


def _stacked(
    folder: Path,
    stacks: Mapping[str, list[DicomImage]],
    ordered_by: str,
    reading: Reading,
    told: Sequence[str],
) -> DecaySeries:
    """The stacks of all times on one grid, slices sorted along the normal; the caller adds the times.

    Args:
        told: notes about what was left out.
    """
    together = [image for stack in stacks.values() for image in stack]
    every = positions_of(offsets_of(together))
    scales, note = common_scale(folder, together, decay=True)
    arrays, geometry, notes = [], None, dict.fromkeys([*told, *([note] if note else [])])
    padding = np.ones((len(every), *together[0].size), dtype=np.bool_)
    for name, stack in stacks.items():
        _refuse_holes(folder, name, offsets_of(stack), every)
        placed = place(folder, stack, reading)
        geometry = geometry or placed.geometry
        if difference := geometry.difference(placed.geometry):
            raise DataError(f"{folder}: {next(iter(stacks))} and {name} are on different grids: {difference}")
        arrays.append(stacked_signals(placed.images, scales, padding_zyx=padding))
        notes |= dict.fromkeys(placed.notes)
    if geometry is None:
        raise DataError(f"{folder}: no image")
    images = np.stack(arrays)
    images[:, padding] = np.nan
    if placed.irregular:
        images = np.stack([evened(image, placed.offsets_mm)[0] for image in images])
    return DecaySeries(images, (), geometry, ordered_by, tuple(notes))


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
