from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.tables.rows import format_csv
from sam2ft.report.comparison.compare import (
    COMPARE,
    ComparedEvaluation,
    PointRun,
    choose_best,
    compare,
    compare_rows,
    value_text,
)
from sam2ft.report.page.content import label_scores, label_sections

BASELINE = PointRun(None, "baseline", "base")
GOLDEN = Path(__file__).with_name("compare.csv")


def point(index: int, validation: float | None, **other: Any) -> PointRun:
    given = {"overrides": (("module.optimizer.lr", 10.0**-index),), "best_epoch": index, "validation": validation}
    return PointRun(index, f"point {index}", f"run-{index}", **(given | other))


def test_the_best_point_is_the_one_of_validation_even_when_another_wins_on_test(global_row: Any) -> None:
    comparison = compare(
        [BASELINE, point(0, 0.30), point(1, 0.20)], [global_row("run-0", 0.99), global_row("run-1", 0.80)]
    )
    assert comparison.best == "run-1"
    assert comparison.choice == "lowest val_loss among 2 of 2 points; the test split had no part in it"


def test_a_score_to_be_maximised_is_maximised() -> None:
    best, choice = choose_best(
        [point(i, value, monitor="val_dice", mode="max") for i, value in enumerate((0.7, 0.9, 0.8))]
    )
    assert (best, choice.split(";")[0]) == ("run-1", "highest val_dice among 3 of 3 points")


def test_neither_the_baseline_nor_an_unfinished_point_is_the_best() -> None:
    points = [
        PointRun(None, "baseline", "base", validation=0.0),
        point(0, 0.5),
        point(1, 0.1, state="failed"),
        point(2, None),
    ]
    assert choose_best(points)[0] == "run-0"
    assert choose_best(points[::2])[0] is None


def test_points_that_watch_different_values_are_not_ranked() -> None:
    best, why = choose_best([point(0, 0.1), point(1, 0.9, monitor="val_dice", mode="max")])
    assert best is None
    assert "val_dice, val_loss" in why


def test_ties_go_to_the_first_point_in_any_order() -> None:
    points = [point(index, 0.25) for index in range(3)]
    assert {choose_best(list(order))[0] for order in permutations(points)} == {"run-0"}


def test_the_difference_to_the_baseline_is_that_of_equal_evaluations(global_row: Any) -> None:
    rows = [
        global_row("base", 0.80),
        global_row("run-0", 0.85),
        global_row("run-1", 0.9, n=3),
        global_row("run-2", 0.9, protocol="point"),
    ]
    lines = compare([BASELINE, *(point(index, 0.1) for index in range(3))], rows).lines
    deltas = {line.point.run: line.deltas.get("dice_slice_mean") for line in lines}
    assert deltas == {"base": None, "run-0": pytest.approx(0.05), "run-1": None, "run-2": None}


@pytest.mark.parametrize("known", [True, False])
def test_points_that_share_a_run_have_their_own_evaluation_each(global_row: Any, known: bool) -> None:
    named = {"box": "b" * 12, "point": "p" * 12}
    rows = [global_row("run-0", 0.9 - 0.1 * n, eval=named[one], protocol=one) for n, one in enumerate(named)]
    # An evaluation that is no point's own, of another experiment with the same training.
    rows.append(global_row("run-0", 0.5, eval="m" * 12, protocol="mask"))
    points = [
        PointRun(n, f"protocol={one}", "run-0", validation=0.1, eval=eval_id if known else "")
        for n, (one, eval_id) in enumerate(named.items())
    ]
    compared = compare(points, rows)
    found = {(line.point.name, line.evaluation.protocol) for line in compared.lines}
    own = {("protocol=box", "box"), ("protocol=point", "point"), ("protocol=box", "mask"), ("protocol=point", "mask")}
    assert found == (own if known else own | {("protocol=box", "point"), ("protocol=point", "box")})
    names = {row["protocol"]: compared.name_of_evaluation("run-0", ComparedEvaluation.of(row)) for row in rows}
    assert names == {
        "box": "protocol=box",
        "point": "protocol=point" if known else "protocol=box",
        "mask": "protocol=box",
    }
    assert compared.name_of_evaluation("run-1", ComparedEvaluation.of(rows[0])) is None


def test_with_several_baselines_each_point_is_compared_with_its_own(global_row: Any) -> None:
    baselines = [PointRun(None, name, name) for name in ("small", "large")]
    points = [point(0, 0.1, baseline="large"), point(1, 0.1, baseline="small"), point(2, 0.1)]
    rows = [
        global_row(run, mean)
        for run, mean in (("small", 0.5), ("large", 0.7), ("run-0", 0.8), ("run-1", 0.8), ("run-2", 0.8))
    ]
    deltas = {line.point.run: line.deltas.get("dice_slice_mean") for line in compare([*baselines, *points], rows).lines}
    assert deltas["run-0"] == pytest.approx(0.1)
    assert deltas["run-1"] == pytest.approx(0.3)
    assert deltas["run-2"] is None


def test_compare_csv_is_the_golden_file_in_every_order(global_row: Any) -> None:
    """To accept a change on purpose: write `made` to tests/report/comparison/compare.csv and say so in CHANGELOG."""
    points = [
        BASELINE,
        point(0, 0.3125),
        point(1, 0.25),
        point(2, None, state="failed", reason="out of memory", best_epoch=None),
    ]
    rows = [
        global_row(run, mean - (0.125 if measure.startswith("iou") else 0.0), measure=measure)
        for run, mean in (("base", 0.75), ("run-0", 0.875), ("run-1", 0.8125))
        for measure in ("dice_slice_mean", "dice", "iou_slice_mean", "iou", "hd95_mm")
    ]
    texts = {
        format_csv(COMPARE, compare_rows(compare(list(order), rows[::step])))
        for order in permutations(points)
        for step in (1, -1)
    }
    (made,) = texts
    assert made == GOLDEN.read_text(encoding="utf-8"), f"compare.csv changed:\n{made}"


def test_labels_of_the_best_point_stand_beside_those_of_the_baseline(global_row: Any) -> None:
    rows = [
        global_row("run-0", 0.9, label=2, label_name="tibia", n_missed=1),
        global_row("base", 0.7, label=2, label_name="tibia"),
    ]
    rows += [global_row("run-0", 0.8, label=1, label_name="femur"), global_row("run-0", 0.85)]
    (section,) = label_sections("point 0", "run-0", rows, "base")
    femur, tibia = section.labels
    assert [label.name for label in section.labels] == ["femur", "tibia"]
    assert (femur.baseline, tibia.baseline["dice_slice_mean"].mean, tibia.n_missed) == ({}, 0.7, 1)
    found = label_scores({"run-0": "point 0"}, {"run-0": "best"}, rows, section.evaluation)
    assert [(one.label_name, one.role, one.score.mean) for one in found][-1] == ("tibia", "best", 0.9)


def test_the_mean_of_labels_has_its_line_with_the_baseline_and_every_measure(global_row: Any) -> None:
    rows = [global_row("run-0", 0.9, label=2, label_name="tibia"), global_row("run-0", 0.85), global_row("base", 0.7)]
    rows += [global_row("run-0", 3.5, measure="hd95_mm"), global_row("run-0", 0.8, measure="dice")]
    (section,) = label_sections("point 0", "run-0", rows, "base")
    assert [label.name for label in section.labels] == ["tibia"]
    assert section.overall is not None
    assert {name: score.mean for name, score in section.overall.scores.items()} == {
        "dice_slice_mean": 0.85,
        "hd95_mm": 3.5,
        "dice": 0.8,
    }
    assert section.overall.baseline["dice_slice_mean"].mean == 0.7
    (without,) = label_sections("point 0", "run-0", rows[:1], "base")
    assert without.overall is None


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ((0.9, 0.8), "best point: lowest val_loss among 2 of 2 points; the test split had no part in it"),
        ((0.8, 0.9), "chosen by validation: lowest val_loss among 2 of 2 points; the test split had no part in it, "
                     "and another point is ahead there"),
        ((0.8, 0.8), "best point: lowest val_loss among 2 of 2 points; the test split had no part in it"),
    ],
)  # fmt: skip
def test_a_point_is_called_best_only_where_no_other_is_ahead(
    means: tuple[float, float], said: str, global_row: Any
) -> None:
    points = [point(0, 0.25), point(1, 0.5)]
    assert compare(points, [global_row(f"run-{i}", mean) for i, mean in enumerate(means)]).chosen == said


def test_without_a_finished_point_it_says_why_none_is_called_the_best() -> None:
    assert compare([BASELINE], []).chosen.startswith("no point has finished")


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-4, "0.0001"), (0.1 + 0.2, "0.3"), (None, "null"), (True, "true"), ("adamw", "adamw"), ((1, 2.5), "[1, 2.5]")],
)
def test_override_values_read_as_in_yaml(value: object, text: str) -> None:
    assert value_text(value) == text
