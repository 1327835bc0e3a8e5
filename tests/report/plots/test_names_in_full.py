"""Names, numbers and legends of plots: none is cut, none is printed over another, ranks are whole numbers."""

import re
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sam2ft.report.comparison.compare import ComparedEvaluation, PointRun, Score, compare
from sam2ft.report.comparison.effects import main_effects
from sam2ft.report.comparison.number_text import decimals, signed
from sam2ft.report.page.content import LabelScores, SubjectScores
from sam2ft.report.page.rendering import breakable
from sam2ft.report.plots.agreement_plots import agreement_plots
from sam2ft.report.plots.effect_plots import _places, effect_plots, parallel_plot
from sam2ft.report.plots.files import pdf_of, plot_files
from sam2ft.report.plots.rank_plots import rank_plot
from sam2ft.report.plots.results import comparison_plot, distribution_plot, label_plot, learning_plot
from sam2ft.report.plots.vega import SIGNS_PER_LINE, lines_of, on_page, plot_width, whole_ticks

LONG = ("posterior horn of the medial meniscus after partial resection", "lr=0.000112,decay=0.01,augmentation=RandFlip")
EVALUATION = ComparedEvaluation("e" * 12, "knee", "test", "box")


@given(st.text(alphabet="abc_.,=/ -", min_size=1, max_size=90).map(str.strip).filter(bool), st.integers(5, 40))
def test_a_name_in_lines_is_the_name(name, signs):
    lines = lines_of(name, signs)
    assert "".join(lines) == name
    assert max(map(len, lines)) <= signs + 1


@pytest.mark.parametrize("number", ["0.012345678", "1e-05", "-0.5", "3.14", "2.5e-10"])
@pytest.mark.parametrize("signs", range(8, 25))
def test_a_number_is_not_broken_in_a_name(number, signs):
    name = f"lr={number},weight_decay={number},image_encoder=true"
    assert sum(number in line for line in lines_of(name, max(signs, len(number) + 1))) == 2
    assert "<wbr>" not in str(breakable(number))


def texts_of(plot):
    """All texts of the drawn figure, their spaces as one."""
    svg = plot_files(plot)["svg"].decode()
    return " ".join(re.sub(r"<[^>]*>", " ", svg).split())


def long_comparison(global_row, values=(1e-3, 1e-4, 1e-5, 2e-5)):
    points = [
        PointRun(i, f"{LONG[1]},number={i}", f"r{i}", ((LONG[1], lr), (LONG[0], LONG[i % 2])), validation=0.1 + i / 10)
        for i, lr in enumerate(values)
    ]
    return compare(points, [global_row(f"r{i}", 0.5 + i / 100) for i in range(len(values))])


def rank_rows(count):
    key = {"dataset": "d", "split": "test", "protocol": "box", "measure": "dice_slice_mean", "n": 8, "first_share": 0.1}
    return [
        {"run": f"{i}", "name": f"{LONG[i % 2]} {i}", "rank": i + 1.0, "rank_low": 1.0, "rank_high": count + 0.0, **key}
        for i in range(count)
    ]


def with_long_names(global_row):
    score = Score(0.8, 0.7, 0.9, 12)
    scored = [LabelScores(i, name, name, "r", "best", "dice", score) for i, name in enumerate(LONG, 1)]
    valued = [SubjectScores(i, name, name, "r", "best", "dice", {"s": 0.5}) for i, name in enumerate(LONG, 1)]
    history = [{"epoch": 0, "val_loss": 1.0}, {"epoch": 1, "val_loss": 0.5}]
    return {
        "labels": label_plot(scored),
        "distributions": distribution_plot(valued),
        "learning": learning_plot(dict.fromkeys(LONG, history), LONG[0]),
        "ranks": rank_plot(rank_rows(2), "0"),
        "parallel": parallel_plot(long_comparison(global_row)),
    }


@pytest.mark.parametrize("name", ["labels", "distributions", "learning", "ranks", "parallel"])
def test_long_names_are_in_the_figure_in_full(name, global_row):
    texts = texts_of(with_long_names(global_row)[name])
    assert "…" not in texts
    together = texts.replace(" ", "")
    for long in LONG:
        # The lines of an axis are one after another; those of other names are not between them.
        assert all(line.replace(" ", "") in together for line in lines_of(long, 14)), long


def test_rows_are_as_high_as_their_names(global_row):
    label_height = with_long_names(global_row)["labels"].spec["height"] / 2
    assert label_height >= 10 * len(lines_of(f"1  {LONG[0]}"))


@pytest.mark.parametrize("epochs", [1, 2, 3, 8, 61])
def test_epochs_are_whole_and_each_is_written_once(epochs):
    history = [{"epoch": epoch, "val_loss": 1.0 / (epoch + 1)} for epoch in range(epochs)]
    plot = learning_plot({"a": history})
    values = on_page(plot)["layer"][0]["encoding"]["x"]["axis"]["values"]
    assert values[0] == 1
    assert len(set(values)) == len(values) <= 10
    assert all(isinstance(value, int) for value in values)
    # The names of the axes end the text: before them are the numbers of each, in their order.
    written = re.findall(r">([\d.]+)</text>", plot_files(plot)["svg"].decode())[: (len(values) + 1) // 2]
    assert written[0] == "1"
    assert len(set(written)) == len(written)
    assert set(written) <= {str(value) for value in values}


@pytest.mark.parametrize("last", [1, 2, 3, 7, 30, 999])
def test_ranks_are_whole_numbers_and_few(last):
    ticks = whole_ticks(last)
    assert ticks[0] == 1
    assert all(isinstance(tick, int) for tick in ticks)
    assert len(ticks) <= 10


@pytest.mark.parametrize("points", [2, 3, 4])
def test_the_axis_of_ranks_has_no_halves(points):
    assert not re.search(r"\b\d\.5\b", texts_of(rank_plot(rank_rows(points), "0")))


@pytest.mark.parametrize("limit", [3126.51, 3126.49, 9999.96, -3126.51])
def test_a_limit_is_the_same_number_in_plot_and_table(limit):
    row = dict.fromkeys(("bias_ci_low", "bias_ci_high", "loa_low_ci_low", "loa_low_ci_high", "loa_low"))
    row |= {"loa_high_ci_low": None, "loa_high_ci_high": None, "bias": 10.0, "loa_high": limit, "sd_difference": 5.0}
    row |= {"tissue": "femur", "definition": "volume", "unit": "mm3", "biomarker": "v", "reference_mean": 25000.0}
    plot, _ = agreement_plots("a", {"s": (25000.0, 25100.0), "t": (26000.0, 21000.0)}, row)
    assert f"limit {signed(limit, decimals(25000.0))}" in texts_of(plot)


def test_what_is_written_beside_the_limits_leaves_the_frame_its_width():
    row = dict.fromkeys(("bias_ci_low", "bias_ci_high", "loa_low_ci_low", "loa_low_ci_high", "loa_low"))
    row |= {"loa_high_ci_low": None, "loa_high_ci_high": None, "bias": 0.1, "loa_high": 0.2, "sd_difference": 0.1}
    row |= {"tissue": "femur", "definition": "ThCcAB", "unit": "mm", "biomarker": "v", "reference_mean": 2.0}
    plot, _ = agreement_plots("a", {"s": (2.0, 2.1), "t": (2.5, 2.4)}, row)
    svg = plot_files(plot)["svg"].decode()
    frame = float(re.search(r"translate\(([\d.]+),[\d.]+\)[^>]*>limit", svg)[1])
    assert 0.6 * plot_width(plot) < frame < 0.85 * plot_width(plot)


def test_limits_that_would_lie_over_the_bias_are_in_the_table_alone():
    row = dict.fromkeys(("bias_ci_low", "bias_ci_high", "loa_low_ci_low", "loa_low_ci_high"))
    row |= {"loa_high_ci_low": None, "loa_high_ci_high": None, "sd_difference": 0.1, "bias": 0.0}
    row |= {"loa_low": -0.2, "loa_high": 0.2}
    row |= {"tissue": "femur", "definition": "volume", "unit": "mm3", "biomarker": "v", "reference_mean": 2.0}
    apart, _ = agreement_plots("a", {"s": (2.0, 2.1), "t": (2.0, 1.9)}, row)
    crowded, _ = agreement_plots("a", {"s": (2.0, 12.0), "t": (2.0, 1.9)}, row)
    assert "limit" in texts_of(apart)
    assert "limit" not in texts_of(crowded)
    assert "bias" in texts_of(crowded)


def test_numbers_of_parallel_axes_are_not_printed_over_each_other():
    ticks = [place for _, place in _places([0, 0.01, 0.02, 1.0])[1]]
    assert (ticks[0], ticks[-1]) == (0.0, 1.0)
    assert all(b - a > 0.05 for a, b in pairwise(ticks))
    many = [place for _, place in _places([f"word{i}" for i in range(40)])[1]]
    assert all(b - a > 0.05 for a, b in pairwise(many))


def test_the_lines_of_settings_have_colours_of_the_readers_theme(global_row):
    plot = parallel_plot(long_comparison(global_row))
    colour = plot.spec["layer"][0]["encoding"]["color"]
    assert colour["scale"] == {"range": [{"expr": "faint"}, {"expr": "accent"}]}
    assert colour["title"] == "Dice per slice"
    assert plot.least_px > on_page(plot)["padding"]["left"] * 100


def test_drawn_numbers_are_dots_and_listed_ones_keep_four_digits(global_row):
    drawn, _ = effect_plots(main_effects(long_comparison(global_row, [3.971231e-5 * 1.7**i for i in range(7)])))
    assert drawn.spec["encoding"]["x"]["type"] == "quantitative"
    listed, _ = effect_plots(main_effects(long_comparison(global_row, [1.23456789e-3, 2.3456789e-3])))
    assert listed.columns["level"] == ["0.001235", "0.002346"]
    alike, _ = effect_plots(main_effects(long_comparison(global_row, [0.123456789, 0.12345678])))
    assert alike.columns["level"] == ["0.12345678", "0.123456789"]


def test_a_figure_has_the_same_bytes_each_time(global_row):
    plot = comparison_plot(long_comparison(global_row))
    first = plot_files(plot)
    assert all(plot_files(plot) == first for _ in range(4))


HASHED = """
import hashlib
from sam2ft.report.plots.curves import noise_plot
from sam2ft.report.plots.files import plot_files
row = {"label_name": "mean_of_labels", "measure": "dice", "mean": 0.5, "sd": 0.1, "ci_low": 0.4, "ci_high": 0.6}
row["n"] = 12
names = ("nano", "\u0394 \u7532 \u05d0")
plot = noise_plot({name: [row | {"shift_px": shift} for shift in (0, 5)] for name in names})
print({suffix: hashlib.sha256(content).hexdigest() for suffix, content in plot_files(plot).items()})
"""


def test_a_figure_has_the_same_bytes_in_every_process():
    written = [
        subprocess.run([sys.executable, "-c", HASHED], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "pdf" in written[0]
    assert written[0] == written[1]


def test_a_figure_of_several_fonts_has_the_same_bytes_each_time():
    weights = ("normal", "bold")
    words = "".join(f'<text x="9" y="{9 + 20 * i}" font-weight="{w}">{w}</text>' for i, w in enumerate(weights))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60" font-family="Liberation Sans">{words}</svg>'
    first = pdf_of(svg)
    if len(re.findall(rb"/Subtype /Type0", first)) < 2:
        pytest.skip("one font alone is installed here")
    assert all(pdf_of(svg) == first for _ in range(8))


def test_a_legend_has_no_more_columns_than_fit(global_row):
    plot = with_long_names(global_row)["learning"]
    (params,) = [{one["name"]: one["value"] for one in on_page(plot)["params"]}]
    columns = lambda room: max(1, (room - 60) // ((SIGNS_PER_LINE) * params["letter"] + 24))  # noqa: E731
    assert columns(330) == 1
    assert columns(900) >= 4
