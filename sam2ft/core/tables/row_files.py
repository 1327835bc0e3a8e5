"""The rows of one table that lie in several files: read again each time they are asked for, never held together."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sam2ft.core.files import replacing
from sam2ft.core.tables.rows import Row, Table, read_csv, sort_key


@dataclass(frozen=True)
class RowFiles:
    """Files that `write_csv` made, in the order of their keys: every key of one lies before every key of the next."""

    table: Table
    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[Row]:
        """All rows in the order of the table's key. Errors: DataError as of `read_csv`."""
        for path in self.paths:
            yield from read_csv(path, self.table)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The table's columns, then those that metrics added in any of the files, sorted."""
        fixed = self.table.column_names()
        found = {name for path in self.paths for name in _header(path)}
        return (*fixed, *sorted(found - set(fixed)))

    def write(self, target: Path) -> None:
        """All rows as one file, the one that `write_csv` would make of them. Cells are copied as they stand."""
        with replacing(target) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(self.names)
            for path in self.paths:
                with path.open(encoding="utf-8", newline="") as source:
                    lines = csv.DictReader(source, strict=True)
                    writer.writerows([line.get(name, "") for name in self.names] for line in lines)


def column_names(rows: Iterable[Row]) -> set[str]:
    """The columns that any of the rows has."""
    return set(rows.names) if isinstance(rows, RowFiles) else {name for row in rows for name in row}


def in_order(table: Table, rows: Iterable[Row]) -> Iterable[Row]:
    """The rows sorted by the table's key; those of files are."""
    return rows if isinstance(rows, RowFiles) else sorted(rows, key=lambda row: sort_key(table, row))


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])
