"""Labels of masks made elsewhere: ids of the label table, of instances, and names of segments of a pair without one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import Segment, Volume
from sam2ft.data.prepare.relabel import plain_name, relabelled_volume, whole_numbers
from sam2ft.metrics.counts import LabelMap

SHOWN_IDS = 10
"""Number of ids that a message names."""
COUNTED = re.compile(r"(segment\d*)?")
"""An ID, as `plain_name` writes it, that says nothing about its segment."""


def relabelled(
    path: Path, mask: Volume, labels: LabelTable, *, as_given: bool = False
) -> tuple[LabelMap, tuple[str, ...]]:
    """Return `mask` as a label map, and notes.

    Args:
        as_given: the instances of the reference are as given. If the table has one label, ids of instances in the mask
            are this label, as the store merged those of its masks.

    Raises:
        DataError: the mask has ids that the label table lacks, or names of segments that contradict it; the message
            names them and the file.
    """
    changes = {label: label for label in labels.ids}
    with naming(path):
        foreign = _foreign_ids(mask, changes) if as_given else []
        if not foreign:
            return relabelled_volume(mask, labels, changes, "write the mask with the ids of this table")
        if len(labels) > 1:
            raise DataError(
                f"unknown label id {listed([str(one) for one in foreign], SHOWN_IDS)}; the label table has "
                f"{labels.describe()}; the ids of instances in the masks of this store belong to their labels: write "
                "the id of the label for every instance of a prediction"
            )
        (only,) = labels
        found, notes = relabelled_volume(mask, labels, changes | dict.fromkeys(foreign, only.id))
    note = f"{len(foreign)} ids that are no label are taken as instances of the only label, {only.id} {only.name}"
    return found, (*notes, note)


def _foreign_ids(mask: Volume, known: Mapping[int, int]) -> list[int]:
    """The integers above 0 of a mask that are no label."""
    values = np.unique(whole_numbers(mask.array_zyx, known)[0])
    return [int(value) for value in values if value > 0 and int(value) not in known]


def unnamed(reference: tuple[Path, Volume], prediction: tuple[Path, Volume]) -> tuple[LabelTable, tuple[str, ...]]:
    """(a label per integer of either mask, notes on names of segments that differ), for a pair without a label table.

    Raises:
        DataError: neither mask has a label, or a name has another integer in the other mask.
    """
    where = f"{reference[0]} and {prediction[0]}"
    values: set[int] = set()
    for path, mask in (reference, prediction):
        with naming(path):
            values |= {int(value) for value in np.unique(whole_numbers(mask.array_zyx, {})[0])}
    notes = _compared_names(reference[1].segments, prediction[1].segments, where)
    whole = [value for value in values if value > 0]
    if not whole:
        raise DataError(f"{where}: neither mask holds a label (a whole number above 0)")
    return LabelTable.unnamed(whole), notes


def without_names(mask: Volume) -> Volume:
    """A mask whose integers are its labels."""
    return replace(mask, segments=())


def _compared_names(first: Sequence[Segment], second: Sequence[Segment], where: str) -> tuple[str, ...]:
    """Notes on integers with two names; DataError for a name with two integers."""
    for one, other in _namesakes(first, second):
        if one.value != other.value:
            its = "" if one.name == other.name else f" ({other.name!r})"
            raise DataError(
                f"{where}: segment {one.name!r} has value {one.value} in the first and {other.value} in the second"
                f"{its}; give the label table with --labels, and the names decide"
            )
    same = {(one, other) for one, other in _namesakes(first, second)}
    pairs = [(one, other) for one in first for other in second if one.value == other.value and (one, other) not in same]
    if not pairs:
        return ()
    shown = ", ".join(f"{one.value} is {one.name!r} and {other.name!r}" for one, other in pairs)
    return (f"segments of one value have two names ({shown}); the values decide",)


def _namesakes(first: Sequence[Segment], second: Sequence[Segment]) -> Iterator[tuple[Segment, Segment]]:
    """Pairs of segments with one name; the IDs count for segments whose names the other file lacks."""
    of_first, of_second = {plain_name(one.name) for one in first}, {plain_name(one.name) for one in second}
    for other in second:
        for one in first:
            name, its = plain_name(one.name), plain_name(other.name)
            unmatched = name not in of_second and its not in of_first
            if name == its or (unmatched and _called(one) & _called(other)):
                yield one, other


def _called(segment: Segment) -> set[str]:
    """The name and the ID of a segment, without an ID that only counts (`Segment_1`)."""
    return {name for name in (plain_name(segment.name), plain_name(segment.identity)) if not COUNTED.fullmatch(name)}
