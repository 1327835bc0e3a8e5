"""Plots of single subjects and slices: paired lines from the baseline to the chosen point, Dice against object size."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from sam2ft.core.errors import number_of
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import number_or_none
from sam2ft.report.comparison.number_text import MEASURE_WORDS
from sam2ft.report.page.content import SubjectScores
from sam2ft.report.plots.vega import (
    DOUBLE,
    ROOM,
    Control,
    Plot,
    Spec,
    add_row,
    condition,
    empty_columns,
    ink,
    layer,
    quantitative,
    rounded_value,
)

SIDES = (("baseline", "initial weights"), ("best", "chosen point"))
MOST_DOTS = 4_000
"""Maximum number of slices in the plot of sizes; of more, every second, third, ... of each label is shown."""
FEWEST_IN_BIN = 10
"""Minimum number of slices of a label for a median, in each of its bins of size."""
MOST_BINS = 8


def paired_plot(values: Sequence[SubjectScores]) -> Plot | None:
    """A line per subject from its value with the initial weights to that with the chosen point.

    Only subjects with both values are drawn. None where nothing was evaluated with both.
    """
    of = {(one.label, one.label_name, one.measure, one.role): one.values for one in values}
    columns = empty_columns("label", "id", "measure", "subject", "side", "order", "value", "change", "worse")
    for (label, name, measure, role), chosen in of.items():
        before = of.get((label, name, measure, "baseline"), {})
        if role != "best":
            continue
        for subject in sorted(chosen.keys() & before.keys(), key=str):
            change = chosen[subject] - before[subject]
            is_worse = (change > 0) if measure.endswith("_mm") else (change < 0)
            for order, value in enumerate((before[subject], chosen[subject])):
                numbers = (order, rounded_value(value), rounded_value(change), int(is_worse))
                add_row(columns, name, label, measure, subject, SIDES[order][1], *numbers)
    if not columns["value"]:
        return None
    labels, measures = (list(dict.fromkeys(map(str, columns[name]))) for name in ("label", "measure"))
    measures.sort(key=lambda name: (list(MEASURE_WORDS).index(name) if name in MEASURE_WORDS else 99, name))
    x = {"field": "side", "type": "ordinal", "title": None, "sort": {"field": "order"}, "axis": {"labelAngle": 0}}
    y = quantitative("value", "value of a subject", scale=ROOM)
    worse = "datum.worse === 1"
    encoding = {
        "x": {**x, "scale": {"padding": 0.3}}, "y": y, "detail": {"field": "subject"},
        "color": condition(worse, ink(), ink("accent")),
    }  # fmt: skip
    dash = {"strokeDash": condition(worse, [4, 2], [1, 0])}
    return Plot(
        "paired",
        "Every subject, before and after",
        "A line per subject from the initial weights to the chosen point; dashed, colourless where it became worse.",
        f"Paired lines of {number_of(len(set(columns['subject'])), 'subject')}. The values are in volume.csv.",
        {
            "height": 150,
            "transform": [{"filter": "datum.measure === measure && datum.label === label"}],
            "layer": [
                layer("line", {**encoding, **dash}, opacity=0.7),
                layer("point", encoding, filled=True, opacity=0.9, size=16),
            ],
        },
        columns,
        DOUBLE,
        (("subject", "subject"), ("value", "value"), ("change", "chosen − baseline")),
        (
            Control("measure", "Measure", tuple((name, MEASURE_WORDS.get(name, name)) for name in measures)),
            Control("label", "Label", tuple((name, name) for name in labels)),
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class SizedSlice:
    """Dice of one label on one slice, and how large its reference is there."""

    label: str
    subject: str
    where: str
    size: float
    """Area of the reference in mm², or in pixels where the spacing is not known; above 0."""
    dice: float


def sized_slices(rows: Sequence[Row]) -> tuple[list[SizedSlice], str]:
    """(the slices of slice.csv whose reference holds the label, unit of their sizes)."""
    holds = (row for row in rows if int(row["tp"] or 0) + int(row["fn"] or 0) > 0 and row["dice"] is not None)
    present = sorted(holds, key=lambda row: int(row["label"] or 0))
    known = all(number_or_none(row["area_reference_mm2"]) for row in present)
    found = []
    for row in present:
        pixels = int(row["tp"] or 0) + int(row["fn"] or 0)
        size = float(row["area_reference_mm2"] or 0) if known else float(pixels)
        where = f"{row['volume']} slice {row['slice']}"
        found.append(SizedSlice(str(row["label_name"]), str(row["subject"]), where, size, float(row["dice"] or 0)))
    return found, "mm²" if known else "pixels"


def size_plot(slices: Sequence[SizedSlice], unit: str, point: str) -> Plot | None:
    """Dice of single slices against the area of the reference, with the median of slices of similar size."""
    if not slices:
        return None
    columns = empty_columns("kind", "label", "subject", "where", "size", "to", "value")
    labels = list(dict.fromkeys(one.label for one in slices))
    stride = math.ceil(len(slices) / MOST_DOTS)
    for label in labels:
        own = sorted((one for one in slices if one.label == label), key=lambda one: (one.size, one.subject, one.where))
        # What failed is always shown.
        for one in (one for number, one in enumerate(own) if number % stride == 0 or one.dice == 0):
            numbers = (rounded_value(one.size), None, rounded_value(one.dice))
            add_row(columns, "slice", label, one.subject, one.where, *numbers)
        for part in _bins(own):
            middle = statistics.median(one.dice for one in part)
            ends = rounded_value(part[0].size), rounded_value(part[-1].size)
            add_row(columns, "median", label, None, f"median of {len(part)} slices", *ends, rounded_value(middle))
    thinned = f" One slice in {stride} is shown, and every one with Dice 0." if stride > 1 else ""
    return Plot(
        "sizes",
        "Dice against the size of the object",
        f"{point}: a dot per slice whose reference holds the label; crosses: Dice 0; bars: median of slices of similar "
        f"size.{thinned} A small object has a low Dice for few wrong pixels.",
        f"Dice against the area of {len(slices)} labels of slices. The numbers are in slice.csv.",
        _size_spec(unit),
        columns,
        DOUBLE,
        (("subject", "subject"), ("where", "slice"), ("size", f"area [{unit}]"), ("value", "Dice")),
        (Control("label", "Label", tuple((name, name) for name in labels)),),
    )


def _size_spec(unit: str) -> Spec:
    x = quantitative("size", f"area of the reference in the slice [{unit}]", scale={"type": "log", "nice": False})
    y = quantitative("value", "Dice of the slice", scale={"domain": [0, 1], "nice": False, "padding": 7})
    span, failed = {"x": x, "x2": {"field": "to"}, "y": y}, "datum.value === 0"
    return {
        "height": 150,
        "transform": [{"filter": "datum.label === label"}],
        "layer": [
            {
                "transform": [{"filter": "datum.kind === 'slice'"}],
                **layer(
                    "point",
                    {
                        "x": x,
                        "y": y,
                        "color": condition(failed, ink(), ink("accent")),
                        "shape": condition(failed, "cross", "circle"),
                        "size": condition(failed, 40, 14),
                        "opacity": condition(failed, 1, 0.45),
                    },
                    filled=True,
                ),
            },
            {
                "transform": [{"filter": "datum.kind === 'median'"}],
                **layer("rule", span, strokeWidth=2.4),
            },
        ],
    }


def _bins(slices: Sequence[SizedSlice]) -> list[Sequence[SizedSlice]]:
    """Slices in the order of their size in parts of equal number; none where there are too few."""
    number = min(MOST_BINS, len(slices) // FEWEST_IN_BIN)
    ends = [round(len(slices) * part / number) for part in range(number + 1)] if number else []
    return [slices[start:end] for start, end in pairwise(ends)]
