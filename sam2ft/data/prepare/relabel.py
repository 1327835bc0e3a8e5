"""Relabelling of masks: integers in a mask file, or names of its segments, to the ids of the label table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import Segment, Volume
from sam2ft.data.images.voxel_passes import by_table, counts_of, exact_uint16, planes

MOST = np.iinfo(np.uint16).max
# Values of a mask that were scaled or stored as floats are label ids within this distance.
WHOLE_TOLERANCE = 1e-3
# Label ids divided by 255, as image tools write masks: 0, 1 and 2 become 0, 0.0039 and 0.0078.
SCALE_OF_IMAGES = 255


def mask_dtype(labels: LabelTable) -> type[np.uint8] | type[np.uint16]:
    """The smallest unsigned integer type for all ids of the table."""
    return np.uint8 if max(labels.ids) <= np.iinfo(np.uint8).max else np.uint16


def relabelled_volume(
    mask: Volume, labels: LabelTable, changes: Mapping[int, int], remedy: str = ""
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], tuple[str, ...]]:
    """(the array of `mask` with the ids of `labels`, notes).

    Values within 1e-3 of whole numbers are these numbers. Values that are not, but are label ids when multiplied by
    255, are taken as these ids with a note. Segments with names are matched by `changes_by_names`.

    Args:
        changes: value in the file -> label id, 0 to drop it; the value 0 stays 0.
        remedy: what to do with a value that is in neither, for the message.

    Raises:
        DataError: a value is no label id, is unknown, or the name of a segment contradicts its value.
    """
    values, notes = whole_numbers(mask.array_zyx, changes)
    if mask.segments:
        present = frozenset(_counts(values))
        changes, found = changes_by_names(mask.segments, labels, changes, present)
        notes = (*notes, *found)
    return relabel(values, labels, changes, remedy), notes


def relabel(
    mask_zyx: npt.NDArray[Any], labels: LabelTable, changes: Mapping[int, int], remedy: str = ""
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """`mask_zyx` with the ids of `labels`.

    Args:
        changes: value in the file -> label id, 0 to drop it; the value 0 stays 0.
        remedy: as in `relabelled_volume`.

    Returns:
        The mask itself where nothing changes.

    Raises:
        DataError: naming ids and voxel counts; when a value is not an integer >= 0, or is not in `changes`.
    """
    values, _ = whole_numbers(mask_zyx, {})
    counts = _counts(values)
    new_id = {**changes, 0: 0}
    if unknown := [value for value in counts if value not in new_id]:
        found = listed([f"{value} ({counts[value]} voxels)" for value in unknown], 10)
        raise DataError(
            f"unknown label id {found}; the label table has {labels.describe()}{f'; {remedy}' if remedy else ''}"
        )
    target = np.zeros(max(counts) + 1, dtype=mask_dtype(labels))
    target[list(counts)] = [new_id[value] for value in counts]
    if target.dtype == values.dtype and values.flags.c_contiguous and all(new_id[value] == value for value in counts):
        return values
    return by_table(values, target)


def whole_numbers(mask_zyx: npt.NDArray[Any], known: Mapping[int, int]) -> tuple[npt.NDArray[Any], tuple[str, ...]]:
    """(a mask of integers, notes): floats near whole numbers, or 1/255 of values that `known` maps to a label.

    Raises:
        DataError: other values; the message gives their number.
    """
    if mask_zyx.dtype.kind != "f":
        return (mask_zyx.astype(np.uint8) if mask_zyx.dtype.kind == "b" else mask_zyx), ()
    if (exact := exact_uint16(mask_zyx)) is not None:
        return exact, ()
    odd = sum(int(np.count_nonzero(~_is_whole(slice_yx, 1))) for slice_yx in mask_zyx)
    if not odd:
        return _rounded(mask_zyx, 1), ()
    ids = {int(value) for value in _scaled_ids(mask_zyx)} - {0}
    if ids and ids <= {value for value, label in known.items() if label}:
        note = f"the mask holds 1/255 of whole numbers; they are read as the ids {', '.join(map(str, sorted(ids)))}"
        return _rounded(mask_zyx, SCALE_OF_IMAGES), (note,)
    raise DataError(
        f"the mask has {odd} values that are not whole numbers; expected label ids (within {WHOLE_TOLERANCE:g}); "
        "export it as integers, without a scale"
    )


def _is_whole(values: npt.NDArray[Any], scale: int) -> npt.NDArray[np.bool_]:
    scaled = values.astype(np.float64) * scale
    with np.errstate(invalid="ignore"):
        whole: npt.NDArray[np.bool_] = np.abs(scaled - np.rint(scaled)) <= WHOLE_TOLERANCE
    return whole


def _scaled_ids(mask_zyx: npt.NDArray[Any]) -> Iterator[float]:
    """The values of a mask times 255; none at all when one of them is not whole."""
    found: set[float] = set()
    for slice_yx in mask_zyx:
        if not _is_whole(slice_yx, SCALE_OF_IMAGES).all():
            return
        found |= set(np.unique(np.rint(slice_yx.astype(np.float64) * SCALE_OF_IMAGES)).tolist())
    yield from found


def _rounded(mask_zyx: npt.NDArray[Any], scale: int) -> npt.NDArray[np.uint16]:
    low, high = float(mask_zyx.min()) * scale, float(mask_zyx.max()) * scale
    _refuse_outside(low, high)
    rounded = np.empty(mask_zyx.shape, dtype=np.uint16)
    for index, slice_yx in enumerate(mask_zyx):
        rounded[index] = np.rint(slice_yx.astype(np.float64) * scale)
    return rounded


def changes_by_names(
    segments: Sequence[Segment], labels: LabelTable, changes: Mapping[int, int], present: frozenset[int]
) -> tuple[Mapping[int, int], tuple[str, ...]]:
    """(value -> label id by the names of the segments, notes), for the segments whose value occurs in a mask.

    A segment is a label when its name or ID is the name of the label, whatever the case, spaces and underscores. When
    every segment is a label, the names decide. When none is, the values decide as in a mask without names. When some
    are, or a value has no segment, name and value must say the same, and the value of the others must be background or
    listed in a merge.

    Args:
        changes: value in the file -> label id as the dataset file gives it.
        present: the values of the mask.

    Raises:
        DataError: names and values contradict each other; the message gives both.
    """
    used = [segment for segment in segments if segment.value in present]
    named = _named(used, labels)
    nameless = present - {segment.value for segment in used} - {0}
    if not any(named.values()):
        names = ", ".join(f"{segment.value} {segment.name}" for segment in used)
        note = f"no segment of the mask has the name of a label ({names}); their values decide"
        return changes, (note,) if used else ()
    problems = []
    for segment, label in named.items():
        given = changes.get(segment.value)
        if all(named.values()) and not nameless:
            same_value = {found for other, found in named.items() if other.value == segment.value}
            wrong = len(same_value) > 1
        elif label:
            wrong = given != label
        else:
            wrong = given is None or (given != 0 and given == segment.value)
        if wrong:
            of_table = "no label" if not given else f"{given} {labels[given].name}"
            problems.append(f"value {segment.value} is named {segment.name!r}, but {of_table} in the label table")
    if problems:
        without = f", and the values {listed(sorted(map(str, nameless)), 5)} have no segment" if nameless else ""
        raise DataError(
            f"{listed(problems, 5)}{without}; give the labels of the dataset file the names of the segments, or rename "
            "these"
        )
    by_name = {segment.value: label for segment, label in named.items() if label}
    moved = [
        f"{value} -> {label} {labels[label].name}" for value, label in by_name.items() if changes.get(value) != label
    ]
    notes = (f"labels follow the names of the segments: {', '.join(moved)}",) if moved else ()
    return {**changes, **by_name}, notes


def _named(segments: Sequence[Segment], labels: LabelTable) -> dict[Segment, int]:
    """Segment -> the label with its name or its ID; 0: none."""
    label_of = {plain_name(label.name): label.id for label in labels}
    return {
        segment: label_of.get(plain_name(segment.name), label_of.get(plain_name(segment.identity), 0))
        for segment in segments
    }


def plain_name(name: str) -> str:
    """A name as it is compared: whatever the case, blanks, underscores and hyphens."""
    return "".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _counts(mask_zyx: npt.NDArray[Any]) -> dict[int, int]:
    """Value -> number of voxels."""
    _refuse_outside(float(mask_zyx.min()), float(mask_zyx.max()))
    counts = np.zeros(int(mask_zyx.max()) + 1, dtype=np.int64)
    for (plane,) in planes(mask_zyx):
        values, numbers = counts_of(plane)
        counts[values] += numbers
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def _refuse_outside(low: float, high: float) -> None:
    if low < -WHOLE_TOLERANCE or high > MOST + WHOLE_TOLERANCE:
        raise DataError(f"the mask has values from {low:g} to {high:g}; label ids are 0 to {MOST}")


def given_ids(
    mask_zyx: npt.NDArray[Any], relabelled_zyx: npt.NDArray[np.unsignedinteger[Any]], changes: Mapping[int, int]
) -> npt.NDArray[np.uint16]:
    """Ids of the instances that a mask file gives: uint16 zyx, the integers of the file where a label is, else 0.

    Args:
        mask_zyx: the mask as it is in the file.
        relabelled_zyx: what `relabelled_volume` made of it with `changes`.
        changes: value in the file -> label id; ids that were stored as 1/255 of whole numbers are those it knows.

    Raises:
        DataError: a label has the id 0.
    """
    whole, _ = whole_numbers(mask_zyx, changes)
    ids = np.where(relabelled_zyx != 0, whole, 0).astype(np.uint16)
    if without := int(((relabelled_zyx != 0) & (ids == 0)).sum()):
        raise DataError(
            f"{without} voxels with a label have no id of an instance; ids are whole numbers of 1 to {MOST}: export "
            "the mask as integers, or set instances.source to components"
        )
    return ids
