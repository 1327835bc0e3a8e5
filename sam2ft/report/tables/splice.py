"""Concatenation of the CSV rows of all evaluations into the large CSV files of a report (copy_file_range).

Rows are sorted by run first, so that the file is the concatenation of the evaluations' own rows in the order of their
ids. Rows of an unchanged evaluation are copied from the previous report, adjacent ranges in one call.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, replacing, write_json
from sam2ft.core.tables.rows import TABLES
from sam2ft.report.layout import ReportLayout
from sam2ft.report.tables.frames import csv_body, csv_header, frame_of_parquet, padded
from sam2ft.report.tables.parts import EvaluationPart

LAST_VERSION = 1
# Bytes copied at a time where the kernel cannot copy from file to file.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Spliced:
    """A CSV file of a report, with the byte range of each part in it."""

    names: tuple[str, ...]
    places: Mapping[str, tuple[int, int]]
    """Key of the part -> (first byte, number of bytes), in the order of the file."""
    stat: tuple[int, ...] = ()
    """Inode, size and modification time by which the file is recognised."""

    def to_json(self) -> dict[str, Any]:
        places = [[key, *place] for key, place in self.places.items()]
        return {"names": list(self.names), "stat": list(self.stat), "places": places}


@dataclass(frozen=True)
class FileRange:
    """A byte range of a file; without `source`, rows that must be written again."""

    source: Path | None
    first: int
    length: int


@dataclass(frozen=True)
class EarlierTables:
    """The previous report, limited to the files that were not changed since aggregation wrote them."""

    layout: ReportLayout
    tables: Mapping[str, Spliced] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    """All file names that aggregation ever wrote into this report's folder."""

    @classmethod
    def read(cls, layout: ReportLayout) -> "EarlierTables":
        if not layout.last.is_file():
            return cls(layout)
        value = read_json(layout.last)
        if value["version"] != LAST_VERSION:
            return cls(layout, {}, frozenset(value["files"]))
        tables = {}
        for name, entry in value["tables"].items():
            places = {key: (first, length) for key, first, length in entry["places"]}
            spliced = Spliced(tuple(entry["names"]), places, tuple(entry["stat"]))
            if stat_of(layout.table(name)) == spliced.stat:
                tables[name] = spliced
        return cls(layout, tables, frozenset(value["files"]))

    def remember(self, tables: Mapping[str, Spliced], files: frozenset[str]) -> None:
        """Store the index of the new report, which the next call reads."""
        spliced = {name: table.to_json() for name, table in tables.items()}
        write_json(self.layout.last, {"version": LAST_VERSION, "files": sorted(files | self.files), "tables": spliced})

    def piece(self, name: str, names: Sequence[str], part: EvaluationPart) -> FileRange | None:
        """Byte range of a part's rows in the previous report; None where it is missing or has other columns."""
        table = self.tables.get(name)
        if table is None or table.names != tuple(names) or part.key not in table.places:
            return None
        return FileRange(self.layout.table(name), *table.places[part.key])


def stat_of(path: Path) -> tuple[int, ...]:
    """(inode, size, modification time in ns) of a file; empty for a missing file."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return ()
    return (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def splice(
    name: str, names: Sequence[str], parts: Sequence[EvaluationPart], before: EarlierTables, target: Path
) -> Spliced:
    """Write the rows of `parts`, which must be sorted by run and evaluation, with the columns `names` into `target`.

    Raises:
        DataError: when a source file became shorter after it was checked, or a cached Parquet file is damaged.
    """
    places: dict[str, tuple[int, int]] = {}
    with replacing(target) as partial:
        with partial.open("wb") as stream:
            stream.write(csv_header(names))
            stream.flush()
            for source, run in _neighbours([(part, _piece(name, names, part, before)) for part in parts]):
                position = stream.tell()
                if source is None:
                    length = _write_rows(name, names, run[0][0], stream)
                    places[run[0][0].key] = (position, length)
                    continue
                _copy(source, run[0][1].first, sum(piece.length for _, piece in run), stream)
                for part, piece in run:
                    places[part.key] = (position, piece.length)
                    position += piece.length
        # Modification time of the last write; a rename keeps it.
        stat = stat_of(partial)
    return Spliced(tuple(names), places, stat)


def _piece(name: str, names: Sequence[str], part: EvaluationPart, before: EarlierTables) -> FileRange:
    if (found := before.piece(name, names, part)) is not None:
        return found
    table = part.tables[name]
    return FileRange(part.csv(name) if table.names == tuple(names) else None, table.first, table.length)


def _neighbours(
    pieces: Sequence[tuple[EvaluationPart, FileRange]],
) -> Iterator[tuple[Path | None, list[tuple[EvaluationPart, FileRange]]]]:
    """Group consecutive pieces that are adjacent byte ranges of the same file."""
    run: list[tuple[EvaluationPart, FileRange]] = []
    for part, piece in pieces:
        last = run[-1][1] if run else None
        if last and (piece.source is None or (last.source, last.first + last.length) != (piece.source, piece.first)):
            yield last.source, run
            run = []
        run.append((part, piece))
    if run:
        yield run[-1][1].source, run


def _write_rows(name: str, names: Sequence[str], part: EvaluationPart, stream: BinaryIO) -> int:
    """Write the rows of a part that lacks columns of other parts; returns the number of bytes."""
    if not part.tables[name].num_rows:
        return 0
    path = part.parquet(name)
    frame = padded(TABLES[name], frame_of_parquet(path.read_bytes(), str(path)), names)
    length = sum(stream.write(piece) for piece in csv_body(frame))
    stream.flush()
    return length


def _copy(source: Path, first: int, length: int, stream: BinaryIO) -> None:
    """Append bytes of a file to `stream`, whose buffer must be empty."""
    if not length:
        return
    with source.open("rb", buffering=0) as given:
        given.seek(first)
        position, left = stream.tell(), length
        while left:
            done = _copy_some(given, stream, left)
            if not done:
                raise DataError(f"{source}: was truncated while it was read; aggregate again")
            left -= done
        stream.seek(position + length)


def _copy_some(given: RawIOBase, stream: BinaryIO, left: int) -> int:
    try:
        return os.copy_file_range(given.fileno(), stream.fileno(), left)
    except (OSError, AttributeError):
        data = os.read(given.fileno(), min(left, _BLOCK))
        return os.write(stream.fileno(), data)
