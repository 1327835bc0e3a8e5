"""Labels that were drawn in some volumes only, in a report: numbers of subjects, words, and fair pairs."""

from typing import Any

import pytest

from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, compare
from sam2ft.report.comparison.drawn import drawn_in_part, drawn_sentence
from sam2ft.report.comparison.improvement import improvements
from sam2ft.report.comparison.point_tests import point_test_rows, point_values
from sam2ft.report.comparison.rank_study import rank_study
from sam2ft.report.page.content import label_sections
from sam2ft.report.papers.tables import paper_tables, tables_markdown
from sam2ft.report.tables.comparability import scored_warnings
from sam2ft.statistics.cohort import global_rows
from sam2ft.statistics.paired_tests import paired

SUBJECTS = "abcdefgh"
POINTS = [PointRun(None, "baseline", "base"), PointRun(0, "tuned", "run-0", validation=0.1)]


@pytest.fixture
def volumes(volume_row: Any) -> Any:
    """volumes(run, of each label the subjects in which it was drawn, better): rows of volume.csv of eight subjects."""

    def make(run: str, drawn: dict[int, str], better: int = 0) -> list[Any]:
        return [
            volume_row(run, subject, label, num_slices=3, tp=tp, fp=100 - tp, fn=100 - tp)
            | {"dice_slice_mean": tp / 100}
            for place, subject in enumerate(SUBJECTS)
            for label in (1, 2)
            if subject in drawn.get(label, SUBJECTS)
            for tp in [40 + 10 * label + (3 * place * label) % 7 + better * (1 + place % 3)]
        ]

    return make


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        ({}, []),
        ({2: "abc"}, ["label 2 in 3 of 8 subjects"]),
        ({1: "abcdefg", 2: "h"}, ["label 1 in 7 of 8 subjects", "label 2 in 1 of 8 subjects"]),
    ],
)
def test_rows_say_in_how_many_subjects_a_label_was_drawn(volumes: Any, drawn: dict[int, str], words: list[str]) -> None:
    rows = volumes("run-0", drawn)
    found = drawn_in_part(rows)
    assert [one.words for of in found.values() for one in of] == words
    sentence = drawn_sentence(next(iter(found.values()), ()))
    assert all(one in sentence for one in words)
    assert bool(sentence) is bool(words)
    # What the table over subjects counts is what these rows have.
    n = {row["label_name"]: row["n"] for row in global_rows(rows, resamples=0) if row["measure"] == "dice"}
    assert n["label 1"] == len(drawn.get(1, SUBJECTS))
    assert n["label 2"] == len(drawn.get(2, SUBJECTS))


def test_volumes_are_named_where_their_number_is_another(volumes: Any) -> None:
    rows = volumes("run-0", {2: "abc"})
    more = [{**row, "volume": "right"} for row in rows if row["label"] == 1]
    (found,) = drawn_in_part([*rows, *more]).values()
    assert [one.words for one in found] == ["label 2 in 3 of 8 subjects (3 of 16 volumes)"]


def test_labels_of_a_subject_that_are_absent_are_drawn(volumes: Any, volume_row: Any) -> None:
    rows = volumes("run-0", {2: "abc"})
    absent = [volume_row("run-0", subject, 2, num_slices=3, tp=0, fp=0, fn=0) for subject in "defgh"]
    assert drawn_in_part([*rows, *absent]) == {}


@pytest.mark.parametrize("other", ["abc", "a", "abcdefg"])
def test_a_mean_over_other_labels_is_no_partner(volumes: Any, other: str) -> None:
    """The baseline was scored before tibia was declared as not drawn in some; only equal sets of labels are paired."""
    base, tuned = volumes("base", {}), volumes("run-0", {2: other}, better=4)
    rows = [*base, *tuned]
    comparison = compare(POINTS, global_rows(rows))
    found = {(one.measure, one.label): one for one in improvements(comparison, "base", rows)}
    assert found["dice", 1].n == 8
    assert found["dice", 2].n == found["dice", None].n == len(other)
    alike = [row for row in rows if row["subject"] in other]
    wanted = {(one.measure, one.label): one for one in improvements(compare(POINTS, global_rows(alike)), "base", alike)}
    assert found["dice", None].difference == wanted["dice", None].difference
    values = [*point_values(base), *point_values(tuned)]
    tests = {row["run"]: row for row in point_test_rows(comparison, values) if row["measure"] == "dice"}
    assert tests["base"]["n_paired"] == len(other)
    (warning,) = scored_warnings({"baseline": point_values(base), "tuned": point_values(tuned)})
    count = 8 - len(other)
    assert f"knee, test, box: of {count} subject{'s' if count > 1 else ''} not all runs scored the same" in warning


@pytest.mark.parametrize("drawn", [{}, {2: "abcde"}, {1: "abc", 2: "cdefgh"}])
def test_runs_that_scored_the_same_are_paired_over_all_subjects(volumes: Any, drawn: dict[int, str]) -> None:
    base, tuned = volumes("base", drawn), volumes("run-0", drawn, better=4)
    rows = [*base, *tuned]
    found = {(one.measure, one.label): one for one in improvements(compare(POINTS, global_rows(rows)), "base", rows)}
    first, second = ({one.measure: one for one in point_values(of)}["dice"] for of in (base, tuned))
    assert found["dice", None].difference == paired(first.values, second.values).difference
    assert found["dice", None].n == 8
    assert [found["dice", label].n for label in (1, 2)] == [len(drawn.get(label, SUBJECTS)) for label in (1, 2)]
    assert scored_warnings({"baseline": point_values(base), "tuned": point_values(tuned)}) == []
    assert rank_study([*point_values(base), *point_values(tuned)]).n == 8


def test_captions_of_tables_for_papers_say_it(volumes: Any) -> None:
    rows = [*volumes("base", {2: "abc"}), *volumes("run-0", {2: "abc"}, better=4)]
    of_cohort = global_rows(rows)
    drawn, comparison = drawn_in_part(rows), compare(POINTS, of_cohort)
    told = tables_markdown(paper_tables(comparison, of_cohort, "run-0", drawn=drawn))
    assert told.count("Labelled in part: label 2 in 3 of 8 subjects; where a label was not drawn it is not scored") == 2
    assert "Labelled in part" not in tables_markdown(paper_tables(comparison, of_cohort, "run-0"))
    (section,) = label_sections("tuned", "run-0", of_cohort, "base")
    assert {label.name: label.n for label in section.labels} == {"label 1": 8, "label 2": 3}
    assert list(drawn) == [ComparedEvaluation("e" * 12, "knee", "test", "box")]
