"""Facts of the texts: misses of single slices, intensity windows, subjects that were used."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.core.tables.rows import TABLES, write_csv
from sam2ft.report.papers.collect_facts import intensity_words, labels_of_slices, window_rule
from sam2ft.report.papers.evaluation_words import missed_words
from sam2ft.report.papers.study import EvaluationFacts
from sam2ft.runs.layout import EvalLayout


@dataclass
class Volume:
    """A volume of a store, as far as these functions read it."""

    stored: dict[str, Any] = field(default_factory=dict)


def test_planted_misses_of_slices_are_counted_for_each_evaluation(slice_row, tmp_path):
    rows = [
        slice_row("run", "a", 0, 1, tp=9, fp=1, fn=0),
        {**slice_row("run", "a", 1, 1, tp=0, fp=0, fn=7), "status": "missed"},
        {**slice_row("run", "a", 2, 1, tp=0, fp=5, fn=0), "status": "spurious"},
        slice_row("run", "a", 3, 1, tp=0, fp=0, fn=0),
        {**slice_row("run", "b", 1, 1, tp=0, fp=0, fn=7), "status": "missed"},
    ]
    state: Any = SimpleNamespace(evaluation=lambda name: EvalLayout(tmp_path / name))
    for name, own in (("e1", rows), ("e2", rows[:2])):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "slice.csv", TABLES["slice"], own)
    assert (labels_of_slices(state, "e1"), labels_of_slices(state, "e2")) == ((2, 1), (1, 0))
    (tmp_path / "e2" / "slice.csv").unlink()
    assert labels_of_slices(state, "e2") == (None, None)


@pytest.mark.parametrize(
    ("missed", "spurious", "words"),
    [
        (3, 1, "In whole volumes 0 labels were missed and 0 spurious, in single slices 3 and 1"),
        (0, 0, "In whole volumes 0 labels were missed and 0 spurious, in single slices 0 and 0"),
        (None, None, "In whole volumes 0 labels were missed and 0 spurious"),
    ],
)
def test_misses_of_slices_are_said_where_they_are_known(missed, spurious, words):
    settings: Any = None
    assert missed_words(EvaluationFacts(settings, "box", {}, 0, 0, missed, spurious)) == words


@pytest.mark.parametrize(
    ("volumes", "words"),
    [
        (
            [{"intensity": {"clip_percentiles": [1, 99]}, "window": [3, 900]}] * 2,
            "between percentiles 1 and 99 of each",
        ),
        ([{"intensity": {"zscore": [-2, 3]}, "window": [0, 9]}], "from -2 to 3 standard deviations around the mean"),
        (
            [{"intensity": {"window": [-100, 400]}, "window": [-100, 400]}],
            "from -100 to 400 were scaled to 0 to 1, the same",
        ),
        ([{"window": [0, 400]}, {"window": [0, 400]}], "from 0 to 400 were scaled to 0 to 1, the same window for all"),
        ([{"window": [1, 400]}, {"window": [3, 500]}], "(lower ends 1 to 3, upper ends 400 to 500)"),
        ([{"window": [1, 400], "intensity": {"window": [1, 400]}}, {"window": [3, 500]}], "lower ends 1 to 3"),
        ([{}], ""),
        ([], ""),
    ],
)
def test_the_window_is_said_as_it_was_recorded(volumes, words):
    found: Any = [Volume(stored) for stored in volumes]
    text = intensity_words(found, window_rule(found))
    assert words in text
    assert bool(text) == bool(words)
