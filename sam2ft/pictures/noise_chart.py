"""Plot of a prompt-noise study: Dice against the shift of the box sides in pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row
from sam2ft.pictures.charts import new_figure, plain_axes
from sam2ft.pictures.palette import ACCENT, INK, line_colour, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURE = "dice"


def noise_curves(rows: Sequence[Row]) -> "Figure":
    """One line per label over the shifts, from rows of prompt_noise_global.csv, with one panel per dataset.

    The mean of labels is a thick line with its 95 % interval.
    """
    datasets = sorted({str(row["dataset"]) for row in rows})
    figure = new_figure(width=1.6 + 5.2 * len(datasets), height=3.9)
    for axes, dataset in zip(figure.subplots(1, len(datasets), squeeze=False)[0], datasets, strict=True):
        own = [row for row in rows if row["dataset"] == dataset and row["measure"] == MEASURE]
        plain_axes(axes, literal(dataset) if len(datasets) > 1 else "")
        axes.set_xlabel("each side of a box moved by up to [px]", color=INK)
        axes.set_ylabel("Dice per volume, mean over subjects and seeds", color=INK)
        labels = [name for name in dict.fromkeys(str(row["label_name"]) for row in own) if name != POOLED]
        for number, name in enumerate(labels):
            line = sorted((row for row in own if row["label_name"] == name), key=lambda row: row["shift_px"] or 0)
            overall = name == MEAN_OF_LABELS
            colour = ACCENT if overall else line_colour(number)
            shifts = [float(row["shift_px"] or 0) for row in line]
            means, lows, highs = ([_number(row, column) for row in line] for column in ("mean", "ci_low", "ci_high"))
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


def _number(row: Row, name: str) -> float:
    value = row[name]
    return float("nan") if value is None else float(value)
