"""Frames (pyarrow tables) of result rows: reading, sorting, checking, and conversion to CSV and Parquet bytes.

A frame is a `pyarrow.Table` with the columns of one `core.tables.rows.Table`, in the order of its `ordered_names`.
Empty cells are nulls; NaN is never stored. Frames are used instead of lists of rows because a sweep has millions of
slice rows.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.tables import rows as row_tables
from sam2ft.core.tables.rows import Row, Table, Value

Frame = Any
"""A pyarrow.Table; pyarrow is imported inside functions because its import takes 0.2 s of every command."""

COLLATED = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume", "prompt_noise")
"""Tables of measurements; the tables of COHORT are computed from them."""

COHORT = ("global", "biomarker_global", "prompt_noise_global")

# Rows per chunk, because the text of one Arrow array must stay below 2 GB.
CSV_CHUNK_ROWS = 200_000

_FEW_VALUES = ("slice", "label", "instance", "num_instances")

_QUOTED = '[,"\r\n]'

# Between these limits, Arrow writes a float like Python's repr except for the ".0" of whole numbers (both write the
# shortest text that reads back as the same number); outside, the two switch to exponents at different values.
PLAIN_FROM, PLAIN_BELOW = 1e-4, 1e9


def frame_of_rows(table: Table, rows: Sequence[Row]) -> Frame:
    """A frame of `rows`, in their order.

    Raises:
        ValueError: for a metric column in a table that allows none.
    """
    import pyarrow as pa

    row_tables.extra_columns(table, rows)
    names = table.ordered_names(name for row in rows for name in row)
    columns = {name: [_plain(row.get(name)) for row in rows] for name in names}
    return pa.table(columns, schema=_schema(table, names))


def frame_of_csv(table: Table, data: bytes, source: str) -> Frame:
    """The frame in the bytes of a CSV file; `source` is the file name for error messages.

    Raises:
        DataError: when a fixed column is missing, a table that allows no metric columns has other columns, or a cell
            does not have the type of its column.
    """
    import pyarrow as pa
    from pyarrow import csv

    names = _header(data)
    if missing := [name for name in table.column_names() if name not in names]:
        raise DataError(f"{source}: no column {', '.join(missing)}; it was written by another version of sam2ft")
    extra = sorted(set(names) - table.kinds().keys())
    if extra and not table.extensible:
        raise DataError(f"{source}: column {', '.join(extra)} is not allowed in {table.name}.csv")
    schema = _schema(table, table.ordered_names(names))
    convert = csv.ConvertOptions(
        column_types=schema, null_values=[""], strings_can_be_null=False, include_columns=schema.names
    )
    # One thread per file, because many files are read in parallel.
    read, parse = csv.ReadOptions(use_threads=False), csv.ParseOptions(newlines_in_values=True)
    try:
        frame = csv.read_csv(pa.py_buffer(data), read_options=read, parse_options=parse, convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DataError(f"{source}: {error}") from None
    return _without_nan(frame)


def rows_of(frame: Frame, run: str | None = None) -> list[dict[str, Value]]:
    """The rows of a frame (only those of `run` if given), as `core.tables.rows.read_csv` would return them."""
    import pyarrow.compute as pc

    return list((frame if run is None else frame.filter(pc.field("run") == run)).to_pylist())


def all_names(table: Table, headers: Iterable[Collection[str]]) -> tuple[str, ...]:
    """Column names of the combined table, in the order of `Table.ordered_names`."""
    return tuple(table.ordered_names(name for header in headers for name in header))


def padded(table: Table, frame: Frame, names: Sequence[str]) -> Frame:
    """The frame with the columns `names`; columns that only other runs have (a metric enabled later) are empty."""
    import pyarrow as pa

    schema = _schema(table, names)
    empty = pa.Table.from_pylist([], schema=schema)
    return pa.concat_tables([empty, frame], promote_options="default").select(schema.names).combine_chunks()


def misplaced(frame: Frame, run: str, evaluation: str) -> list[str]:
    """Other run and eval ids that occur in the rows of this evaluation, as text, sorted."""
    own = {"run": run, "eval": evaluation}
    found = {name: set(frame.column(name).unique().to_pylist()) - {value} for name, value in own.items()}
    return sorted(f"{name} {value or 'nothing'}" for name, values in found.items() for value in values)


def sorted_by_key(table: Table, frame: Frame) -> Frame:
    """The rows in the order of `core.tables.rows.sort_key`: by key columns, integers by value, empty cells first."""
    import pyarrow as pa
    import pyarrow.compute as pc

    # Integers of a key count from 0 or 1, so that -1 sorts before all of them.
    first = {"text": "", "integer": -1}
    columns = {column.name: pc.fill_null(frame.column(column.name), first[column.kind]) for column in table.key}
    # Most key columns of one evaluation have the same value in every row, and comparing texts takes most of the time.
    keys = pa.table({name: column for name, column in columns.items() if pc.count_distinct(column).as_py() > 1})
    if not keys.num_columns:
        return frame
    indices = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    return frame if indices.equals(pa.array(np.arange(len(indices), dtype=np.uint64))) else frame.take(indices)


def repeated_key(table: Table, frame: Frame) -> str:
    """The key of the first duplicate row as text, empty when there is none; `frame` must be sorted by key."""
    import pyarrow.compute as pc

    if frame.num_rows < 2:
        return ""
    same = None
    # Starts with the last column, in which adjacent rows differ most.
    for name in reversed(table.key_names()):
        first, second = frame.column(name).slice(0, frame.num_rows - 1), frame.column(name).slice(1)
        equal = pc.or_(pc.fill_null(pc.equal(first, second), False), pc.and_(pc.is_null(first), pc.is_null(second)))
        same = equal if same is None else pc.and_(same, equal)
        if not pc.any(same).as_py():
            return ""
    row = frame.slice(1).filter(same).slice(0, 1).select(table.key_names()).to_pylist()[0]
    return ", ".join(f"{name} {value}" for name, value in row.items() if value not in (None, ""))


def csv_header(names: Sequence[str]) -> bytes:
    """The first line of a CSV file."""
    return (",".join(_quoted_name(name) for name in names) + "\n").encode()


def csv_body(frame: Frame) -> Iterator[bytes]:
    """The lines of a sorted frame in chunks: the same bytes as `core.tables.rows.format_csv` writes for its rows."""
    import pyarrow.compute as pc

    for start in range(0, frame.num_rows, CSV_CHUNK_ROWS):
        part = frame.slice(start, CSV_CHUNK_ROWS).combine_chunks()
        *texts, last = (_column_text(_array(column)) for column in part.columns)
        last = pc.binary_join_element_wise(last, "\n", "")
        # The last buffer of a text array holds its texts one after the other: these are the bytes of the file.
        lines = _array(pc.binary_join_element_wise(*texts, last, ","))
        _, ends, content = lines.buffers()
        yield content.slice(0, memoryview(ends).cast("i")[len(lines)]).to_pybytes()


def is_canonical(data: bytes, frame: Frame, names: Sequence[str]) -> bool:
    """Whether the bytes of a file equal the CSV that would be written for its sorted rows."""
    header = csv_header(names)
    if not data.startswith(header):
        return False
    position = len(header)
    for piece in csv_body(frame):
        if data[position : position + len(piece)] != piece:
            return False
        position += len(piece)
    return position == len(data)


def parquet_bytes(frame: Frame) -> bytes:
    """The Parquet file of a frame, with a checksum per page: default Parquet would not detect flipped bits."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = BytesIO()
    # Counts and measures rarely repeat, so dictionary encoding would not help them.
    repeating = [field.name for field in frame.schema if pa.types.is_string(field.type) or field.name in _FEW_VALUES]
    pq.write_table(frame, stream, compression="zstd", write_page_checksum=True, use_dictionary=repeating)
    return stream.getvalue()


def frame_of_parquet(data: bytes, source: str) -> Frame:
    """The frame in the bytes that `parquet_bytes` wrote; `source` is the file name for error messages.

    Raises:
        DataError: when the data are not valid Parquet or the checksum of a page is wrong.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(BytesIO(data), page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{source}: {error}") from None


def _schema(table: Table, names: Sequence[str]) -> Any:
    """Types of the columns `names`; those of metrics are numbers."""
    import pyarrow as pa

    types, kinds = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}, table.kinds()
    return pa.schema([(name, types[kinds.get(name, "number")]) for name in names])


def _plain(value: Value) -> Value:
    return None if value is None or value != value else value  # noqa: PLR0124 (only NaN differs from itself)


def _header(data: bytes) -> list[str]:
    import csv

    line = data.split(b"\n", 1)[0].decode("utf-8", errors="replace")
    return next(csv.reader([line]), [])


def _without_nan(frame: Frame) -> Frame:
    """Replace NaN by null: a cell with the text `nan` is an empty cell too."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for number, column in enumerate(frame.columns):
        if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
            plain = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
            frame = frame.set_column(number, frame.field(number), plain)
    return frame


def _array(column: Any) -> Any:
    """A column as one array without offset into its buffers."""
    import pyarrow as pa

    chunked = isinstance(column, pa.ChunkedArray)
    array = column.combine_chunks() if chunked else column
    return pa.concat_arrays([array]) if array.offset else array


def _quoted_name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(sign in name for sign in ',"\r\n') else name


def _column_text(column: Any) -> Any:
    """The cells of one column as CSV text, null as empty text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_floating(column.type):
        text = _float_text(column)
    elif pa.types.is_integer(column.type):
        text = pc.cast(column, pa.string())
    else:
        text = column
        # There are few different values, and quotes are rarely needed.
        if pc.any(pc.match_substring_regex(pc.unique(column), _QUOTED)).as_py():
            doubled = pc.replace_substring(column, '"', '""')
            quoted = pc.binary_join_element_wise('"', doubled, '"', "")
            text = pc.if_else(pc.match_substring_regex(column, _QUOTED), quoted, column)
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
