"""Which slices of an evaluation are drawn."""

import json
import math

import pytest

from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.evaluation.outputs.pictures import choose_of_labels, choose_slices, slice_key

pytestmark = pytest.mark.sam2


def row(index, label, dice, status="ok"):
    return {
        "dataset": "toy", "subject": "a", "volume": "v", "slice": index, "label": label, "dice": dice, "status": status,
    }  # fmt: skip


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


def test_an_evaluation_draws_a_sheet_per_label_with_the_values_of_its_table(finished):
    index = json.loads((finished.evaluation.qc / "index.json").read_text())
    sheets = [entry for entry in index if entry["file"].startswith("label-")]
    assert sorted(entry["file"] for entry in sheets) == ["label-1.png", "label-2.png"]
    assert index[: len(sheets)] == sheets
    rows = read_csv(finished.evaluation.table("slice"), TABLES["slice"])
    count = sum(one["label_name"] == "disc" and one["dice"] is not None for one in rows)
    (disc,) = [entry for entry in sheets if entry["caption"].startswith("disc")]
    assert f"over {count} slices" in disc["caption"]
    assert all((finished.evaluation.qc / entry["file"]).stat().st_size > 5000 for entry in sheets)


def test_the_index_has_the_numbers_of_every_slice_beside_its_picture(finished):
    index = json.loads((finished.evaluation.qc / "index.json").read_text())
    rows = read_csv(finished.evaluation.table("slice"), TABLES["slice"])
    slices = [entry for entry in index if not entry["file"].startswith("label-")]
    assert slices[0]["why"] == "worst"
    for entry in slices:
        own = [one for one in rows if str(slice_key(one)) == entry["slice"] and one["status"] != "absent"]
        assert [one["dice"] for one in own] == [label["dice"] for label in entry["labels"]]
        assert {one["subject"] for one in own} == {entry["subject"]}
        assert entry["dice"] == pytest.approx(sum(one["dice"] for one in own) / len(own))
