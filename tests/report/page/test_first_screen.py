"""The sentences of the first screen."""

from dataclasses import replace
from typing import Any

import pytest

from sam2ft.report.comparison.compare import ComparedEvaluation, ComparisonRow, PointRun, Score, compare
from sam2ft.report.comparison.improvement import Improvement
from sam2ft.report.comparison.misses import Failures, LabelFailures, Misses, NewMisses
from sam2ft.report.page.content import CaseLabel, Picture, SliceCase
from sam2ft.report.page.first_screen import first_screen, verdict

EVALUATION = ComparedEvaluation("e" * 12, "knee", "test", "box")
TUNED = PointRun(0, "tuned", "run-0", validation=0.1)
LINE = ComparisonRow(TUNED, EVALUATION, {"dice_slice_mean": Score(0.9, 0.85, 0.95, 24, 0.1)})


def improvement(n: int, difference: float, p: float) -> Improvement:
    ends = (difference - 0.01, difference + 0.01)
    return Improvement(EVALUATION, None, "mean_of_labels", "dice_slice_mean", n, difference, ends, 1.0, p)


@pytest.mark.parametrize(
    ("n", "difference", "p", "start", "conclusive"),
    [
        (24, 0.03, 0.002, "Fine-tuning improves Dice per slice: chosen − baseline +0.030", True),
        (24, -0.03, 0.0001, "Fine-tuning lowers Dice per slice: chosen − baseline −0.030", True),
        (24, 0.03, 0.2, "No effect of fine-tuning on Dice per slice is shown: chosen − baseline +0.030", True),
        (4, 0.3, 0.125, "Dice per slice: chosen − baseline +0.300", False),
        (9, 0.3, 0.004, "Dice per slice: chosen − baseline +0.300", False),
    ],
)
def test_the_verdict_says_what_is_shown_and_no_more(
    n: int, difference: float, p: float, start: str, conclusive: bool
) -> None:
    told = verdict(LINE, improvement(n, difference, p), Misses())
    assert told.result.startswith(start)
    assert f"n = {n} subjects" in told.result
    assert told.conclusive == conclusive
    assert ("n is too small for a conclusion" in told.result) != conclusive
    assert ("p < 0.001" in told.result) == (p < 0.001)


@pytest.mark.parametrize(("n", "least"), [(3, "0.250"), (4, "0.125"), (5, "0.062"), (8, "0.008")])
def test_the_smallest_p_is_a_number(n: int, least: str) -> None:
    assert f"no p can be below {least}" in verdict(LINE, improvement(n, 0.1, 1.0), Misses()).result


def test_one_subject_is_singular() -> None:
    told = verdict(LINE, improvement(1, 0.1, 1.0), Misses()).result
    assert "n = 1 subject)" in told
    assert "with 1 subject no p" in told


def test_without_a_baseline_the_verdict_says_that_nothing_was_compared() -> None:
    assert verdict(LINE, None, Misses()).result.startswith(
        "Not compared with the initial weights: Dice per slice 0.900"
    )
    initial = replace(LINE, point=PointRun(None, "baseline", "base"))
    assert verdict(initial, None, Misses()).result.startswith("Initial weights, not fine-tuned:")


def test_missed_labels_are_said_at_both_levels_with_what_is_new() -> None:
    found = LabelFailures(Failures(8, 2, 1, 210), Failures(0, 1, 0, 54))
    new = NewMisses({"disc": [("knee", "a", "v", 3, 1), ("knee", "b", "v", 3, 1)]})
    told = verdict(LINE, None, Misses({("run-0", EVALUATION): {(1, "disc"): found}}, {EVALUATION: new})).misses
    assert "missed in 8 of 210 slices and 0 of 54 volumes" in told
    assert "spurious in 2 slices and 1 volume" in told
    assert "only beside the reference in 1 slice" in told
    assert "newly misses, or finds only beside the reference, 2 slices of 2 subjects (disc 2), found by the" in told


def case(run: str, why: str, number: int) -> SliceCase:
    picture = Picture(f"assets/{number}.png", "")
    return SliceCase(picture, run, run, f"knee/s/v slice {number}", "s", why, 0.5, (CaseLabel(1, "disc", 0.5, "ok"),))


def test_the_pictures_are_of_the_chosen_point_typical_and_worst(global_row: Any) -> None:
    comparison = compare([TUNED], [global_row("run-0", 0.9)])
    cases = [case("run-1", "worst", 0), case("run-0", "worst", 1), case("run-0", "median", 2)]
    found = first_screen(comparison, "run-0", None, cases, Misses(), ())
    assert (found.worst, found.typical, len(found.verdicts)) == (cases[1], cases[2], 1)
    typical = case("run-0", "median subject", 3)
    assert first_screen(comparison, "run-0", None, [*cases, typical], Misses(), ()).typical == typical
    assert first_screen(comparison, "run-0", None, [], Misses(), ()).worst is None
    hidden = replace(case("run-0", "median", 4), labels=(CaseLabel(1, "disc", 0.0, "missed"),))
    assert first_screen(comparison, "run-0", None, [hidden, *cases], Misses(), ()).worst == hidden


@pytest.mark.parametrize(("first", "second", "word"), [(0.9, 0.8, "best"), (0.8, 0.9, "chosen by validation")])
def test_a_point_is_called_best_only_where_no_other_is_ahead(
    global_row: Any, first: float, second: float, word: str
) -> None:
    points = [TUNED, PointRun(1, "other", "run-1", validation=0.2), PointRun(None, "baseline", "base")]
    comparison = compare(points, [global_row("run-0", first), global_row("run-1", second), global_row("base", 0.99)])
    assert comparison.best == "run-0"
    assert comparison.best_word == word
