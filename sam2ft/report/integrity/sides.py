"""Labels whose names say left or right, and whether they lie on that side of the body."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.likeness import BLOCKS

_WORDS = {"left": "left", "right": "right", "links": "left", "rechts": "right"}
_SHORT = {"l": "left", "r": "right", "lt": "left", "rt": "right"}
"""These are a side only where the other side of the pair is a label too: `vertebra L` is none."""
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])[0-9]*|[0-9]+")
WHOLE_BODY_MM = 250.0
"""Only an image that is at least as wide from left to right tells by its middle on which side a single label lies."""
_CLEAR_SHARE = 0.1
"""A single label lies on a side when it is farther from the middle of the body than this part of the image's width."""


class SidePair(NamedTuple):
    """Ids of a structure's labels by side; None where the table has no such label."""

    name: str
    left: int | None
    right: int | None


def side_pairs(labels: LabelTable) -> list[SidePair]:
    """The structures of a label table whose labels have a side in their names."""
    found: dict[str, dict[str, int]] = {}
    surely: set[str] = set()
    for label in labels:
        for rest, side, is_word in _sides_of(label.name):
            found.setdefault(rest, {}).setdefault(side, label.id)
            surely |= {rest} if is_word else set()
    pairs = [SidePair(name, ids.get("left"), ids.get("right")) for name, ids in found.items()]
    return [pair for pair in pairs if None not in pair or pair.name in surely]


def _sides_of(name: str) -> Iterable[tuple[str, str, bool]]:
    """(name without the side, the side, whether it is a word), if there is exactly one."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    sides = [(at, _WORDS.get(part) or _SHORT.get(part)) for at, part in enumerate(parts)]
    sides = [(at, side) for at, side in sides if side]
    words = [(at, side) for at, side in sides if parts[at] in _WORDS]
    chosen = words or sides
    if len(chosen) == 1:
        at, side = chosen[0]
        yield " ".join(parts[:at] + parts[at + 1 :]), str(side), bool(words)


def wrong_side(
    pair: SidePair, centres: Mapping[int, tuple[float, float, float]], geometry: Geometry, middle_mm: float | None
) -> str:
    """What is wrong with the sides of a pair in one volume; empty where nothing is, or nothing can be said.

    Args:
        centres: label -> RAS position in mm, of the labels in the volume.
        middle_mm: `body_middle` of the volume.
    """
    if not geometry.oriented:
        return ""
    left, right = (centres.get(label) if label is not None else None for label in (pair.left, pair.right))
    across = float(np.abs(geometry.affine[0, :3]).max())
    if left is not None and right is not None:
        return f"left lies {left[0] - right[0]:.0f} mm to the right of right" if left[0] - right[0] > across else ""
    if middle_mm is None:
        return ""
    clear = _CLEAR_SHARE * width_mm(geometry)
    if left is not None and left[0] - middle_mm > clear:
        return f"left lies {left[0] - middle_mm:.0f} mm to the right of the middle"
    if right is not None and middle_mm - right[0] > clear:
        return f"right lies {middle_mm - right[0]:.0f} mm to the left of the middle"
    return ""


def width_mm(geometry: Geometry) -> float:
    """Extent of an image from left to right."""
    return float(np.abs(geometry.affine[0, :3]) @ np.array(geometry.shape_zyx[::-1]))


def body_middle(geometry: Geometry, means: Iterable[int]) -> float | None:
    """Right-left position (RAS, mm) of the middle of what is bright, in an image that is as wide as a body.

    Args:
        means: `block_means` of the image.
    """
    if not geometry.oriented or width_mm(geometry) < WHOLE_BODY_MM:
        return None
    blocks = np.array(list(means), dtype=np.float64).reshape((BLOCKS,) * 3)
    body = np.argwhere(blocks > blocks.mean())
    if not len(body):
        return None
    # The middle of block b of n voxels lies at index n (b + 1/2) / 8 - 1/2.
    indices = np.array(geometry.shape_zyx) * (body + 0.5) / BLOCKS - 0.5
    positions = indices[:, ::-1] @ geometry.affine[0, :3] + geometry.affine[0, 3]
    return float((positions.min() + positions.max()) / 2)
