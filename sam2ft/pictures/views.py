"""How a slice is turned and flipped for a picture, after the affine of its volume, with letters at its sides."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.events import SlicePrediction
from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Box, Mask, Point

# Axis of RAS along which the slices lie -> the axes that run from left to right and from top to bottom on screens of
# radiologists, both backwards: sagittal anterior at the left; coronal and axial the patient's right at the left.
_ON_SCREEN = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
_LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
# A direction within 22.5 degrees of an axis of the body has one letter, one between two axes has both.
_OBLIQUE = float(np.sin(np.radians(22.5)))


@dataclass(frozen=True)
class ScreenView:
    """First transposed, then flipped. Without marks the axes of the file do not say how they lie in the body."""

    transposed: bool = False
    flipped_rows: bool = False
    flipped_columns: bool = False
    marks: tuple[str, str, str, str] | None = None
    """Letters of the directions left, right, top and bottom: L, R, A, P, S, I, or two of them (`AL`)."""

    def plane(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array whose last two axes are those of the slice, as it is shown."""
        turned = array.swapaxes(-1, -2) if self.transposed else array
        rows = slice(None, None, -1 if self.flipped_rows else 1)
        columns = slice(None, None, -1 if self.flipped_columns else 1)
        return turned[..., rows, columns]

    def spacing(self, spacing_yx_mm: tuple[float, float]) -> tuple[float, float]:
        """(distance of rows, of columns) as shown, mm."""
        return spacing_yx_mm[::-1] if self.transposed else spacing_yx_mm

    def point(self, x: int, y: int, shape_yx: tuple[int, ...]) -> tuple[int, int]:
        """(x, y) as shown of a position in the slice, in pixels."""
        (height, width), (x, y) = (shape_yx[::-1], (y, x)) if self.transposed else (shape_yx, (x, y))
        return (width - 1 - x if self.flipped_columns else x), (height - 1 - y if self.flipped_rows else y)


AS_STORED = ScreenView()


def view_of(geometry: Geometry) -> ScreenView:
    """View of the slices (z) of a volume; as they are stored where the file says no orientation."""
    if not geometry.oriented:
        return AS_STORED
    directions = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    across, down = _ON_SCREEN[int(np.argmax(np.abs(directions[:, 2])))]
    straight = abs(directions[across, 0]) + abs(directions[down, 1])
    transposed = bool(straight < abs(directions[across, 1]) + abs(directions[down, 0]))
    right, bottom = directions[:, 1 if transposed else 0], directions[:, 0 if transposed else 1]
    flipped_columns, flipped_rows = bool(right[across] > 0), bool(bottom[down] > 0)
    right, bottom = (-right if flipped_columns else right), (-bottom if flipped_rows else bottom)
    marks = (_letters(-right), _letters(right), _letters(-bottom), _letters(bottom))
    return ScreenView(transposed, flipped_rows, flipped_columns, marks)


def _letters(direction: npt.NDArray[np.float64]) -> str:
    """Letters of the axes of the body that a direction in RAS runs along, the nearest first."""
    order = sorted(range(3), key=lambda axis: -abs(direction[axis]))
    named = [axis for axis in order if abs(direction[axis]) > _OBLIQUE] or order[:1]
    return "".join(_LETTERS[axis][0 if direction[axis] > 0 else 1] for axis in named)


def shown_sample(sample: SlicePrediction, view: ScreenView) -> SlicePrediction:
    """The slice with all its masks and prompts as the view shows them."""
    if (view.transposed, view.flipped_rows, view.flipped_columns) == (False, False, False):
        return sample
    shape = sample.image_yx.shape
    return replace(
        sample,
        image_yx=view.plane(sample.image_yx),
        references_nyx=view.plane(np.asarray(sample.references_nyx)),
        predictions_nyx=view.plane(np.asarray(sample.predictions_nyx)),
        boxes_n=[_shown_box(box, view, shape) for box in sample.boxes_n],
        prompts_n=_shown_prompts(sample.prompts_n, view, shape),
    )


def _shown_prompts(
    prompts_n: Sequence[Box | Point | Mask], view: ScreenView, shape_yx: tuple[int, ...]
) -> list[Box | Point | Mask]:
    shown: list[Box | Point | Mask] = []
    for prompt in prompts_n:
        if isinstance(prompt, Box):
            shown.append(_shown_box(prompt, view, shape_yx))
        elif isinstance(prompt, Point):
            x, y = view.point(prompt.x, prompt.y, shape_yx)
            shown.append(prompt._replace(x=x, y=y))
        else:
            shown.append(view.plane(prompt))
    return shown


def _shown_box(box: Box, view: ScreenView, shape_yx: tuple[int, ...]) -> Box:
    first, second = view.point(box.x0, box.y0, shape_yx), view.point(box.x1, box.y1, shape_yx)
    (x0, x1), (y0, y1) = sorted((first[0], second[0])), sorted((first[1], second[1]))
    return Box(x0, y0, x1, y1)
