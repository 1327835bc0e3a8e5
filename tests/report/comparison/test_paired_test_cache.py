"""Paired tests that a second report does not compute again."""

import pytest

from sam2ft.core.files import read_json
from sam2ft.report.comparison import paired_test_cache
from sam2ft.report.comparison.compare import ComparedEvaluation, Comparison, ComparisonRow, PointRun, Score
from sam2ft.report.comparison.paired_test_cache import MEMORY, PairedTestCache, point_tests
from sam2ft.report.comparison.point_tests import point_values

HOW = {"eval": "e", "dataset": "knee", "split": "test", "protocol": "box"}


def volume_rows(run, values):
    return [
        {"run": run, **HOW, "subject": f"s{number}", "volume": "v", "label": 1, "label_name": "a", "status": "ok"}
        | {"dice": value, "dice_slice_mean": value}
        for number, value in enumerate(values)
    ]


def comparison(*runs):
    lines = [
        ComparisonRow(PointRun(index, f"p{index}", run), ComparedEvaluation(**HOW), {"dice": Score(0.5, None, None, 4)})
        for index, run in enumerate(runs)
    ]
    return Comparison(tuple(lines), runs[0], "by validation")


@pytest.fixture
def rows():
    return [
        *volume_rows("a", [0.8, 0.7, 0.9, 0.6]),
        *volume_rows("b", [0.7, 0.75, 0.85, 0.5]),
        *volume_rows("c", [0.6, 0.65, 0.8, 0.4]),
    ]


def test_what_was_tested_before_is_not_tested_again_and_says_the_same(tmp_path, rows, monkeypatch):
    first = point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path)
    monkeypatch.setattr(paired_test_cache, "paired", lambda *_: pytest.fail("tested again"))
    assert point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path) == first
    assert len(read_json(tmp_path / MEMORY)) == 2  # b and c; Dice per slice and per volume are the same values here


def test_changed_values_are_tested_again_and_the_old_result_is_forgotten(tmp_path, rows):
    first = point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path)
    before = read_json(tmp_path / MEMORY).keys()
    rows[4] |= {"dice": 0.71, "dice_slice_mean": 0.71}
    again = point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path)
    assert [row["difference"] for row in again] != [row["difference"] for row in first]
    assert len(before ^ read_json(tmp_path / MEMORY).keys()) == 2


def test_a_damaged_memory_is_no_memory(tmp_path, rows):
    first = point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path)
    (tmp_path / MEMORY).write_text('{"half')
    assert point_tests(comparison("a", "b", "c"), point_values(rows), tmp_path) == first


def test_numbers_that_do_not_exist_survive_the_memory(tmp_path):
    memory = PairedTestCache({})
    found = memory.pair({("d", "x"): 0.5}, {("d", "x"): 0.6})
    again = PairedTestCache(memory.used).pair({("d", "x"): 0.5}, {("d", "x"): 0.6})
    assert again.ci_low != again.ci_low
    assert again.difference == found.difference
