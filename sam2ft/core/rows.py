"""The only definition of the tables on disk: their keys, columns, units, NaN rules and text form.

A row is a plain mapping from column name to value. Scorers make rows without the stamp (run, eval, split, protocol);
`run/` stamps them. Values are str, int, float or None; None and NaN are written as an empty cell.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.files import write_text

Value = str | int | float | None
Row = Mapping[str, Value]
Kind = Literal["text", "integer", "number"]

SCHEMA_VERSION = 1
STATUSES = ("ok", "absent", "missed", "spurious")


@dataclass(frozen=True)
class Column:
    """One column: its type and, for people, what it holds."""

    name: str
    kind: Kind
    description: str
    unit: str = ""


def _text(name: str, description: str) -> Column:
    return Column(name, "text", description)


def _integer(name: str, description: str, unit: str = "") -> Column:
    return Column(name, "integer", description, unit)


def _number(name: str, description: str, unit: str = "") -> Column:
    return Column(name, "number", description, unit)


STAMP = (
    _text("run", "run_id of the run that made the prediction"),
    _text("eval", "eval_id: identity of the evaluation's settings and data"),
)
_DATASET = _text("dataset", "name of the prepared store")
_SUBJECT_VOLUME = (
    _text("subject", "the person: unit of splitting and statistics"),
    _text("volume", "one 3-D image of a subject"),
)
_SPLIT_PROTOCOL = (
    _text("split", "train, val or test"),
    _text("protocol", "how the model was prompted, with parameters"),
)
_SLICE = _integer("slice", "0-based index along the slice normal")
_LABEL = (_integer("label", "integer in the mask"), _text("label_name", "its name in the label table"))
_INSTANCE = _integer("instance", "1-based connected component; empty = the whole tissue")
_COUNTS = (
    _integer("tp", "pixels in both masks"),
    _integer("fp", "pixels only in the prediction"),
    _integer("fn", "pixels only in the reference"),
)
_TN = _integer("tn", "pixels in neither mask")
_OVERLAP = (
    _number("dice", "2 tp / (2 tp + fp + fn)", "1"),
    _number("iou", "tp / (tp + fp + fn)", "1"),
)
_RATES = (
    _number("precision", "tp / (tp + fp)", "1"),
    _number("recall", "tp / (tp + fn)", "1"),
)
_DISTANCES = (
    _number("hd_mm", "Hausdorff distance of the voxel boundaries; empty unless the metric is asked for", "mm"),
    _number("hd95_mm", "its 95th percentile, the larger of both directions", "mm"),
    _number("assd_mm", "average symmetric distance of the voxel boundaries", "mm"),
    _number("nsd", "share of both boundaries within eval.nsd_tolerance_mm of the other", "1"),
)
_STATUS = _text(
    "status",
    "ok; absent: label in neither mask (ratios empty, not counted); missed: only in the reference; spurious: only in the prediction",
)
_BIOMARKER = (
    _text("biomarker", "cartilagethickness, tissuevolume, tissueheight, t1rho or t2"),
    _text("definition", "which number of the biomarker (docs/biomarkers.md)"),
    _text("unit", "mm, mm2, mm3, mL, ms, percent or 1"),
)
_PAIR = (
    _number("reference", "value measured on the reference mask; empty when there is none"),
    _number("prediction", "value measured on the predicted mask; empty when there is none"),
    _number("difference", "prediction - reference"),
    _integer("n_reference", "voxels, rays or instances behind the reference value"),
    _integer("n_prediction", "the same for the prediction"),
    _text("dz_source", "positions, slice_spacing or slice_thickness: where the slice distance comes from"),
    _STATUS,
)


@dataclass(frozen=True)
class Table:
    """One CSV: `key` columns identify and sort its rows, `measures` follow; metrics may add columns after them."""

    name: str
    key: tuple[Column, ...]
    measures: tuple[Column, ...]
    description: str
    extensible: bool = field(default=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.key + self.measures

    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def key_names(self) -> list[str]:
        return [column.name for column in self.key]


_VOLUME_KEY = (*STAMP, _DATASET, *_SUBJECT_VOLUME, *_SPLIT_PROTOCOL)
_GLOBAL_KEY = (*STAMP, _DATASET, *_SPLIT_PROTOCOL)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "slice",
            (*_VOLUME_KEY, _SLICE, *_LABEL),
            (
                _integer("num_instances", "connected components of the reference in this slice"),
                *_COUNTS,
                _TN,
                _number("area_reference_mm2", "area of the reference", "mm2"),
                _number("area_prediction_mm2", "area of the prediction", "mm2"),
                *_OVERLAP,
                *_RATES,
                *_DISTANCES,
                _STATUS,
            ),
            "One row per evaluated slice and label, measured on the composed label map; absent labels included.",
            extensible=True,
        ),
        Table(
            "instance",
            (*_VOLUME_KEY, _SLICE, *_LABEL, _INSTANCE),
            (
                _text("box", "prompt box x0 y0 x1 y1, inclusive pixel indices, original frame"),
                *_COUNTS,
                *_OVERLAP,
                _STATUS,
            ),
            "One row per prompt: its mask before composition against its connected component.",
            extensible=True,
        ),
        Table(
            "volume",
            (*_VOLUME_KEY, *_LABEL),
            (
                *_COUNTS,
                _TN,
                *_OVERLAP,
                _number("dice_slice_mean", "mean of slice Dice over slices that are not absent", "1"),
                _number("iou_slice_mean", "mean of slice IoU over slices that are not absent", "1"),
                _number("volume_reference_mm3", "volume of the reference", "mm3"),
                _number("volume_prediction_mm3", "volume of the prediction", "mm3"),
                *_DISTANCES,
                _integer("num_slices", "evaluated slices"),
                _STATUS,
            ),
            "One row per volume and label; counts are sums of slice rows, dice and iou are computed from them.",
            extensible=True,
        ),
        Table(
            "global",
            (*_GLOBAL_KEY, *_LABEL, _text("measure", "column of volume.csv that is summarised")),
            (
                _integer("n", "subjects behind the mean"),
                _integer("n_absent", "volumes without this label in either mask, not counted"),
                _integer("n_missed", "volumes in which the label was missed, counted as 0"),
                _integer("n_spurious", "volumes in which the label was predicted but is not there, counted as 0"),
                _number("mean", "mean over subjects"),
                _number("sd", "standard deviation over subjects (n - 1)"),
                _number("median", "median over subjects"),
                _number("q25", "first quartile"),
                _number("q75", "third quartile"),
                _number("ci_low", "95 % confidence interval of the mean by bootstrap over subjects, lower end"),
                _number("ci_high", "upper end"),
            ),
            "One row per label and measure; overall rows have an empty label and the name mean_of_labels or pooled.",
        ),
        Table(
            "biomarker_slice",
            (*_VOLUME_KEY, _SLICE, _LABEL[0], _text("tissue", "label name"), _INSTANCE, *_BIOMARKER),
            _PAIR,
            "Biomarkers of single slices, reference against prediction.",
        ),
        Table(
            "biomarker_volume",
            (*_VOLUME_KEY, _LABEL[0], _text("tissue", "label name"), _INSTANCE, *_BIOMARKER),
            _PAIR,
            "Biomarkers of whole volumes, reference against prediction.",
        ),
        Table(
            "biomarker_global",
            (*_GLOBAL_KEY, _text("tissue", "label name"), *_BIOMARKER),
            (
                _integer("n", "subjects with both values"),
                _integer("n_missed", "volumes in which the tissue was missed"),
                _integer("n_spurious", "volumes in which the tissue was predicted but is not there"),
                _number("reference_mean", "mean of the reference values"),
                _number("prediction_mean", "mean of the predicted values"),
                _number("bias", "mean of prediction - reference"),
                _number("sd_difference", "standard deviation of the differences (n - 1)"),
                _number("loa_low", "bias - 1.96 sd_difference"),
                _number("loa_high", "bias + 1.96 sd_difference"),
                _number("mae", "mean absolute difference"),
                _number("rmse", "root mean square difference"),
            ),
            "Agreement of prediction and reference over subjects.",
            extensible=True,
        ),
    )
}


def stamped(rows: Iterable[Row], *, run: str, eval: str, split: str, protocol: str) -> list[Row]:  # noqa: A002 (column name)
    """Rows with the columns that only the caller of a scorer knows."""
    return [{"run": run, "eval": eval, "split": split, "protocol": protocol, **row} for row in rows]


def extra_columns(table: Table, rows: Sequence[Row]) -> list[str]:
    """Names of columns that metrics added to `table`, sorted. Errors: ValueError for a table that takes none."""
    known = set(table.column_names())
    extra = sorted({name for row in rows for name in row if name not in known})
    if extra and not table.extensible:
        raise ValueError(f"{table.name}.csv takes no further columns, found {', '.join(extra)}")
    return extra


def cell(value: Any) -> str:
    """The text of one value: floats as their shortest round-trip form, NaN and None empty."""
    if value is None:
        return ""
    if isinstance(value, bool | np.bool_):
        raise TypeError("a table holds no booleans; use status or 0/1")
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        return "" if math.isnan(number) else repr(number)
    return str(value)


def sort_key(table: Table, row: Row) -> tuple[Any, ...]:
    """Rows are sorted by key, column by column; integers by value, empty before any value."""
    parts: list[Any] = []
    for column in table.key:
        value = row.get(column.name)
        empty = value is None or value == ""
        parts.append((0, 0 if column.kind == "integer" else "") if empty else (1, value))
    return tuple(parts)


def format_csv(table: Table, rows: Sequence[Row], extra: Sequence[str] | None = None) -> str:
    """The CSV text of `rows`: header, then rows sorted by key, LF line ends.

    Errors: ValueError when two rows have one key, or a row lacks a fixed column of the table.
    """
    names = table.column_names() + list(extra_columns(table, rows) if extra is None else extra)
    ordered = sorted(rows, key=lambda row: sort_key(table, row))
    for first, second in zip(ordered, ordered[1:], strict=False):
        if sort_key(table, first) == sort_key(table, second):
            raise ValueError(
                f"{table.name}.csv: two rows for {dict(zip(table.key_names(), sort_key(table, first), strict=True))}"
            )
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    fixed = set(table.column_names())
    for row in ordered:
        if missing := fixed - row.keys():
            raise ValueError(f"{table.name}.csv: row without {', '.join(sorted(missing))}: {dict(row)}")
        writer.writerow([cell(row.get(name)) for name in names])
    return stream.getvalue()


def write_csv(path: Path, table: Table, rows: Sequence[Row], extra: Sequence[str] | None = None) -> None:
    """Write `rows` as a whole file, or leave what was there."""
    write_text(path, format_csv(table, rows, extra))


def read_csv(path: Path, table: Table) -> list[dict[str, Value]]:
    """Rows of a file that `write_csv` made; empty integer and number cells become None.

    Errors: DataError naming the file when it lacks a fixed column or has a cell that is not of the column's type.
    """
    kinds = {column.name: column.kind for column in table.columns}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = list(reader.fieldnames or [])
            if missing := [name for name in kinds if name not in header]:
                raise DataError(
                    f"{path}: no column {', '.join(missing)}; it was written by another version of sam2ft or by hand"
                )
            return [{name: _parsed(text, kinds.get(name, "number")) for name, text in line.items()} for line in reader]
    except (ValueError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from None


def _parsed(text: str, kind: Kind) -> Value:
    if kind == "text":
        return text
    if text == "":
        return None
    return int(text) if kind == "integer" else float(text)
