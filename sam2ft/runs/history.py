"""Training history (history.csv): one row per epoch, `epoch, step, improved, seconds`, then its values by name."""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO

from sam2ft.runs.layout import RunLayout

FIXED = ("epoch", "step", "improved", "seconds")


def read_history(layout: RunLayout) -> list[dict[str, str]]:
    """Return the rows as text; an empty list when the file does not exist."""
    if not layout.history.is_file():
        return []
    with layout.history.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def history_values(layout: RunLayout) -> list[dict[str, float]]:
    """Return the rows as numbers; empty cells (NaN) are left out."""
    return [{name: float(text) for name, text in row.items() if text} for row in read_history(layout)]


def history_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the text of history.csv; a value that an epoch does not have is an empty cell."""
    names = [*FIXED, *sorted({name for row in rows for name in row} - set(FIXED))]
    stream = StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
