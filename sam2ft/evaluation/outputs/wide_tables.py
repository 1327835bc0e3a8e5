"""Wide tables: one column per label name, derived from the tidy tables (which are the contract). No torch.

They are for people: names that a spreadsheet would run as a formula have an apostrophe in front, unless `plain_cells`.
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from sam2ft.core.files import replacing
from sam2ft.core.tables.row_files import column_names, in_order
from sam2ft.core.tables.rows import TABLES, Row, Value, cell, sort_key
from sam2ft.core.tables.spreadsheet import for_spreadsheet

LEVELS = ("slice", "volume", "global")
SUMMARISED_SLICES = ("dice_slice_mean", "iou_slice_mean")
"""Measures without a wide table: slice_dice.csv and slice_iou.csv contain their values."""


Tables = Mapping[str, Iterable[Row]]
"""Stamped rows by table name; iterated more than once, and never all in memory."""
Cells = Iterable[tuple[str, Row, Mapping[str, Value]]]
"""(label name, row, suffix of a column -> its value), in the order of the table's key."""


def wide_measures(tables: Tables) -> list[str]:
    """Return every requested measure: those of global.csv, and columns that metrics added only to slice.csv."""
    asked = dict.fromkeys(str(row["measure"]) for row in tables.get("global", ()))
    fixed = set(TABLES["slice"].column_names())
    asked |= dict.fromkeys(sorted(column_names(tables.get("slice", ())) - fixed))
    return [name for name in asked if name not in SUMMARISED_SLICES]


def save_metric_scores_to_csv(folder: Path, measure: str, tables: Tables, plain_cells: bool = False) -> list[Path]:
    """Write slice_<measure>.csv, volume_<measure>.csv and global_<measure>.csv; returns the files.

    Levels without a table, or without the measure, are left out. One line per slice, volume or cohort, one
    column per label name (in global_*: the mean over subjects).
    """
    written = []
    for level in LEVELS:
        rows, table = tables.get(level, ()), TABLES[level]
        if level == "global":
            rows = [{**row, measure: row["mean"]} for row in rows if row["measure"] == measure]
        ordered = in_order(table, rows)
        labels = _labels((row for row in ordered if measure in row), "label_name")
        if labels:
            keys = [name for name in table.key_names() if name not in ("label", "label_name", "measure")]
            cells = ((str(row["label_name"]), row, {"": row[measure]}) for row in ordered if measure in row)
            written.append(_write(folder / f"{level}_{measure}.csv", keys, labels, cells, plain_cells))
    return written


def save_custom_metric_scores(folder: Path, biomarker: str, tables: Tables, plain_cells: bool = False) -> list[Path]:
    """Write slice_<biomarker>.csv, volume_<biomarker>.csv and global_<biomarker>.csv; returns the files.

    One line per slice, volume or cohort and definition, the columns `<tissue> reference` and `<tissue> prediction` per
    tissue (in global_*: their means over subjects).
    """
    written = []
    for level in LEVELS:
        table = TABLES[f"biomarker_{level}"]
        mean = "_mean" if level == "global" else ""
        rows = [row for row in tables.get(table.name, ()) if row["biomarker"] == biomarker]
        if rows:
            keys = [name for name in table.key_names() if name not in ("label", "tissue", "biomarker")]
            # A line contains all tissues, but the key of the table has the tissue before the definition.
            ordered = sorted(rows, key=lambda row: sort_key(table, {**row, "label": None, "tissue": None}))
            cells = (
                (
                    str(row["tissue"]),
                    row,
                    {f" {side}": row[f"{side}{mean}"] for side in ("reference", "prediction")},
                )
                for row in ordered
            )
            columns = [f"{tissue} {side}" for tissue in _labels(rows, "tissue") for side in ("reference", "prediction")]
            written.append(_write(folder / f"{level}_{biomarker}.csv", keys, columns, cells, plain_cells))
    return written


def _labels(rows: Iterable[Row], name: str) -> list[str]:
    """Label names in the order of their integers; names without one (mean_of_labels, pooled) last, in row order."""
    labels: dict[str, tuple[bool, int]] = {}
    for row in rows:
        label = row.get("label")
        labels.setdefault(str(row[name]), (True, 0) if label in (None, "") else (False, int(str(label))))
    return sorted(labels, key=lambda label_name: labels[label_name])


def _write(path: Path, keys: Sequence[str], columns: Sequence[str], cells: Cells, plain_cells: bool) -> Path:
    """Write one line per combination of `keys`; the cells of a line must be consecutive."""
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        name_of = str if plain_cells else for_spreadsheet
        writer.writerow([*keys, *map(name_of, columns)])
        for key, same in groupby(cells, key=lambda item: [item[1].get(name) for name in keys]):
            line = {name + suffix: value for name, _, values in same for suffix, value in values.items()}
            names = [name_of(value) if isinstance(value, str) else cell(value) for value in key]
            writer.writerow([*names, *(cell(line.get(column)) for column in columns)])
    return path
