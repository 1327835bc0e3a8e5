"""Drawings of shapes."""

import numpy as np
import pytest

from sam2ft.core.components import components
from sam2ft.phantom.random_shapes import shapes_slice


def test_drawings_are_seeded_and_scaled_to_one() -> None:
    image, mask = shapes_slice(np.random.default_rng(3))
    again = shapes_slice(np.random.default_rng(3))
    assert np.array_equal(image, again[0])
    assert np.array_equal(mask, again[1])
    assert image.dtype == np.float32
    assert mask.dtype == np.uint8
    assert image.shape == mask.shape == (256, 256)
    assert image.min() == 0.0
    assert image.max() == 1.0


def test_objects_do_not_touch() -> None:
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(40):
        _, mask = shapes_slice(rng)
        count = int(mask.max())
        counts.add(count)
        assert set(np.unique(mask)) == set(range(count + 1))
        # An object may be cut by the border into several parts, but never merges with another.
        assert components(mask > 0)[1] >= count
        for number in range(1, count + 1):
            assert (mask == number).sum() >= 60
    assert counts == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("size", [128, 192])
def test_other_sizes_work(size: int) -> None:
    image, mask = shapes_slice(np.random.default_rng(1), size=size)
    assert image.shape == (size, size)
    assert mask.any()
