"""What a plot of the report is: one Vega-Lite specification, drawn by the page and, in print size, into files.

Colours are names (`ink()`), whose values a theme gives: the page's follow light and dark, the files' are those of
paper. Names of a data set are only ever data or titles, never field names or expressions.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.pictures.palette import LINES

Spec = dict[str, Any]
Cell = str | int | float | None

POINTS_PER_MM = 72 / 25.4
# Widths of one and of two columns of the journals of the field, in mm.
SINGLE, DOUBLE = 85.0, 170.0
FONT = "Arial, Helvetica, Liberation Sans, DejaVu Sans, sans-serif"
PAPER = {"ink": "#1f2328", "soft": "#59636e", "faint": "#a3abb3", "line": "#dcdfe3", "accent": "#0b61a4"}
# The page draws larger than paper: sizes in a specification are points on paper.
PAGE_SCALE = 1.3
OTHERS = -1
"""The rank of what has no colour of its own."""


@dataclass(frozen=True)
class Control:
    """A choice beside a plot: a parameter of its specification and the values that it may take."""

    parameter: str
    label: str
    options: tuple[tuple[str, str], ...]
    """(value, what it is called)."""


@dataclass(frozen=True)
class Plot:
    """One figure: in the page, and as `figures/<name>.{svg,pdf,png}`."""

    name: str
    """Of its files: letters, digits and hyphens, never a name from a data set."""
    title: str
    caption: str
    alt: str
    spec: Spec
    """Vega-Lite without width, theme and data; its data set is called `rows`, its height is a number of points."""
    columns: Mapping[str, Sequence[Cell]]
    """The data set by columns of equal length; NaN is None."""
    width_mm: float = SINGLE
    tells: tuple[tuple[str, str], ...] = ()
    """(column, what it is called): what a mark says when it is pointed at."""
    controls: tuple[Control, ...] = ()
    picks: tuple[str, ...] = ()
    """Values of column `point` that a reader may pick out by colour; empty: no such choice."""
    picked: tuple[str, ...] = ()
    """Those that are picked at first."""

    def rows(self) -> list[dict[str, Cell]]:
        """The data set as Vega wants it."""
        return [dict(zip(self.columns, cells, strict=True)) for cells in zip(*self.columns.values(), strict=True)]

    def digest(self) -> str:
        """Changes whenever a file of the plot would."""
        return hashlib.sha256(json_text(on_paper(self)).encode()).hexdigest()


def ink(name: str = "ink") -> Spec:
    """A colour of the theme, for a property of a mark: ink, soft, faint, line or accent."""
    return {"expr": name}


def layer(kind: str, encoding: Spec, **mark: Any) -> Spec:
    """A mark of a layered specification."""
    return {"mark": {"type": kind, **mark}, "encoding": encoding}


def when(test: str, value: object, otherwise: object) -> Spec:
    """A channel that has one of two values."""
    return {"condition": {"test": test, "value": value}, "value": otherwise}


def ranks_scale() -> Spec:
    """Colours by rank of being picked: a plot's first pick has the accent."""
    colours = [{"expr": "faint"}, {"expr": "accent"}, *LINES[: MOST_PICKED - 1]]
    return {"domain": [OTHERS, *range(MOST_PICKED)], "range": colours, "type": "ordinal"}


MOST_PICKED = 7


def plot_parameters(plot: Plot, theme: Mapping[str, str]) -> list[Spec]:
    """Those of the theme, of the controls (their first option) and of the picks."""
    made: list[Spec] = [{"name": name, "value": value} for name, value in theme.items()]
    made += [{"name": control.parameter, "value": control.options[0][0]} for control in plot.controls]
    if plot.picks:
        made.append({"name": "picked", "value": list(plot.picked)})
    return made


def on_paper(plot: Plot) -> Spec:
    """The whole specification of a plot's files: one unit is a point, the width that of its column of a journal.

    Where the page has a choice, the first option is drawn, and named above.
    """
    said = ", ".join(control.options[0][1] for control in plot.controls)
    return {
        # Of nothing picked there is no legend: an empty one makes a figure of endless height.
        **(_without_legends(plot.spec) if plot.picks and not plot.picked else plot.spec),
        **({"title": said} if said else {}),
        "width": round(plot.width_mm * POINTS_PER_MM, 2),
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": "white",
        "padding": 2,
        "params": plot_parameters(plot, PAPER) + list(plot.spec.get("params", ())),
        "config": config(1.0),
        "datasets": {"rows": plot.rows()},
        "data": {"name": "rows"},
    }


def on_page(plot: Plot) -> Spec:
    """The specification for the page, as wide as its place there; the page adds rows and the colours of its theme."""
    return {
        # The page has its own names of what is picked, which take a colour away and give it.
        **(_without_legends(plot.spec) if plot.picks else plot.spec),
        "height": round(plot.spec["height"] * PAGE_SCALE),
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "padding": 2,
        "params": plot_parameters(plot, PAPER) + list(plot.spec.get("params", ())),
        "config": config(PAGE_SCALE * 1.2),
        "data": {"name": "rows"},
    }


def _without_legends(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: None if name == "legend" else _without_legends(part) for name, part in value.items()}
    return [_without_legends(part) for part in value] if isinstance(value, list) else value


def config(scale: float) -> Spec:
    """The look of all plots: a quiet grid, no frame, letters of 7.5 points on paper."""
    size = round(7.5 * scale, 1)
    axis = {
        "labelColor": ink(), "titleColor": ink(), "gridColor": ink("line"), "domainColor": ink("faint"),
        "tickColor": ink("faint"), "labelFontSize": size, "titleFontSize": size, "titleFontWeight": "normal",
        "labelFont": FONT, "titleFont": FONT, "gridWidth": 0.6 * scale, "titlePadding": 5 * scale,
        "labelLimit": 120 * scale, "titleLimit": 400 * scale, "tickSize": 3 * scale, "labelOverlap": True,
    }  # fmt: skip
    legend = {
        "labelColor": ink(), "titleColor": ink("soft"), "labelFontSize": size, "titleFontSize": size,
        "labelFont": FONT, "titleFont": FONT, "titleFontWeight": "normal", "orient": "bottom",
        "symbolStrokeWidth": 1.4 * scale, "labelLimit": 200 * scale, "columnPadding": 9 * scale, "symbolOpacity": 1,
    }  # fmt: skip
    title = {
        "color": ink(), "fontSize": size, "font": FONT, "anchor": "start", "fontWeight": "bold", "limit": 600 * scale,
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


def page_value(plot: Plot) -> dict[str, Any]:
    """What the page's script gets of a plot."""
    return {
        "spec": on_page(plot),
        "columns": plot.columns,
        "controls": [vars(control) for control in plot.controls],
        "tells": plot.tells,
        "picks": plot.picks,
        "picked": plot.picked,
        "palette": LINES,
        "alt": plot.alt,
    }


def plot_value(value: float | None, digits: int = 5) -> float | None:
    """A number for a plot: `digits` significant digits are more than eyes see; NaN and infinity are None."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


def json_text(value: object) -> str:
    """JSON that can stand inside of a script element: no `<` in it, no NaN."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
