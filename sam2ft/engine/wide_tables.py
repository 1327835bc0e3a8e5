"""The known wide tables, one column per label name, made from the tidy rows that are the contract. No torch."""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from sam2ft.core.files import write_text
from sam2ft.core.rows import TABLES, Row, Table, Value, cell, sort_key

LEVELS = ("slice", "volume", "global")
SUMMARISED_SLICES = ("dice_slice_mean", "iou_slice_mean")
"""Of no wide table: they are what slice_dice.csv and slice_iou.csv hold."""


def wide_measures(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """Every measure that was asked for: what global.csv summarises, and columns that metrics added to slices only."""
    asked = dict.fromkeys(str(row["measure"]) for row in tables.get("global", ()))
    fixed = set(TABLES["slice"].column_names())
    asked |= dict.fromkeys(sorted({name for row in tables.get("slice", ()) for name in row} - fixed))
    return [name for name in asked if name not in SUMMARISED_SLICES]


def save_metric_scores_to_csv(folder: Path, measure: str, tables: Mapping[str, Sequence[Row]]) -> list[Path]:
    """Write slice_<measure>.csv, volume_<measure>.csv and global_<measure>.csv; returns the files.

    `tables`: stamped rows by table name; levels that are not there, or do not have the measure, are left out. One line
    per slice, volume or cohort, one column per label name (in global_*: the mean over subjects).
    """
    written = []
    for level in LEVELS:
        rows = tables.get(level, ())
        if level == "global":
            rows = [{**row, measure: row["mean"]} for row in rows if row["measure"] == measure]
        rows = [row for row in rows if measure in row]
        if rows:
            keys = [name for name in TABLES[level].key_names() if name not in ("label", "label_name", "measure")]
            cells = [(str(row["label_name"]), row, {"": row[measure]}) for row in _by_label(rows)]
            written.append(_write(folder / f"{level}_{measure}.csv", TABLES[level], keys, cells))
    return written


def save_custom_metric_scores(folder: Path, biomarker: str, tables: Mapping[str, Sequence[Row]]) -> list[Path]:
    """Write slice_<biomarker>.csv, volume_<biomarker>.csv and global_<biomarker>.csv; returns the files.

    One line per slice, volume or cohort and definition, the columns `<tissue> reference` and `<tissue> prediction` per
    tissue (in global_*: their means over subjects).
    """
    written = []
    for level in LEVELS:
        table = TABLES[f"biomarker_{level}"]
        suffix = "_mean" if level == "global" else ""
        rows = [row for row in tables.get(table.name, ()) if row["biomarker"] == biomarker]
        if rows:
            keys = [name for name in table.key_names() if name not in ("label", "tissue", "biomarker")]
            cells = [
                (
                    str(row["tissue"]),
                    row,
                    {" reference": row[f"reference{suffix}"], " prediction": row[f"prediction{suffix}"]},
                )
                for row in _by_label(rows)
            ]
            written.append(_write(folder / f"{level}_{biomarker}.csv", table, keys, cells))
    return written


def _by_label(rows: Sequence[Row]) -> list[Row]:
    """Labels in the order of their integers, what has none (mean_of_labels, pooled) last."""

    def position(row: Row) -> tuple[bool, int]:
        label = row.get("label")
        return (True, 0) if label in (None, "") else (False, int(str(label)))

    return sorted(rows, key=position)


def _write(
    path: Path, table: Table, keys: Sequence[str], cells: Sequence[tuple[str, Row, Mapping[str, Value]]]
) -> Path:
    """One line per combination of `keys`; columns are label name + suffix in the order they come."""
    lines: dict[tuple[Value, ...], dict[str, Value]] = {}
    columns: dict[str, None] = {}
    for label_name, row, values in cells:
        line = lines.setdefault(tuple(row.get(key) for key in keys), {key: row.get(key) for key in keys})
        for suffix, value in values.items():
            columns[label_name + suffix] = None
            line[label_name + suffix] = value
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*keys, *columns])
    for line in sorted(lines.values(), key=lambda line: sort_key(table, line)):
        writer.writerow([cell(line.get(name)) for name in (*keys, *columns)])
    write_text(path, stream.getvalue())
    return path
