"""Plots as files: the size that a journal asks for, equal bytes, and what they are made of."""

import math
import re
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.plots.files import plot_files
from sam2ft.report.plots.results import MOST_EPOCH_ROWS, comparison_plot, learning_plot
from sam2ft.report.plots.vega import DOUBLE, SINGLE, Plot, json_text, on_page, on_paper, rounded_value

HOSTILE = "</script><img src=x onerror=alert(1)>"


def curves(points: int, epochs: int, best: str | None = None) -> Plot:
    history = [{"epoch": epoch, "step": epoch, "val_loss": 1 / (epoch + 1), "val_dice": 0.1} for epoch in range(epochs)]
    plot = learning_plot({f"{HOSTILE}{number}": history for number in range(points)}, best)
    assert plot is not None
    return plot


@pytest.mark.parametrize("width_mm", [SINGLE, DOUBLE])
def test_files_are_as_wide_as_a_column_of_a_journal(width_mm: float) -> None:
    files = plot_files(replace(curves(2, 3), width_mm=width_mm))
    points = width_mm / 25.4 * 72
    (width,) = re.findall(rb'<svg[^>]* width="([\d.]+)pt"', files["svg"])
    assert float(width) == pytest.approx(points, abs=1)
    (box,) = re.findall(rb"/MediaBox \[0 0 ([\d.]+)", files["pdf"])
    assert float(box) == pytest.approx(points, abs=1)
    with Image.open(BytesIO(files["png"])) as image:
        assert image.width == pytest.approx(width_mm / 25.4 * 300, abs=5)


def test_names_are_letters_in_a_file_too() -> None:
    svg = plot_files(curves(2, 3))["svg"]
    assert b"<img" not in svg
    assert b"&lt;img" in svg


def test_many_runs_of_which_none_is_the_best_are_a_figure_too() -> None:
    """A legend of nothing gave it an endless height, and no report."""
    with Image.open(BytesIO(plot_files(curves(30, 3))["png"])) as image:
        assert 500 < image.height < 1500


def test_the_opacity_of_a_line_is_that_of_its_stroke() -> None:
    """As one of the element it makes a PNG of a thousand lines take half a minute."""
    history = [{"epoch": epoch, "val_loss": 1 / (epoch + 1), "val_dice": 0.1} for epoch in range(3)]
    plot = learning_plot({f"> {number}": history for number in range(30)})
    assert plot is not None
    lines = re.findall(
        r'<path(?: [\w:-]+="[^"]*")* aria-roledescription="line mark"[^>]*>', plot_files(plot)["svg"].decode()
    )
    assert len(lines) >= 30
    assert all(" opacity=" not in line for line in lines)
    assert any("stroke-opacity=" in line for line in lines)


def test_equal_plots_have_equal_digests_and_any_change_another() -> None:
    plot = curves(2, 3)
    assert plot.digest() == curves(2, 3).digest()
    assert plot.digest() != curves(2, 4).digest()
    assert plot.digest() != replace(plot, width_mm=SINGLE).digest()


def test_long_histories_are_thinned_and_say_so_and_keep_their_end() -> None:
    plot = curves(20, MOST_EPOCH_ROWS // 10)
    assert "One epoch in 2 is shown" in plot.caption
    assert len(plot.columns["epoch"]) <= MOST_EPOCH_ROWS + 20
    assert max(epoch for epoch in plot.columns["epoch"] if isinstance(epoch, int)) == MOST_EPOCH_ROWS // 10


def test_few_points_all_have_a_colour_of_many_only_the_best() -> None:
    assert len(curves(7, 2).picked) == 7
    assert curves(8, 2, best=f"{HOSTILE}3").picked == (f"{HOSTILE}3",)
    assert curves(3, 2, best=f"{HOSTILE}2").picked[0] == f"{HOSTILE}2"


def test_nothing_learned_and_a_single_point_are_no_plots() -> None:
    assert learning_plot({}) is None
    assert learning_plot({"one": [{"epoch": 0, "step": 1.0}]}) is None
    assert comparison_plot(compare([PointRun(0, "one", "r", validation=0.5)], [])) is None


def test_the_comparison_is_of_points_that_validation_and_test_know(global_row: Any) -> None:
    points = [PointRun(None, "base", "b"), *(PointRun(i, f"p{i}", f"r{i}", validation=0.5 - i / 10) for i in range(3))]
    plot = comparison_plot(compare(points, [global_row("b", 0.5), global_row("r0", 0.7), global_row("r1", 0.8)]))
    assert plot is not None
    assert (plot.columns["point"], plot.columns["role"]) == (["p0", "p1"], ["other", "other"])
    assert plot.columns["x"] == [0.5, 0.4]


def test_the_page_gets_no_data_in_the_specification_and_paper_gets_all() -> None:
    plot = curves(2, 3)
    assert "datasets" not in on_page(plot)
    assert '"legend":{' not in json_text(on_page(plot)["layer"])
    assert '"legend":{' in json_text(on_paper(plot)["layer"])
    assert len(on_paper(plot)["datasets"]["rows"]) == 6


def test_numbers_are_short_and_finite() -> None:
    assert [rounded_value(value) for value in (1 / 3, math.nan, math.inf, None, 0.0)] == [
        0.33333,
        None,
        None,
        None,
        0.0,
    ]
    with pytest.raises(ValueError, match="JSON"):
        json_text(math.nan)
    assert json_text({"a": "</script>\u2028"}) == '{"a":"\\u003c/script>\\u2028"}'
