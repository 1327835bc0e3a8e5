"""The plot of one biomarker of one tissue: differences against means (Bland and Altman 1986), and both values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sam2ft.core.rows import Row
from sam2ft.report.charts import new_figure, plain_axes
from sam2ft.report.palette import ACCENT, FAINT, INK, literal
from sam2ft.report.words import decimals, signed, unit_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[np.float64]

# The bands of bias and limits, and the lines in them.
BAND, LINES = 0.16, (("bias", "solid"), ("loa_low", (0, (4, 2))), ("loa_high", (0, (4, 2))))


def agreement_figure(references: Sequence[float], predictions: Sequence[float], row: Row) -> "Figure":
    """Left the difference of every subject against the mean of both, with bias, limits and their 95 % intervals as
    bands; right the prediction against the reference, with the line on which both are equal.

    `row` is that of biomarker_global.csv; lines that it has no number for are left out. Without a pair: empty panels.
    """
    reference, prediction = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    figure = new_figure(width=8.6, height=3.7)
    figure.set_layout_engine("constrained", wspace=0.06)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1))
    what = literal(f"{row['tissue']}: {row['biomarker']} {row['definition']}")
    unit = unit_text(row["unit"])
    unit = literal(f" [{unit}]" if unit else "")
    plain_axes(left, what)
    plain_axes(right, "")
    left.set_xlabel(f"mean of prediction and reference{unit}", color=INK)
    left.set_ylabel(f"prediction − reference{unit}", color=INK)
    right.set_xlabel(f"reference{unit}", color=INK)
    right.set_ylabel(f"prediction{unit}", color=INK)
    _differences(left, reference, prediction, row)
    _scatter(right, reference, prediction)
    return figure


def _differences(axes: "Axes", reference: Values, prediction: Values, row: Row) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.9)
    for name, style in LINES:
        value, low, high = (_number(row, column) for column in (name, f"{name}_ci_low", f"{name}_ci_high"))
        if value is None or (name != "bias" and row["sd_difference"] == 0):
            continue
        colour = ACCENT if name == "bias" else INK
        axes.axhline(value, color=colour, linewidth=1.6 if name == "bias" else 1.1, linestyle=style, zorder=3)
        if low is not None and high is not None:
            axes.axhspan(low, high, color=colour if name == "bias" else FAINT, alpha=BAND, linewidth=0, zorder=1)
        axes.annotate(
            f"{'bias' if name == 'bias' else 'limit'} {signed(value, decimals(_number(row, 'reference_mean')))}",
            (1, value), xycoords=("axes fraction", "data"), xytext=(5, 0), textcoords="offset points",
            color=colour, fontsize=8.5, va="center", annotation_clip=False,
        )  # fmt: skip
    _points(axes, (reference + prediction) / 2, prediction - reference)


def _scatter(axes: "Axes", reference: Values, prediction: Values) -> None:
    if not len(reference):
        return
    both = np.concatenate([reference, prediction])
    room = 0.06 * float(np.ptp(both)) or 0.05 * abs(float(both[0])) or 1.0
    ends = float(both.min()) - room, float(both.max()) + room
    axes.plot(ends, ends, color=FAINT, linewidth=1.1)
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    # The same scale on both sides deserves the same ticks.
    axes.set_yticks([tick for tick in axes.get_xticks() if ends[0] <= tick <= ends[1]])
    axes.set_xticks(axes.get_yticks())
    _points(axes, reference, prediction)


def _points(axes: "Axes", x: Values, y: Values) -> None:
    """One dot per subject; of many, the crowded places are darker."""
    crowded = len(x) > 60
    axes.plot(
        x, y, "o", color=ACCENT, markersize=3.5 if crowded else 5.5, alpha=0.5 if crowded else 0.85,
        markeredgewidth=0, zorder=4,
    )  # fmt: skip


def _number(row: Row, name: str) -> float | None:
    value = row[name]
    return None if value is None or value != value else float(value)  # noqa: PLR0124 (only NaN differs from itself)
