import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2ft.core.events import SlicePrediction
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box, Point, box_around
from sam2ft.pictures.figures import dice_of_labels, figure_png, figure_rgb, qc_sheet, visualize_input

SQUARE = np.zeros((16, 16), bool)
SQUARE[4:12, 4:12] = True
IMAGE = np.full((16, 16), 0.5, np.float32)


def words(figure: Any) -> str:
    return "\n".join(
        text.get_text() for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    )


def colours(figure: Any) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in pixel) for pixel in np.unique(figure_rgb(figure).reshape(-1, 3), axis=0)}


def test_dice_is_of_the_union_of_a_labels_instances(sample: SlicePrediction) -> None:
    assert dice_of_labels(sample) == {1: 1.0, 2: pytest.approx(2 * 16 / (16 + 32)), 3: 0.0}


def test_a_sheet_names_every_label_with_its_dice_whatever_the_name(sample: SlicePrediction, labels: LabelTable) -> None:
    figure = qc_sheet(sample, labels)
    assert "1  femoral cartilage   Dice 1.000" in words(figure)
    assert "<img src=x onerror=alert(1)>   Dice 0.667" in words(figure)
    assert r"_\$\frac{   Dice 0.000" in words(figure)
    assert figure_png(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("signs", [20, 60, 110])
def test_long_names_are_in_the_legend_in_full_and_within_the_sheet(sample: SlicePrediction, signs: int) -> None:
    names = {number: f"label {number} " + "m" * signs for number in (1, 2, 3)}
    table = LabelTable(tuple(Label(number, name) for number, name in names.items()))
    figure = qc_sheet(sample, table)
    figure_png(figure)
    texts = [text for text in figure.texts if text.get_text()[:1].isdecimal()]
    assert all(any(name in text.get_text() for text in texts) for name in names.values())
    boxes = [text.get_window_extent() for text in texts]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_given_dice_is_shown_instead_of_an_own_one(sample: SlicePrediction, labels: LabelTable) -> None:
    shown = words(qc_sheet(sample, labels, {1: 0.25, 2: math.nan}, title="epoch 3"))
    assert "femoral cartilage   Dice 0.250" in shown
    assert "Dice –" in shown
    assert "epoch 3" in shown


def test_a_label_that_was_not_drawn_is_called_so_and_not_missing(sample: SlicePrediction, labels: LabelTable) -> None:
    own = dice_of_labels(sample)
    absent = [label for label in labels.ids if label not in own]
    table = LabelTable((*labels, Label(901, "absent"), Label(902, "unknown")))
    shown = words(qc_sheet(sample, table, {**own, **dict.fromkeys((*absent, 901), math.nan)}))
    assert "901  absent   not in this slice" in shown
    assert "902  unknown   not labelled" in shown
    assert "not labelled" not in words(qc_sheet(sample, table))


def test_prediction_is_drawn_in_the_labels_colour_and_reference_in_white() -> None:
    nothing = np.zeros_like(SQUARE)
    label, box = Label(1, "femur"), Box(4, 4, 11, 11)
    orange, white = (230, 159, 0), (255, 255, 255)
    both = visualize_input(IMAGE, SQUARE, box, SQUARE, label, "x")
    missed = visualize_input(IMAGE, SQUARE, box, nothing, label, "x")

    def contours(figure: Any) -> list[tuple[int, ...]]:
        return [
            tuple(round(255 * float(value)) for value in drawn.get_edgecolor()[0][:3])
            for drawn in figure.axes[1].collections
        ]

    assert contours(both) == [orange, white]
    assert contours(missed) == [white]
    assert orange in colours(both)


def test_a_point_is_a_cross_and_a_mask_an_outline_where_they_were_the_prompt() -> None:
    label, moved = Label(1, "a"), np.roll(SQUARE, 3, axis=1)
    empty = np.zeros_like(SQUARE)

    def with_prompt(prompt: Any) -> tuple[int, list[tuple[float, float]], int]:
        axes = visualize_input(IMAGE, empty, prompt, empty, label, "s").axes[1]
        crosses = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines]
        assert axes.get_xlim() == (-0.5, 15.5)
        return len(axes.patches), crosses, len(axes.collections)

    assert with_prompt(box_around(SQUARE)) == (1, [], 0)
    assert with_prompt(Point(5, 7)) == (0, [(5.0, 7.0)], 0)
    assert with_prompt(moved) == (0, [], 1)


def test_a_sheet_shows_the_prompts_that_were_given(sample: SlicePrediction, labels: LabelTable) -> None:
    points = [Point(3, 3)] * len(sample.labels_n)
    axes = qc_sheet(replace(sample, prompts_n=points), labels).axes[1]
    assert len(axes.lines) == len(points)
    assert len(axes.patches) == 0
    assert len(qc_sheet(sample, labels).axes[1].patches) == len(points)


def test_the_contour_runs_along_the_border_of_the_mask() -> None:
    figure = visualize_input(IMAGE, SQUARE, Box(4, 4, 11, 11), SQUARE, Label(1, "femur"), "x")
    path = figure.axes[1].collections[0].get_paths()[0]
    assert path.vertices.min(axis=0).tolist() == [3.5, 3.5]
    assert path.vertices.max(axis=0).tolist() == [11.5, 11.5]


def test_an_outline_at_the_border_of_the_picture_is_closed() -> None:
    mask = np.zeros((16, 16), bool)
    mask[:, :3] = True
    figure = visualize_input(IMAGE, mask, box_around(mask), mask, Label(1, "femur"), "x")
    path = figure.axes[1].collections[0].get_paths()[0]
    assert path.vertices.min() == -0.5
    assert path.vertices[:, 1].max() == 15.5


def test_a_slice_has_the_proportions_of_its_spacing() -> None:
    figure = visualize_input(IMAGE, SQUARE, Box(4, 4, 11, 11), SQUARE, Label(1, "x"), "x", spacing_yx_mm=(0.6, 0.4))
    axes = figure.axes[0].get_window_extent()
    assert axes.height / axes.width == pytest.approx(1.5, rel=0.01)
    assert figure.axes[0].get_aspect() == pytest.approx(1.5)


def test_masks_on_another_grid_are_refused(sample: SlicePrediction, labels: LabelTable) -> None:
    wrong = replace(sample, image_yx=np.zeros((30, 20), np.float32))
    with pytest.raises(ValueError, match="on one grid"):
        qc_sheet(wrong, labels)


def test_a_slice_without_instances_is_a_picture_too(sample: SlicePrediction, labels: LabelTable) -> None:
    none = np.zeros((0, 20, 30), bool)
    empty = replace(sample, labels_n=[], boxes_n=[], references_nyx=none, predictions_nyx=none)
    assert figure_rgb(qc_sheet(empty, labels)).shape[2] == 3


def test_equal_sheets_are_equal_bytes_whatever_pyplot_is_told(sample: SlicePrediction, labels: LabelTable) -> None:
    first, second = (figure_png(qc_sheet(sample, labels)) for _ in range(2))
    assert first == second
    assert Image.open(io.BytesIO(first)).size[0] > 800
    # A figure of pyplot would be kept open in its global list, one more for every slice of a run.
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []
