"""Encoded slices of a volume for several passes over it: those that a later pass needs are kept, up to some memory."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

ImagesOf = Callable[[Sequence[int]], Iterator[Tensor]]
"""Slice indices -> the slices in the same order: (1 or 3, image_size, image_size) in [0, 1], MODEL frame."""
KEPT_BYTES = 1 << 30
"""Memory for features of slices that are needed again: 64 slices of 1024 px in float32, 102 in bf16."""


@dataclass(frozen=True)
class EncodedSlice:
    """Features of one slice as SAM2Base._prepare_backbone_features returns them."""

    levels: tuple[Tensor, ...]
    """Finest first, each (h * w, 1, channels); the last one is the image embedding."""
    positions: Tensor
    """Position encoding of the image embedding, like it in shape; the same for all slices, which share one tensor."""
    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each level."""

    @property
    def num_bytes(self) -> int:
        return sum(level.untyped_storage().nbytes() for level in self.levels)


class EncodedSlices:
    """The slices of one volume, encoded when a pass reaches them."""

    def __init__(self, encode: Callable[[Tensor], EncodedSlice], images: ImagesOf, most_bytes: int = KEPT_BYTES):
        """Keep at most `most_bytes` of features; what does not fit is loaded and encoded again."""
        self._encode, self._images, self._most_bytes = encode, images, most_bytes
        self._kept: dict[int, EncodedSlice] = {}

    @property
    def num_bytes(self) -> int:
        """Memory of the features that are kept."""
        return sum(one.num_bytes for one in self._kept.values())

    def along(self, order: Sequence[int], later: Collection[int]) -> Iterator[tuple[int, EncodedSlice]]:
        """Yield each slice of a pass with its features.

        Args:
            order: indices of the slices, each at most once.
            later: indices of the slices that later passes need; others are not kept.

        Raises:
            ValueError: the function that loads slices yields fewer or more than it was asked for.
        """
        ahead = self._kept.keys() & set(order)
        missing = [index for index in order if index not in ahead]
        loaded = zip(missing, self._images(missing), strict=True)
        for index in order:
            if index in ahead:
                ahead.remove(index)
                encoded = self._kept.pop(index)
            else:
                encoded = self._encode(next(loaded)[1])
            yield index, encoded
            if index in later:
                self._keep(index, encoded, ahead)
        next(loaded, None)  # strict: refuses a loader that has more

    def _keep(self, index: int, encoded: EncodedSlice, ahead: Collection[int]) -> None:
        """Keep a slice in place of those that were used longest ago, except those that this pass still needs.

        Passes alternate between the directions, so that what was used last is what the next pass needs first.
        """
        while self.num_bytes + encoded.num_bytes > self._most_bytes:
            oldest = next((kept for kept in self._kept if kept not in ahead), None)
            if oldest is None:
                return
            del self._kept[oldest]
        self._kept[index] = encoded
