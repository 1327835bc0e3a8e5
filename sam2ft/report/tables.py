"""Rows of many runs as one table: collated, sorted, checked, and as the bytes of a CSV or Parquet file.

A frame is a `pyarrow.Table` with the columns of one `core.rows.Table`, metric columns after them in alphabetical order.
Empty cells are nulls, NaN is never stored. Frames instead of lists of rows because a sweep has millions of slice rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from sam2ft.core import rows as row_tables
from sam2ft.core.errors import DataError
from sam2ft.core.rows import Row, Table, Value

Frame = Any
"""A pyarrow.Table; pyarrow is imported where it is used because it costs the command line 0.2 s."""

COLLATED = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume")
"""Tables whose rows are put together as they are; the global ones are computed from the volume rows."""

CSV_CHUNK_ROWS = 200_000

# Between these, Arrow's text of a float is Python's repr but for the ".0" of whole numbers (both are the shortest text
# that reads back as the same number); outside, the two switch to exponents at other places.
PLAIN_FROM, PLAIN_BELOW = 1e-4, 1e9


@dataclass(frozen=True)
class Collated:
    """One frame per table name of COLLATED, sorted by key, and what was wrong with the runs left out of them."""

    tables: Mapping[str, Frame]
    problems: tuple[str, ...]


def frame_of_rows(table: Table, rows: Sequence[Row]) -> Frame:
    """A frame of `rows`, in their order. Errors: ValueError for a metric column in a table that takes none."""
    import pyarrow as pa

    extra = row_tables.extra_columns(table, rows)
    columns = {name: [_plain(row.get(name)) for row in rows] for name in [*table.column_names(), *extra]}
    return pa.table(columns, schema=_schema(table, extra))


def frame_of_csv(table: Table, data: bytes, source: str) -> Frame:
    """The frame in the bytes of a CSV file; `source` names the file in errors.

    Errors: DataError when a fixed column is missing, a table without metric columns has others, or a cell is not of
    its column's type.
    """
    import pyarrow as pa
    from pyarrow import csv

    names = _header(data)
    if missing := [name for name in table.column_names() if name not in names]:
        raise DataError(f"{source}: no column {', '.join(missing)}; it was written by another version of sam2ft")
    extra = sorted(set(names) - set(table.column_names()))
    if extra and not table.extensible:
        raise DataError(f"{source}: column {', '.join(extra)} does not belong into {table.name}.csv")
    schema = _schema(table, extra)
    convert = csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=False, include_columns=schema.names
    )
    try:
        return csv.read_csv(
            BytesIO(data), parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=convert
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{source}: {error}") from None


def rows_of(frame: Frame) -> list[dict[str, Value]]:
    """The rows of a frame as `core.rows.read_csv` would give them."""
    return list(frame.to_pylist())


def collate(runs: Sequence[tuple[str, Mapping[str, Frame]]]) -> Collated:
    """The tables of many runs put together; equal for every order of `runs`.

    A run whose rows carry another run_id, or that has rows that another run of the same id has too, is left out and
    named in `problems`; the others are complete.
    """
    tables, problems = {}, set()
    for name in COLLATED:
        table = row_tables.TABLES[name]
        frames = []
        for run, given in runs:
            if name not in given:
                continue
            foreign = sorted(set(given[name].column("run").unique().to_pylist()) - {run})
            if foreign:
                problems.add(f"{run}: {name} rows belong to {', '.join(foreign)}; not counted")
            else:
                frames.append(given[name])
        frame = sorted_by_key(table, _concatenated(table, frames))
        repeated = repeated_runs(table, frame)
        problems.update(f"{run}: {name} rows are there twice; not counted" for run in repeated)
        tables[name] = _without_runs(frame, repeated)
    return Collated(tables, tuple(sorted(problems)))


def sorted_by_key(table: Table, frame: Frame) -> Frame:
    """The rows in the order of `core.rows.sort_key`: by key columns, integers by value, empty first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Integers of a key count from 0 or 1, so that -1 sorts before all of them.
    first = {"text": "", "integer": -1}
    keys = pa.table({column.name: pc.fill_null(frame.column(column.name), first[column.kind]) for column in table.key})
    return frame.take(pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in table.key_names()]))


def repeated_runs(table: Table, frame: Frame) -> list[str]:
    """Runs with two rows of one key, sorted; `frame` must be sorted by key."""
    import pyarrow.compute as pc

    if frame.num_rows < 2:
        return []
    same = None
    for name in table.key_names():
        first, second = frame.column(name).slice(0, frame.num_rows - 1), frame.column(name).slice(1)
        equal = pc.or_(pc.fill_null(pc.equal(first, second), False), pc.and_(pc.is_null(first), pc.is_null(second)))
        same = equal if same is None else pc.and_(same, equal)
    return sorted(frame.slice(1).filter(same).column("run").unique().to_pylist())


def csv_chunks(table: Table, frame: Frame) -> Iterator[bytes]:
    """The CSV file of a sorted frame in pieces: the bytes that `core.rows.format_csv` makes of its rows."""
    import pyarrow.compute as pc

    names = [*table.column_names(), *sorted(set(frame.column_names) - set(table.column_names()))]
    yield (",".join(_quoted_name(name) for name in names) + "\n").encode()
    for start in range(0, frame.num_rows, CSV_CHUNK_ROWS):
        part = frame.slice(start, CSV_CHUNK_ROWS).combine_chunks()
        lines = pc.binary_join_element_wise(*(_column_text(part.column(name)) for name in names), ",")
        yield ("\n".join(lines.to_pylist()) + "\n").encode()


def csv_bytes(table: Table, frame: Frame) -> bytes:
    """The CSV file of a sorted frame."""
    return b"".join(csv_chunks(table, frame))


def parquet_bytes(frame: Frame) -> bytes:
    """The Parquet file of a frame, with a checksum per page: bit flips in default Parquet are read back as data."""
    import pyarrow.parquet as pq

    stream = BytesIO()
    pq.write_table(frame, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def frame_of_parquet(data: bytes, source: str) -> Frame:
    """What `parquet_bytes` made. Errors: DataError when a page does not have its checksum."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: {error}") from None


def _schema(table: Table, extra: Sequence[str]) -> Any:
    import pyarrow as pa

    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    fields = [(column.name, types[column.kind]) for column in table.columns]
    return pa.schema(fields + [(name, pa.float64()) for name in extra])


def _plain(value: Value) -> Value:
    return None if value is None or value != value else value  # noqa: PLR0124 (only NaN differs from itself)


def _header(data: bytes) -> list[str]:
    import csv

    line = data.split(b"\n", 1)[0].decode("utf-8", errors="replace")
    return next(csv.reader([line]), [])


def _concatenated(table: Table, frames: Sequence[Frame]) -> Frame:
    import pyarrow as pa

    extra = sorted({name for frame in frames for name in frame.column_names} - set(table.column_names()))
    schema = _schema(table, extra)
    # Columns that only some runs have (a metric switched on later) are empty for the others.
    padded = [pa.Table.from_pylist([], schema=schema), *frames]
    return pa.concat_tables(padded, promote_options="default").select(schema.names)


def _without_runs(frame: Frame, runs: Sequence[str]) -> Frame:
    import pyarrow as pa
    import pyarrow.compute as pc

    return frame.filter(pc.invert(pc.is_in(frame.column("run"), pa.array(runs, pa.string())))) if runs else frame


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(sign in name for sign in ',"\r\n') else name


def _column_text(column: Any) -> Any:
    """The cells of one column as CSV text, null as nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        text = _float_text(column)
    elif pa.types.is_integer(column.type):
        text = pc.cast(column, pa.string())
    else:
        doubled = pc.replace_substring(column, '"', '""')
        quoted = pc.binary_join_element_wise('"', doubled, '"', "")
        text = pc.if_else(pc.match_substring_regex(column, '[,"\r\n]'), quoted, column)
    return pc.fill_null(text, "")


def _float_text(column: Any) -> Any:
    """Each float as `repr` writes it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    size = pc.abs(column)
    plain = pc.or_(pc.equal(size, 0), pc.and_(pc.greater_equal(size, PLAIN_FROM), pc.less(size, PLAIN_BELOW)))
    text = pc.cast(column, pa.string())
    text = pc.if_else(pc.match_substring(text, "."), text, pc.binary_join_element_wise(text, ".0", ""))
    if pc.all(plain, skip_nulls=True).as_py() is not False:
        return text
    rare = pa.array([row_tables.cell(value) for value in column.to_pylist()], pa.string())
    return pc.if_else(plain, text, rare)
