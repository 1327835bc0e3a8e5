"""What SAM 2 is given besides the image: boxes, points, masks, and which slice of a batch each belongs to."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Box(NamedTuple):
    """(x0, y0, x1, y1), inclusive pixel indices: a box around one pixel has x0 == x1 and y0 == y1."""

    x0: int
    y0: int
    x1: int
    y1: int


def box_around(mask_yx: Mask, *, shift_px: int = 0, rng: np.random.Generator | None = None) -> Box:
    """Inclusive pixel box around a non-empty mask, each side moved outward by an integer 0..shift_px drawn from `rng`.

    The box stays inside the picture. Errors: ValueError for an empty mask, or for shift_px > 0 without `rng`.
    """
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    if not len(rows):
        raise ValueError("a box needs a non-empty mask")
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
    if shift_px == 0:
        return box
    if rng is None:
        raise ValueError("shift_px > 0 needs a random generator")
    height, width = mask_yx.shape
    left, top, right, bottom = (int(value) for value in rng.integers(0, shift_px, size=4, endpoint=True))
    return Box(
        max(0, box.x0 - left), max(0, box.y0 - top), min(width - 1, box.x1 + right), min(height - 1, box.y1 + bottom)
    )


def boxes_to_model_frame(
    boxes_n4: npt.ArrayLike, *, height: int, width: int, image_size: int
) -> npt.NDArray[np.float32]:
    """Original-frame inclusive boxes -> model-frame inclusive boxes: the box that the resized mask would have.

    X0 = x0 * sx, X1 = (x1 + 1) * sx - 1 with sx = image_size / width, and the same for y. SAM adds 0.5 to box corners
    (prompt_encoder._embed_boxes), so corners are pixel indices, not edges.
    """
    boxes = np.asarray(boxes_n4, dtype=np.float64).reshape(-1, 4)
    scale = np.array([image_size / width, image_size / height])
    return np.concatenate([boxes[:, :2] * scale, (boxes[:, 2:] + 1) * scale - 1], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Prompts:
    """n prompts for a batch of slices, in the MODEL frame; arrays of numpy or tensors of torch."""

    slice_of_n: Any
    """(n,) int64: the position in the batch of the slice that each prompt belongs to; non-decreasing."""
    boxes_n4: Any = None
    """(n, 4) float32, inclusive pixel indices, or None."""
    points_nk2: Any = None
    """(n, k, 2) float32 pixel indices (x, y), or None."""
    point_labels_nk: Any = None
    """(n, k) int32: 1 inside, 0 outside, -1 padding; given together with points."""
    masks_n1hw: Any = None
    """(n, 1, image_size / 4, image_size / 4) float32 logits as stock SAM 2 takes them, or None."""

    def __len__(self) -> int:
        return int(self.slice_of_n.shape[0])
