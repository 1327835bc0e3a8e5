"""Plots of results: validation against test, results per label, distributions over subjects, and training curves."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sam2ft.core.errors import number_of
from sam2ft.report.comparison.compare import MAIN_MEASURE, Comparison, ComparisonRow
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.page.content import LabelScores, OfLabel, SubjectScores
from sam2ft.report.plots.vega import (
    DOUBLE,
    MOST_PICKED,
    OTHERS,
    ROOM,
    SIGNS_PER_LINE,
    Cell,
    Control,
    Plot,
    Spec,
    add_row,
    condition,
    empty_columns,
    in_lines,
    ink,
    layer,
    legend_columns,
    names_axis,
    names_height,
    names_left,
    quantitative,
    ranks_scale,
    rounded_value,
    whole_ticks,
)

History = Sequence[Mapping[str, float]]
"""Rows of history.csv: `epoch` (0-based), `train_loss`, `val_loss`, `val_dice`, ..."""

MOST_EPOCH_ROWS = 30_000
"""Maximum number of epochs of all runs; for more, the page shows only every second, third, ... epoch."""
_NOT_MEASURES = ("epoch", "step", "improved", "seconds")
_ROLES = {"best": ink("accent"), "baseline": ink(), "other": ink("faint")}


def comparison_plot(comparison: Comparison) -> Plot | None:
    """Score on the evaluated split, with 95 % interval, against the validation value of every point.

    Returns None for fewer than two points. With several evaluations, a control selects one.
    """
    lines = [line for line in comparison.lines if MAIN_MEASURE in line.scores and line.point.validation is not None]
    if len({line.point.run for line in lines}) < 2:
        return None
    columns = empty_columns("point", "run", "role", "evaluation", "x", "y", "low", "high")
    for line in sorted(lines, key=lambda line: line.point.run == comparison.best):
        score = line.scores[MAIN_MEASURE]
        role = "best" if line.point.run == comparison.best else "other"
        ends = score.shown or (None, None)
        values = (rounded_value(v) for v in (line.point.validation, score.mean, *ends))
        add_row(columns, line.point.name, line.point.run, role, evaluated_on(line), *values)
    evaluations = tuple(dict.fromkeys(str(name) for name in columns["evaluation"]))
    words, monitor, split = MEASURE_WORDS[MAIN_MEASURE], lines[0].point.monitor, lines[0].evaluation.split
    y = quantitative("y", f"{words}, {split} split", scale=ROOM)
    x = quantitative("x", monitor.replace("val_", "validation "), scale=ROOM)
    colour = {**_role_colour(columns["role"]), "legend": None}
    spans = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    dots = {"x": x, "y": y, "color": colour, "size": condition("datum.role === 'best'", 60, 26)}
    spec = {
        "height": 150,
        "transform": [{"filter": "datum.evaluation === evaluation"}],
        "layer": [
            layer("rule", spans, opacity=0.45),
            layer("point", dots, filled=True, opacity=1, cursor="pointer"),
        ],
    }
    return Plot(
        "comparison",
        "Validation and test",
        f"Every point: {words} on the {split} split (95 % interval over subjects) against the {monitor} that it "
        "was judged by. The point chosen by validation is blue.",
        f"Scatter plot of {len(lines)} points: {words} against {monitor}. The numbers are in the comparison table.",
        spec,
        columns,
        DOUBLE,
        (("point", "point"), ("x", monitor), ("y", words), ("low", "95 % from"), ("high", "to")),
        (Control("evaluation", "Evaluated on", tuple((name, name) for name in evaluations)),),
    )


def evaluated_on(line: ComparisonRow) -> str:
    """Dataset, split and protocol of a line as text."""
    return " · ".join(line.evaluation.how)


def label_plot(scores: Sequence[LabelScores]) -> Plot | None:
    """One row per label: a dot per point; the best point and the baseline also have 95 % intervals."""
    if not scores:
        return None
    ordered = sorted(scores, key=lambda one: ("other", "baseline", "best").index(one.role))
    labels = _label_texts(ordered)
    columns: dict[str, list[Cell]] = {
        "label": [_label_text(one) for one in ordered],
        **{field: [getattr(one, field) for one in ordered] for field in ("point", "run", "role", "measure")},
        "mean": [rounded_value(one.score.mean) for one in ordered],
        "low": [_end(one, 0) for one in ordered],
        "high": [_end(one, 1) for one in ordered],
        "n": [one.score.n for one in ordered],
    }
    y = {"field": "label", "type": "nominal", "sort": labels, "title": None, "axis": names_axis(grid=True)}
    offset = {"field": "role", "type": "nominal", "sort": ["best", "other", "baseline"], "scale": {"paddingOuter": 0.6}}
    x = quantitative("mean", "mean over subjects", scale=ROOM)
    colour = _role_colour(columns["role"])
    encoding = {"y": y, "yOffset": offset, "color": colour}
    other = "datum.role === 'other'"
    dots = {"x": x, "size": condition(other, 16, 42), "opacity": condition(other, 0.6, 1)}
    spans = {**encoding, "x": {**x, "field": "low"}, "x2": {"field": "high"}}
    spec = {
        "height": names_height(labels, 33) * len(labels),
        "transform": [{"filter": "datum.measure === measure"}],
        "layer": [
            layer("rule", spans, strokeWidth=1.6, strokeCap="round"),
            layer("point", {**encoding, **dots}, filled=True),
        ],
    }
    return Plot(
        "labels",
        "Results per label",
        "Every label: the chosen point and the baseline (the initial weights) with their 95 % intervals over subjects; "
        "other points are grey.",
        f"Dot plot of {number_of(len(labels), 'label')}. "
        "The numbers of the chosen point and the baseline are in the table below.",
        spec,
        columns,
        DOUBLE,
        (("point", "point"), ("label", "label"), ("mean", "mean"), ("low", "95 % from"), ("high", "to"), ("n", "n")),
        (_measures([one.measure for one in ordered]),),
        left=names_left(labels),
    )


def _end(one: LabelScores, end: int) -> float | None:
    """An end of the interval of the best point and the baseline; other points are drawn without."""
    ends = one.score.shown if one.role != "other" else None
    return None if ends is None else rounded_value(ends[end])


def _role_colour(roles: Sequence[Cell]) -> Spec:
    """A colour channel for column `role`; its legend has only the roles that occur."""
    found = [role for role in _ROLES if role in roles]
    scale = {"domain": found, "range": [_ROLES[role] for role in found]}
    legend = {"labelExpr": _ROLE_WORDS, "columns": legend_columns(["other points"])}
    return {"field": "role", "type": "nominal", "scale": scale, "title": None, "legend": legend}


_ROLE_WORDS = "datum.label === 'best' ? 'chosen point' : datum.label === 'other' ? 'other points' : datum.label"


def distribution_plot(values: Sequence[SubjectScores]) -> Plot | None:
    """A dot per subject, label and model (best point, baseline), with median and quartiles over the subjects."""
    columns = empty_columns("label", "id", "point", "run", "role", "measure", "subject", "value")
    for one in values:
        what = (_label_text(one), one.label, one.point, one.run, one.role, one.measure)
        for subject, value in one.values.items():
            add_row(columns, *what, subject, rounded_value(value))
    if not columns["value"]:
        return None
    labels = _label_texts(values)
    y = {"field": "label", "type": "nominal", "sort": labels, "title": None, "axis": names_axis()}
    offset = {"field": "role", "type": "nominal", "sort": ["best", "baseline"], "scale": {"paddingOuter": 0.5}}
    colour = _role_colour(columns["role"])
    x = quantitative("value", "one dot per subject", scale=ROOM)
    encoding = {"y": y, "yOffset": offset, "color": colour}
    quartiles = [{"op": op, "field": "value", "as": op} for op in ("q1", "median", "q3")]
    summed = {"transform": [{"aggregate": quartiles, "groupby": ["label", "role"]}]}
    box = {**encoding, "x": {**x, "field": "q1"}, "x2": {"field": "q3"}}
    spec = {
        "height": names_height(labels, 30) * len(labels),
        "transform": [{"filter": "datum.measure === measure"}],
        "layer": [
            {**summed, **layer("bar", box, size=8, opacity=0.22)},
            layer("point", {**encoding, "x": x}, filled=True, opacity=0.7, size=14),
            {**summed, **layer("tick", {**encoding, "x": {**x, "field": "median"}}, thickness=1.8, size=10)},
        ],
    }
    return Plot(
        "distributions",
        "Distributions over subjects",
        "Every subject is a dot (its volumes averaged first); the bar spans the quartiles, the tick is the median.",
        f"Strip plot of {number_of(len(labels), 'label')}, one dot per subject. "
        "Medians and quartiles are in global.csv.",
        spec,
        columns,
        DOUBLE,
        (("subject", "subject"), ("value", "value"), ("median", "median"), ("point", "point"), ("label", "label")),
        (_measures([one.measure for one in values]),),
        left=names_left(labels),
    )


def learning_plot(histories: Mapping[str, History], best: str | None = None) -> Plot | None:
    """Training curves: a line per point over epochs. A control selects the value; `best` is highlighted first."""
    names = list(dict.fromkeys(name for rows in histories.values() for row in rows for name in row))
    measures = [name for name in names if name not in _NOT_MEASURES]
    measures.sort(key=lambda name: (not name.startswith("val_loss"), not name.startswith("val"), name))
    if not measures:
        return None
    stride = math.ceil(sum(map(len, histories.values())) / MOST_EPOCH_ROWS)
    columns = empty_columns("point", "epoch", *measures)
    for point, history in histories.items():
        for row in (row for number, row in enumerate(history) if number % stride == 0 or number == len(history) - 1):
            add_row(columns, point, int(row["epoch"]) + 1, *(rounded_value(row.get(name)) for name in measures))
    points = tuple(histories)
    first = [best] if best in points else []
    picked = (*first, *(point for point in points if point != best)) if len(points) <= MOST_PICKED else first
    thinned = f" One epoch in {stride} is shown." if stride > 1 else ""
    longest = max(len(rows) for rows in histories.values())
    return Plot(
        "learning",
        "Training curves",
        f"The value after every epoch, counted from 1 (history.csv counts from 0).{thinned} A run's last epoch is "
        "where it ended, not its best.",
        f"Line plot of {number_of(len(points), 'run')} of up to {number_of(longest, 'epoch')}. "
        "The numbers are in every run's history.csv.",
        _learning_spec(longest),
        columns,
        DOUBLE,
        (("point", "point"), ("epoch", "epoch"), ("value", "value")),
        (Control("measure", "Value", tuple((name, name.replace("_", " ")) for name in measures)),),
        points,
        tuple(picked),
    )  # fmt: skip


def _learning_spec(longest: int) -> Spec:
    axis = {"values": whole_ticks(longest), "grid": False, "format": "d"}
    x = quantitative("epoch", "epoch", axis=axis, scale={"nice": False, "zero": False})
    y = quantitative("value", None, scale={"zero": False})
    words = in_lines().replace("datum.label", "picked[datum.value]")
    legend = {"title": None, "labelExpr": words, "values": {"expr": "sequence(length(picked))"}}
    legend["columns"] = legend_columns(["a" * SIGNS_PER_LINE])
    colour: Spec = {"field": "rank", "type": "ordinal", "scale": ranks_scale(), "legend": legend}
    encoding = {"x": x, "y": y, "detail": {"field": "point"}}
    dots: Any = {"size": 22, "filled": True} if longest <= 30 else False
    quiet: Any = {"size": 8} if longest == 1 else False
    # Both layers hold all lines, so that no layer is empty: Vega warns about the missing extent of an empty layer.
    picked = {**encoding, "color": colour, "opacity": condition(f"datum.rank > {OTHERS}", 1, 0)}
    return {
        "height": 165,
        "transform": [
            {"calculate": "datum[measure]", "as": "value"},
            {"calculate": "indexof(picked, datum.point)", "as": "rank"},
            {"filter": "isValid(datum.value)"},
        ],
        "layer": [
            layer("line", encoding, opacity=0.55, strokeWidth=0.8, point=quiet, color=ink("faint")),
            layer("line", picked, strokeWidth=1.6, point=dots),
        ],
    }


def _measures(found: Sequence[str]) -> Control:
    # What repeats another measure comes last.
    known = sorted((name for name in MEASURE_WORDS if name in found), key=lambda name: name.startswith("iou"))
    return Control("measure", "Measure", tuple((name, MEASURE_WORDS[name]) for name in known))


def _label_text(one: OfLabel) -> str:
    return f"{one.label}  {one.label_name}"


def _label_texts(found: Iterable[OfLabel]) -> list[str]:
    return list(dict.fromkeys(_label_text(one) for one in sorted(found, key=lambda one: one.label)))
