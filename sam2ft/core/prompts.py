"""Prompts of SAM 2 (boxes, points, masks): types, box jitter, conversion between frames, batches, mixed kinds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Box(NamedTuple):
    """Box (x0, y0, x1, y1), inclusive pixel indices: a box around one pixel has x0 == x1 and y0 == y1."""

    x0: int
    y0: int
    x1: int
    y1: int


class Point(NamedTuple):
    """Point (x, y), pixel indices."""

    x: int
    y: int


def box_around(mask_yx: Mask, *, shift_px: int = 0, rng: np.random.Generator | None = None) -> Box:
    """Inclusive pixel box around a non-empty mask, each side moved outward by an integer 0..shift_px drawn from `rng`.

    The box stays inside the image.

    Raises:
        ValueError: the mask is empty, or shift_px > 0 without `rng`.
    """
    rows, columns = np.flatnonzero(mask_yx.any(axis=1)), np.flatnonzero(mask_yx.any(axis=0))
    if not len(rows):
        raise ValueError("a box needs a non-empty mask")
    box = Box(int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1]))
    return box if shift_px == 0 else shifted_box(box, mask_yx.shape, shift_px=shift_px, rng=rng)


def shifted_box(
    box: Box,
    shape_yx: Sequence[int],
    *,
    shift_px: int,
    rng: np.random.Generator | None,
    direction: Literal["outward", "both"] = "outward",
) -> Box:
    """`box` in an image of `shape_yx`, each side moved by an integer drawn from `rng`; it stays inside the image.

    Args:
        direction: "outward": each side moves outward by 0..shift_px. "both": by -shift_px..shift_px, inward at most to
            the middle of the box, so that the box is never empty.

    Raises:
        ValueError: `rng` is None.
    """
    if rng is None:
        raise ValueError("shift_px > 0 needs a random generator")
    height, width = shape_yx
    least = 0 if direction == "outward" else -shift_px
    left, top, right, bottom = (int(value) for value in rng.integers(least, shift_px, size=4, endpoint=True))
    return Box(
        min(max(0, box.x0 - left), (box.x0 + box.x1) // 2),
        min(max(0, box.y0 - top), (box.y0 + box.y1) // 2),
        max(min(width - 1, box.x1 + right), (box.x0 + box.x1 + 1) // 2),
        max(min(height - 1, box.y1 + bottom), (box.y0 + box.y1 + 1) // 2),
    )


def boxes_to_model_frame(
    boxes_n4: npt.ArrayLike, *, height: int, width: int, image_size: int
) -> npt.NDArray[np.float32]:
    """Convert inclusive boxes from the ORIGINAL to the MODEL frame: the box that the resized mask would have.

    X0 = x0 * sx, X1 = (x1 + 1) * sx - 1 with sx = image_size / width, and the same for y. SAM adds 0.5 to box corners
    (prompt_encoder._embed_boxes), so corners are pixel indices, not edges.
    """
    boxes = np.asarray(boxes_n4, dtype=np.float64).reshape(-1, 4)
    scale = np.array([image_size / width, image_size / height])
    return np.concatenate([boxes[:, :2] * scale, (boxes[:, 2:] + 1) * scale - 1], axis=1).astype(np.float32)


def points_to_model_frame(
    points_n2: npt.ArrayLike, *, height: int, width: int, image_size: int
) -> npt.NDArray[np.float32]:
    """Convert pixel indices (x, y) from the ORIGINAL to the MODEL frame.

    A pixel index means the centre of the pixel in both frames, because SAM adds 0.5 (prompt_encoder._embed_points):
    X = (x + 0.5) * sx - 0.5 with sx = image_size / width, and the same for y.
    """
    points = np.asarray(points_n2, dtype=np.float64).reshape(-1, 2)
    scale = np.array([image_size / width, image_size / height])
    return np.asarray((points + 0.5) * scale - 0.5, dtype=np.float32)


def points_to_original_frame(
    points_n2: npt.ArrayLike, *, height: int, width: int, image_size: int
) -> npt.NDArray[np.int64]:
    """Convert points from the MODEL to the ORIGINAL frame: the exact inverse of `points_to_model_frame`."""
    points = np.asarray(points_n2, dtype=np.float64).reshape(-1, 2)
    scale = np.array([image_size / width, image_size / height])
    return np.asarray(np.rint((points + 0.5) / scale - 0.5), dtype=np.int64)


@dataclass(frozen=True)
class Prompts:
    """n prompts for a batch of slices, in the MODEL frame; numpy arrays or torch tensors."""

    slice_of_n: Any
    """(n,) int64: the position in the batch of the slice that each prompt belongs to; non-decreasing."""
    boxes_n4: Any = None
    """(n, 4) float32, inclusive pixel indices, or None."""
    points_nk2: Any = None
    """(n, k, 2) float32 pixel indices (x, y), or None."""
    point_labels_nk: Any = None
    """(n, k) int32: 1 inside, 0 outside, 2 and 3 corners of a box, -1 padding; given together with points."""
    masks_n1hw: Any = None
    """(n, 1, image_size / 4, image_size / 4) float32 logits as stock SAM 2 takes them, or None."""
    has_mask_n: Any = None
    """(n,) bool: which prompts have a mask; None: all, if masks are given. Other entries of `masks_n1hw` are unused."""
    num_points_n: tuple[int, ...] | None = None
    """Number of points of each prompt, before its padding; None: all k. Not an array: it decides how the decoder is
    called, and reading it from a device would make the host wait."""

    def __len__(self) -> int:
        return int(self.slice_of_n.shape[0])

    def map(self, change: Callable[[Any], Any]) -> "Prompts":
        """Copy with `change` applied to every array, for example to move them to a device."""
        changed = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "num_points_n"}
        return replace(self, **{name: change(array) for name, array in changed.items() if array is not None})


def joined_prompts(parts: Sequence[Prompts], slice_of_n: Any, concatenate: Callable[[list[Any]], Any]) -> Prompts:
    """Combine the prompts of several slices into those of a batch; all parts must have the same arrays."""
    names = [field.name for field in fields(Prompts) if field.name not in ("slice_of_n", "num_points_n")]
    columns = {name: [getattr(part, name) for part in parts] for name in names}
    arrays = {name: concatenate(column) for name, column in columns.items() if column[0] is not None}
    counts = [part.num_points_n for part in parts]
    num_points_n = None if None in counts else tuple(count for own in counts for count in own or ())
    return Prompts(slice_of_n, **arrays, num_points_n=num_points_n)


# --- mixtures of kinds ------------------------------------------------------------------------------------------------

KINDS = ("box", "point", "mask")
# Point labels of stock SAM 2: the two corners of a box (sam2_image_predictor._predict), a point inside, padding.
UPPER_LEFT, LOWER_RIGHT, INSIDE, PADDING = 2, 3, 1, -1
# How stock SAM 2 converts a mask of 0 and 1 to logits (sam2_base._use_mask_as_output: out_scale, out_bias).
MASK_SCALE, MASK_BIAS = 20.0, -10.0


PromptShares = Mapping[str, float]
"""Kind of prompt -> share of instances that are prompted by it; a missing kind has the share 0."""


def kinds_of(shares: PromptShares) -> tuple[str, ...]:
    """The kinds of prompt with a share above 0."""
    return tuple(kind for kind in KINDS if shares.get(kind, 0) > 0)


def drawn_kind(shares: PromptShares, rng: np.random.Generator) -> str:
    """One kind of prompt, drawn with the shares as probabilities."""
    kinds = kinds_of(shares)
    bounds = np.cumsum([shares[kind] for kind in kinds])
    return kinds[int(np.searchsorted(bounds[:-1], rng.random() * bounds[-1], side="right"))]


def main_kind(shares: PromptShares) -> str:
    """The kind with the largest share; ties are resolved in the order box, point, mask."""
    return max(KINDS, key=lambda kind: shares.get(kind, 0))


def mixed_prompts(
    offered: Sequence[str],
    kinds_n: Sequence[str],
    slice_of_n: npt.NDArray[np.int64],
    boxes_n4: npt.NDArray[np.float32],
    points_n2: npt.NDArray[np.float32],
    masks_n1hw: npt.NDArray[np.float32] | None,
) -> Prompts:
    """Prompts of mixed kinds: instance i is prompted by its box, point or mask according to `kinds_n[i]`.

    Which arrays the result has depends only on `offered`, not on the drawn kinds. So every part of the model that a
    configuration uses is in the graph of every batch, as DDP requires.

    Args:
        offered: kinds that can occur in a batch.
        kinds_n: kind of each instance.
        slice_of_n: position of each instance's slice in the batch.
        boxes_n4: boxes in the MODEL frame, read for instances of kind box.
        points_n2: points in the MODEL frame, read for instances of kind point.
        masks_n1hw: mask logits in the MODEL frame, used for instances of kind mask; None when no mask is offered.
    """
    if tuple(offered) == ("box",):
        return Prompts(slice_of_n, boxes_n4=boxes_n4)
    is_box, is_point, is_mask = (np.array([kind == name for kind in kinds_n], dtype=np.bool_) for name in KINDS)
    prompts = Prompts(slice_of_n)
    if "mask" in offered:
        prompts = replace(prompts, masks_n1hw=masks_n1hw)
        if tuple(offered) == ("mask",):
            return prompts
        prompts = replace(prompts, has_mask_n=is_mask)
    room = 2 if "box" in offered else 1
    points = np.zeros((len(kinds_n), room, 2), dtype=np.float32)
    labels = np.full((len(kinds_n), room), PADDING, dtype=np.int32)
    points[is_point, 0], labels[is_point, 0] = points_n2[is_point], INSIDE
    if room == 2:
        points[is_box], labels[is_box] = boxes_n4[is_box].reshape(-1, 2, 2), (UPPER_LEFT, LOWER_RIGHT)
    counts = tuple(int(count) for count in 2 * is_box + is_point)
    return replace(prompts, points_nk2=points, point_labels_nk=labels, num_points_n=counts)
