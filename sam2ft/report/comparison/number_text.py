"""Formatting of numbers, intervals, units and measure names for tables and plots."""

import math

from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import Score
from sam2ft.statistics.small_samples import shown_difference

NOTHING = "–"
MEASURE_WORDS = {
    "dice_slice_mean": "Dice per slice",
    "dice": "Dice per volume",
    "iou_slice_mean": "IoU per slice",
    "iou": "IoU per volume",
    "nsd": "surface Dice (NSD)",
    "hd95_mm": "HD95 [mm]",
    "hd_mm": "Hausdorff distance [mm]",
    "assd_mm": "mean surface distance [mm]",
}
"""Measure of global.csv -> its name in tables and plots."""


def number_text(value: float | None, digits: int = 3) -> str:
    """A number such as `0.912`; very small or large values in exponential notation; a dash for None or NaN."""
    if value is None or value != value:  # noqa: PLR0124 (only NaN differs from itself)
        return NOTHING
    if value != 0 and not 10**-digits <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 3) -> str:
    """`+0.051` or `−0.020` (with the minus sign U+2212, so that columns align); a dash for None or NaN."""
    if value is None or value != value:  # noqa: PLR0124
        return NOTHING
    return f"{value:+.{digits}f}".replace("-", "−")


def interval(score: Score | None, digits: int = 3) -> str:
    """A confidence interval such as `[0.880, 0.940]` (`Score.shown`); empty text when there is none."""
    ends = None if score is None else score.shown
    return "" if ends is None else f"[{number_text(ends[0], digits)}, {number_text(ends[1], digits)}]"


def decimals(mean: float | None, significant: int = 4) -> int:
    """Decimal places that show `mean` with `significant` digits, for all values in its unit; at most 6."""
    if mean is None or mean != mean or mean == 0:  # noqa: PLR0124
        return 3
    return min(max(significant - 1 - math.floor(math.log10(abs(mean))), 0), 6)


def digits_of(measure: str) -> int:
    """Decimal places of a measure: a hundredth of a millimetre is far below a pixel."""
    return 2 if measure.endswith("_mm") else 3


def row_interval(row: Row, name: str, digits: int = 3) -> str:
    """The interval in the columns `<name>_ci_low` and `<name>_ci_high`, such as `[−0.07, 0.02]`; empty without one."""
    low, high = (row[f"{name}_ci_{end}"] for end in ("low", "high"))
    if low is None or high is None or low != low or high != high:  # noqa: PLR0124
        return ""
    return f"[{float(low):.{digits}f}, {float(high):.{digits}f}]".replace("-", "−")


def ends_text(ends: tuple[float, float] | None, digits: int = 3) -> str:
    """Both ends of an interval of a difference, such as `[−0.007, +0.071]`; empty text for None."""
    return "" if ends is None else f"[{signed(ends[0], digits)}, {signed(ends[1], digits)}]"


def difference_interval(row: Row, digits: int = 3) -> str:
    """The interval of a difference in point_tests.csv: of few subjects Student's t, else the bootstrap of the row."""
    return ends_text(shown_difference(row), digits)


def p_text(p: float | None) -> str:
    """A p value: `0.034`, `< 0.001`, a dash for None or NaN."""
    if p is None or p != p:  # noqa: PLR0124
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_said(p: float | None) -> str:
    """`p = 0.034` or `p < 0.001`."""
    return f"p = {p_text(p)}".replace("= <", "<")


def percent_of(value: float | None, mean: float | None) -> str:
    """A difference in percent of a mean above 0, such as `+1.2 %`; empty text where there is none."""
    if value is None or mean is None or not mean > 0 or value != value:  # noqa: PLR0124
        return ""
    return f"{signed(100 * value / mean, 1)} %"


def unit_text(unit: object) -> str:
    """A unit of the biomarker tables for display: `mm³` for mm3, `%` for percent, empty text for 1."""
    text = str(unit)
    return {"mm2": "mm²", "mm3": "mm³", "percent": "%", "1": ""}.get(text, text)
