"""The two charts of the page: how points learned, and how labels fared. SVG that follows light and dark."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

from sam2ft.report.compare import Score
from sam2ft.report.palette import ACCENT, DARK, FAINT, INK, VARIABLES, line_colour, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
"""Rows of history.csv: `epoch` (0-based), `train_loss`, `val_loss`, `val_dice`, ..."""

MOST_COLOURED_LINES = 7
PANELS = (("val_loss", "validation loss"), ("val_dice", "validation Dice"))


def learning_curves(histories: Mapping[str, History], best: str | None = None) -> "Figure":
    """Validation loss and Dice by epoch, one line per point; `best` (a key of `histories`) is drawn thick.

    Up to seven points have a colour and an entry in the legend; of more, all but the best are grey.
    """
    figure = new_figure(width=8.6, height=2.9 + 0.2 * ((min(len(histories), MOST_COLOURED_LINES) + 1) // 2))
    many = len(histories) > MOST_COLOURED_LINES
    panels = figure.subplots(1, 2)
    for axes, (column, title) in zip(panels, PANELS, strict=True):
        plain_axes(axes, title)
        axes.set_xlabel("epoch", color=INK)
        for number, (name, history) in enumerate(histories.items()):
            colour = _line_colour(name, number, best, many)
            epochs = [row["epoch"] + 1 for row in history if column in row]
            values = [row[column] for row in history if column in row]
            thick = name == best
            axes.plot(epochs, values, color=colour, linewidth=2.4 if thick else 1.1, zorder=3 if thick else 2)
            if len(values) == 1:
                axes.plot(epochs, values, "o", color=colour, markersize=6 if thick else 4)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _name_lines(figure, list(histories), best, many)
    return figure


def dice_by_label(points: Mapping[str, Mapping[str, Score]], best: str | None, baseline: str | None) -> "Figure":
    """A row per label: a dot per point, the best point with its 95 % interval, the baseline as a ring.

    `points` maps point name -> label name -> Score; labels are shown in the order of their first appearance.
    """
    labels = list(dict.fromkeys(label for scores in points.values() for label in scores))
    figure = new_figure(width=8.6, height=1.25 + 0.34 * max(1, len(labels)))
    axes = figure.subplots()
    plain_axes(axes, "")
    for name in sorted(points, key=lambda name: (name == best, name == baseline)):
        for label, score in points[name].items():
            _draw_score(axes, labels.index(label), score, name == best, name == baseline)
    axes.set_yticks(range(len(labels)), [literal(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0, colors=INK, labelsize=9)
    axes.set_xlabel("Dice per slice, mean over subjects", color=INK)
    axes.set_xlim(right=1.0)
    _name_dots(figure, with_others=len(points) > 2)
    return figure


def figure_svg(figure: "Figure") -> bytes:
    """The figure as SVG whose three inks change with the reader's light or dark setting; equal figures, equal bytes."""
    import matplotlib as mpl

    stream = BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sam2ft", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue().decode()
    light = "".join(f"{VARIABLES[ink]}:{ink};" for ink in VARIABLES)
    dark = "".join(f"{VARIABLES[ink]}:{DARK[ink]};" for ink in VARIABLES)
    for ink, variable in VARIABLES.items():
        text = text.replace(ink, f"var({variable})")
    style = f"<style>svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    return text.replace("<defs>", f"{style}\n<defs>", 1).encode()


def new_figure(width: float, height: float) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: "Axes", title: str) -> None:
    axes.set_facecolor("none")
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.grid(visible=True, color=FAINT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def _draw_score(axes: "Axes", row: int, score: Score, is_best: bool, is_baseline: bool) -> None:
    if is_best:
        if score.ci_low is not None and score.ci_high is not None:
            axes.plot([score.ci_low, score.ci_high], [row, row], color=ACCENT, linewidth=2, solid_capstyle="round")
        axes.plot(score.mean, row, "o", color=ACCENT, markersize=8, zorder=4, clip_on=False)
    elif is_baseline:
        axes.plot(
            score.mean, row, "o", markerfacecolor="none", markeredgecolor=INK, markersize=7, zorder=3, clip_on=False
        )
    else:
        axes.plot(score.mean, row, "o", color=FAINT, markersize=5, alpha=0.8, clip_on=False)


def _line_colour(name: str, number: int, best: str | None, many: bool) -> str:
    if name == best:
        return ACCENT
    return FAINT if many else line_colour(number)


def _name_lines(figure: "Figure", names: list[str], best: str | None, many: bool) -> None:
    from matplotlib.lines import Line2D

    shown = [best] if many and best is not None else ([] if many else names)
    handles: list[Any] = [
        Line2D([], [], color=_line_colour(name, names.index(name), best, many), linewidth=2.4 if name == best else 1.1)
        for name in shown
    ]
    # A zero-width space first: matplotlib leaves out of a legend what begins with an underscore.
    words = ["\u200b" + literal(name) + (" (best by validation)" if name == best else "") for name in shown]
    if handles:
        figure.legend(handles, words, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5, labelcolor=INK)


def _name_dots(figure: "Figure", *, with_others: bool) -> None:
    from matplotlib.lines import Line2D

    handles: list[Any] = [
        Line2D([], [], color=ACCENT, marker="o", markersize=8, linewidth=2),
        Line2D([], [], color=INK, marker="o", markersize=7, markerfacecolor="none", linewidth=0),
    ]
    names = ["best point, 95 % interval", "baseline"]
    if with_others:
        handles.append(Line2D([], [], color=FAINT, marker="o", markersize=5, linewidth=0))
        names.append("other points")
    figure.legend(handles, names, loc="outside lower left", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)
