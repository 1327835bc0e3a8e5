"""Reading of tables as lines of text: CSV with any separator and its encoding, and Excel workbooks."""

import csv
import io
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError

SEPARATORS = (",", ";", "\t", "|")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_WORKBOOK, _OLD_WORKBOOK = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_LARGEST_SHEET = 512 * 2**20
"""Bytes that the parts of a workbook may have unpacked; a table of 100,000 volumes has some 50 MiB."""


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    number: int
    """Its number in the file, the header's is 1."""
    cells: tuple[str, ...]


def table_text(table: Path) -> str:
    """The text of a table; DataError with the line when it is not UTF-8."""
    content = table.read_bytes()
    quoted = shlex.quote(str(table))
    if content.startswith((_WORKBOOK, _OLD_WORKBOOK)):
        raise DataError(
            f"{table}: is a spreadsheet, not text; save it with the ending .xlsx, or export it as CSV UTF-8"
        )
    if content.startswith(_UTF16):
        raise _wrong_encoding(f"{table}:1: is UTF-16, as Excel writes Unicode text", "UTF-16", "utf-16", quoted)
    if b"\0" in content:
        order = "utf-16le" if content[1:2] == b"\0" else "utf-16be"
        raise _wrong_encoding(f"{table}:1: has zero bytes, as UTF-16 text has", "UTF-16", order, quoted)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        windows = any(0x80 <= byte <= 0x9F for byte in content)
        kind, name = ("Windows-1252", "windows-1252") if windows else ("Latin-1", "latin1")
        raise _wrong_encoding(
            f"{table}:{line}: byte 0x{content[error.start]:02x} is not UTF-8", kind, name, quoted
        ) from None


def _wrong_encoding(found: str, kind: str, name: str, quoted: str) -> DataError:
    return DataError(f"{found}; save the table as UTF-8 (from {kind}: iconv -f {name} -t utf-8 {quoted} > new.csv)")


def table_lines(table: Path, needed: Sequence[str]) -> tuple[list[str], list[Line]]:
    """(names in the header, lines below it): cells without blanks around them, without empty lines.

    Args:
        needed: columns that tell which separator the header has.

    Raises:
        DataError: naming the file and the line with the problem.
    """
    if not table.is_file():
        state = "is a folder" if table.is_dir() else "no such file"
        raise DataError(f"{table}: {state}; sources.images names a table that does not exist")
    lines = _of_workbook(table) if table.suffix.lower() == ".xlsx" else _of_text(table, needed)
    header = list(next(lines, Line(1, ())).cells)
    while header and not header[-1]:
        header.pop()
    if not header:
        raise DataError(f"{table}: empty; its first line must name the columns {', '.join(needed)}")
    found = []
    for line in lines:
        cells = (*line.cells, *[""] * (len(header) - len(line.cells)))
        if any(cells[len(header) :]):
            raise DataError(
                f"{table}:{line.number}: has {len(line.cells)} cells, the header {len(header)}; a cell that holds the "
                "separator (such as 3,5) stands in double quotes"
            )
        if any(cells):
            found.append(Line(line.number, cells[: len(header)]))
    return header, found


def _of_text(table: Path, needed: Sequence[str]) -> Iterator[Line]:
    text = table_text(table)
    separator = _separator(text, needed)
    if text.startswith("sep="):  # Excel's own line
        text = text.partition("\n")[2]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    before = 0
    try:
        for cells in reader:
            yield Line(before + 1, tuple(cell.strip() for cell in cells))
            before = reader.line_num
    except csv.Error as error:
        raise DataError(
            f"{table}:{reader.line_num}: cannot be read as a table ({error}); save it anew as CSV"
        ) from None


def _separator(text: str, needed: Sequence[str]) -> str:
    """The separator with which the header has most of the needed columns; the comma if several do."""
    stream = io.StringIO(text, newline="")
    first = stream.readline()
    if first.startswith("sep=") and len(first.strip()) == len("sep=;"):
        return first.strip()[-1]
    known = {name.casefold() for name in needed}

    def hits(separator: str) -> int:
        cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        return len(known & {cell.strip().casefold() for cell in cells})

    return max(SEPARATORS, key=hits)  # of equal ones the first


def _of_workbook(table: Path) -> Iterator[Line]:
    from openpyxl import load_workbook  # takes 0.3 s, and most tables are text

    advice = "save it anew as .xlsx, or export it as CSV UTF-8"
    try:
        with zipfile.ZipFile(table) as parts:
            if sum(part.file_size for part in parts.infolist()) > _LARGEST_SHEET:
                raise DataError(f"{table}: unpacks to more than {_LARGEST_SHEET // 2**20} MiB; {advice}")
        book = load_workbook(table, read_only=True, data_only=True)
        sheets = {sheet.title: list(_sheet_lines(table, sheet)) for sheet in book.worksheets}
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  # zipfile, XML and openpyxl raise anything for a damaged file
        raise DataError(f"{table}: cannot be read as an Excel workbook ({type(error).__name__}); {advice}") from None
    used = {title: lines for title, lines in sheets.items() if lines}
    if len(used) > 1:
        raise DataError(
            f"{table}: has {len(used)} sheets with content; allowed: one (remove the others, or export the one "
            "that lists the volumes as CSV UTF-8)"
        )
    yield from next(iter(used.values()), [])


def _sheet_lines(table: Path, sheet: Any) -> Iterator[Line]:
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells = tuple(_cell_text(table, number, cell) for cell in row)
        if any(cells):
            yield Line(number, cells)


def _cell_text(table: Path, number: int, cell: Any) -> str:
    """A cell as it is shown: whole numbers without a point, leading zeros of its format, dates as ISO 8601."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        raise DataError(f"{table}:{number}: a cell holds the error {value}; mend its formula")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and value == int(value):
        zeros = cell.number_format if set(cell.number_format or "") == {"0"} else ""
        return str(int(value)).zfill(len(zeros))
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).removesuffix("T00:00:00")
    return str(value).strip()
