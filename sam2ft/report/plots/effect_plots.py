"""Plots of the effects of settings: main effects and parallel coordinates."""

import math
from collections.abc import Sequence

from sam2ft.config.sweep.names import short_names
from sam2ft.core.errors import number_of
from sam2ft.report.comparison.compare import MAIN_MEASURE, Comparison, ComparisonRow, short_value, value_text
from sam2ft.report.comparison.effects import Level, MainEffect
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.plots.vega import (
    DOUBLE,
    ROOM,
    SINGLE,
    Plot,
    Spec,
    add_row,
    condition,
    empty_columns,
    in_lines,
    ink,
    layer,
    lines_of,
    quantitative,
    rounded_value,
)

MOST_LEVELS = 12
"""Maximum number of values of a setting for a mean per value; with more, each value has too few points."""
MOST_LISTED = 5
"""Maximum number of values of one point each that are taken as listed; more are on an axis of numbers."""
FEWEST_PARALLEL = 3
"""Minimum number of points for a parallel coordinates plot; for fewer, a table is enough."""
FEWEST_SPREAD = 3
"""Minimum number of points of a value for a standard deviation."""
_LEAST_APART = 0.075
"""Distance of two numbers on an axis from 0 to 1, so that they are not printed over each other."""
_BESIDE = 9
"""Distance of a mean from the dots of its points, which would hide it."""
_LOG_FROM = 50
"""Minimum ratio of the largest to the smallest value of a setting for a logarithmic axis."""


def effect_plots(effects: Sequence[MainEffect]) -> tuple[Plot, ...]:
    """One plot per setting: a grey dot per point, and the mean over the points of each value in blue."""
    short = short_names(list(dict.fromkeys(effect.key for effect in effects)))
    made = []
    for number, effect in enumerate(effects, start=1):
        plot = _drawn_plot(number, effect, short[effect.key]) if _is_drawn(effect) else None
        if plot is None and len(effect.levels) <= MOST_LEVELS:
            plot = _effect_plot(number, effect, short[effect.key])
        made.append(plot)
    return tuple(plot for plot in made if plot is not None)


def _is_drawn(effect: MainEffect) -> bool:
    """Whether the values of a setting were drawn at random rather than listed."""
    once = all(len(level.members) == 1 for level in effect.levels)
    return len(effect.levels) > (MOST_LISTED if once else MOST_LEVELS)


def _drawn_plot(number: int, effect: MainEffect, name: str) -> Plot | None:
    """A dot per point for a setting with many values (random sweeps); None where the values are not numbers."""
    try:
        values = [float(level.value) for level in effect.levels]
    except ValueError:
        return None
    columns = empty_columns("value", "point", "score")
    for value, level in zip(values, effect.levels, strict=True):
        for point, score in level.members:
            add_row(columns, rounded_value(value), point, rounded_value(score))
    wide = min(values) > 0 and max(values) / min(values) >= _LOG_FROM
    words = MEASURE_WORDS[MAIN_MEASURE]
    x = quantitative("value", name, scale={"type": "log"} if wide else ROOM, axis={"grid": False})
    dots = {"x": x, "y": quantitative("score", words, scale=ROOM), "color": {"value": ink("accent")}}
    return Plot(
        f"effect-{number}",
        f"Effect of {name}",
        f"{words} ({effect.evaluation.words}) of every point by its {name}, whatever its other settings are.",
        f"{words} against {name} of {number_of(len(columns['point']), 'point')}. "
        "The numbers are in the comparison table.",
        {"height": 120, **layer("point", dots, filled=True, opacity=0.7)},
        columns,
        SINGLE,
        (("point", "point"), ("value", name), ("score", words)),
    )


def _effect_plot(number: int, effect: MainEffect, name: str) -> Plot:
    columns = empty_columns("kind", "level", "order", "point", "score", "low", "high")
    levels = _in_order(effect.levels)
    texts = _level_texts(levels)
    for order, (level, text) in enumerate(zip(levels, texts, strict=True)):
        for point, score in level.members:
            add_row(columns, "point", text, order, point, rounded_value(score), None, None)
        spread = level.scores
        # Mean and spread of two points say nothing that the two dots do not say better.
        if spread.sd is not None and spread.n >= FEWEST_SPREAD:
            ends = (spread.mean - spread.sd, spread.mean + spread.sd)
            words = f"mean of {spread.n} points"
            add_row(columns, "mean", text, order, words, *map(rounded_value, (spread.mean, *ends)))
    averaged = "mean" in columns["kind"]
    words = MEASURE_WORDS[MAIN_MEASURE]
    x: Spec = {
        "field": "level", "type": "ordinal", "title": lines_of(name, 34), "sort": {"field": "order"},
        "axis": {
            "labelAngle": 0 if len(texts) < 6 and max(map(len, texts)) * len(texts) < 40 else -40, "grid": False,
            "labelOverlap": False, "labelExpr": in_lines(),
        },
    }  # fmt: skip
    y = quantitative("score", words, scale=ROOM)
    quiet, blue = {"value": ink("faint" if averaged else "accent")}, {"value": ink("accent")}
    span = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": blue}
    means = {"x": x, "y": y, "color": blue, "size": {"value": 55}}
    beside = [
        _of_kind("mean", layer("rule", span, xOffset=_BESIDE)),
        _of_kind("mean", layer("point", means, filled=True, opacity=1, xOffset=_BESIDE)),
    ]
    dots = _of_kind("point", layer("point", {"x": x, "y": y, "color": quiet}, filled=True, opacity=0.8))
    spec = {"height": 120, "layer": [dots, *(beside if averaged else ())]}
    return Plot(
        f"effect-{number}",
        f"Effect of {name}",
        f"{words} ({effect.evaluation.words}) of every point by its {name}, whatever its other settings "
        f"are{f'; blue: mean ± standard deviation of {FEWEST_SPREAD} points or more' if averaged else ''}.",
        f"{words} for {len(effect.levels)} values of {name}: "
        + ", ".join(f"{level.value}: {level.scores.mean:.3f}" for level in levels),
        spec,
        columns,
        SINGLE,
        (("point", "point"), ("level", name), ("score", words)),
    )


def _in_order(levels: Sequence[Level]) -> list[Level]:
    """Numbers from the smallest to the largest; words in the order of the sweep."""
    try:
        return sorted(levels, key=lambda level: float(level.value))
    except ValueError:
        return list(levels)


def _level_texts(levels: Sequence[Level]) -> list[str]:
    """The values of a setting with four significant digits, or in full where they would look alike."""
    texts = [_short_number(level.value) for level in levels]
    return texts if len(set(texts)) == len(texts) else [level.value for level in levels]


def _short_number(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def parallel_plot(comparison: Comparison) -> Plot | None:
    """Parallel coordinates: a line per evaluated point over its settings, validation value and result.

    None for fewer than FEWEST_PARALLEL points or two settings.
    """
    lines = _first_lines(comparison)
    keys = [key for key in comparison.override_keys if len({_setting(line, key) for line in lines}) > 1]
    if len(lines) < FEWEST_PARALLEL or len(keys) < 2:
        return None
    short, words, monitor = short_names(keys), MEASURE_WORDS[MAIN_MEASURE], lines[0].point.monitor
    axes: dict[str, list[object]] = {
        short[key]: [dict(line.point.overrides).get(key) for line in lines] for key in keys
    }
    axes |= {
        monitor: [line.point.validation for line in lines],
        words: [line.scores[MAIN_MEASURE].mean for line in lines],
    }
    columns = empty_columns("kind", "axis", "order", "point", "at", "text", "score", "best")
    for order, (name, values) in enumerate(axes.items()):
        places, ticks = _places(values)
        for line, value, place in zip(lines, values, places, strict=True):
            score, best = rounded_value(line.scores[MAIN_MEASURE].mean), int(line.point.run == comparison.best)
            shown = (rounded_value(place), short_value(value))
            add_row(columns, "line", name, order, line.point.name, *shown, score, best)
        for text, place in ticks:
            said = "\n".join(lines_of(text, 14))
            add_row(columns, "tick", name, order, None, rounded_value(place), said, None, 0)
    return Plot(
        "parallel",
        "Settings and result",
        f"Every evaluated point as a line through its settings, coloured by {words}; thick is the point chosen by "
        "validation. An axis is logarithmic where its values span a factor of 50 or more.",
        f"Parallel coordinates of {len(lines)} points over {number_of(len(keys), 'setting')}. "
        "The numbers are in the comparison.",
        _parallel_spec(words),
        columns,
        DOUBLE,
        (("point", "point"), ("axis", "setting"), ("text", "value"), ("score", words)),
        least_px=90 * (len(axes) + 1),
    )


def _parallel_spec(words: str) -> Spec:
    x: Spec = {
        "field": "axis", "type": "nominal", "title": None, "sort": {"field": "order"},
        "axis": {
            "grid": True, "labelAngle": 0, "domain": False, "ticks": False, "labelOverlap": False,
            "labelExpr": in_lines(14),
        },
        "scale": {"type": "point", "padding": 0.4},
    }  # fmt: skip
    y = {"field": "at", "type": "quantitative", "axis": None, "scale": {"domain": [-0.05, 1.05]}}
    legend = {"orient": "right", "gradientLength": 90}
    # From grey to blue of the reader's theme: of the usual schemes one end is invisible on white or on black.
    scale = {"range": [ink("faint"), ink("accent")]}
    colour = quantitative("score", words, scale=scale, legend=legend)
    lines = {"x": x, "y": y, "detail": {"field": "point"}, "color": colour, "size": condition("datum.best === 1", 3, 1)}
    ticks, beside = {"x": x, "y": y, "text": {"field": "text"}}, {"align": "left", "dx": 4, "lineBreak": "\n"}
    return {
        "height": 170,
        "layer": [
            _of_kind("line", layer("line", lines, opacity=0.75)),
            # Lines run through the numbers: each has a rim in the colour of what is behind.
            _of_kind("tick", layer("text", ticks, **beside, stroke=ink("card"), strokeWidth=4, strokeJoin="round")),
            _of_kind("tick", layer("text", ticks, **beside)),
        ],
    }


def _of_kind(kind: str, made: Spec) -> Spec:
    """A layer that shows only the rows of one kind."""
    return {"transform": [{"filter": f"datum.kind === '{kind}'"}], **made}


def _places(values: Sequence[object]) -> tuple[list[float | None], list[tuple[str, float]]]:
    """Positions of values on an axis from 0 to 1 (None without a value), and its ticks as (text, position)."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    known = [value for value in values if value is not None]
    if not known or len(numbers) < len(known):
        names = list(dict.fromkeys(short_value(value) for value in known))
        at = {name: (index + 0.5) / len(names) for index, name in enumerate(names)}
        return [None if value is None else at[short_value(value)] for value in values], _apart(list(at.items()))
    low, high = min(numbers), max(numbers)
    scale = math.log if low > 0 and high / low >= _LOG_FROM else float
    span = scale(high) - scale(low)

    def place(value: object) -> float | None:
        return None if value is None else (scale(float(str(value))) - scale(low)) / span if span else 0.5

    ticks = sorted(set(numbers)) if len(set(numbers)) <= 6 else [low, high]
    texts = [(short_value(tick), place(tick) or 0.0) for tick in ticks]
    return [place(value) for value in values], _apart(texts)


def _apart(ticks: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """The ticks without those that would be printed over another; the first and the last stay."""
    kept = list(ticks[:1])
    for tick in ticks[1:-1]:
        if tick[1] - kept[-1][1] >= _LEAST_APART and ticks[-1][1] - tick[1] >= _LEAST_APART:
            kept.append(tick)
    return [*kept, *ticks[1:][-1:]]


def _first_lines(comparison: Comparison) -> list[ComparisonRow]:
    """Trained points with MAIN_MEASURE, on the same dataset, split and protocol as the first of them."""
    lines = [line for line in comparison.lines if line.point.index is not None and MAIN_MEASURE in line.scores]
    return [line for line in lines if line.evaluation.how == lines[0].evaluation.how]


def _setting(line: ComparisonRow, key: str) -> str | None:
    overrides = dict(line.point.overrides)
    return value_text(overrides[key]) if key in overrides else None
