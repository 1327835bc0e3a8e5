"""The sheet of a label: what it shows of each slice, and that nothing is cut off."""

import numpy as np
import pytest

from sam2ft.pictures.figures import figure_png
from sam2ft.pictures.label_sheet import LabelSlice, label_sheet, window_around


def slice_with(box, shape=(40, 60), score_text="Dice 0.500", where="anna/t2 slice 3", spacing=(1.0, 1.0)):
    mask = np.zeros(shape, dtype=bool)
    y0, y1, x0, x1 = box
    mask[y0:y1, x0:x1] = True
    return LabelSlice(np.zeros(shape), mask, np.roll(mask, 1, axis=1), spacing, where, score_text)


def words(figure):
    return [text.get_text() for axes in (figure, *figure.axes) for text in axes.texts]


def test_a_row_per_group_and_a_cell_per_slice_with_dice_subject_and_slice():
    one = slice_with((10, 20, 10, 20))
    figure = label_sheet("2  bar", 1, {"worst": [one, one], "median": [one], "best": [one, one]})
    assert len(figure.axes) == 5
    score_text = words(figure)
    assert {"2  bar", "worst", "median", "best", "Dice 0.500", "anna/t2 slice 3", "prediction", "reference"} <= set(
        score_text
    )
    left = [axes.get_position().x0 for axes in figure.axes]
    assert left[0] == left[2] == left[3]
    assert left[1] == left[4]


def test_a_group_without_slices_has_no_row():
    figure = label_sheet("1  disc", 0, {"worst": [slice_with((1, 5, 1, 5))], "median": [], "best": []})
    assert "median" not in words(figure)
    assert figure_png(figure)[:4] == b"\x89PNG"


def test_equal_sheets_are_equal_files():
    groups = {"worst": [slice_with((1, 5, 1, 5))]}
    assert figure_png(label_sheet("a", 0, groups)) == figure_png(label_sheet("a", 0, groups))


@pytest.mark.parametrize(
    ("box", "spacing", "rows", "columns"),
    [
        # 40 px of 1 mm, and half of that around them
        ((50, 90, 100, 110), (1.0, 1.0), (40, 100), (75, 135)),
        # never less than 24 mm: 48 rows of 0.5 mm, 24 columns of 1 mm
        ((99, 101, 99, 101), (0.5, 1.0), (76, 124), (88, 112)),
        # moved into the picture at its corner
        ((0, 40, 0, 10), (1.0, 1.0), (0, 60), (0, 60)),
        # all of the picture where it is smaller than the window
        ((0, 200, 0, 200), (1.0, 1.0), (0, 200), (0, 200)),
    ],
)
def test_a_slice_is_cut_to_a_square_in_mm_around_its_masks(box, spacing, rows, columns):
    mask = slice_with(box, shape=(200, 200)).reference_yx
    found = window_around(mask, spacing)
    assert (found[0].start, found[0].stop) == rows
    assert (found[1].start, found[1].stop) == columns


def test_a_slice_without_masks_is_shown_whole():
    assert window_around(np.zeros((30, 20), dtype=bool), (1.0, 1.0)) == (slice(0, 30), slice(0, 20))


def test_a_long_key_keeps_its_end_and_a_dollar_is_a_dollar():
    one = slice_with((1, 5, 1, 5), where="a" * 60 + "$x/t2 slice 17", score_text="missed (Dice 0)")
    score_text = words(label_sheet("1", 0, {"worst": [one]}))
    (shown,) = [text for text in score_text if text.endswith("slice 17")]
    assert shown.startswith("…")
    assert r"\$x" in shown
