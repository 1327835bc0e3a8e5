"""The section on tests, ranks and settings: what its plots are made of."""

import pytest

from sam2ft.report.comparison.compare import PointRun, compare
from sam2ft.report.comparison.effects import SUBJECTS, main_effects
from sam2ft.report.page.content import statistics_section
from sam2ft.report.plots.curves import noise_plot
from sam2ft.report.plots.effect_plots import _places, effect_plots, parallel_plot
from sam2ft.report.plots.files import TEMPLATES, plot_files
from sam2ft.report.plots.page_plots import PLOTS, PlotInput, page_plots
from sam2ft.report.plots.rank_plots import rank_plot


@pytest.fixture
def comparison(global_row):
    settings = [(1e-3, True, 0.7), (1e-3, False, 0.8), (1e-5, True, 0.9), (1e-5, False, 0.6)]
    points = [PointRun(None, "baseline", "base")]
    rows = [global_row("base", 0.5)]
    for index, (lr, part, mean) in enumerate(settings):
        overrides = (("module.optimizer.lr", lr), ("module.trainable.image_encoder", part))
        points.append(PointRun(index, f"p{index}", f"run-{index}", overrides, validation=0.1 * index + 0.1))
        rows.append(global_row(f"run-{index}", mean))
    return compare(points, rows)


def test_an_effect_of_two_points_per_value_is_its_dots(comparison):
    by_lr, _ = effect_plots(main_effects(comparison))
    assert sorted((row["kind"], row["point"]) for row in by_lr.rows()) == [("point", f"p{i}") for i in range(4)]
    assert "mean ±" not in by_lr.caption


def test_an_effect_has_a_dot_per_point_and_a_mean_per_value_with_three(global_row):
    values = [(0.1, 0.5), (0.1, 0.6), (0.1, 0.7), (0.2, 0.9), (0.2, 0.8)]
    points = [PointRun(i, f"p{i}", f"r{i}", (("lr", lr),), validation=0.1) for i, (lr, _) in enumerate(values)]
    rows = [global_row(f"r{i}", mean) for i, (_, mean) in enumerate(values)]
    (plot,) = effect_plots(main_effects(compare(points, rows)))
    (mean,) = [row for row in plot.rows() if row["kind"] == "mean"]
    assert (mean["level"], mean["score"]) == ("0.1", pytest.approx(0.6))
    assert (mean["low"], mean["high"]) == (pytest.approx(0.5), pytest.approx(0.7))
    assert sum(row["kind"] == "point" for row in plot.rows()) == 5
    assert plot_files(plot)["svg"]


@pytest.mark.parametrize(
    ("swept", "shown"),
    [((3e-4, 1e-3, 1e-5), ["1e-05", "0.0003", "0.001"]), ((16, 2, 8), ["2", "8", "16"]), (("b", "a"), ["b", "a"])],
)
def test_numbers_are_in_their_order_and_words_in_that_of_the_sweep(swept, shown, global_row):
    points = [PointRun(i, f"p{i}", f"r{i}", (("lr", value),), validation=0.1) for i, value in enumerate(swept)]
    (plot,) = effect_plots(main_effects(compare(points, [global_row(f"r{i}", 0.5) for i in range(len(swept))])))
    assert plot.columns["level"] == shown
    assert plot.columns["order"] == sorted(plot.columns["order"])


def test_a_setting_drawn_at_random_has_dots_on_an_axis_of_numbers_and_words_have_none(global_row):
    def plots(*values):
        points = [PointRun(i, f"p{i}", f"r{i}", (("lr", value),), validation=0.1) for i, value in enumerate(values)]
        rows = [global_row(f"r{i}", 0.5 + i / 100) for i in range(len(values))]
        return effect_plots(main_effects(compare(points, rows)))

    (plot,) = plots(*(10.0 ** (-i / 4) for i in range(13)))
    assert plot.spec["encoding"]["x"]["scale"] == {"type": "log"}
    assert len(plot.rows()) == 13
    assert plot_files(plot)["svg"]
    assert plots(*(f"word{i}" for i in range(13))) == ()


def test_parallel_lines_pass_every_axis_at_its_value(comparison):
    plot = parallel_plot(comparison)
    lines = [row for row in plot.rows() if row["kind"] == "line"]
    axes = list(dict.fromkeys(row["axis"] for row in lines))
    assert axes == ["lr", "image_encoder", "val_loss", "Dice per slice"]
    best = {row["axis"]: row for row in lines if row["best"]}
    assert (best["lr"]["at"], best["lr"]["text"], best["val_loss"]["at"]) == (1.0, "0.001", 0.0)
    assert {row["point"] for row in lines if row["best"]} == {"p0"}


def test_a_wide_setting_is_logarithmic_and_words_are_spread(comparison):
    places, ticks = _places([1e-5, 1e-4, 1e-3])
    assert places == pytest.approx([0, 0.5, 1])
    assert [text for text, _ in ticks] == ["1e-05", "0.0001", "0.001"]
    assert _places([1, 2, 3])[0] == pytest.approx([0, 0.5, 1])
    assert _places(["SGD", "AdamW", None])[0] == [0.25, 0.75, None]
    assert _places([True, False])[0] == [0.25, 0.75]
    assert _places([5, 5])[0] == [0.5, 0.5]


def test_a_sweep_of_one_setting_has_no_parallel_coordinates(global_row):
    points = [PointRun(i, f"p{i}", f"r{i}", (("lr", i),), validation=0.1) for i in range(4)]
    assert parallel_plot(compare(points, [global_row(f"r{i}", 0.5) for i in range(4)])) is None


def rank_row(name, rank, **changes):
    row = {"run": name, "name": name, "dataset": "d", "split": "test", "protocol": "box", "measure": "dice_slice_mean"}
    return row | {"n": 8, "rank": rank, "rank_low": rank, "rank_high": rank + 1, "first_share": 0.1} | changes


def test_ranks_are_in_their_order_and_the_best_by_validation_is_marked():
    plot = rank_plot([rank_row("b", 2.0), rank_row("a", 1.0), rank_row("c", 3.0, protocol="point")], "b")
    assert [(row["point"], row["best"]) for row in plot.rows()] == [("a", 0), ("b", 1)]
    without = [rank_row(name, 1.0) | {"rank": None} for name in "ab"]
    assert rank_plot(without, "a") is None


def test_prompt_noise_has_a_line_per_point_of_the_mean_of_labels():
    def row(shift, label, mean):
        key = {"shift_px": shift, "label_name": label, "measure": "dice"}
        return {**key, "n": 12, "mean": mean, "sd": 0.1, "ci_low": None, "ci_high": 0.9}

    rows = [row(0, "mean_of_labels", 0.8), row(5, "mean_of_labels", 0.7), row(5, "femur", 0.1)]
    plot = noise_plot({"best": rows, "baseline": []})
    assert [(one["point"], one["shift"], one["score"]) for one in plot.rows()] == [("best", 0, 0.8), ("best", 5, 0.7)]
    assert noise_plot({"best": []}) is None


def test_every_plot_of_the_section_can_be_drawn(comparison, global_row):
    tests = [rank_row(f"p{index}", float(index + 1)) for index in range(3)]
    noise = {
        "p0": [
            {
                "shift_px": s,
                "label_name": "mean_of_labels",
                "measure": "dice",
                "n": 12,
                "mean": 0.8,
                "sd": 0.1,
                "ci_low": 0.7,
                "ci_high": 0.9,
            }
            for s in (0, 5)
        ]
    }
    sizes = [PointRun(i, f"s{i}", f"s{i}", ((SUBJECTS, 5 * i + 5),), validation=0.1) for i in range(2)]
    curves = compare(sizes, [global_row("s0", 0.5), global_row("s1", 0.6)])
    given = PlotInput(comparison, tests, noise=noise), PlotInput(curves)
    plots = [plot for one in given for plots in page_plots(one).values() for plot in plots]
    assert {plot.name for plot in plots} >= {"ranks", "parallel", "subjects", "prompt-noise", "effect-1", "effect-2"}
    for plot in plots:
        files = plot_files(plot)
        assert b"<svg" in files["svg"]
        assert b"NaN" not in files["svg"]


def test_nothing_compared_is_no_section(global_row):
    alone = compare([PointRun(0, "p", "r")], [global_row("r", 0.5)])
    assert not statistics_section(alone, [])
    assert page_plots(PlotInput(alone)) == {}


def test_every_plot_has_a_section_of_the_page_and_a_name_of_its_own(comparison):
    sections = {path.name.partition(".")[0] for path in (TEMPLATES / "sections").glob("*.html.j2")}
    assert {section for section, _ in PLOTS} <= sections | {"effects", "pairs"}
    made = [plot.name for plots in page_plots(PlotInput(comparison)).values() for plot in plots]
    assert len(set(made)) == len(made) > 2
