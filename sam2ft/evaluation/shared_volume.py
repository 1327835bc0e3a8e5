"""Cache of resized slices of a volume that several models evaluate in one pass."""

from collections.abc import Iterator, Sequence

from sam2ft.data.samples.evaluation_slices import SliceView, prefetched
from sam2ft.evaluation.protocols.protocol import VolumeSource

MOST_BYTES = 2 * 2**30
"""Maximum bytes of cached slices of one volume: 512 slices of 1024 px. Further slices are resized for every model."""


class SharedVolume:
    """A VolumeSource that caches its slices as long as it exists."""

    def __init__(self, volume: VolumeSource, most_bytes: int = MOST_BYTES):
        self._volume = volume
        self.key, self.scene, self.reference_zyx = volume.key, volume.scene, volume.reference_zyx
        self._held: dict[tuple[int, int], SliceView] = {}
        self._bytes_left = most_bytes

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        """Return the requested slices in this order; each is made once per image size."""
        return prefetched((self._view(image_size, index) for index in slices), prefetch)

    def _view(self, image_size: int, index: int) -> SliceView:
        known = self._held.get((image_size, index))
        if known is not None:
            return known
        (view,) = self._volume.views(image_size, [index], 0)
        size = view.image_1hw.numel() * view.image_1hw.element_size() + view.reference_yx.nbytes
        if size <= self._bytes_left:
            self._bytes_left -= size
            self._held[image_size, index] = view
        return view
