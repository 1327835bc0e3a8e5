"""Bounding boxes of an external detector: reading from CSV or JSON, and matching to reference instances. No torch.

A row is one box: dataset (may be omitted if there is one store), subject, volume, slice (0-based), label (integer or
name), x0, y0, x1, y1 (inclusive pixel indices, ORIGINAL frame; fractions are rounded) and score (ignored). JSON: a list
of objects with these keys.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.keys import SliceKey
from sam2ft.core.labels import LabelTable
from sam2ft.core.prompts import Box
from sam2ft.data.samples.instances import Instance
from sam2ft.data.store.store import Store, VolumeRecord

CORNERS = ("x0", "y0", "x1", "y1")
NEEDED = ("subject", "volume", "slice", "label", *CORNERS)
COLUMNS = ("dataset", *NEEDED, "score")
_SHOWN = 8


class DetectedBox(NamedTuple):
    """One box of a detector."""

    label: int
    box: Box
    """Clipped to the image, ORIGINAL frame."""


Detections = Mapping[SliceKey, Sequence[DetectedBox]]


def read_detections(path: Path, stores: Sequence[Store]) -> dict[SliceKey, tuple[DetectedBox, ...]]:
    """The boxes of a file by slice, in the order of the file. Boxes are clipped to the image.

    A corner with a fraction is the nearest pixel; halfway between two it is the one with the higher index.

    Raises:
        DataError: naming the file and the lines (JSON: entries) with an unknown or missing column, a volume that no
            store has, a slice or label that does not exist in the volume or its store, corners that are no numbers or
            in the wrong order, or a box entirely outside its image.
    """
    known = _RowReader.of(stores)
    found: dict[SliceKey, list[DetectedBox]] = {}
    problems: list[str] = []
    for where, values in _rows(path):
        try:
            key, detection = known.detection(values)
        except DataError as error:
            problems.append(f"{where}: {error}")
        else:
            found.setdefault(key, []).append(detection)
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*problems[:_SHOWN], *more]))
    return {key: tuple(boxes) for key, boxes in found.items()}


def num_fractions(path: Path) -> int:
    """Number of boxes of a readable file whose corners are not all whole numbers."""
    return sum(any(_number(name, values[name]) % 1 for name in CORNERS) for _, values in _rows(path))


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(file and line or entry; values by column) of every box."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if path.suffix.lower() == ".json":
        yield from _json_rows(path, text)
        return
    reader = csv.DictReader(StringIO(text, newline=""), strict=True)
    _check_columns(f"{path}:1", reader.fieldnames or ())
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise DataError(f"{where}: the number of cells differs from the header")
            yield where, {name: value.strip() for name, value in row.items()}
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: {error}") from None


def _json_rows(path: Path, text: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise DataError(f"{path}: expected a list of objects, one per box")
    for number, entry in enumerate(value, start=1):
        where = f"{path}: entry {number}"
        _check_columns(where, list(entry))
        yield where, entry


def _check_columns(where: str, names: Sequence[str]) -> None:
    missing, unknown = [name for name in NEEDED if name not in names], [name for name in names if name not in COLUMNS]
    if missing or unknown or len(set(names)) < len(names):
        found = f"no column {', '.join(missing)}" if missing else f"unknown or repeated columns {', '.join(names)}"
        raise DataError(f"{where}: {found}; allowed: {', '.join(COLUMNS)} (dataset and score are optional)")


@dataclass(frozen=True)
class _RowReader:
    """Conversion of rows to boxes, with the labels and volumes that a row may name."""

    labels: Mapping[str, LabelTable]
    """Label table of each dataset."""
    records: Mapping[tuple[str, str, str], VolumeRecord]
    """All volumes, not only those of the evaluated split: a detector may have processed all of them."""

    @classmethod
    def of(cls, stores: Sequence[Store]) -> "_RowReader":
        records = (record for store in stores for record in store.volumes)
        by_name = {(record.key.dataset, record.key.subject, record.key.volume): record for record in records}
        return cls({store.name: store.labels for store in stores}, by_name)

    def detection(self, values: Mapping[str, Any]) -> tuple[SliceKey, DetectedBox]:
        """Slice and box of one row; raise DataError without the location in the file."""
        dataset = self._dataset(values.get("dataset"))
        name = (dataset, str(values["subject"]), str(values["volume"]))
        if name not in self.records:
            raise DataError(f"{'/'.join(name[1:])}: the store {dataset} has no such volume")
        record = self.records[name]
        num_slices, height, width = record.geometry.shape_zyx
        index = _whole("slice", values["slice"])
        if not 0 <= index < num_slices:
            raise DataError(f"slice {index}: {record.key} has the slices 0 to {num_slices - 1}")
        given = [_number(name, values[name]) for name in CORNERS]
        if given[0] > given[2] or given[1] > given[3]:
            shown = " ".join(f"{value:g}" for value in given)
            raise DataError(f"box {shown}; allowed: x0 <= x1 and y0 <= y1")
        x0, y0, x1, y1 = (math.floor(value + 0.5) for value in given)
        clipped = Box(max(x0, 0), max(y0, 0), min(x1, width - 1), min(y1, height - 1))
        if clipped.x0 > clipped.x1 or clipped.y0 > clipped.y1:
            raise DataError(f"box {x0} {y0} {x1} {y1}: entirely outside the image of {width} x {height} pixels")
        return record.key.slice(index), DetectedBox(_label(self.labels[dataset], values["label"]), clipped)

    def _dataset(self, name: Any) -> str:
        if not name and len(self.labels) == 1:
            return next(iter(self.labels))
        if name not in self.labels:
            raise DataError(f"{f'dataset {name!r}' if name else 'no dataset'}; allowed: {', '.join(self.labels)}")
        return str(name)


def _whole(name: str, value: Any) -> int:
    number = _finite(value)
    if number is None or not number.is_integer():
        raise DataError(f"{name}: found {value!r}, allowed: a whole number")
    return int(number)


def _number(name: str, value: Any) -> float:
    number = _finite(value)
    if number is None:
        raise DataError(f"{name}: found {value!r}, allowed: a number (with a decimal point)")
    return number


def _finite(value: Any) -> float | None:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _label(labels: LabelTable, value: Any) -> int:
    named = {label.name: label.id for label in labels} | {str(label.id): label.id for label in labels}
    if str(value) not in named:
        raise DataError(f"label {value!r} is not in the label table; known: {labels.describe()}")
    return named[str(value)]


# --- matching of boxes to instances -----------------------------------------------------------------------------------


def boxes_per_label(detections: Sequence[DetectedBox]) -> list[DetectedBox]:
    """One box around all boxes of each label (`eval.instances: per_label`), sorted by label."""
    joined = []
    for label in sorted({one.label for one in detections}):
        corners = np.array([one.box for one in detections if one.label == label])
        low, high = corners.min(axis=0), corners.max(axis=0)
        joined.append(DetectedBox(label, Box(int(low[0]), int(low[1]), int(high[2]), int(high[3]))))
    return joined


def matched_boxes(
    instances: Sequence[Instance], detections: Sequence[DetectedBox], shape_yx: tuple[int, int]
) -> list[tuple[Instance, Box | None]]:
    """Match detected boxes to instances of the same label.

    Pairs are formed greedily in order of decreasing IoU of the detected box and the box of the instance (equal IoU: the
    earlier instance, then the earlier box). Each is used at most once, and the IoU must be above 0.

    Returns:
        Every instance with its detected box (None: missed), and every unmatched box with an empty instance that is
        numbered after those of the reference. Sorted by label, then number.
    """
    pairs = sorted(
        (-box_iou(instance.box, one.box), number, position)
        for number, instance in enumerate(instances)
        for position, one in enumerate(detections)
        if instance.label == one.label
    )
    box_of: dict[int, int] = {}
    for negative, number, position in pairs:
        if negative < 0 and number not in box_of and position not in box_of.values():
            box_of[number] = position
    found: list[tuple[Instance, Box | None]] = [
        (instance, detections[box_of[number]].box if number in box_of else None)
        for number, instance in enumerate(instances)
    ]
    counts = {one.label: sum(instance.label == one.label for instance in instances) for one in detections}
    nothing = np.zeros(shape_yx, dtype=np.bool_)
    for position, one in enumerate(detections):
        if position not in box_of.values():
            counts[one.label] += 1
            found.append((Instance(one.label, counts[one.label], nothing, one.box), one.box))
    return sorted(found, key=lambda pair: (pair[0].label, pair[0].instance))


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in pixels (inclusive indices)."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0) + 1
    height = min(first.y1, second.y1) - max(first.y0, second.y0) + 1
    shared = max(width, 0) * max(height, 0)
    areas = sum((box.x1 - box.x0 + 1) * (box.y1 - box.y0 + 1) for box in (first, second))
    return shared / (areas - shared)
