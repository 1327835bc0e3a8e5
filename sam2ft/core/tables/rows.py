"""Definition of every CSV table (slice, instance, volume, global, biomarkers), and reading and writing of CSV files.

A row is a plain mapping from column name to value. Scorers make rows without the columns run, eval, split and protocol;
`stamped` adds these. Values are str, int, float or None; None and NaN are written as an empty cell.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.files import write_text
from sam2ft.core.tables.columns import (
    AGREEMENT,
    BIOMARKER,
    COUNTS,
    DISTANCES,
    GLOBAL_KEY,
    INSTANCE,
    LABEL,
    MEASURE,
    NOISE,
    NUM_SPECKS,
    OVERLAP,
    PAIR,
    RATES,
    SLICE,
    SPLIT_PROTOCOL,
    STATUS,
    SUMMARY,
    TN,
    VOLUME_KEY,
    VOLUME_MEASURES,
    Column,
    Kind,
    integer_column,
    number_column,
    text_column,
)

Value = str | int | float | None
Row = Mapping[str, Value]

SCHEMA_VERSION = 1
# label_name of the rows of global.csv that summarise several labels.
MEAN_OF_LABELS, POOLED = "mean_of_labels", "pooled"


@dataclass(frozen=True)
class Table:
    """One CSV table: `key` columns identify and sort its rows, then follow `measures`.

    Metrics may add further columns after them if it is `extensible`. The columns `later` follow all others.
    """

    name: str
    key: tuple[Column, ...]
    measures: tuple[Column, ...]
    description: str
    extensible: bool = False
    later: tuple[Column, ...] = ()
    """Columns that files of earlier versions lack: written where a row has them, never required."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of every file of this table."""
        return self.key + self.measures

    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def key_names(self) -> list[str]:
        return [column.name for column in self.key]

    def kinds(self) -> dict[str, Kind]:
        """Type of every column that is not of a metric, by name."""
        return {column.name: column.kind for column in (*self.columns, *self.later)}

    def ordered_names(self, found: Iterable[str]) -> list[str]:
        """Header of a file with the columns `found`: the fixed ones, those of metrics sorted, then those of `later`."""
        present, kinds = set(found), self.kinds()
        later = [column.name for column in self.later if column.name in present]
        return [*self.column_names(), *sorted(present - kinds.keys()), *later]


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "slice",
            (*VOLUME_KEY, SLICE, *LABEL),
            (
                integer_column(
                    "num_instances",
                    "number of connected components, or of given instances, of the reference in this slice",
                ),
                *COUNTS,
                TN,
                number_column("area_reference_mm2", "area of the reference", "mm2"),
                number_column("area_prediction_mm2", "area of the prediction", "mm2"),
                *OVERLAP,
                *RATES,
                *DISTANCES,
                STATUS,
            ),
            "One row per evaluated slice and label, measured on the composed label map; absent labels are included.",
            extensible=True,
        ),
        Table(
            "instance",
            (*VOLUME_KEY, SLICE, *LABEL, INSTANCE),
            (
                text_column(
                    "box", "prompt box x0 y0 x1 y1, inclusive pixel indices, original frame; empty: propagated"
                ),
                *COUNTS,
                *OVERLAP,
                STATUS,
            ),
            "One row per prompt: its mask before composition, compared with its instance. With protocol "
            "propagate: one row per object (3-D component or given instance) and slice in which it is present or was "
            "predicted.",
            extensible=True,
        ),
        Table(
            "volume",
            (*VOLUME_KEY, *LABEL),
            VOLUME_MEASURES,
            "One row per volume and label. Counts are sums over slice rows; dice and iou are computed from these sums.",
            extensible=True,
            later=(NUM_SPECKS,),
        ),
        Table(
            "prompt_noise",
            (*VOLUME_KEY[:5], *NOISE, *SPLIT_PROTOCOL, *LABEL),
            VOLUME_MEASURES,
            "One row per volume, shift, seed and label of a prompt-noise study (eval.prompt_noise): the values that "
            "volume.csv would have with this jitter of the boxes.",
            extensible=True,
        ),
        Table(
            "prompt_noise_global",
            (*GLOBAL_KEY[:3], NOISE[0], *SPLIT_PROTOCOL, *LABEL, MEASURE),
            (
                integer_column("num_seeds", "number of seeds of the jitter"),
                *SUMMARY,
                number_column("sd_seeds", "standard deviation, over seeds, of the mean over subjects"),
            ),
            "One row per shift, label and measure: the values of a subject are first averaged over its volumes and the "
            "seeds. Counts of volumes are numbers of volumes times seeds.",
        ),
        Table(
            "global",
            (*GLOBAL_KEY, *LABEL, MEASURE),
            SUMMARY,
            "One row per label and measure. Overall rows: label empty, label_name mean_of_labels or pooled.",
        ),
        Table(
            "biomarker_slice",
            (*VOLUME_KEY, SLICE, LABEL[0], text_column("tissue", "label name"), INSTANCE, *BIOMARKER),
            PAIR,
            "Biomarkers of single slices: values of reference and prediction.",
        ),
        Table(
            "biomarker_volume",
            (*VOLUME_KEY, LABEL[0], text_column("tissue", "label name"), INSTANCE, *BIOMARKER),
            PAIR,
            "Biomarkers of whole volumes: values of reference and prediction. datamodule.metric.sensitivity adds the "
            "column sensitivity: change of the reference value, in its unit, per pixel that the outline moves.",
            extensible=True,
        ),
        Table(
            "biomarker_global",
            (*GLOBAL_KEY, text_column("tissue", "label name"), *BIOMARKER),
            AGREEMENT,
            "Agreement of prediction and reference over subjects (docs/agreement.md).",
            extensible=True,
        ),
    )
}


def number_in(row: Row, name: str) -> float:
    """A number of a row; NaN when the cell is empty or the row has no such column."""
    value = row.get(name)
    return math.nan if value is None else float(value)


def stamped(rows: Iterable[Row], *, run: str, eval: str, split: str, protocol: str) -> list[Row]:  # noqa: A002 (column name)
    """Rows with the columns run, eval, split and protocol, which a scorer does not set."""
    return [{"run": run, "eval": eval, "split": split, "protocol": protocol, **row} for row in rows]


def extra_columns(table: Table, rows: Sequence[Row]) -> list[str]:
    """Names of columns that metrics added to `table`, sorted.

    Raises:
        ValueError: there are such columns, and the table is not extensible.
    """
    known = table.kinds()
    extra = sorted({name for row in rows for name in row if name not in known})
    if extra and not table.extensible:
        raise ValueError(f"{table.name}.csv takes no further columns, found {', '.join(extra)}")
    return extra


def cell(value: Any) -> str:
    """The text of one value: floats in their shortest round-trip form; NaN and None are empty.

    Raises:
        TypeError: the value is a boolean.
    """
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
    """Sort key of a row: its key, column by column; integers by value, empty before any value."""
    parts: list[Any] = []
    for column in table.key:
        value = row.get(column.name)
        empty = value is None or value == ""
        parts.append((0, 0 if column.kind == "integer" else "") if empty else (1, value))
    return tuple(parts)


def format_csv(table: Table, rows: Sequence[Row]) -> str:
    """The CSV text of `rows`: header, then rows sorted by key, LF line ends.

    Raises:
        ValueError: two rows have the same key, or a row lacks a fixed column of the table.
    """
    extra_columns(table, rows)
    names = table.ordered_names(name for row in rows for name in row)
    ordered = sorted(rows, key=lambda row: sort_key(table, row))
    for first, second in pairwise(ordered):
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


def write_csv(path: Path, table: Table, rows: Sequence[Row]) -> None:
    """Write `rows` to a CSV file atomically: after an error the old file is unchanged."""
    write_text(path, format_csv(table, rows))


def read_csv(path: Path, table: Table) -> list[dict[str, Value]]:
    """Rows of a file written by `write_csv`; empty integer and number cells become None.

    Raises:
        DataError: the file lacks a fixed column or has a cell of the wrong type; the message names the file.
    """
    return parse_csv(path.read_bytes(), table, path)


def parse_csv(data: bytes, table: Table, path: Path) -> list[dict[str, Value]]:
    """`read_csv` of the bytes of the file `path`."""
    kinds = table.kinds()
    try:
        reader = csv.DictReader(StringIO(data.decode(), newline=""), strict=True)
        header = list(reader.fieldnames or [])
        if missing := [name for name in table.column_names() if name not in header]:
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
