"""Label sheet: one figure per label with crops of its worst, median and best slices, and contours of both masks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.prompts import Mask, box_around
from sam2ft.pictures.figures import BACKGROUND, DASHES, DOTS_PER_INCH, QUIET, TEXT, draw_contours, draw_marks
from sam2ft.pictures.palette import colour_of, literal
from sam2ft.pictures.views import AS_STORED, ScreenView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL_INCHES, CAPTION_INCHES, GAP_INCHES = 2.5, 0.46, 0.12
HEAD_INCHES, FOOT_INCHES, SIDE_INCHES = 0.5, 0.3, 0.34
# The crop is larger than the label by this share, and never smaller than this side, to show the surroundings.
MARGIN_SHARE, LEAST_SIDE_MM = 0.5, 24.0
_LONGEST_CAPTION = 34


@dataclass(frozen=True)
class LabelSlice:
    """One slice of a label: image with intensities in [0, 1] and both masks, as stored, on the same grid."""

    image_yx: npt.NDArray[np.floating[Any]]
    reference_yx: Mask
    prediction_yx: Mask
    spacing_yx_mm: tuple[float, float]
    where: str
    """Caption: subject, volume and slice."""
    score_text: str
    """Caption: `Dice 0.912`; for a missed or spurious label its status."""
    view: ScreenView = AS_STORED

    @property
    def turned(self) -> "LabelSlice":
        """The slice as its view shows it; its arrays must not be turned again."""
        planes = [self.view.plane(array) for array in (self.image_yx, self.reference_yx, self.prediction_yx)]
        return replace(
            self,
            image_yx=planes[0],
            reference_yx=planes[1],
            prediction_yx=planes[2],
            spacing_yx_mm=self.view.spacing(self.spacing_yx_mm),
        )


def label_sheet(title: str, position: int, groups: Mapping[str, Sequence[LabelSlice]]) -> "Figure":
    """Figure with one row per group (`worst`, `median`, `best`) and one column per slice.

    Each slice is cropped to a square in mm around both masks; cells of one sheet can have different scales.

    Args:
        title: title of the sheet.
        position: position of the label in its table, which gives the colour.
        groups: group name -> slices; groups without slices are omitted.
    """
    from matplotlib.figure import Figure

    rows = [(name, slices) for name, slices in groups.items() if slices]
    columns = max((len(slices) for _, slices in rows), default=1)
    width = SIDE_INCHES + max(columns, 2) * (CELL_INCHES + GAP_INCHES) + GAP_INCHES
    height = HEAD_INCHES + len(rows) * (CELL_INCHES + CAPTION_INCHES) + FOOT_INCHES
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=BACKGROUND)
    colour = colour_of(position)
    figure.text(
        SIDE_INCHES / width, 1 - 0.5 * HEAD_INCHES / height, literal(title), color=TEXT, fontsize=11, va="center"
    )
    for number, (name, slices) in enumerate(rows):
        top = height - HEAD_INCHES - number * (CELL_INCHES + CAPTION_INCHES)
        middle = (top - CELL_INCHES / 2) / height
        figure.text(
            0.45 * SIDE_INCHES / width, middle, name, color=QUIET, fontsize=10, ha="center", va="center", rotation=90
        )
        for column, one in enumerate(slices):
            left = SIDE_INCHES + column * (CELL_INCHES + GAP_INCHES)
            place = (left / width, (top - CELL_INCHES) / height, CELL_INCHES / width, CELL_INCHES / height)
            _draw_cell(figure.add_axes(place), one.turned, colour)
    _draw_legend(figure, colour)
    return figure


def _draw_cell(axes: "Axes", one: LabelSlice, colour: str) -> None:
    rows, columns = window_around(one.reference_yx | one.prediction_yx, one.spacing_yx_mm)
    dy, dx = one.spacing_yx_mm
    axes.set_facecolor("#000000")
    axes.imshow(one.image_yx[rows, columns], cmap="gray", vmin=0.0, vmax=1.0, aspect=dy / dx)
    draw_contours(axes, one.reference_yx[rows, columns], one.prediction_yx[rows, columns], colour, scale=0.75)
    draw_marks(axes, one.view, size=7)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for y, text, ink in ((-0.02, one.score_text, TEXT), (-0.085, _shortened(one.where), QUIET)):
        axes.text(0.0, y, literal(text), color=ink, transform=axes.transAxes, ha="left", va="top", fontsize=8.5)


def window_around(mask_yx: Mask, spacing_yx_mm: tuple[float, float]) -> tuple[slice, slice]:
    """(rows, columns) of a square in mm around a mask, clipped to the image; the whole image for an empty mask."""
    if not mask_yx.any():
        return slice(0, mask_yx.shape[0]), slice(0, mask_yx.shape[1])
    box = box_around(mask_yx)
    (dy, dx), (height, width) = spacing_yx_mm, mask_yx.shape
    extent_mm = max((box.y1 - box.y0 + 1) * dy, (box.x1 - box.x0 + 1) * dx)
    side_mm = max(extent_mm * (1 + MARGIN_SHARE), LEAST_SIDE_MM)
    return (
        _inside((box.y0 + box.y1 + 1) / 2, math.ceil(side_mm / dy), height),
        _inside((box.x0 + box.x1 + 1) / 2, math.ceil(side_mm / dx), width),
    )


def _inside(middle: float, length: int, most: int) -> slice:
    """`length` pixels around `middle`, moved into 0 .. most, and shortened if there are fewer pixels."""
    start = max(0, min(round(middle - length / 2), most - length))
    return slice(start, min(start + length, most))


def _draw_legend(figure: "Figure", colour: str) -> None:
    from matplotlib.lines import Line2D

    width, height = figure.get_figwidth(), figure.get_figheight()
    y = 0.5 * FOOT_INCHES / height
    entries = (("prediction", colour, "-", 2.0), ("reference", "#ffffff", DASHES, 1.2))
    for number, (text, ink, style, thickness) in enumerate(entries):
        left = (SIDE_INCHES + number * 1.3) / width
        line = Line2D([left, left + 0.3 / width], [y, y], color=ink, linestyle=style, linewidth=thickness)
        figure.add_artist(line)
        figure.text(left + 0.38 / width, y, text, color=QUIET, fontsize=9, va="center_baseline")


def _shortened(text: str) -> str:
    """The end of a long text, because the ends of keys distinguish slices."""
    return text if len(text) <= _LONGEST_CAPTION else "…" + text[-_LONGEST_CAPTION + 1 :]
