"""Missed slices and volumes, and what one run misses that another finds."""

from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.tables.rows import TABLES, format_csv
from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, compare
from sam2ft.report.comparison.misses import (
    LEVELS,
    MISSES,
    LabelFailures,
    Misses,
    NewMisses,
    miss_rows,
    misses_of,
    new_misses,
)
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportTables
from sam2ft.report.tables.failures import failed_rows, failure_counts, present_counts
from sam2ft.report.tables.frames import frame_of_rows, parquet_bytes

EVALUATION = ComparedEvaluation("e" * 12, "knee", "test", "box")
GOOD, LOST, ADDED, BESIDE, NOTHING = (
    {"tp": 9, "fp": 1, "fn": 1},
    {"tp": 0, "fp": 0, "fn": 10},
    {"tp": 0, "fp": 4, "fn": 0},
    {"tp": 0, "fp": 4, "fn": 10},
    {"tp": 0, "fp": 0, "fn": 0},
)
STATUS = {10: "missed", 4: "spurious", 14: "ok", 0: "absent"}


def status(counts: dict[str, int]) -> str:
    return "ok" if counts["tp"] else STATUS[counts["fp"] + counts["fn"]]


@pytest.fixture
def tables(tmp_path: Path, slice_row: Any, volume_row: Any) -> Any:
    """tables({run: {label: counts of slices 0, 1, ...}}): the Parquet files of a report, one run a file."""

    def make(runs: dict[str, dict[int, list[dict[str, int]]]]) -> ReportTables:
        layout = ReportLayout(tmp_path)
        for number, (run, labels) in enumerate(runs.items()):
            slices = [
                slice_row(run, "s", index, label, **counts) | {"status": status(counts)}
                for label, found in labels.items()
                for index, counts in enumerate(found)
            ]
            volumes = []
            for label, found in labels.items():
                summed = {name: sum(one[name] for one in found) for name in ("tp", "fp", "fn")}
                row = volume_row(run, "s", label, num_slices=len(found), **summed)
                volumes.append(row | {"status": "ok" if summed["tp"] else row["status"]})
            for name, rows in (("slice", slices), ("volume", volumes)):
                layout.parquet(name).mkdir(exist_ok=True)
                path = layout.parquet(name) / f"{number:05d}.parquet"
                path.write_bytes(parquet_bytes(frame_of_rows(TABLES[name], rows)))
        return ReportTables(layout, ("slice", "volume"))

    return make


def counted(tables: ReportTables, *runs: str) -> Misses:
    counts = {level: failure_counts(tables, level) for level in LEVELS}
    return misses_of(counts, {level: present_counts(tables, level, runs) for level in LEVELS}, runs)


def test_slices_are_counted_where_the_volume_is_found(tables: Any) -> None:
    found = counted(tables({"a": {1: [GOOD, LOST, LOST, NOTHING], 2: [GOOD, ADDED, BESIDE, GOOD]}}), "a")
    one, two = (found.of_label("a", EVALUATION, label, f"label {label}") for label in (1, 2))
    assert (one.slices.missed, one.slices.present, one.volumes.missed, one.volumes.present) == (2, 3, 0, 1)
    assert (two.slices.spurious, two.slices.elsewhere, two.slices.missed, two.slices.present) == (1, 1, 0, 3)
    total = found.total("a", EVALUATION)
    assert (total.slices.missed, total.slices.present) == (2, 6)
    assert found.of_label("another", EVALUATION, 1, "label 1") == LabelFailures()


def test_a_run_whose_labels_were_not_counted_has_no_total(tables: Any) -> None:
    found = counted(tables({"a": {1: [GOOD, LOST]}, "b": {1: [LOST, LOST]}}), "a")
    assert found.total("b", EVALUATION).slices.present is None
    assert found.total("b", EVALUATION).slices.missed == 2


def compared(global_row: Any, *runs: str, protocol: str = "box") -> Any:
    points = [PointRun(None, "baseline", "base"), PointRun(0, "tuned", "a", validation=0.1)]
    rows = [global_row(run, 0.8, protocol="box" if run == "a" else protocol) for run in runs]
    return compare(points, rows)


def test_what_fine_tuning_newly_misses_is_said_with_its_labels_and_subjects(tables: Any, global_row: Any) -> None:
    made = tables(
        {
            "base": {1: [GOOD, GOOD, LOST, GOOD], 2: [GOOD, BESIDE, GOOD, NOTHING]},
            "a": {1: [LOST, BESIDE, GOOD, GOOD], 2: [GOOD, LOST, GOOD, ADDED]},
        }
    )
    comparison = compared(global_row, "base", "a")
    found = new_misses(failed_rows(made, ("base", "a")), comparison, "base")[EVALUATION]
    assert found.sentence() == (
        "Fine-tuning newly misses, or finds only beside the reference, 2 slices of 1 subject (label 1 2), "
        "found by the initial weights; "
        "it finds 1 slice of 1 subject (label 1 1) that they miss."
    )
    rows = miss_rows(Misses(counted(made, "a", "base").of_labels, {EVALUATION: found}), "a")
    assert [(row["run"], row["label"], row["slices_newly_missed"]) for row in rows] == [
        ("a", 1, 2), ("a", 2, 0), ("base", 1, None), ("base", 2, None),
    ]  # fmt: skip
    assert format_csv(MISSES, rows).startswith(",".join(MISSES.column_names()))


def test_no_new_miss_is_said_too_and_other_evaluations_are_not_compared(tables: Any, global_row: Any) -> None:
    made = tables({"base": {1: [GOOD]}, "a": {1: [GOOD]}})
    (found,) = new_misses(failed_rows(made, ("base", "a")), compared(global_row, "base", "a"), "base").values()
    assert found == NewMisses()
    assert found.sentence() == "Fine-tuning misses no slice that the initial weights find."
    assert new_misses([], compared(global_row, "base", "a", protocol="point"), "base") == {}
    assert new_misses([], compared(global_row, "a"), "base") == {}


def test_a_report_without_these_tables_counts_nothing(tmp_path: Path) -> None:
    assert failure_counts(ReportTables(ReportLayout(tmp_path), ()), "slice") == []
    assert failed_rows(ReportTables(ReportLayout(tmp_path), ()), ("a",)) == []
