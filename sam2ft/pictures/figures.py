"""Quality control (QC) figures: an image slice with the contours of reference and prediction.

Figures are drawn on matplotlib's Agg canvas without pyplot and therefore without global state. Arrays are `_yx` in the
ORIGINAL frame, as stored; a `ScreenView` turns them for the eye. Boxes are inclusive pixel indices.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.events import SlicePrediction
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box, Mask, Point, box_around
from sam2ft.pictures.overlay import ERRORS, errors_of_sample
from sam2ft.pictures.palette import colour_of, literal
from sam2ft.pictures.views import AS_STORED, ScreenView, shown_sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND, TEXT, QUIET = "#14171a", "#f2f4f6", "#a9b1b8"
FAINT_LINE = "#3a4046"
DASHES = (0, (2.6, 2.4))
LONGEST_LEGEND = 8
PANEL_INCHES = {2: 4.2, 3: 3.3}
"""Number of panels side by side -> width of each."""
DOTS_PER_INCH = 110
LEGEND_ROW_INCHES = 0.26
LONGEST_IN_HALF = 34
"""Signs of the longest label for which the legend has two columns."""
WIDEST_INCHES = 0.13
"""Width of the widest letter of 9.5 points."""


def visualize_input(
    image: npt.NDArray[np.floating[Any]],
    gt_mask: Mask,
    box: Box | Point | Mask,
    pred_mask: Mask,
    label: Label,
    image_name: str,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
) -> "Figure":
    """One instance of one slice: the image alone, and with box, reference (dashed) and prediction (solid) contours.

    `figure_png` converts the figure to a PNG file.

    Args:
        image: (y, x) intensities in [0, 1].
        gt_mask: reference mask on the grid of the image.
        box: prompt; a point is drawn as a cross, a mask as a dotted outline.
        pred_mask: predicted mask on the grid of the image.
        label: its id and name are shown with the Dice.
        image_name: title of the figure.
        spacing_yx_mm: pixel spacing, which gives the aspect ratio.

    Raises:
        ValueError: Image and masks are not on the same 2-D grid.
    """
    _require_one_grid(image, gt_mask, pred_mask)
    figure, panels = _panels(image, spacing_yx_mm, legend_rows=1, title=image_name, number=2)
    colour = colour_of(0)
    _draw_instance(panels[1], box, gt_mask, pred_mask, colour)
    value = _dice(pred_mask, gt_mask)
    _legend(figure, [(colour, f"{label.id}  {label.name}   Dice {_shown(value)}")], legend_rows=1)
    return figure


def qc_sheet(
    sample: SlicePrediction,
    labels: LabelTable,
    dice: Mapping[int, float] | None = None,
    *,
    spacing_yx_mm: tuple[float, float] = (1.0, 1.0),
    title: str | None = None,
    view: ScreenView = AS_STORED,
) -> "Figure":
    """QC overlay of all instances of one slice: the image, contours with one colour per label, and the wrong pixels.

    The Dice of each label is in the legend. A label has the same colour in all slices of a dataset. If the label table
    has at most LONGEST_LEGEND labels, it also has the same place in the legend, so that all sheets of a dataset have
    the same layout.

    Args:
        sample: prediction of the slice.
        labels: label table of the dataset.
        dice: label id -> Dice as in slice.csv, NaN for an absent label, nothing for one that was not drawn; None: the
            Dice of the union of a label's instances, where all were drawn.
        spacing_yx_mm: pixel spacing as stored, which gives the aspect ratio.
        title: None: the key of the slice.
        view: how the slice is turned, and the letters at its sides.

    Raises:
        ValueError: Image and masks are not on the same 2-D grid.
    """
    _require_one_grid(sample.image_yx, *sample.references_nyx, *sample.predictions_nyx)
    sample, spacing_yx_mm = shown_sample(sample, view), view.spacing(spacing_yx_mm)
    shown = sorted(set(sample.labels_n))
    listed = labels.ids if len(labels) <= LONGEST_LEGEND else shown
    columns = 2 if all(len(labels[label].name) <= LONGEST_IN_HALF for label in listed) else 1
    legend_rows = max(1, math.ceil(len(listed) / columns))
    figure, panels = _panels(sample.image_yx, spacing_yx_mm, legend_rows, title or str(sample.key), number=3)
    for panel in panels:
        draw_marks(panel, view)
    colours = {label: colour_of(labels.ids.index(labels[label].id)) for label in listed}
    prompts_n = sample.prompts_n or sample.boxes_n
    instances = zip(sample.labels_n, prompts_n, sample.references_nyx, sample.predictions_nyx, strict=True)
    for label, prompt, reference, prediction in instances:
        _draw_instance(panels[1], prompt, reference, prediction, colours[label], name=str(label))
    _draw_errors(panels[2], sample)
    drawn = labels.ids if dice is None else dice
    values = _legend_values(dice_of_labels(sample) if dice is None else dice, shown, drawn)
    entries = [
        (colours[label] if label in shown else FAINT_LINE, f"{label}  {labels[label].name}   {values(label)}")
        for label in listed
    ]
    _legend(figure, entries, legend_rows, with_errors=True, columns=columns)
    return figure


def _legend_values(dice: Mapping[int, float], shown: Collection[int], drawn: Collection[int]) -> Callable[[int], str]:
    """Label id -> what the legend says beside its name: its Dice, or why there is none."""

    def value(label: int) -> str:
        if label in shown:
            return f"Dice {_shown(dice.get(label, math.nan))}"
        return "not in this slice" if label in drawn else "not labelled"

    return value


def dice_of_labels(sample: SlicePrediction) -> dict[int, float]:
    """Label id -> Dice of the unions of its instances; NaN if both unions are empty."""
    labels = np.asarray(sample.labels_n)
    return {
        int(label): _dice(
            sample.predictions_nyx[labels == label].any(axis=0), sample.references_nyx[labels == label].any(axis=0)
        )
        for label in sorted(set(sample.labels_n))
    }


def figure_png(figure: "Figure") -> bytes:
    """The figure as a PNG file; equal figures give equal bytes."""
    stream = BytesIO()
    figure.savefig(
        stream, format="png", dpi=DOTS_PER_INCH, facecolor=figure.get_facecolor(), metadata={"Software": None}
    )
    return stream.getvalue()


def figure_rgb(figure: "Figure") -> npt.NDArray[np.uint8]:
    """The figure as RGB pixels (height, width, 3), for trackers."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba(), dtype=np.uint8)[..., :3])


def _panels(
    image: npt.NDArray[np.floating[Any]],
    spacing_yx_mm: tuple[float, float],
    legend_rows: int,
    title: str,
    number: int,
) -> tuple["Figure", list["Axes"]]:
    """Figure with the image `number` times, side by side, a title above, and room for a legend below."""
    from matplotlib.figure import Figure

    height_mm, width_mm = image.shape[0] * spacing_yx_mm[0], image.shape[1] * spacing_yx_mm[1]
    inches = PANEL_INCHES[number]
    # A slice of extreme proportions gets empty borders: a very narrow figure would leave no room for text.
    panel_height = inches * min(max(height_mm / width_mm, 0.5), 2.0)
    head, foot = 0.42, 0.34 + LEGEND_ROW_INCHES * legend_rows
    height, width = panel_height + head + foot, number * (inches + 0.1) + 0.1
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, facecolor=BACKGROUND)
    panels = []
    for place in range(number):
        left = 0.1 + place * (inches + 0.1)
        axes = figure.add_axes((left / width, foot / height, inches / width, panel_height / height))
        axes.imshow(image, cmap="gray", vmin=0.0, vmax=1.0, aspect=spacing_yx_mm[0] / spacing_yx_mm[1])
        axes.set_axis_off()
        panels.append(axes)
    figure.text(0.5, 1 - 0.5 * head / height, literal(title), color=TEXT, fontsize=11, ha="center", va="center")
    return figure, panels


def draw_marks(axes: "Axes", view: ScreenView, size: float = 8.5) -> None:
    """Write the letters of the directions at the sides of a panel; nothing where the file does not say them."""
    from matplotlib.patheffects import withStroke

    if view.marks is None:
        return
    places = ((0.01, 0.5, "left"), (0.99, 0.5, "right"), (0.5, 0.985, "center"), (0.5, 0.015, "center"))
    upright = ("center", "center", "top", "bottom")
    for mark, (x, y, across), along in zip(view.marks, places, upright, strict=True):
        rim = [withStroke(linewidth=2, foreground=BACKGROUND)]
        style: dict[str, Any] = {"color": TEXT, "fontsize": size, "ha": across, "va": along, "path_effects": rim}
        axes.text(x, y, mark, transform=axes.transAxes, **style)


def _draw_errors(axes: "Axes", sample: SlicePrediction) -> None:
    """Colour the wrong pixels."""
    from matplotlib.colors import to_rgba

    colours = np.array([(0.0, 0.0, 0.0, 0.0), *(to_rgba(colour, 0.8) for _, colour in ERRORS.values())])
    axes.imshow(colours[errors_of_sample(sample)], interpolation="nearest", aspect=axes.get_aspect())


def _draw_instance(
    axes: "Axes", prompt: Box | Point | Mask, reference: Mask, prediction: Mask, colour: str, name: str = ""
) -> None:
    from matplotlib.patheffects import withStroke

    corner = _draw_prompt(axes, prompt, colour)
    draw_contours(axes, reference, prediction, colour)
    halo = [withStroke(linewidth=2, foreground=BACKGROUND)]
    if name:
        axes.text(*corner, name, color=colour, fontsize=8, ha="left", va="bottom", path_effects=halo, clip_on=True)


def _draw_prompt(axes: "Axes", prompt: Box | Point | Mask, colour: str) -> tuple[float, float]:
    """Draw a thin box, a cross at a point, or the dotted outline of a mask; returns its upper left, for a name."""
    from matplotlib.patches import Rectangle

    if isinstance(prompt, Point):
        cross: dict[str, Any] = {"marker": "+", "markersize": 9, "markeredgewidth": 1.4, "color": colour}
        axes.plot([prompt.x], [prompt.y], **cross, scalex=False, scaley=False)
        return prompt.x + 1.5, prompt.y - 1.5
    if isinstance(prompt, Box):
        # Pixel i covers i - 0.5 .. i + 0.5, and both corners of a box are inside it.
        width, height = prompt.x1 - prompt.x0 + 1, prompt.y1 - prompt.y0 + 1
        corner = (prompt.x0 - 0.5, prompt.y0 - 0.5)
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=0.7, alpha=0.75))
        return corner
    draw_contour(axes, prompt, colour, "dotted", 1.0)
    box = box_around(prompt) if prompt.any() else Box(0, 0, 0, 0)
    return box.x0 - 0.5, box.y0 - 0.5


def draw_contours(axes: "Axes", reference: Mask, prediction: Mask, colour: str, scale: float = 1.0) -> None:
    """Prediction solid in the colour of its label, reference dashed white.

    Both have a dark rim: cartilage and fluid are as white as the dashes, and as bright as some colours. Where the two
    run along each other, the colour shows between the dashes.
    """
    from matplotlib.patheffects import withStroke

    rims = [withStroke(linewidth=width * scale, foreground="#000000") for width in (2.9, 3.2)]
    draw_contour(axes, prediction, colour, "solid", 1.7 * scale, rims[:1])
    draw_contour(axes, reference, "#ffffff", DASHES, 1.4 * scale, rims[1:])


def draw_contour(axes: "Axes", mask: Mask, colour: str, style: Any, width: float, effects: Sequence[Any] = ()) -> None:
    """Draw the outline of a mask; nothing for an empty mask."""
    if not mask.any():
        return
    # A margin of one background pixel closes outlines at the border of the image.
    padded = np.pad(mask.astype(np.float32), 1)
    rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
    lines = axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linestyles=[style], linewidths=[width])
    lines.set_path_effects(list(effects))
    axes.set_xlim(-0.5, mask.shape[1] - 0.5)
    axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _legend(
    figure: "Figure",
    entries: Iterable[tuple[str, str]],
    legend_rows: int,
    *,
    with_errors: bool = False,
    columns: int = 2,
) -> None:
    """Labels in columns, and below them the meaning of the line styles and of the colours of errors."""
    from matplotlib.lines import Line2D

    width, height = figure.get_figwidth(), figure.get_figheight()
    for number, (colour, text) in enumerate(entries):
        left = 0.14 + (number % columns) * (width - 0.2) / columns
        bottom = 0.36 + LEGEND_ROW_INCHES * (legend_rows - 1 - number // columns) + 0.1
        ink = QUIET if colour == FAINT_LINE else TEXT
        _legend_line(figure, (left, bottom), text, colour, "-", ink, (width - 0.2) / columns - 0.5)
    styles: list[tuple[str, str, Any]] = [
        ("prediction (colour of its label)", QUIET, "-"),
        ("reference", "#ffffff", DASHES),
    ]
    styles += [(name, colour, "-") for name, colour in (ERRORS.values() if with_errors else ())]
    places = (0.0, 0.31, 0.47, 0.6, 0.72) if with_errors else (0.0, 0.5)
    for (text, colour, style), place in zip(styles, places, strict=True):
        _legend_line(figure, (0.14 + place * (width - 0.2), 0.18), text, colour, style, QUIET)
    figure.add_artist(Line2D([0.1 / width, 1 - 0.1 / width], [0.32 / height] * 2, color=FAINT_LINE, linewidth=0.6))


def _legend_line(
    figure: "Figure",
    at_inches: tuple[float, float],
    text: str,
    colour: str,
    style: Any,
    ink: str,
    room_inches: float = math.inf,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.lines import Line2D

    width, height = figure.get_figwidth(), figure.get_figheight()
    left, y = at_inches[0] / width, at_inches[1] / height
    line = Line2D(
        [left, left + 0.34 / width], [y, y], color=colour, linestyle=style, linewidth=2.0 if style == "-" else 1.2
    )
    figure.add_artist(line)
    shown = figure.text(left + 0.44 / width, y, literal(text), color=ink, fontsize=9.5, va="center_baseline")
    if len(text) * WIDEST_INCHES > room_inches:
        # A name that is longer than its room is smaller; it is never cut.
        needed = shown.get_window_extent(FigureCanvasAgg(figure).get_renderer()).width / figure.dpi
        shown.set_fontsize(9.5 * min(1.0, room_inches / needed))


def _dice(prediction: Mask, reference: Mask) -> float:
    both = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    return 2 * int(np.count_nonzero(prediction & reference)) / both if both else math.nan


def _shown(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _require_one_grid(*arrays: npt.NDArray[Any]) -> None:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"image and masks must be (y, x) on one grid, found {sorted(shapes)}")
