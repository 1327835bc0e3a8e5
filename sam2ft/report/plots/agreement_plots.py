"""Agreement plots of one biomarker of one tissue: Bland-Altman plot (Bland and Altman 1986) and scatter plot."""

from collections.abc import Mapping, Sequence

from sam2ft.core.errors import number_of
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import number_or_none
from sam2ft.report.comparison.number_text import decimals, signed, unit_text
from sam2ft.report.plots.vega import Cell, Plot, Spec, condition, ink, layer, names_left, quantitative, rounded_value

LINES = (("bias", "bias"), ("loa_low", "limit"), ("loa_high", "limit"))
_CROWDED = 60
_LEAST_APART = 0.09
"""Of two texts beside a plot, as a share of its height."""
_TOOLTIP = tuple((name, name) for name in ("subject", "reference", "prediction", "difference"))


def agreement_plots(name: str, subjects: Mapping[str, tuple[float, float]], row: Row) -> tuple[Plot, Plot]:
    """Bland-Altman plot and scatter plot of reference and prediction, one dot per subject.

    The Bland-Altman plot shows the difference against the mean of both values, with bias, limits of agreement and
    their 95 % intervals as bands. The scatter plot shows the prediction against the reference and the identity line.

    Args:
        name: prefix of the names of both plots.
        subjects: name of a subject -> (reference, prediction).
        row: row of biomarker_global.csv; lines for which it has no value are left out.
    """
    columns: dict[str, list[Cell]] = {
        "subject": list(subjects),
        "reference": [rounded_value(reference) for reference, _ in subjects.values()],
        "prediction": [rounded_value(prediction) for _, prediction in subjects.values()],
        "mean": [rounded_value((reference + prediction) / 2) for reference, prediction in subjects.values()],
        "difference": [rounded_value(prediction - reference) for reference, prediction in subjects.values()],
    }
    unit = unit_text(row["unit"])
    suffix = f" [{unit}]" if unit else ""
    what = f"{row['tissue']}, {row['definition']}{f' in {unit}' if unit else ''} ({row['biomarker']})"
    dots = {"filled": True, "color": ink("accent"), "opacity": 0.5 if len(subjects) > _CROWDED else 0.85}
    lines = _lines(row, columns["difference"])
    difference = Plot(
        f"{name}-difference",
        what,
        f"{what}: a dot per subject, the bias, the limits of agreement (dashed) and their 95 % intervals (bands).",
        f"Bland-Altman plot of {number_of(len(subjects), 'subject')}. Bias and limits are in the table.",
        _differences(dots, lines, suffix),
        columns,
        tells=_TOOLTIP,
        right=names_left(str(line["said"]) for line in lines),
    )
    both = Plot(
        f"{name}-scatter",
        what,
        f"{what}: prediction against reference, a dot per subject; on the line both are equal.",
        f"Scatter plot of {number_of(len(subjects), 'subject')}: prediction against reference.",
        _scatter(dots, columns, suffix),
        columns,
        tells=_TOOLTIP,
    )
    return difference, both


def _lines(row: Row, differences: Sequence[Cell]) -> list[dict[str, Cell]]:
    """Bias and limits of agreement with what is written beside them: the number of the table, if there is room."""
    digits = decimals(number_or_none(row["reference_mean"]))
    lines: list[dict[str, Cell]] = []
    for column, word in LINES:
        value, low, high = (number_or_none(row[end]) for end in (column, f"{column}_ci_low", f"{column}_ci_high"))
        if value is None or (column != "bias" and row["sd_difference"] == 0):
            continue
        # Of the number itself: rounded twice, 3126.51 would be 3127 in the table and 3126 here.
        ends = {"value": rounded_value(value), "low": rounded_value(low), "high": rounded_value(high)}
        lines.append({**ends, "line": word, "said": f"{word} {signed(value, digits)}"})
    drawn = [*differences, *(line[end] for line in lines for end in ("value", "low", "high")), 0.0]
    known = [float(one) for one in drawn if one is not None]
    for line in lines[1:]:
        if abs(float(line["value"] or 0) - float(lines[0]["value"] or 0)) < _LEAST_APART * (max(known) - min(known)):
            line["said"] = ""
    return lines


def _differences(dots: Spec, lines: Sequence[Spec], suffix: str) -> Spec:
    y = quantitative("difference", f"prediction − reference{suffix}")
    x = quantitative("mean", ["mean of prediction", f"and reference{suffix}"], scale={"zero": False})
    dash = condition("datum.line === 'limit'", [4, 3], [1, 0])
    colour = condition("datum.line === 'bias'", ink("accent"), ink())
    levels = {"data": {"values": lines}}
    zero = {"data": {"values": [{"value": 0}]}, **layer("rule", {"y": {**y, "field": "value"}}, color=ink("faint"))}
    points = layer("point", {"x": x, "y": y}, **dots)
    if not lines:
        return {"height": 145, "layer": [zero, points]}
    bands = {"y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    rules = {"y": {**y, "field": "value"}, "color": colour, "strokeDash": dash}
    texts = {"y": {**y, "field": "value"}, "text": {"field": "said"}, "color": colour}
    return {
        "height": 145,
        "layer": [
            {**levels, **layer("rect", bands, opacity=0.13)},
            zero,
            {**levels, **layer("rule", rules)},
            {**levels, **layer("text", texts, align="left", baseline="middle", dx=4, x={"expr": "width"})},
            points,
        ],
    }


def _scatter(dots: Spec, columns: Mapping[str, list[Cell]], suffix: str) -> Spec:
    values = [float(value) for name in ("reference", "prediction") for value in columns[name] if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = 0.06 * (high - low) or 0.05 * abs(low) or 1.0
    ends = [rounded_value(low - room, 4), rounded_value(high + room, 4)]
    scale = {"domain": ends, "nice": False, "zero": False}
    y = quantitative("prediction", f"prediction{suffix}", scale=scale)
    x = quantitative("reference", f"reference{suffix}", scale=scale)
    diagonal = {"x": {**x, "field": "a"}, "y": {**y, "field": "a"}, "x2": {"field": "b"}, "y2": {"field": "b"}}
    equal = {"data": {"values": [{"a": ends[0], "b": ends[1]}]}, **layer("rule", diagonal, color=ink("faint"))}
    return {"height": 145, "layer": [equal, layer("point", {"x": x, "y": y}, **dots)]}
