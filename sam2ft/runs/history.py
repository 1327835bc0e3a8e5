"""Training history (history.csv): one row per epoch, `epoch, step, improved, seconds`, then its values by name.

Its digest lies beside it; every resume file holds the rows too, so that a damaged file is written again at a resume.
"""

import csv
from collections.abc import Mapping, Sequence
from io import StringIO

from sam2ft.core.digests.verified_files import digest_file, read_with_digest, tell_damage, write_with_digest
from sam2ft.core.errors import DataError
from sam2ft.runs.layout import RunLayout

FIXED = ("epoch", "step", "improved", "seconds")


def read_history(layout: RunLayout) -> list[dict[str, str]]:
    """Return the rows as text; an empty list when the file does not exist.

    Raises:
        DataError: the file is damaged, or not a history.
    """
    try:
        text = read_with_digest(layout.history).decode("utf-8")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError as error:
        raise DataError(f"{layout.history}: not UTF-8 ({error.reason}); remove it to continue without it") from None
    rows = history_rows(text)
    if not text.startswith(",".join(FIXED)) or not all((row["epoch"] or "").isdecimal() for row in rows):
        raise DataError(f"{layout.history}: not a history of a training; remove it to continue without it")
    return rows


def history_rows(text: str) -> list[dict[str, str]]:
    """Return the rows of the text of a history."""
    return list(csv.DictReader(StringIO(text, newline="")))


def history_values(layout: RunLayout) -> list[dict[str, float]]:
    """Return the rows as numbers; empty cells (NaN) are left out."""
    try:
        return [{name: float(text) for name, text in row.items() if text} for row in read_history(layout)]
    except (TypeError, ValueError) as error:
        raise DataError(f"{layout.history}: not a history ({error}); remove it to continue without it") from None


def history_if_readable(layout: RunLayout) -> list[dict[str, float]]:
    """`history_values`, and no rows, with a note, for a damaged file: for callers that show or estimate."""
    try:
        return history_values(layout)
    except DataError as error:
        tell_damage(f"{error}; left out")
        return []


def write_history(layout: RunLayout, rows: Sequence[Mapping[str, str]]) -> None:
    """Write history.csv with its digest beside it."""
    write_with_digest(layout.history, history_text(rows).encode())


def remove_history(layout: RunLayout) -> None:
    """Remove history.csv and its digest; the file first, so that it never lies there without."""
    layout.history.unlink(missing_ok=True)
    digest_file(layout.history).unlink(missing_ok=True)


def history_text(rows: Sequence[Mapping[str, str]]) -> str:
    """Return the text of history.csv; a value that an epoch does not have is an empty cell."""
    names = [*FIXED, *sorted({name for row in rows for name in row} - set(FIXED))]
    stream = StringIO()
    writer = csv.DictWriter(stream, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
