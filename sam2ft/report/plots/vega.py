"""Vega-Lite specification of a plot, which the page draws and which is converted to files in print size.

Colours are names (`ink()`) whose values come from a theme: the page has a light and a dark theme, files use the colours
for paper. Names from a data set are only used as data or titles, never as field names or expressions.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.pictures.palette import LINES

Spec = dict[str, Any]
Cell = str | int | float | None

POINTS_PER_MM = 72 / 25.4
# Widths of one and of two journal columns, in mm.
SINGLE, DOUBLE = 85.0, 170.0
FONT_SIZE = 7.5
"""Of all letters in files, in points."""
FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"
PAPER = {
    "ink": "#1f2328",
    "soft": "#59636e",
    "faint": "#a3abb3",
    "line": "#dcdfe3",
    "accent": "#0b61a4",
    "card": "#ffffff",
}
# The page draws plots larger than on paper; sizes in a specification are points on paper.
PAGE_SCALE = 1.3
ROOM = {"zero": False, "padding": 6}
"""A scale with padding, so that the outermost dots are not cut."""
OTHERS = -1
"""Rank of points without a colour of their own."""


@dataclass(frozen=True)
class Control:
    """A selection control beside a plot: a parameter of its specification and its possible values."""

    parameter: str
    label: str
    options: tuple[tuple[str, str], ...]
    """(value, displayed name)."""


@dataclass(frozen=True)
class Plot:
    """One figure, shown in the page and written to `figures/<name>.{svg,pdf,png}`."""

    name: str
    """Name of its files: letters, digits and hyphens, never a name from a data set."""
    title: str
    caption: str
    alt: str
    spec: Spec
    """Vega-Lite without width, theme and data; its data set is called `rows`, its height is in points."""
    columns: Mapping[str, Sequence[Cell]]
    """The data set as columns of equal length; NaN is stored as None."""
    width_mm: float = SINGLE
    tells: tuple[tuple[str, str], ...] = ()
    """(column, displayed name) of the values in the tooltip of a mark."""
    controls: tuple[Control, ...] = ()
    picks: tuple[str, ...] = ()
    """Values of column `point` that a reader can highlight by colour; empty for a plot without this choice."""
    picked: tuple[str, ...] = ()
    """The values that are highlighted when the page opens."""
    least_px: int = 0
    """On a page narrower than this the plot scrolls sideways: its numbers would be printed over each other."""
    right: float = 0
    """Room to the right of texts beside its frame, in points, as `left`."""
    left: float = 0
    """The same to the left of its names, in its files: letters that are wider than Arial must not be cut."""

    def rows(self) -> list[dict[str, Cell]]:
        """The data set as a list of rows, the form that Vega reads."""
        return [dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)]

    def digest(self) -> str:
        """SHA-256 of the print specification; it changes whenever a file of the plot would change."""
        return hashlib.sha256(json_text(on_paper(self)).encode()).hexdigest()


def empty_columns(*names: str) -> dict[str, list[Cell]]:
    """An empty data set with the columns `names`, for `add_row`."""
    return {name: [] for name in names}


def add_row(columns: Mapping[str, list[Cell]], *cells: Cell) -> None:
    """Append one row to a data set that is stored by columns."""
    for column, cell in zip(columns.values(), cells, strict=True):
        column.append(cell)


def ink(name: str = "ink") -> Spec:
    """A theme colour for a property of a mark; `name` is ink, soft, faint, line, accent, or card (what is behind)."""
    return {"expr": name}


def layer(kind: str, encoding: Spec, **mark: Any) -> Spec:
    """One layer of a layered specification, with one mark."""
    return {"mark": {"type": kind, **mark}, "encoding": encoding}


def quantitative(field: str, title: str | list[str] | None, **more: Any) -> Spec:
    """A channel that shows the numbers in a column of the data set."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def condition(test: str, value: object, otherwise: object) -> Spec:
    """A channel with `value` where the expression `test` holds and with `otherwise` elsewhere."""
    return {"condition": {"test": test, "value": value}, "value": otherwise}


def ranks_scale() -> Spec:
    """Colour scale over the rank of highlighted points: the first one has the accent colour."""
    colours = [{"expr": "faint"}, {"expr": "accent"}, *LINES[: MOST_PICKED - 1]]
    return {"domain": [OTHERS, *range(MOST_PICKED)], "range": colours, "type": "ordinal"}


MOST_PICKED = 7

SIGNS_PER_LINE = 24
"""Names on axes and in legends are continued on a next line after this many signs; they are never cut."""
_LINE_HEIGHT = 10
"""Of names on paper, in points."""
_LETTER = 4.2
"""Width of a letter on paper, on average, in points."""
_PAGE_LETTERS = 1.2
"""Letters on the page are larger than its plots by this factor."""


def names_axis(*, grid: bool = False) -> Spec:
    """A vertical axis of names: each in full, its first line at its tick."""
    return {"grid": grid, "labelExpr": in_lines(), "labelOverlap": False}


def in_lines(signs: int = SIGNS_PER_LINE) -> str:
    """A Vega expression: the label of an axis or a legend in lines, broken after a sign that ends a part of a name."""
    return f"split(trim(replace(datum.label, regexp('{_line(signs)}', 'g'), '$1\\n')), '\\n')"


def lines_of(name: str, signs: int = SIGNS_PER_LINE) -> list[str]:
    """A name in lines of at most `signs` signs and one that ends a part of a name; `in_lines` for a known text."""
    return re.sub(_line(signs), r"\1\n", name).strip().split("\n")


def names_height(names: Iterable[str], least: float) -> float:
    """Height in points of each row of an axis with `names`, so that no name is printed over the next."""
    return max(least, _PAGE_LETTERS * _LINE_HEIGHT * max((len(lines_of(name)) for name in names), default=1) + 3)


def _line(signs: int) -> str:
    """A regular expression, for Python and for Vega: one line of a name."""
    # A number is not broken at its point, nor before its exponent: `0.01`, `1e-05`.
    return f"(.{{1,{signs}}}(?:[ ,_=/]|[.-](?![0-9])|$)|.{{{signs}}})"


def names_left(names: Iterable[str]) -> float:
    """`Plot.left` of a plot with a vertical axis of names, or `Plot.right`: a fifth of their longest line."""
    return 0.2 * _LETTER * max((len(line) for name in names for line in lines_of(name)), default=0)


def legend_columns(names: Iterable[str]) -> Spec:
    """As many columns of a legend as there is room for, so that its last names are not cut on a narrow page."""
    widest = max((min(len(name), SIGNS_PER_LINE + 1) for name in names), default=1)
    return {"expr": f"max(1, floor((room - 60) / ({widest} * letter + 24)))"}


def _padding(plot: Plot, scale: float) -> Spec:
    return {"left": 2, "top": 2, "bottom": 2, "right": 2 + round(plot.right * scale)}


def plot_width(plot: Plot) -> float:
    """Width of its files in points."""
    return round(plot.width_mm * POINTS_PER_MM, 2)


def _common(plot: Plot, scale: float) -> Spec:
    """What a plot has on paper and on the page: style, name of its data, and parameters with their first values."""
    # The width of a letter, on average, and of the figure: what a legend needs to know. The page tells its own.
    widths = {"letter": round(_LETTER * scale, 2), "room": plot_width(plot)}
    values: dict[str, Any] = {
        **PAPER,
        **widths,
        **{control.parameter: control.options[0][0] for control in plot.controls},
    }
    if plot.picks:
        values["picked"] = list(plot.picked)
    return {
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": _padding(plot, scale),
        "params": [{"name": name, "value": value} for name, value in values.items()],
        "config": config(scale),
        "data": {"name": "rows"},
    }


def on_paper(plot: Plot) -> Spec:
    """Complete specification for the files of a plot: one unit is a point, the width is that of a journal column.

    Where the page has a control, the files show the first option and name it in the title.
    """
    options = ", ".join(control.options[0][1] for control in plot.controls)
    return {
        # No legend when nothing is highlighted: an empty legend would make the figure infinitely high.
        **(_without_legends(plot.spec) if plot.picks and not plot.picked else plot.spec),
        **_common(plot, scale=1.0),
        **({"title": options} if options else {}),
        "padding": {**_padding(plot, 1.0), "left": 2 + round(plot.left)},
        "width": plot_width(plot),
        "background": "white",
        "datasets": {"rows": plot.rows()},
    }


def on_page(plot: Plot) -> Spec:
    """The specification for the page, as wide as its container; the page adds rows and the colours of its theme."""
    return {
        # The page has its own list of highlighted points, in which a reader adds and removes points.
        **(_without_legends(plot.spec) if plot.picks else plot.spec),
        **_common(plot, scale=PAGE_SCALE * _PAGE_LETTERS),
        "height": round(plot.spec["height"] * PAGE_SCALE),
        "width": "container",
        "background": None,
    }


def _without_legends(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: None if name == "legend" else _without_legends(part) for name, part in value.items()}
    return [_without_legends(part) for part in value] if isinstance(value, list) else value


def config(scale: float) -> Spec:
    """Common style of all plots: a light grid, no frame, font size 7.5 points on paper."""
    size = round(FONT_SIZE * scale, 1)
    axis = {
        "labelColor": ink(), "titleColor": ink(), "gridColor": ink("line"), "domainColor": ink("faint"),
        "tickColor": ink("faint"), "labelFontSize": size, "titleFontSize": size, "titleFontWeight": "normal",
        "labelLineHeight": _LINE_HEIGHT * scale,
        "labelFont": FONT, "titleFont": FONT, "gridWidth": 0.6 * scale, "titlePadding": 5 * scale,
        "labelLimit": 0, "titleLimit": 400 * scale, "tickSize": 3 * scale, "labelOverlap": True,
    }  # fmt: skip
    legend = {
        "labelColor": ink(), "titleColor": ink("soft"), "labelFontSize": size, "titleFontSize": size,
        "labelFont": FONT, "titleFont": FONT, "titleFontWeight": "normal", "orient": "bottom",
        "symbolStrokeWidth": 1.4 * scale, "labelLimit": 0, "columnPadding": 9 * scale, "symbolOpacity": 1,
    }  # fmt: skip
    title = {
        "color": ink(), "fontSize": size, "font": FONT, "anchor": "start", "fontWeight": "normal", "limit": 600 * scale,
        "offset": 6 * scale, "frame": "group",
    }  # fmt: skip
    header = {"labelColor": ink(), "titleColor": ink(), "labelFontSize": size, "titleFontSize": size, "labelFont": FONT}
    text = {"fontSize": size, "font": FONT, "color": ink()}
    return {
        "font": FONT, "axis": axis, "axisQuantitative": {"tickCount": 7}, "legend": legend, "title": title,
        "header": header, "text": text,
        "view": {"stroke": None}, "point": {"size": 16 * scale * scale}, "line": {"strokeWidth": 1.1 * scale},
        "rule": {"strokeWidth": 1.1 * scale, "color": ink()}, "numberFormat": ".4~g",
    }  # fmt: skip


def whole_ticks(last: float) -> list[int]:
    """What is written on an axis of ranks or epochs from 1 to `last`: whole numbers, the first among them."""
    step = next(step for size in range(9) for step in (10**size, 2 * 10**size, 5 * 10**size) if last / step <= 8)
    return sorted({1, *range(step, math.ceil(last) + 1, step)})


def page_value(plot: Plot) -> dict[str, Any]:
    """Values of a plot that are passed to the script of the page."""
    return {
        "spec": on_page(plot),
        "columns": plot.columns,
        "controls": [vars(control) for control in plot.controls],
        "tells": plot.tells,
        "picks": plot.picks,
        "picked": plot.picked,
        "palette": LINES,
        "alt": plot.alt,
        "least": plot.least_px,
    }


def rounded_value(value: float | None, digits: int = 5) -> float | None:
    """A number rounded to `digits` significant digits for a plot; NaN and infinity become None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def json_text(value: object) -> str:
    """JSON text that is safe inside a script element: it contains no `<`.

    Raises:
        ValueError: for NaN or infinity.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
