from io import StringIO
from typing import Any

import pytest

from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.comparison.number_text import digits_of, number_text, signed
from sam2ft.report.tables.coverage import Coverage, CoveredRun
from sam2ft.report.terminal import ComparisonTable, coverage_table, show, terminal_text
from sam2ft.runs.states import State

LONG = "a rather long name of a point " * 5


@pytest.fixture
def table(global_row: Any) -> ComparisonTable:
    points = [
        PointRun(None, "baseline", "base"),
        PointRun(0, LONG.strip(), "run-0", (("module.optimizer.lr", 1e-4),), best_epoch=3, validation=0.25),
        PointRun(1, "[red]two\x1b[2J", "run-1", (("module.optimizer.lr", 1e-5),), state=State.FAILED),
    ]
    return ComparisonTable(compare(points, [global_row("base", 0.75), global_row("run-0", 0.875)]))


def test_a_table_in_a_log_is_whole(table: ComparisonTable) -> None:
    text = terminal_text(table)
    assert LONG.strip() in text
    assert "…" not in text
    assert "..." not in text
    assert "\x1b" not in text
    assert text == "\n".join(line.rstrip() for line in text.split("\n"))


def test_the_best_point_has_a_star_and_its_difference_to_the_baseline(table: ComparisonTable) -> None:
    (line,) = [line for line in terminal_text(table).splitlines() if line.lstrip().startswith("* a rather")]
    assert line.split()[-11:-1] == ["0.0001", "0.2500", "4", "0.875", "[0.716,", "1.000]", "+0.125", "–", "–", "4"]


def test_names_are_neither_markup_nor_control_sequences(table: ComparisonTable) -> None:
    assert "[red]two�[2J" in terminal_text(table)


def test_a_narrow_terminal_loses_columns_before_digits(table: ComparisonTable, global_row: Any) -> None:
    from rich.console import Console

    short = ComparisonTable(compare([PointRun(0, "one", "r", validation=0.25)], [global_row("r", 0.875)]))
    stream = StringIO()
    Console(file=stream, width=62).print(short)
    text = stream.getvalue()
    assert "[0.716, 1.000]" in text
    assert "IoU" not in text


def test_what_is_missing_is_listed_with_its_reason_and_complete_is_one_line() -> None:
    runs = (
        CoveredRun("one", "r1", State.DONE),
        CoveredRun("two", "r2", State.FAILED, "out of memory"),
        CoveredRun("three", "r3", State.QUEUED),
    )
    text = terminal_text(coverage_table(Coverage(runs)))
    assert "out of memory" in text
    assert "3 planned: 1 done, 1 failed, 1 missing" in text
    assert terminal_text(coverage_table(Coverage(runs[:1]))) == "1 planned: 1 done\n"


def test_coverage_json_names_every_run_that_is_not_done() -> None:
    runs = (
        CoveredRun("one", "r1", State.DONE),
        CoveredRun("two", "r2", State.TRAINING),
        CoveredRun("three", "r3", State.LOST, "gone"),
        CoveredRun("four", "r4", State.RUNNING),
    )
    value = Coverage(runs).to_json(problems=["r9: slice rows are there twice; not counted"])
    assert (value["planned"], value["done"], value["running"], value["failed"], value["missing"]) == (4, 1, 2, 0, 1)
    assert value["complete"] is False
    expected = {"name": "three", "run": "r3", "state": "lost", "group": "missing", "reason": "gone"}
    assert {name: value["runs"][2][name] for name in expected} == expected
    assert value["problems"] == ["r9: slice rows are there twice; not counted"]


def test_show_writes_plain_text_into_a_file(table: ComparisonTable) -> None:
    stream = StringIO()
    show([table, "done"], stream)
    assert stream.getvalue() == terminal_text(table) + "done\n"


def test_numbers_are_read_by_people() -> None:
    assert [number_text(0.9123), number_text(None), number_text(float("nan")), number_text(1e-5), number_text(0.0)] == [
        "0.912",
        "–",
        "–",
        "1e-05",
        "0.000",
    ]
    assert [signed(0.05), signed(-0.05), signed(None)] == ["+0.050", "−0.050", "–"]


def test_millimetres_have_two_decimals() -> None:
    values = {name: number_text(7.12345, digits_of(name)) for name in ("dice", "nsd", "hd95_mm", "assd_mm")}
    assert values == {"dice": "7.123", "nsd": "7.123", "hd95_mm": "7.12", "assd_mm": "7.12"}
