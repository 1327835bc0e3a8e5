"""Iteration over the slices of a volume for evaluation, with prefetching in a thread."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.store.intensity import unit_image
from sam2ft.data.store.store import Store, VolumeRecord

Item = TypeVar("Item")


@dataclass(frozen=True)
class SliceView:
    """One slice of a volume for evaluation."""

    key: SliceKey
    image_1hw: Tensor
    """float32, MODEL frame, in [0, 1]."""
    reference_yx: npt.NDArray[np.integer]
    """Label map, ORIGINAL frame."""
    instances_yx: npt.NDArray[np.integer] | None = None
    """Ids of given instances, unique within a label; None: instances are connected components."""


def volume_slices(
    store: Store, record: VolumeRecord, image_size: int, *, slices: Sequence[int] | None = None, prefetch: int = 0
) -> Iterator[SliceView]:
    """The slices of one volume in order (all, or the indices `slices`), created lazily.

    Args:
        image_size: side of the MODEL frame in pixels.
        prefetch: number of slices that a thread prepares in advance; reading and resizing release the GIL.
    """

    def view(index: int) -> SliceView:
        image_1hw = to_model_frame(unit_image(store.image(record.key)[index]), image_size)
        key = record.key.slice(index)
        return SliceView(key, image_1hw, np.array(store.mask(record.key)[index]), store.instances_of_slice(key))

    return prefetched(map(view, range(record.geometry.shape_zyx[0]) if slices is None else slices), prefetch)


def prefetched(items: Iterable[Item], count: int) -> Iterator[Item]:
    """`items` (none is None) in their order; with `count` > 0 a thread computes up to that many in advance."""
    if count < 1:
        yield from items
        return
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1) as pool:
        # None instead of StopIteration at the end.
        waiting = deque(pool.submit(next, source, None) for _ in range(count + 1))
        while (item := waiting.popleft().result()) is not None:
            yield item
            waiting.append(pool.submit(next, source, None))
