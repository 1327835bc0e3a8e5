"""Chosen point - baseline, overall and per label."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel, wilcoxon

from sam2ft.core.tables.rows import format_csv
from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.comparison.improvement import IMPROVEMENT, improvement_rows, improvements
from sam2ft.statistics.bootstrap import bootstrap_interval
from sam2ft.statistics.cohort import global_rows
from sam2ft.statistics.paired_tests import holm


@pytest.fixture
def made(volume_row: Any) -> Any:
    """made(tps of the baseline, tps of the tuned run): improvements; label 2 of the tuned run is always one better."""

    def make(base: list[int], tuned: list[int]) -> Any:
        rows = []
        for run, tps in (("base", base), ("run-0", tuned)):
            for number, tp in enumerate(tps):
                rows.append(volume_row(run, f"s{number:02d}", 1, num_slices=3, tp=tp, fp=100 - tp, fn=100 - tp))
                better = 50 + number + 5 * (run == "run-0")
                wrong = 100 - better
                rows.append(volume_row(run, f"s{number:02d}", 2, num_slices=3, tp=better, fp=wrong, fn=wrong))
        points = [PointRun(None, "baseline", "base"), PointRun(0, "tuned", "run-0", validation=0.1)]
        comparison = compare(points, global_rows(rows))
        found = improvements(comparison, "base", rows)
        return {(one.measure, one.label): one for one in found}, found

    return make


def test_few_subjects_have_the_interval_of_the_paired_t_test_and_no_conclusion(made: Any) -> None:
    base, tuned = [50, 60, 70, 65], [60, 75, 72, 80]
    one = made(base, tuned)[0]["dice", 1]
    theirs = ttest_rel(tuned, base).confidence_interval(0.95)
    assert one.difference == pytest.approx((10 + 15 + 2 + 15) / 4 / 100)
    assert one.interval == (pytest.approx(theirs.low / 100), pytest.approx(theirs.high / 100))
    assert one.p == one.smallest_p / 2 == 0.125
    assert not one.conclusive


def test_many_subjects_have_the_bootstrap_and_labels_are_corrected_together(made: Any) -> None:
    base = list(range(40, 52))
    tuned = [tp + 3 + (-1) ** place * place for place, tp in enumerate(base)]
    found, rows = made(base, tuned)
    overall, one, two = (found["dice", label] for label in (None, 1, 2))
    differences = [(b - a) / 100 for a, b in zip(base, tuned, strict=True)]
    assert one.interval == pytest.approx(bootstrap_interval(np.array(differences)), abs=0.003)
    assert one.p == pytest.approx(float(wilcoxon(differences).pvalue), abs=0.05)
    assert [one.p_holm, two.p_holm] == holm([one.p, two.p])
    assert (overall.p_holm, overall.corrected) == (None, overall.p)
    assert two.conclusive
    table = improvement_rows(rows, "run-0", "base")
    assert {row["interval"] for row in table} == {"bootstrap"}
    assert format_csv(IMPROVEMENT, table).splitlines()[0] == ",".join(IMPROVEMENT.column_names())


def test_without_a_baseline_or_a_chosen_point_there_is_none(made: Any, volume_row: Any) -> None:
    rows = [volume_row("run-0", "a", 1, num_slices=1, tp=5, fp=1, fn=1)]
    comparison = compare([PointRun(0, "tuned", "run-0", validation=0.1)], global_rows(rows))
    assert improvements(comparison, None, rows) == ()
    assert improvements(compare([PointRun(0, "tuned", "run-0")], global_rows(rows)), "base", rows) == ()


def test_evaluations_that_are_not_alike_are_not_subtracted(volume_row: Any) -> None:
    rows = [
        volume_row("run-0", "a", 1, num_slices=1, tp=5, fp=1, fn=1),
        volume_row("base", "a", 1, num_slices=1, tp=5, fp=1, fn=1) | {"protocol": "point"},
    ]
    points = [PointRun(None, "baseline", "base"), PointRun(0, "tuned", "run-0", validation=0.1)]
    assert improvements(compare(points, global_rows(rows)), "base", rows) == ()
