"""One label map from layers that may overlap: segments of a file, channels, or files of one label each."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import Segment
from sam2ft.data.prepare.relabel import MOST, WHOLE_TOLERANCE, changes_by_names, plain_name

Overlaps = Literal["refuse", "first", "last"]
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Layer:
    """The voxels of one segment."""

    segment: Segment
    mask: npt.NDArray[np.bool_]
    """In the axis order of all layers."""
    place: int = 0
    """Its number in the file, where it is drawn when it is needed."""


@dataclass(frozen=True)
class Meaning:
    """What the values and names of segments mean."""

    labels: LabelTable | None = None
    """None: every value is a label of its own."""
    changes: Mapping[int, int] | None = None
    """Value in the file -> label id, 0 to drop it; None: the ids of the table."""
    as_given: bool = False
    """Values are ids of instances, so that two values of one label are not the same."""

    @property
    def known(self) -> Mapping[int, int]:
        """`changes`, or the ids of the table."""
        if self.changes is not None:
            return self.changes
        return {} if self.labels is None else {label: label for label in self.labels.ids}

    @property
    def rest(self) -> int | None:
        """What becomes of values that no label lists (merge: others, labels_dropped: others); None: refused."""
        every = len(self.known) >= MOST
        return Counter(self.known.values()).most_common(1)[0][0] if every else None

    def of(self, segments: Sequence[Segment]) -> Mapping[int, int]:
        """Value -> what must be the same in overlapping layers (0: dropped) of segments that hold voxels.

        Raises:
            DataError: names and values contradict each other.
        """
        values = {segment.value: segment.value for segment in segments}
        if self.labels is None:
            return values
        found = changes_by_names(segments, self.labels, self.known, frozenset(values))[0]
        unknown = {value: -value for value in values if value not in found}
        same = {value: value if found[value] and self.as_given else found[value] for value in values if value in found}
        return same | unknown

    def label_named(self, segment: Segment) -> str | None:
        """The label with the name or the ID of a segment."""
        names = {plain_name(segment.name), plain_name(segment.identity)}
        return next((label.name for label in self.labels or () if plain_name(label.name) in names), None)

    def named_by_value(self, segment: Segment, segments: Sequence[Segment]) -> Segment:
        """`segment` with the name of the label that its value is, where none of `segments` has the name of a label."""
        if self.labels is None or any(self.label_named(one) is not None for one in set(segments)):
            return segment
        label = self.known.get(segment.value, 0)
        return replace(segment, name=self.labels[label].name) if label else segment


ANY = Meaning()
"""Every value is a label of its own."""


@dataclass(frozen=True)
class Composed:
    """One label map made of layers."""

    array: npt.NDArray[np.uint16]
    segments: tuple[Segment, ...]
    """Those that hold voxels, each with a value of its own."""
    notes: tuple[str, ...]


def composed(
    layers: Sequence[Layer], shape: tuple[int, ...], meaning: Meaning, overlaps: Overlaps, *, by_names: bool = False
) -> Composed:
    """The label map of layers on one grid of `shape`: each voxel has the value of the segment that holds it.

    Segments of equal values, which files with several layers have, get values of their own when their names say which
    labels they are. Where layers of different labels overlap, the first or the last in order has the voxel; layers of
    one label, and layers whose label is dropped, are in nobody's way.

    Args:
        layers: in the order of the file.
        by_names: the values of the segments mean nothing: their names are those of labels.

    Raises:
        DataError: layers of different labels overlap and the rule is to refuse; two segments have one value and no name
            says which label each is; a value is no label id.
    """
    held = [layer for layer in layers if layer.mask.any()]
    values = Counter(layer.segment.value for layer in held)
    if values and not 1 <= min(values) <= max(values) <= MOST and not by_names:
        raise DataError(f"segments have values from {min(values)} to {max(values)}; allowed: 1 to {MOST}")
    twice = [value for value, count in values.items() if count > 1]
    notes: tuple[str, ...] = ()
    if meaning.labels is None and twice:
        raise DataError(
            f"{values[twice[0]]} segments in different layers have the value {twice[0]}, so that values do not tell "
            "them apart; give the label table with --labels, and their names decide"
        )
    if meaning.labels is not None and (twice or by_names):
        why = "its regions are labels by their names alone"
        if not by_names:
            why = f"{values[twice[0]]} segments have the value {twice[0]} in different layers, so that names decide"
        held, notes = _by_names(held, meaning, why)
    segments = tuple(layer.segment for layer in held)
    array, found = stacked(held, shape, meaning.of(segments), overlaps)
    return Composed(array, segments, (*notes, *found))


def composed_instances(
    segments: Sequence[Segment],
    draw: Callable[[int], npt.NDArray[np.bool_]],
    shape: tuple[int, ...],
    meaning: Meaning,
    overlaps: Overlaps,
) -> Composed:
    """The label map of many instances, each drawn when its turn comes, because all of them would not fit in memory.

    Args:
        segments: of each instance its category: value and name, of which one or the other is that of a label.
        draw: number of an instance -> its voxels.

    Raises:
        DataError: as `composed`; there are too many instances.
    """
    nothing = np.zeros(0, dtype=bool)
    known = {segment: meaning.named_by_value(segment, segments) for segment in set(segments)}
    given = [Layer(known[segment], nothing, place) for place, segment in enumerate(segments)]
    kept, notes = _by_names(given, meaning, "its categories are labels by their names, else their ids")
    if len(kept) > MOST:
        raise DataError(f"has {len(kept)} instances; allowed: {MOST} in one volume")
    named = tuple(layer.segment for layer in kept)
    drawn = (replace(layer, mask=draw(layer.place)) for layer in kept)
    array, found = stacked(drawn, shape, meaning.of(named), overlaps)
    return Composed(array, named, (*notes, *found))


def stacked(
    layers: Iterable[Layer], shape: tuple[int, ...], same: Mapping[int, int], overlaps: Overlaps
) -> tuple[npt.NDArray[np.uint16], tuple[str, ...]]:
    """(the label map of layers, each with a value of its own, notes); the layers are looked at one after the other.

    Args:
        same: value -> what must be the same in overlapping layers, 0 when it is dropped.

    Raises:
        DataError: layers overlap and the rule is to refuse.
    """
    array = np.zeros(shape, dtype=np.uint16)
    names: dict[int, str] = {}
    clashes: Counter[tuple[int, int]] = Counter()
    for layer in layers:
        names[layer.segment.value] = layer.segment.name or str(layer.segment.value)
        clashes.update(_filled(array, layer, same, overlaps))
    if not clashes:
        return array, ()
    pairs = [f"{count} voxels in both {names[one]} and {names[other]}" for (one, other), count in clashes.most_common()]
    text = f"segments overlap: {listed(pairs, _MOST_SHOWN)}"
    if overlaps == "refuse":
        raise DataError(
            f"{text}; say which has them: overlaps: first or overlaps: last in the dataset file, or eval --overlaps"
        )
    return array, (f"{text}; the {overlaps} of both has them (overlaps: {overlaps})",)


def _by_names(held: Sequence[Layer], meaning: Meaning, why: str) -> tuple[list[Layer], tuple[str, ...]]:
    """(the layers that are labels by their names, each with a value of its own, notes)."""
    kept: list[Layer] = []
    dropped: list[str] = []
    for layer in held:
        name = meaning.label_named(layer.segment)
        if name is None and meaning.rest is None:
            unknown = [repr(one.segment.name) for one in held if meaning.label_named(one.segment) is None]
            raise DataError(
                f"{why}, and {listed(unknown, _MOST_SHOWN)} is no label; give "
                "each label of the dataset file the name of its segment (labels: {1: {name: ...}}), and drop the "
                "others with labels_dropped: others"
            )
        if name is None and meaning.rest == 0:
            dropped.append(layer.segment.name)
            continue
        if name is None and meaning.labels is not None and meaning.rest is not None:
            name = meaning.labels[meaning.rest].name
        kept.append(replace(layer, segment=Segment(len(kept) + 1, name or layer.segment.name)))
    notes = (f"{len(dropped)} segments without a label are dropped",) if dropped else ()
    return kept, notes


def _filled(
    array: npt.NDArray[np.uint16], layer: Layer, same: Mapping[int, int], overlaps: Overlaps
) -> Mapping[tuple[int, int], int]:
    """Write a layer into an array; (value of an earlier layer, its own) -> voxels that both claim."""
    labels = np.zeros(MOST + 1, dtype=np.int64)
    labels[list(same)] = list(same.values())
    value, new = layer.segment.value, layer.mask
    mine, taken = int(labels[value]), array[new]
    before = labels[taken]
    rival = (before != 0) & (mine != 0) & (before != mine)
    # A dropped layer is background: it takes no voxel from another one.
    stays = (before != 0) & ((mine == 0) | (rival & (overlaps == "first")))
    array[new] = np.where(stays, taken, value)
    counts = zip(*np.unique(taken[rival], return_counts=True), strict=True)
    return {(int(other), value): int(count) for other, count in counts}


def binary(array: npt.NDArray[Any], what: str) -> npt.NDArray[np.bool_]:
    """A mask of one label: voxels of the only value above 0 of an array (1, 255, a label).

    Raises:
        DataError: it holds other values than 0 and one whole number.
    """
    values = distinct(array)
    above = values[values != 0]
    if len(above) > 1 or not np.isfinite(values).all() or (above < 0).any() or (above % 1 != 0).any():
        shown = listed([f"{value:g}" for value in above], _MOST_SHOWN)
        raise DataError(
            f"{what} holds the values {shown}; a mask of one label holds 0 and one other value: write it so, or give "
            "one file for all labels (sources.masks: PATTERN)"
        )
    return above_zero(array)


def distinct(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of an array, sorted; floats within 1e-3 of whole numbers are these, as in masks of integers."""
    values: npt.NDArray[Any] = np.unique(array)
    if values.dtype.kind != "f":
        return values
    whole = np.rint(values)
    with np.errstate(invalid="ignore"):
        return np.unique(np.where(np.abs(values - whole) <= WHOLE_TOLERANCE, whole, values))


def above_zero(array: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where a mask of 0 and one whole number is not 0, whatever the noise of floats."""
    found: npt.NDArray[np.bool_] = array > WHOLE_TOLERANCE if array.dtype.kind == "f" else array != 0
    return found
