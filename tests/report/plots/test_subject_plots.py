"""Paired lines of subjects and Dice against object size."""

import pytest

from sam2ft.report.page.content import SubjectScores
from sam2ft.report.plots.files import plot_files
from sam2ft.report.plots.subject_plots import MOST_DOTS, paired_plot, size_plot, sized_slices


def scores(role, measure, values, label=1, name="femur"):
    return SubjectScores(label, name, role, role, role, measure, values)


def test_a_line_per_subject_that_both_have_and_worse_by_the_sense_of_the_measure():
    plot = paired_plot(
        [
            scores("best", "dice", {"a": 0.9, "b": 0.5, "only chosen": 0.1}),
            scores("baseline", "dice", {"a": 0.8, "b": 0.6, "only baseline": 0.1}),
            scores("best", "hd95_mm", {"a": 3.0}),
            scores("baseline", "hd95_mm", {"a": 2.0}),
        ]
    )
    lines = {(row["measure"], row["subject"]): row for row in plot.rows()}
    assert set(lines) == {("dice", "a"), ("dice", "b"), ("hd95_mm", "a")}
    assert len(plot.rows()) == 6
    assert {key: row["worse"] for key, row in lines.items()} == {
        ("dice", "a"): 0,
        ("dice", "b"): 1,
        ("hd95_mm", "a"): 1,
    }
    assert lines["dice", "b"]["change"] == pytest.approx(-0.1)
    assert [row["value"] for row in plot.rows()[:2]] == [0.8, 0.9]
    assert plot_files(plot)["svg"]


def test_captions_name_no_brightness_which_the_readers_theme_turns_round():
    pairs = paired_plot([scores("best", "dice", {"a": 0.5}), scores("baseline", "dice", {"a": 0.6})])
    sizes = size_plot(*sized_slices(slice_rows(9)), "point")
    for plot in (pairs, sizes):
        assert not {"dark", "black", "white", "light"} & set(plot.caption.replace(",", " ").split())
    assert "crosses: Dice 0" in sizes.caption


def test_without_a_baseline_there_are_no_pairs():
    assert paired_plot([scores("best", "dice", {"a": 0.9})]) is None
    assert paired_plot([scores("best", "dice", {"a": 0.9}), scores("baseline", "dice", {"b": 0.9})]) is None


def slice_rows(count, label=1, area=0.25):
    return [
        {
            "subject": f"s{i % 5}", "volume": "v", "slice": i, "label": label, "label_name": f"label {label}",
            "tp": 0 if i == 7 else 9 + i, "fn": 1 + i, "dice": 0.0 if i == 7 else 0.5,
            "area_reference_mm2": area and area * (10 + 2 * i),
        }
        for i in range(count)
    ]  # fmt: skip


def test_sizes_are_areas_or_pixels_where_the_spacing_is_not_known():
    known, unit = sized_slices(slice_rows(3))
    assert (unit, [one.size for one in known]) == ("mm²", [2.5, 3.0, 3.5])
    unknown, unit = sized_slices(slice_rows(3, area=None))
    assert (unit, [one.size for one in unknown]) == ("pixels", [10.0, 12.0, 14.0])


def test_a_slice_without_the_object_has_no_size():
    spurious = slice_rows(1)[0] | {"tp": 0, "fn": 0}
    assert sized_slices([spurious]) == ([], "mm²")
    assert size_plot([], "mm²", "point") is None


@pytest.mark.parametrize("count", [1, 15, 90])
def test_medians_are_of_slices_of_similar_size_and_hold_all_of_them(count):
    plot = size_plot(*sized_slices(slice_rows(count)), "point")
    medians = [row for row in plot.rows() if row["kind"] == "median"]
    assert sum(int(str(row["where"]).split()[2]) for row in medians) == (count if count >= 10 else 0)
    assert all(row["size"] <= row["to"] for row in medians)
    assert plot_files(plot)["svg"]


def test_of_many_slices_every_failure_is_shown():
    rows = slice_rows(MOST_DOTS, 2) + slice_rows(MOST_DOTS, 1)
    plot = size_plot(*sized_slices(rows), "point")
    shown = [row for row in plot.rows() if row["kind"] == "slice"]
    assert len(shown) <= MOST_DOTS + 2
    assert sum(row["value"] == 0 for row in shown) == 2
    assert "One slice in 2 is shown" in plot.caption
    assert [value for value, _ in plot.controls[0].options] == ["label 1", "label 2"]
