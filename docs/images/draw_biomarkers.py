"""Draw biomarkers.png of docs/biomarkers.md: python docs/images/draw_biomarkers.py"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

mpl.rcParams.update({"font.size": 9})

BONE, CARTILAGE, MISSED, INK = "#d9d4c7", "#7fb2d9", "#f2c6b6", "#333333"


def draw_thickness(axes: Axes) -> None:
    """Rays along the normals of a bone, through cartilage whose right part a prediction missed."""
    angle = np.linspace(0.15 * np.pi, 0.85 * np.pi, 200)
    inner, outer = 10.0, 13.0 + 0.5 * np.sin(3 * angle)
    axes.fill_between(inner * np.cos(angle), inner * np.sin(angle), 2, color=BONE)
    for chosen, colour in ((angle > 0.42 * np.pi, CARTILAGE), (angle <= 0.423 * np.pi, MISSED)):
        ring, height = angle[chosen], outer[chosen]
        x = np.concatenate([inner * np.cos(ring), (height * np.cos(ring))[::-1]])
        y = np.concatenate([inner * np.sin(ring), (height * np.sin(ring))[::-1]])
        axes.fill(x, y, color=colour)
    for at, height in zip(angle[4::12], outer[4::12], strict=True):
        axes.plot(np.cos(at) * np.array([inner, height]), np.sin(at) * np.array([inner, height]), color=INK, lw=0.9)
        axes.plot(inner * np.cos(at), inner * np.sin(at), ".", color=INK, ms=3)
    middle = (inner + outer) / 2
    axes.plot(middle * np.cos(angle), middle * np.sin(angle), color=INK, lw=0.8, ls="--")
    axes.text(-11.2, 9.6, "superficial", rotation=48, ha="center", va="center")
    axes.text(-6.2, 5.6, "deep", rotation=48, ha="center", va="center")
    axes.text(0, 5, "bone of the reference", ha="center")
    axes.text(-4.5, 14.2, "found by both", ha="center")
    axes.text(7.5, 13.2, "missed: 0 mm in ThCtAB,\nleft out of ThCcAB", ha="center")
    axes.set_title("cartilage thickness: length of each ray, weighted by bone area")
    axes.set_ylim(2, 16)


def draw_height(axes: Axes) -> None:
    """A wedge-shaped disc, its axis and its thirds."""
    along = np.linspace(0, 36, 200)
    half = 2.6 + 0.055 * along + 0.7 * np.sin(np.pi * along / 36)
    tilt = np.deg2rad(8)

    def turned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return x * np.cos(tilt) - y * np.sin(tilt), x * np.sin(tilt) + y * np.cos(tilt)

    outline = np.concatenate([along, along[::-1]]), np.concatenate([half, -half[::-1]])
    axes.fill(*turned(*outline), color=CARTILAGE)
    axes.plot(*turned(np.array([0.0, 36]), np.zeros(2)), color=INK, lw=1.2)
    for edge in (0.0, 12.0, 24.0, 36.0):
        axes.plot(*turned(np.full(2, edge), np.array([-6.0, 6.0])), color=INK, lw=0.8, ls="--")
    for middle, name in ((6.0, "posterior"), (18.0, "middle"), (30.0, "anterior")):
        x, y = turned(np.array([middle]), np.array([-7.4]))
        axes.text(float(x[0]), float(y[0]), name, ha="center", va="center")
    axes.text(8, 9.5, "axis: direction of largest spread in mm", ha="center", va="center")
    axes.set_title("disc height: area / length along the axis, in mm")
    axes.set_ylim(-10, 13)


def main() -> None:
    figure = Figure(figsize=(9.2, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_thickness(left)
    draw_height(right)
    for axes in (left, right):
        axes.set_aspect("equal")
        axes.axis("off")
        axes.title.set_fontsize(9)
    figure.savefig(Path(__file__).with_name("biomarkers.png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
