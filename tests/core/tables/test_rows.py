import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.core.errors import DataError
from sam2ft.core.tables.doc import DOCUMENT, document
from sam2ft.core.tables.rows import TABLES, cell, format_csv, read_csv, stamped, write_csv

INSTANCE = TABLES["instance"]


def instance_row(**changes):
    row = {
        **dict.fromkeys(INSTANCE.column_names(), ""),
        **{"dataset": "d", "subject": "s", "volume": "v", "slice": 0, "label": 1, "label_name": "one", "instance": 1},
        **{"box": "0 0 1 1", "tp": 1, "fp": 0, "fn": 0, "dice": 1.0, "iou": 1.0, "status": "ok"},
    }
    return row | changes


def test_rows_are_sorted_by_key_and_numbers_by_value():
    rows = [instance_row(slice=10), instance_row(slice=9), instance_row(slice=9, instance=None)]
    lines = format_csv(INSTANCE, rows).splitlines()
    position = INSTANCE.column_names().index("slice")
    assert [line.split(",")[position] for line in lines] == ["slice", "9", "9", "10"]
    assert lines[1].split(",")[INSTANCE.column_names().index("instance")] == ""


def test_the_order_of_rows_does_not_change_the_bytes():
    rows = [instance_row(slice=index, label=label) for index in range(3) for label in (1, 2)]
    assert format_csv(INSTANCE, rows) == format_csv(INSTANCE, rows[::-1])


def test_two_rows_of_one_key_are_refused():
    with pytest.raises(ValueError, match=r"instance.csv: two rows for .*'subject': \(1, 's'\)"):
        format_csv(INSTANCE, [instance_row(), instance_row(dice=0.5)])


def test_a_row_without_a_fixed_column_is_refused():
    row = instance_row()
    del row["dice"]
    with pytest.raises(ValueError, match="row without dice"):
        format_csv(INSTANCE, [row])


def test_columns_of_metrics_follow_the_fixed_ones_sorted_and_may_be_missing_in_a_row():
    rows = [instance_row(zebra=1.0), instance_row(slice=1, ant=2.0)]
    header, first, second = format_csv(INSTANCE, rows).splitlines()
    assert header.endswith(",status,ant,zebra")
    assert first.endswith(",ok,,1.0")
    assert second.endswith(",ok,2.0,")


def test_a_table_that_takes_no_further_columns_refuses_them():
    table = TABLES["global"]
    with pytest.raises(ValueError, match=r"global\.csv takes no further columns, found more"):
        format_csv(table, [dict.fromkeys([*table.column_names(), "more"])])


@given(st.floats(allow_nan=False))
def test_a_float_reads_back_as_the_same_number(value):
    assert float(cell(value)) == value
    assert float(cell(np.float64(value))) == value


def test_what_does_not_exist_is_an_empty_cell_and_a_truth_value_is_no_cell():
    assert [cell(None), cell(math.nan), cell(np.float32("nan")), cell(np.int64(3)), cell("x")] == ["", "", "", "3", "x"]
    with pytest.raises(TypeError, match="no booleans"):
        cell(True)


def test_a_table_reads_back_as_it_was_written(tmp_path: Path):
    rows = [instance_row(dice=0.1 + 0.2, iou=None, label_name='a, "b"', extra=1.5, slice=index) for index in range(2)]
    write_csv(tmp_path / "instance.csv", INSTANCE, rows)
    assert read_csv(tmp_path / "instance.csv", INSTANCE) == rows
    assert b"\r" not in (tmp_path / "instance.csv").read_bytes()


def test_a_file_of_another_version_and_a_cell_of_another_type_are_refused_by_name(tmp_path: Path):
    path = tmp_path / "instance.csv"
    path.write_text("run,eval\n1,2\n")
    with pytest.raises(DataError, match=r"instance\.csv: no column dataset, .*another version"):
        read_csv(path, INSTANCE)
    path.write_text(format_csv(INSTANCE, [instance_row()]).replace(",1,0,0,", ",one,0,0,"))
    with pytest.raises(DataError, match=r"instance\.csv: invalid literal for int"):
        read_csv(path, INSTANCE)


def test_the_stamp_is_what_only_the_caller_knows():
    (row,) = stamped([{"label": 1}], run="r", eval="e", split="test", protocol="box")
    assert row == {"run": "r", "eval": "e", "split": "test", "protocol": "box", "label": 1}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_column_is_described_and_named_once(table):
    names = table.column_names()
    assert len(names) == len(set(names))
    assert all(column.description for column in table.columns)


def test_the_page_on_tables_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "docs/tables.md is stale; run `make schema`"
    for table in TABLES.values():
        for column in table.columns:
            assert column.name in document()
