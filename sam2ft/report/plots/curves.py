"""Learning curves (result against number of training subjects) and robustness to box jitter (prompt noise) as plots."""

from collections.abc import Mapping, Sequence

from sam2ft.core.errors import number_of
from sam2ft.core.tables.rows import MEAN_OF_LABELS, Row
from sam2ft.pictures.palette import LINES
from sam2ft.report.comparison.compare import MAIN_MEASURE, score_of
from sam2ft.report.comparison.effects import LearningCurve
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.plots.vega import (
    DOUBLE,
    SIGNS_PER_LINE,
    Cell,
    Plot,
    Spec,
    add_row,
    empty_columns,
    in_lines,
    layer,
    legend_columns,
    quantitative,
    rounded_value,
)


def curve_plot(curves: Sequence[LearningCurve]) -> Plot | None:
    """Result against the number of training subjects, one line per combination of the other settings."""
    if not curves:
        return None
    columns = empty_columns("curve", "subjects", "score", "low", "high")
    for curve in curves:
        name = " · ".join(part for part in (curve.name, curve.evaluation.dataset, curve.evaluation.protocol) if part)
        for point in curve.points:
            add_row(columns, name, point.num_subjects, *map(rounded_value, (point.score.mean, point.low, point.high)))
    words = MEASURE_WORDS[MAIN_MEASURE]
    title = f"{words}, {curves[0].evaluation.split} split"
    return Plot(
        "subjects",
        "More training data",
        f"{words} against the number of training subjects (nested subsets); bands: 95 % intervals over test subjects.",
        f"{number_of(len(set(columns['curve'])), 'learning curve')}. The numbers are in the comparison table.",
        _bands("curve", ("subjects", "training subjects"), title, columns["subjects"]),
        columns,
        DOUBLE,
        (("curve", "settings"), ("subjects", "subjects"), ("score", words), ("low", "95 % from"), ("high", "to")),
    )


def noise_plot(studies: Mapping[str, Sequence[Row]]) -> Plot | None:
    """Dice per volume against the jitter of the boxes; `studies`: point name -> rows of prompt_noise_global.csv."""
    columns = empty_columns("point", "shift", "score", "low", "high")
    for point, rows in studies.items():
        for row in rows:
            if row["label_name"] == MEAN_OF_LABELS and row["measure"] == "dice":
                score = score_of(row)
                numbers = (None,) * 3 if score is None else (score.mean, *(score.shown or (None, None)))
                add_row(columns, point, int(row["shift_px"] or 0), *map(rounded_value, numbers))
    if not columns["point"]:
        return None
    return Plot(
        "prompt-noise",
        "Boxes that are not exact",
        "Dice per volume, mean of labels, with boxes whose sides are moved at random; bands: 95 % intervals.",
        f"Dice against box jitter of {number_of(len(studies), 'point')}. "
        "The numbers are in prompt_noise_global.csv of the runs.",
        _bands("point", ("shift", "sides of boxes moved by up to [px]"), "Dice per volume", columns["shift"]),
        columns,
        DOUBLE,
        (("point", "point"), ("shift", "jitter"), ("score", "Dice"), ("low", "95 % from"), ("high", "to")),
    )


def _bands(line: str, at: tuple[str, str], title: str, numbers: Sequence[Cell]) -> Spec:
    """A line with a band for each value of field `line`; `at` is (field, title) of the x axis, `numbers` its values."""
    ticks = {"grid": False, "values": sorted({int(number) for number in numbers if number is not None})}
    x = quantitative(*at, scale={"zero": False, "nice": False}, axis=ticks)
    y = quantitative("score", title, scale={"zero": False})
    legend = {"title": None, "labelExpr": in_lines(), "columns": legend_columns(["a" * SIGNS_PER_LINE])}
    colour = {"field": line, "type": "nominal", "legend": legend, "scale": {"range": list(LINES)}}
    band = {"x": x, "y": {**y, "field": "low"}, "y2": {"field": "high"}, "color": colour}
    return {
        "height": 140,
        "layer": [
            layer("area", band, opacity=0.15),
            layer("line", {"x": x, "y": y, "color": colour}, point={"size": 22, "filled": True}),
        ],
    }
