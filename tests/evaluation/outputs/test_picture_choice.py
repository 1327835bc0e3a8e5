"""Which slices of an evaluation are drawn."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.evaluation.outputs.picture_choice import MOST_OF_SUBJECT, choose_of_labels, choose_slices


def row(index, label, dice, status="ok", subject="a", **pixels):
    key = {"dataset": "toy", "subject": subject, "volume": "v", "slice": index, "label": label}
    return {**key, "dice": dice, "status": status, **pixels}


def indices(groups):
    return {why: [one["slice"] for one in rows] for why, rows in groups.items()}


def test_each_label_has_its_worst_median_and_best_slices_and_each_slice_once():
    rows = [row(index, 1, index / 100) for index in range(30)]
    (sheet,) = choose_of_labels(rows, 5)
    assert indices(sheet.groups) == {"worst": [0, 1, 2, 3], "median": [13, 14, 15, 16], "best": [26, 27, 28, 29]}
    assert (sheet.num_slices, sheet.median) == (30, pytest.approx(0.145))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, {"worst": [0], "median": [], "best": []}),
        (2, {"worst": [0], "median": [], "best": [1]}),
        (3, {"worst": [0], "median": [1], "best": [2]}),
        (7, {"worst": [0, 1], "median": [2, 3], "best": [5, 6]}),
    ],
)
def test_few_slices_are_shown_once_each(count, expected):
    (sheet,) = choose_of_labels([row(index, 1, index / 10) for index in range(count)], 5)
    assert indices(sheet.groups) == expected


def test_the_labels_of_lowest_median_come_first_and_absent_slices_do_not_count():
    rows = [row(0, 1, 0.9), row(0, 2, 0.1), row(0, 3, 0.5), row(1, 1, None, "absent"), row(1, 2, 0.0, "missed")]
    assert [(sheet.label, sheet.num_slices) for sheet in choose_of_labels(rows, 2)] == [(2, 2), (3, 1)]
    assert choose_of_labels([row(0, 1, None, "absent")], 2) == []


@pytest.mark.parametrize("absent", [None, math.nan])
def test_a_slice_without_one_of_its_labels_is_ranked_by_the_others(absent):
    """Rows that were read hold None, rows that were just measured NaN: both are no number."""
    rows = [row(0, 1, 0.8), row(0, 2, absent, "absent"), row(1, 1, 0.4), row(1, 2, 0.2), row(2, 1, absent, "absent")]
    assert [(one.key.index, one.dice) for one in choose_slices(rows, 4)] == [(1, pytest.approx(0.3)), (0, 0.8)]


def good(subjects="abcdef", slices=20, labels=(1, 2)):
    """A cohort in which label 2 is always worse than label 1."""
    return [
        row(index, label, 0.9 - 0.3 * (label == 2) + index / 1000, subject=subject)
        for subject in subjects
        for index in range(slices)
        for label in labels
    ]


def replaced(rows, subject, index, label, **other):
    """The rows with one of them changed."""
    key = (subject, index, label)
    return [one | other if (one["subject"], one["slice"], one["label"]) == key else one for one in rows]


@pytest.mark.parametrize("status", ["missed", "spurious", "ok"])
@pytest.mark.parametrize(("subject", "index", "label"), [("a", 0, 1), ("f", 19, 1), ("c", 7, 2)])
def test_a_planted_failure_of_a_label_is_first_though_the_mean_over_labels_hides_it(status, subject, index, label):
    rows = replaced(good(), subject, index, label, dice=0.0, status=status, fn=50)
    first, *others = choose_slices(rows, 12)
    assert (first.key.subject, first.key.index, first.label, first.why) == (subject, index, label, "worst")
    assert len(others) == 11
    sheet = next(one for one in choose_of_labels(rows, 5) if one.label == label)
    assert [sheet.rows[0][name] for name in ("subject", "slice", "dice")] == [subject, index, 0]


def test_a_missed_label_comes_before_a_spurious_one_and_the_larger_miss_before_the_smaller():
    rows = replaced(good(), "a", 3, 1, dice=0.0, status="spurious", fp=900)
    rows = replaced(rows, "b", 4, 1, dice=0.0, status="missed", fn=10)
    rows = replaced(rows, "c", 5, 1, dice=0.0, status="missed", fn=20)
    assert [one.key.subject for one in choose_slices(rows, 12)][:3] == ["c", "b", "a"]


def test_every_label_has_its_worst_slices_among_them():
    rows = [one | {"dice": one["dice"] + one["slice"] * one["label"] % 3 / 10} for one in good(labels=(1, 2, 4))]
    worst = [one for one in choose_slices(rows, 24) if one.why == "worst"]
    for label in (1, 2, 4):
        ranked = sorted((one for one in rows if one["label"] == label), key=lambda one: (one["dice"], one["subject"]))
        assert (ranked[0]["subject"], ranked[0]["slice"]) in {(one.key.subject, one.key.index) for one in worst}
    assert min(Counter(one.label for one in worst).values()) >= 2


def test_neighbours_of_one_subject_do_not_fill_the_list():
    rows = good()
    for index in range(8):
        rows = replaced(rows, "b", index, 1, dice=0.0, status="missed", fn=100 - index)
    rows = replaced(rows, "e", 2, 1, dice=0.0, status="missed", fn=1)
    worst = [one for one in choose_slices(rows, 24) if one.why == "worst"]
    assert [(one.key.subject, one.key.index) for one in worst[:3]] == [("b", 0), ("b", 1), ("e", 2)]
    assert Counter(one.key.subject for one in worst if one.label == 1)["b"] <= MOST_OF_SUBJECT
    sheet = next(one for one in choose_of_labels(rows, 5) if one.label == 1)
    assert [one["subject"] for one in sheet.groups["worst"]][:3] == ["b", "b", "e"]


def test_many_misses_may_take_three_quarters_and_never_all():
    rows = good(subjects="abcdefghijklmnop")
    for subject in "abcdefghijklmnop":
        rows = replaced(rows, subject, 1, 1, dice=0.0, status="missed", fn=5)
    kinds = Counter(one.why for one in choose_slices(rows, 16))
    assert kinds["worst"] == 12
    assert kinds["median subject"] == 1


def test_the_typical_slice_is_of_the_subject_in_the_middle():
    levels = {"a": 0.9, "b": 0.3, "c": 0.6, "d": 0.5, "e": 0.8}
    rows = [row(index, 1, level + index / 100, subject=name) for name, level in levels.items() for index in range(5)]
    (typical,) = [one for one in choose_slices(rows, 12) if one.why == "median subject"]
    assert (typical.key.subject, typical.key.index) == ("c", 2)


@given(
    dices=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(1, 3), st.sampled_from([0.0, 0.2, 0.5, 1.0])),
        unique_by=lambda one: one[:3],
    ),
    count=st.integers(0, 30),
)
def test_as_many_as_there_are_no_slice_twice_and_the_same_in_any_order(dices, count):
    rows = [row(index, label, dice, "ok" if dice else "missed", subject) for subject, index, label, dice in dices]
    chosen = choose_slices(rows, count)
    keys = [one.key for one in chosen]
    assert len(keys) == len(set(keys)) == min(count, len({one[:2] for one in dices}))
    assert choose_slices(rows[::-1], count) == chosen
    order = [("worst", "median subject", "median", "best").index(one.why) for one in chosen]
    assert order == sorted(order)
