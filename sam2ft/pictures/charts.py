"""Base of SVG charts of an evaluation: empty figure, plain axes, and export with light and dark mode."""

from io import BytesIO
from typing import TYPE_CHECKING

from sam2ft.pictures.palette import DARK, FAINT, INK, VARIABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure with a transparent background; width and height in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def plain_axes(axes: "Axes", title: str) -> None:
    """Style axes: title at the left, faint grid, no top and right spines."""
    axes.set_facecolor("none")
    axes.set_title(title, color=INK, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=8.5)
    axes.grid(visible=True, color=FAINT, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
