from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.core.errors import DataError
from sam2ft.core.tables.rows import TABLES, Table, format_csv
from sam2ft.report.tables.consistency import recount
from sam2ft.report.tables.frames import (
    Frame,
    all_names,
    csv_body,
    csv_header,
    frame_of_csv,
    frame_of_parquet,
    frame_of_rows,
    is_canonical,
    misplaced,
    padded,
    parquet_bytes,
    repeated_key,
    rows_of,
)
from sam2ft.report.tables.frames import sorted_by_key as by_key

SLICE, VOLUME = TABLES["slice"], TABLES["volume"]


def csv_bytes(table: Table, frame: Frame) -> bytes:
    names = all_names(table, [frame.column_names])
    return b"".join((csv_header(names), *csv_body(frame.select(names))))


def test_a_metric_column_that_only_one_run_has_is_empty_for_the_other(slice_row: Any) -> None:
    plain = slice_row("r1", "A", 0, 1, tp=1, fp=0, fn=0)
    richer = slice_row("r2", "A", 0, 1, tp=1, fp=0, fn=0) | {"boundary": 0.25}
    frames = [frame_of_rows(SLICE, [row]) for row in (plain, richer)]
    names = all_names(SLICE, [frame.column_names for frame in frames[::-1]])
    assert names == (*SLICE.column_names(), "boundary")
    together = csv_header(names) + b"".join(
        piece for frame in frames for piece in csv_body(padded(SLICE, frame, names))
    )
    assert together == format_csv(SLICE, [richer, plain]).encode()


def test_rows_of_other_runs_and_evaluations_are_named(slice_row: Any) -> None:
    rows = [slice_row(run, "A", index, 1, tp=1, fp=0, fn=0) for index, run in enumerate(("mine", "copied", "mine"))]
    assert misplaced(frame_of_rows(SLICE, rows), "mine", "e" * 12) == ["run copied"]
    assert misplaced(frame_of_rows(SLICE, rows[:1]), "mine", "f" * 12) == [f"eval {'e' * 12}"]
    assert misplaced(frame_of_rows(SLICE, rows[:1]), "mine", "e" * 12) == []


def test_a_key_that_is_there_twice_is_named(slice_row: Any) -> None:
    rows = [slice_row("r", subject, 3, 1, tp=1, fp=0, fn=0) for subject in ("A", "B", "B", "C")]
    assert "subject B, volume t2" in repeated_key(SLICE, frame_of_rows(SLICE, rows))
    assert repeated_key(SLICE, frame_of_rows(SLICE, rows[1:4:2])) == ""
    assert repeated_key(VOLUME, frame_of_rows(VOLUME, [])) == ""


def test_a_file_is_canonical_when_it_is_what_its_sorted_rows_are_written_as(slice_row: Any) -> None:
    rows = [slice_row("r", "A", index, 1, tp=3, fp=1, fn=index) for index in (2, 10)]
    data = format_csv(SLICE, rows).encode()
    frame = by_key(SLICE, frame_of_csv(SLICE, data, "slice.csv"))
    assert is_canonical(data, frame, SLICE.column_names())
    header, first, second = data.splitlines(keepends=True)
    dice = str(rows[0]["dice"]).encode()
    others = (header + second + first, data.replace(b"\n", b"\r\n"), data[:-1], data.replace(dice, dice + b"0"))
    for other in others:
        assert by_key(SLICE, frame_of_csv(SLICE, other, "slice.csv")).equals(frame)
        assert not is_canonical(other, frame, SLICE.column_names())


def test_nan_written_out_is_an_empty_cell(slice_row: Any) -> None:
    data = format_csv(SLICE, [slice_row("r", "A", 0, 1, tp=1, fp=0, fn=0)]).replace(",1.0,1.0,", ",nan,1.0,", 1)
    assert rows_of(frame_of_csv(SLICE, data.encode(), "slice.csv"))[0]["dice"] is None


@given(
    numbers=st.lists(st.floats(allow_nan=True) | st.none(), min_size=1, max_size=30),
    name=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00\r"), max_size=8),
)
def test_cells_are_those_of_the_row_writer(numbers: list[float | None], name: str) -> None:
    # A carriage return is quoted here and not by csv.writer before Python 3.13, which then cannot read it back.
    fixed = dict.fromkeys(SLICE.column_names(), None) | dict.fromkeys(
        ("run", "eval", "dataset", "subject", "volume"), "x"
    )
    texts = {"split": "test", "protocol": 'points(k=3),"quoted"', "status": "ok", "label_name": name}
    rows = [fixed | texts | {"slice": index, "label": 1, "dice": number} for index, number in enumerate(numbers)]
    assert csv_bytes(SLICE, by_key(SLICE, frame_of_rows(SLICE, rows))) == format_csv(SLICE, rows).encode()


def test_a_csv_file_is_read_as_it_was_written(slice_row: Any) -> None:
    rows = [slice_row("r", "A", index, 1, tp=index, fp=1, fn=1) | {"label_name": 'a "b",\nc'} for index in (0, 1)]
    data = format_csv(SLICE, rows).encode()
    frame = frame_of_csv(SLICE, data, "slice.csv")
    assert rows_of(frame) == rows
    assert csv_bytes(SLICE, frame) == data


def test_a_file_with_another_column_version_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"runs/r/slice\.csv: no column .*status"):
        frame_of_csv(SLICE, b"run,eval\nr,e\n", "runs/r/slice.csv")


def test_a_cell_of_the_wrong_type_is_refused_by_name(slice_row: Any) -> None:
    data = format_csv(SLICE, [slice_row("r", "A", 7, 1, tp=1, fp=1, fn=1)]).replace(",7,", ",seven,")
    with pytest.raises(DataError, match=r"slice\.csv: .*seven"):
        frame_of_csv(SLICE, data.encode(), "slice.csv")


def test_a_flipped_bit_in_a_parquet_file_is_an_error_not_a_number(slice_row: Any) -> None:
    frame = frame_of_rows(SLICE, [slice_row("r", "A", index, 1, tp=index, fp=1, fn=1) for index in range(50)])
    data = bytearray(parquet_bytes(frame))
    assert frame_of_parquet(bytes(data), "slice.parquet").equals(frame)
    first_page = data.index(b"(\xb5/\xfd")  # magic number of zstd
    data[first_page + 12] ^= 1
    with pytest.raises(DataError, match=r"slice\.parquet"):
        frame_of_parquet(bytes(data), "slice.parquet")


def test_volume_counts_that_are_the_sums_of_their_slices_pass(slice_row: Any, volume_row: Any) -> None:
    slices = [
        slice_row("r", "A", 0, 1, tp=900, fp=50, fn=50) | {"tn": 0},
        slice_row("r", "A", 1, 1, tp=1, fp=4, fn=4) | {"tn": 991},
    ]
    volume = volume_row("r", "A", 1, num_slices=2, tp=901, fp=54, fn=54) | {"tn": 991}
    assert recount(frame_of_rows(SLICE, slices), frame_of_rows(VOLUME, [volume])) == []


def test_a_volume_row_that_its_slices_contradict_is_named(slice_row: Any, volume_row: Any) -> None:
    slices = frame_of_rows(SLICE, [slice_row("r", "A", index, 1, tp=10, fp=0, fn=0) for index in (0, 1)])
    volume = volume_row("r", "A", 1, num_slices=2, tp=21, fp=0, fn=0) | {"tn": 180, "dice": 0.5}
    assert recount(slices, frame_of_rows(VOLUME, [volume])) == [
        "r: knee/A/t2 label 1: dice is 0.5, its counts give 1.0",
        "r: knee/A/t2 label 1: tp is 21, its slice rows give 20",
    ]


def test_volumes_without_slices_and_slices_without_volume_are_named(slice_row: Any, volume_row: Any) -> None:
    slices = frame_of_rows(SLICE, [slice_row("r", "A", 0, 1, tp=0, fp=0, fn=0)])
    volumes = frame_of_rows(VOLUME, [volume_row("r", "B", 1, num_slices=1, tp=1, fp=0, fn=0)])
    assert recount(slices, volumes) == [
        "r: knee/A/t2 label 1: slice rows without a volume row",
        "r: knee/B/t2 label 1: a volume row without slice rows",
    ]
