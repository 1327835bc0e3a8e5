from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.core.errors import DataError
from sam2ft.core.rows import TABLES, format_csv
from sam2ft.report.recount import recount
from sam2ft.report.tables import (
    collate,
    csv_bytes,
    frame_of_csv,
    frame_of_parquet,
    frame_of_rows,
    parquet_bytes,
    rows_of,
)
from sam2ft.report.tables import sorted_by_key as by_key

SLICE, VOLUME = TABLES["slice"], TABLES["volume"]


def test_collated_bytes_do_not_depend_on_the_order_of_runs_or_rows(slice_row: Any) -> None:
    rows = {
        run: [slice_row(run, s, i, 1, tp=i, fp=1, fn=2) for s in "BA" for i in (10, 9)] for run in ("r2", "r1", "r3")
    }
    frames = [(run, {"slice": frame_of_rows(SLICE, given)}) for run, given in rows.items()]
    backwards = [(run, {"slice": frame_of_rows(SLICE, given[::-1])}) for run, given in rows.items()]
    made = {csv_bytes(SLICE, collate(order).tables["slice"]) for order in permutations([*frames])}
    made |= {csv_bytes(SLICE, collate(backwards).tables["slice"])}
    everything = [row for given in rows.values() for row in given]
    assert made == {format_csv(SLICE, everything).encode()}


def test_a_metric_column_that_only_one_run_has_is_empty_for_the_other(slice_row: Any) -> None:
    plain = slice_row("r1", "A", 0, 1, tp=1, fp=0, fn=0)
    richer = slice_row("r2", "A", 0, 1, tp=1, fp=0, fn=0) | {"boundary": 0.25}
    collated = collate([(row["run"], {"slice": frame_of_rows(SLICE, [row])}) for row in (richer, plain)])
    assert [row["boundary"] for row in rows_of(collated.tables["slice"])] == [None, 0.25]


def test_a_run_that_is_there_twice_is_left_out_and_named(slice_row: Any) -> None:
    row, other = (slice_row(run, "A", 0, 1, tp=1, fp=0, fn=0) for run in ("twice", "once"))
    frame = frame_of_rows(SLICE, [row])
    collated = collate(
        [("twice", {"slice": frame}), ("once", {"slice": frame_of_rows(SLICE, [other])}), ("twice", {"slice": frame})]
    )
    assert collated.problems == ("twice: slice rows are there twice; not counted",)
    assert [row["run"] for row in rows_of(collated.tables["slice"])] == ["once"]


def test_rows_of_another_run_are_not_counted(slice_row: Any) -> None:
    frame = frame_of_rows(SLICE, [slice_row("copied", "A", 0, 1, tp=1, fp=0, fn=0)])
    collated = collate([("mine", {"slice": frame})])
    assert collated.problems == ("mine: slice rows belong to copied; not counted",)
    assert collated.tables["slice"].num_rows == 0


def test_no_runs_give_headers_only() -> None:
    tables = collate([]).tables
    assert csv_bytes(VOLUME, tables["volume"]) == format_csv(VOLUME, []).encode()


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
