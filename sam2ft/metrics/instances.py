"""Instances of one label in both masks: components without specks, or given ids; a prediction is numbered by them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2ft.core.components import components
from sam2ft.core.prompts import Mask

Numbers = npt.NDArray[np.int32]
"""Instance numbers on the grid of a mask: 0 is background, instances count from 1."""

PARTS_OF_SPECK = 20
"""A component is a speck when this many of it are smaller than the largest component: less than 5 %."""


@dataclass(frozen=True)
class MaskInstances:
    """Instances and specks of one mask."""

    numbers: Numbers
    specks: Mask
    ids: npt.NDArray[np.int32] | None = None
    """Number -> given id, increasing; 0 -> 0. None: the numbers are the ids."""


@dataclass(frozen=True)
class PairInstances:
    """Instances of the reference and of the prediction, cropped to the block that holds both masks."""

    reference: Numbers
    """By number, or by given id."""
    prediction: Numbers
    num_specks: int
    """Specks of the prediction, and those of the reference that touch no speck of the prediction."""


def mask_instances(
    mask: Mask, voxel_mm3: float, min_mm3: float | None = None, given: npt.NDArray[np.integer] | None = None
) -> MaskInstances:
    """Instances of a mask, numbered in raster order: its components (8 or 26 neighbours) without specks.

    A speck is smaller than `min_mm3`; by definition (None) it is smaller than 5 % of the largest component.

    Args:
        mask: 2-D or 3-D.
        voxel_mm3: volume of a voxel.
        min_mm3: smallest volume of an instance.
        given: instance ids on the same grid, above 0 in the whole mask: they are the instances, numbered in increasing
            order, and the rule for specks applies to the components of each id.
    """
    if given is None:
        return _without_specks(*components(mask), voxel_mm3, min_mm3)
    from scipy import ndimage

    numbers, specks = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, np.bool_)
    ids = [0]
    boxes = ndimage.find_objects(np.where(mask, given, 0).astype(np.int32))
    for one, box in enumerate(boxes, start=1):
        if box is None:
            continue
        of_id = _without_specks(*components(mask[box] & (given[box] == one)), voxel_mm3, min_mm3)
        specks[box] |= of_id.specks
        if of_id.numbers.any():
            numbers[box][of_id.numbers > 0] = len(ids)
            ids.append(one)
    return MaskInstances(numbers, specks, np.array(ids, np.int32))


def _without_specks(parts: Numbers, count: int, voxel_mm3: float, min_mm3: float | None) -> MaskInstances:
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    small = PARTS_OF_SPECK * sizes < sizes.max()
    if min_mm3 is not None:
        # Of a component that is exactly as large as asked, rounding must not make a speck.
        small = sizes * voxel_mm3 < min_mm3 * (1 - 1e-9)
    small[0] = False
    if not small.any():
        return MaskInstances(parts, np.zeros(parts.shape, np.bool_))
    kept = np.where(small, 0, np.cumsum(~small) - 1).astype(np.int32)
    return MaskInstances(kept[parts], small[parts])


def pair_instances(
    prediction: Mask,
    reference: Mask,
    spacing_mm: tuple[float, ...],
    *,
    min_mm3: float | None = None,
    given: npt.NDArray[np.integer] | None = None,
) -> PairInstances:
    """Instances of both masks, which have one shape; `given` are the instance ids of the reference.

    A component of the prediction that is no speck gets the number of the reference instance that it overlaps most, and
    is first divided between touching instances (`divided`). Components that overlap no reference instance get the
    numbers after the last one (after every id, where ids are given). Specks have no number, so they neither add to an
    instance nor become one.
    """
    voxel_mm3 = float(np.prod(spacing_mm))
    of_reference = mask_instances(reference, voxel_mm3, min_mm3, given)
    parts = components(prediction) if given is None else divided(prediction, of_reference.numbers, spacing_mm)
    predicted = _without_specks(*parts, voxel_mm3, min_mm3)
    numbers = of_reference.numbers, _numbered_like(of_reference.numbers, predicted.numbers)
    if of_reference.ids is not None and given is not None:
        # Parts of the prediction that belong to no instance follow after every id, also those of specks.
        more = np.arange(1, numbers[1].max(initial=0) + 1, dtype=np.int32) + int(given.max(initial=0))
        ids = np.concatenate([of_reference.ids, more])
        numbers = ids[numbers[0]], ids[numbers[1]]
    return PairInstances(*numbers, _num_specks(predicted.specks, of_reference.specks))


def divided(prediction: Mask, numbers: Numbers, spacing_mm: tuple[float, ...]) -> tuple[Numbers, int]:
    """Components of a prediction as a label map with the given reference instances could show them.

    A label map cannot separate instances that touch: where the reference's do, every voxel of a predicted component
    goes to the nearest (in mm) of those that the component overlaps; one overlapped by less than 5 % of the overlap
    with the best takes no part. Nor can it join the pieces of an instance: parts that overlap most with one reference
    instance in several pieces are one.

    Returns:
        (numbers of the parts, number of parts); they are not yet those of the reference.
    """
    from scipy import ndimage

    parts, count = components(prediction)
    groups, in_pieces = _touching(numbers)
    for part, box in enumerate(ndimage.find_objects(parts), start=1):
        inside = parts[box] == part
        overlaps = np.bincount(numbers[box][inside], minlength=len(groups))
        overlaps[0] = 0
        best = np.bincount(groups, weights=overlaps).argmax()
        rivals = (groups == best) & (PARTS_OF_SPECK * overlaps >= max(1, overlaps.max()))
        if np.count_nonzero(rivals) < 2:
            continue
        candidates = np.where(rivals[numbers[box]], numbers[box], 0)
        nearest = ndimage.distance_transform_edt(
            candidates == 0, spacing_mm, return_distances=False, return_indices=True
        )
        of_voxel = candidates[tuple(nearest)]
        _, *others = np.unique(of_voxel[inside]).tolist()
        for other in others:
            count += 1
            parts[box][inside & (of_voxel == other)] = count
    shared = _shared(parts, numbers)
    same, first = shared.argmax(axis=1), np.arange(count + 1)
    for instance in np.flatnonzero(in_pieces):
        of_instance = (same == instance) & (shared[:, instance] > 0)
        first[of_instance] = np.flatnonzero(of_instance)[:1]
    kept, joined = np.unique(first, return_inverse=True)
    return joined.astype(np.int32)[parts], len(kept) - 1


def _touching(numbers: Numbers) -> tuple[npt.NDArray[np.int32], Mask]:
    """By instance number: the group of instances that touch each other, and whether it is in several pieces."""
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    last, filled = int(numbers.max(initial=0)), numbers > 0
    joined, count = components(filled)
    pairs = np.zeros((last + 1, count + 1), np.bool_)
    pairs[numbers[filled], joined[filled]] = True
    rows, columns = np.nonzero(pairs)
    size = last + 1 + count
    graph = coo_array((np.ones(len(rows), np.int8), (rows, last + columns)), shape=(size, size))
    _, groups = connected_components(graph, directed=False)
    pieces = np.zeros(last + 1, np.intp)
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        pieces[number] = components(numbers[box] == number)[1]
    return groups[: last + 1], pieces > 1


def _numbered_like(reference: Numbers, parts: Numbers) -> Numbers:
    """The parts with the number of the reference instance that each overlaps most; others get the numbers after."""
    shared, last = _shared(parts, reference), int(reference.max(initial=0))
    matched = shared.argmax(axis=1)
    alone = shared.max(axis=1) == 0
    alone[0] = False
    matched[alone] = last + np.arange(1, alone.sum() + 1)
    matched[0] = 0
    numbered: Numbers = matched.astype(np.int32)[parts]
    return numbered


def _shared(parts: Numbers, reference: Numbers) -> npt.NDArray[np.intp]:
    """Voxels that each part (row) shares with each reference instance (column); column 0 is 0."""
    count, last = int(parts.max(initial=0)), int(reference.max(initial=0))
    shared = np.bincount(
        parts.ravel().astype(np.int64) * (last + 1) + reference.ravel(), minlength=(count + 1) * (last + 1)
    ).reshape(count + 1, last + 1)
    shared[:, 0] = 0
    return shared


def _num_specks(predicted: Mask, reference: Mask) -> int:
    if not (predicted.any() or reference.any()):
        return 0
    from scipy import ndimage

    (parts, count), (others, num_others) = components(predicted), components(reference)
    near = ndimage.binary_dilation(parts > 0, np.ones((3,) * parts.ndim, np.bool_))
    touched = np.unique(others[near & (others > 0)])
    return count + num_others - len(touched)
