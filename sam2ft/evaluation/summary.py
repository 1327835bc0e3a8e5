"""Text summary of an evaluation for a terminal: means of measures and biomarkers. No torch."""

import math
from collections.abc import Sequence
from typing import Any

from sam2ft.core.tables.rows import Row


def summary_lines(global_rows: Sequence[Row]) -> list[str]:
    """Return a text table: mean of each measure per label (and dataset, when there are several).

    Labels or measures are the rows, whichever makes the table narrower.
    """
    several = len({row["dataset"] for row in global_rows}) > 1
    means: dict[str, dict[str, Any]] = {}
    for row in global_rows:
        name = f"{row['dataset']} {row['label_name']}" if several else str(row["label_name"])
        means.setdefault(name, {})[str(row["measure"])] = row["mean"]
    measures = list(dict.fromkeys(str(row["measure"]) for row in global_rows))
    cells = [["label", *measures]]
    for name, of_label in means.items():
        cells.append([name, *(three_digits(of_label.get(measure)) for measure in measures)])
    turned = [["measure", *means], *([*column] for column in list(zip(*cells, strict=True))[1:])]
    return min(aligned(cells), aligned(turned), key=lambda lines: max(map(len, lines)))


def biomarker_lines(biomarker_rows: Sequence[Row]) -> list[str]:
    """Return a text table: means of reference and prediction over subjects, per row of biomarker_global.csv (n > 0)."""
    cells = [["tissue", "biomarker", "definition", "unit", "reference", "prediction", "difference", "n"]]
    for row in (row for row in biomarker_rows if row["n"]):
        names = (str(row[name]) for name in ("tissue", "biomarker", "definition", "unit"))
        numbers = (three_digits(row[name]) for name in ("reference_mean", "prediction_mean", "bias"))
        cells.append([*names, *numbers, str(row["n"])])
    return aligned(cells) if len(cells) > 1 else []


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of text whose columns are aligned."""
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def three_digits(value: Any, sign: str = "") -> str:
    """Return a number with three decimals, `-` for None and NaN; with `sign` "+" also positive numbers have a sign."""
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.3f}"
