"""Plot of a prompt-noise study as SVG with light and dark mode: Dice against the shift of the box sides in pixels."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row, number_in
from sam2ft.pictures.palette import ACCENT, DARK, FAINT, INK, VARIABLES, line_colour, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURE = "dice"


def noise_curves(rows: Sequence[Row]) -> "Figure":
    """One line per label over the shifts, from rows of prompt_noise_global.csv, with one panel per dataset.

    The mean of labels is a thick line with its 95 % interval.
    """
    from matplotlib.figure import Figure

    datasets = sorted({str(row["dataset"]) for row in rows})
    figure = Figure(figsize=(1.6 + 5.2 * len(datasets), 3.9), layout="constrained", facecolor="none")
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        own = [row for row in rows if row["dataset"] == dataset and row["measure"] == MEASURE]
        _style(axes, literal(dataset) if len(datasets) > 1 else "")
        axes.set_xlabel("each side of a box moved by up to [px]", color=INK)
        axes.set_ylabel("Dice per volume, mean over subjects and seeds", color=INK)
        labels = [name for name in dict.fromkeys(str(row["label_name"]) for row in own) if name != POOLED]
        for number, name in enumerate(labels):
            line = sorted((row for row in own if row["label_name"] == name), key=lambda row: row["shift_px"] or 0)
            overall = name == MEAN_OF_LABELS
            colour = ACCENT if overall else line_colour(number)
            shifts = [float(row["shift_px"] or 0) for row in line]
            means, lows, highs = ([number_in(row, column) for row in line] for column in ("mean", "ci_low", "ci_high"))
            legend_text = "mean of labels, 95 % interval" if overall else "\u200b" + literal(name)
            axes.plot(
                shifts, means, "o-", color=colour, linewidth=2.4 if overall else 1.1, markersize=4, label=legend_text,
                zorder=3 if overall else 2,
            )  # fmt: skip
            if overall:
                axes.fill_between(shifts, lows, highs, color=colour, alpha=0.18, linewidth=0)
        axes.set_xticks(sorted({float(row["shift_px"] or 0) for row in own}))
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def _style(axes: "Axes", title: str) -> None:
    """Title at the left, faint grid, no top and right spines."""
    axes.set_facecolor("none")
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.grid(visible=True, color=FAINT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)


def figure_svg(figure: "Figure") -> bytes:
    """The figure as SVG whose three ink colours follow the light or dark mode; equal figures give equal bytes."""
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
