"""Colour palette for figures (safe for colour vision deficiency), and escaping of text for matplotlib."""

from sam2ft.core.errors import printable

# Okabe and Ito 2008 without black; the darkest (blue) last, because slices are dark.
COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00", "#4B8BFF")

# Colours of lines are visible on white and on black; yellow is not.
LINES = ("#D98C00", "#3FA0DB", "#CC79A7", "#009E73", "#D55E00", "#8A7FE0", "#7A8B99")

# Ink colours of charts; in SVG these three become CSS variables, so that a chart follows the dark mode of the page.
INK, FAINT, ACCENT = "#1f2328", "#8c959f", "#0b61a4"
DARK = {INK: "#e6e8eb", FAINT: "#7d868f", ACCENT: "#6cb6ff"}
VARIABLES = {INK: "--ink", FAINT: "--faint", ACCENT: "--accent"}


def colour_of(position: int) -> str:
    """Colour of the label at `position` of its table; colours repeat after seven."""
    return COLOURS[position % len(COLOURS)]


def line_colour(position: int) -> str:
    """Colour of the line at `position` of a chart; colours repeat after seven."""
    return LINES[position % len(LINES)]


def literal(text: object) -> str:
    """`text` escaped for matplotlib: `$` does not start a formula, control characters become a visible sign."""
    return printable(text).replace("$", r"\$")
