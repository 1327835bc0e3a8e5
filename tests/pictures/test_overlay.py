"""Overlays: which pixels are wrong and how, and outlines that are those of the masks."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from sam2ft.core.events import SlicePrediction
from sam2ft.pictures.figures import qc_sheet
from sam2ft.pictures.overlay import CONFUSED, EXTRA, MISSED, errors_of_maps, errors_of_sample, overlay_svg
from sam2ft.pictures.views import ScreenView

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = {1: "#E69F00", 2: "#56B4E9"}


def maps() -> tuple[np.ndarray, np.ndarray]:
    """A 4 x 6 slice: a pixel of label 1 missed, one extra of label 2, and one of label 1 predicted as 2."""
    reference, prediction = np.zeros((4, 6), np.uint8), np.zeros((4, 6), np.uint8)
    reference[1, 1:4] = 1
    prediction[1, 2] = 1
    prediction[1, 3] = 2
    prediction[3, 5] = 2
    return reference, prediction


def layers(text: str) -> list[ET.Element]:
    return ET.fromstring(text).findall(f"{SVG}svg")


def area(path: str) -> float:
    """Area within a path of M x y l dx dy ... z, by the shoelace formula, in pixels."""
    total = 0.0
    for part in re.findall(r"M([^z]*)z", path):
        numbers = np.array([float(text) for text in re.findall(r"-?\d+", part)]).reshape(-1, 2)
        x, y = np.cumsum(numbers, axis=0).T
        total += (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2
    return abs(total) / 4


def test_a_pixel_is_missed_extra_or_of_another_label() -> None:
    expected = np.zeros((4, 6), np.uint8)
    expected[1, 1], expected[1, 3], expected[3, 5] = MISSED, CONFUSED, EXTRA
    assert np.array_equal(errors_of_maps(*maps()), expected)


def test_errors_of_instances_are_those_of_their_labels(sample: SlicePrediction) -> None:
    errors = errors_of_sample(sample)
    assert (errors == MISSED).sum() == 16 + 20
    assert not (errors == EXTRA).any()
    assert (errors[10:14, 20:24] == MISSED).all()


def test_the_third_panel_of_a_sheet_is_the_error_map_and_all_panels_have_the_marks(
    sample: SlicePrediction, labels: object
) -> None:
    view = ScreenView(flipped_rows=True, marks=("A", "P", "S", "I"))
    figure = qc_sheet(sample, labels, view=view)  # type: ignore[arg-type]  # a fixture
    coloured = figure.axes[2].images[1].get_array()
    assert np.array_equal(np.asarray(coloured)[..., 3] > 0, errors_of_sample(sample)[::-1] > 0)
    for axes in figure.axes:
        assert {"A", "P", "S", "I"} <= {text.get_text() for text in axes.texts}
    without = qc_sheet(sample, labels)  # type: ignore[arg-type]
    assert not [text for axes in without.axes[::2] for text in axes.texts]


def test_a_layer_each_for_reference_prediction_and_errors_on_one_grid() -> None:
    text = overlay_svg(*maps(), COLOURS)
    assert ET.fromstring(text).get("viewBox") == "0 0 12 24"
    reference, prediction, errors = layers(text)
    assert [layer.get("y") for layer in (reference, prediction, errors)] == ["0", "8", "16"]
    strokes = [use.get("stroke") for use in prediction.iter(f"{SVG}use")]
    assert strokes == ["#000", COLOURS[1], "#000", COLOURS[2]]
    assert [path.get("d") for path in errors] == ["M2 2h2v2h-2z", "M10 6h2v2h-2z", "M6 2h2v2h-2z"]


@pytest.mark.parametrize(("rows", "columns"), [((1, 4), (2, 6)), ((0, 5), (0, 8)), ((2, 3), (3, 4))])
def test_an_outline_runs_along_the_border_of_the_mask_with_cut_corners(
    rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    mask = np.zeros((5, 8), np.uint8)
    mask[slice(*rows), slice(*columns)] = 1
    path = layers(overlay_svg(mask, mask, {1: "#E69F00"}))[0].find(f".//{SVG}path")
    assert path is not None
    # Each corner of a rectangle is cut by a triangle of half a pixel by half a pixel.
    assert area(path.get("d", "")) == pytest.approx(mask.sum() - 4 * 0.125)


def test_random_masks_have_outlines_of_their_area() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        mask = rng.integers(0, 2, (9, 11)).astype(np.uint8)
        path = layers(overlay_svg(mask, mask, {1: "#E69F00"}))[0].find(f".//{SVG}path")
        assert path is not None
        from skimage.measure import find_contours

        lines = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)
        whole = sum(0.5 * (np.roll(y, -1) * x - np.roll(x, -1) * y).sum() for y, x in (line[:-1].T for line in lines))
        assert area(path.get("d", "")) == pytest.approx(abs(whole))


def test_slices_without_a_label_have_empty_layers() -> None:
    nothing = np.zeros((3, 3), np.uint8)
    assert [len(layer) for layer in layers(overlay_svg(nothing, nothing, COLOURS))] == [0, 0, 0]
