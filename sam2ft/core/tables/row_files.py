"""Streaming access to the rows of one table in several CSV files.

The files are read again on each iteration; the rows of all files are never in memory together.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sam2ft.core.files import replacing
from sam2ft.core.tables.rows import Row, Table, read_csv, sort_key


@dataclass(frozen=True)
class RowFiles:
    """CSV files written by `write_csv`, in key order: every key of one file sorts before every key of the next file."""

    table: Table
    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[Row]:
        """Yield all rows in the order of the table's key.

        Raises:
            DataError: a file cannot be read, see `read_csv`.
        """
        for path in self.paths:
            yield from read_csv(path, self.table)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of all files in the order of the table, see `Table.ordered_names`."""
        return tuple(self.table.ordered_names(name for path in self.paths for name in _header(path)))

    def write(self, target: Path) -> None:
        """Write all rows to one file, as `write_csv` would write them; the text of the cells is copied unchanged."""
        with replacing(target) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(self.names)
            for path in self.paths:
                with path.open(encoding="utf-8", newline="") as source:
                    lines = csv.DictReader(source, strict=True)
                    writer.writerows([line.get(name, "") for name in self.names] for line in lines)


def column_names(rows: Iterable[Row]) -> set[str]:
    """Names of the columns that occur in any of the rows."""
    return set(rows.names) if isinstance(rows, RowFiles) else {name for row in rows for name in row}


def in_order(table: Table, rows: Iterable[Row]) -> Iterable[Row]:
    """The rows sorted by the key of the table; `RowFiles` are sorted already."""
    return rows if isinstance(rows, RowFiles) else sorted(rows, key=lambda row: sort_key(table, row))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])
