"""Instances of a reference mask of one slice (components, or as given), and their box, point and mask prompts.

All coordinates are in the ORIGINAL frame.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2ft.core.components import components
from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Box, Mask, Point, box_around


@dataclass(frozen=True)
class Instance:
    """One instance of one label in one slice (from `label_boxes`: all pixels of the label)."""

    label: int
    instance: int
    """1-based number, in raster order of the components of the label; of a given instance its id."""
    mask_yx: Mask
    box: Box


def instances_of(
    mask_yx: npt.NDArray[np.integer], label_ids: Collection[int], ids_yx: npt.NDArray[np.integer] | None = None
) -> list[Instance]:
    """Every instance of every label of `label_ids` in a label map of one slice, by label, then number.

    Args:
        ids_yx: ids of given instances, unique within a label: all pixels of an id are one instance, in however many
            pieces. None: every connected component is an instance.
    """
    if ids_yx is not None:
        return _given_instances(mask_yx, label_ids, ids_yx)
    from scipy import ndimage  # 0.2 s, which a plan on a login node need not wait for

    found = []
    for label in _present(mask_yx, label_ids):
        of_label = mask_yx == label
        # Only within the bounding box of the label, which is faster than the whole slice.
        around = box_around(of_label)
        numbered, _ = components(of_label[_window(around)])
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbered), start=1):
            x, y = around.x0, around.y0
            box = Box(x + columns.start, y + rows.start, x + columns.stop - 1, y + rows.stop - 1)
            mask = np.zeros(mask_yx.shape, dtype=np.bool_)
            mask[_window(box)] = numbered[rows, columns] == number
            found.append(Instance(label, number, mask, box))
    return found


def _given_instances(
    mask_yx: npt.NDArray[np.integer], label_ids: Collection[int], ids_yx: npt.NDArray[np.integer]
) -> list[Instance]:
    found = []
    for label in _present(mask_yx, label_ids):
        of_label = np.where(mask_yx == label, ids_yx, 0)
        numbers = [int(number) for number in np.flatnonzero(np.bincount(of_label.ravel())) if number]
        masks = ((number, of_label == number) for number in numbers)
        found += [Instance(label, number, mask, box_around(mask)) for number, mask in masks]
    return found


def label_boxes(mask_yx: npt.NDArray[np.integer], label_ids: Collection[int]) -> list[Instance]:
    """One instance per label present: all pixels of the label, in one box, with number 1."""
    masks = ((label, mask_yx == label) for label in _present(mask_yx, label_ids))
    return [Instance(label, 1, mask, box_around(mask)) for label, mask in masks]


def _present(mask_yx: npt.NDArray[np.integer], label_ids: Collection[int]) -> list[int]:
    # Counting the values is ten times faster than np.unique, which sorts; a stored mask has at most 16 bits.
    wanted = set(label_ids)
    return [int(label) for label in np.flatnonzero(np.bincount(mask_yx.ravel())) if int(label) in wanted]


def keyed_rng(purpose: str, seed: int, epoch: int, key: SliceKey, *instance: int) -> np.random.Generator:
    """Random number generator of one draw, seeded only by the arguments.

    It is independent of the number of workers, the number of ranks and the step at which a run resumes.

    Args:
        purpose: what is drawn, such as "box".
        instance: (label, number), or nothing for a draw of the whole slice.
    """
    name = "\0".join((purpose, str(seed), str(epoch), key.dataset, key.subject, key.volume, str(key.index)))
    digest = hashlib.sha256("\0".join((name, *map(str, instance))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def chosen_instances(instances: Sequence[Instance], most: int | None, rng: np.random.Generator) -> list[Instance]:
    """At most `most` of the instances (None: all), drawn without replacement; their order is kept."""
    if most is None or len(instances) <= most:
        return list(instances)
    chosen = rng.choice(len(instances), size=most, replace=False)
    return [instances[i] for i in sorted(chosen)]


# --- point and mask prompts for training ------------------------------------------------------------------------------


def random_pixel(instance: Instance, rng: np.random.Generator) -> Point:
    """One pixel of the instance, drawn uniformly."""
    window = _window(instance.box)
    rows, columns = np.nonzero(instance.mask_yx[window])
    number = int(rng.integers(len(rows)))
    return Point(instance.box.x0 + int(columns[number]), instance.box.y0 + int(rows[number]))


def interior_pixel(instance: Instance) -> Point:
    """The pixel of the instance that is farthest from its outside; deterministic.

    The border of the image counts as outside. Of several such pixels the one nearest to the centroid is used, then the
    first in raster order.
    """
    return interior_pixels(instance, 1)[0]


def interior_pixels(instance: Instance, count: int) -> list[Point]:
    """`interior_pixel`, then repeatedly the pixel that is farthest from all previous ones; deterministic.

    Pixels on the border of the instance are used only if there are too few others. Ties: the first in raster order.
    An instance with fewer than `count` pixels gives all of them.
    """
    from scipy import ndimage  # 0.2 s, which a plan on a login node need not wait for

    inside = instance.mask_yx[_window(instance.box)]
    y, x = np.nonzero(inside)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1][y, x]
    # Multiplied by the number of pixels, distances to the centroid are differences of integers, so ties are exact.
    off_centre = (y * len(y) - y.sum()).astype(np.float64) ** 2 + (x * len(x) - x.sum()).astype(np.float64) ** 2
    first = int(np.lexsort((off_centre, -depth))[0])
    off_border = np.flatnonzero(depth > 1)
    offered = off_border if len(off_border) >= count else np.arange(len(y))
    chosen, nearest = [first], np.full(len(offered), np.inf)
    while len(chosen) < min(count, len(offered)):
        last = chosen[-1]
        nearest = np.minimum(nearest, (y[offered] - y[last]) ** 2 + (x[offered] - x[last]) ** 2)
        chosen.append(int(offered[np.argmax(nearest)]))
    return [Point(instance.box.x0 + int(x[one]), instance.box.y0 + int(y[one])) for one in chosen]


def degraded_mask(instance: Instance, shift_px: int, rng: np.random.Generator) -> Mask:
    """The mask of the instance with its outline moved smoothly inward and outward by at most `shift_px` pixels.

    The signed distance to the outline plus a smooth random field with values in [-shift_px, shift_px] is thresholded at
    0. If the result would be empty, the reference mask is returned. `instance.box` must be tight.
    """
    reference = instance.mask_yx
    margin, box = shift_px + 1, instance.box
    # Beyond its upper end a slice is clipped; below 0 it would count from the end.
    window = _window(Box(max(0, box.x0 - margin), max(0, box.y0 - margin), box.x1 + margin, box.y1 + margin))
    inside = reference[window]
    if shift_px == 0 or inside.all():
        return reference
    from scipy import ndimage

    # Pixel centres are half a pixel away from the outline.
    depth = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    signed_px = depth - 0.5 * np.sign(depth)
    moved = signed_px + shift_px * _smooth_field(inside.shape, max(8, 4 * shift_px), rng) > 0
    if not moved.any():
        return reference
    degraded = np.zeros_like(reference)
    degraded[window] = moved
    return degraded


def _smooth_field(shape_yx: tuple[int, ...], spacing_px: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Values in [-1, 1]: drawn on a grid of `spacing_px`, linear between its points.

    With a spacing of four times the amplitude it changes by at most half a pixel per pixel, so outlines stay connected.
    """
    height, width = shape_yx
    knots = rng.uniform(-1, 1, size=(height // spacing_px + 2, width // spacing_px + 2))
    y, x = np.arange(height) / spacing_px, np.arange(width) / spacing_px
    row, column = y.astype(np.intp), x.astype(np.intp)
    down, right = (y - row)[:, None], x - column
    # Rows first: every value is a sum of two products, identical on every machine and number of threads.
    rows = knots[row] * (1 - down) + knots[row + 1] * down
    return np.asarray(rows[:, column] * (1 - right) + rows[:, column + 1] * right)


def _window(box: Box) -> tuple[slice, slice]:
    return slice(box.y0, box.y1 + 1), slice(box.x0, box.x1 + 1)
