"""The same image is known in every orientation and scale, and two subjects are never taken for one."""

import time
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from sam2ft.config.schema.dataset import Intensity
from sam2ft.data.store.intensity import intensity_window, to_uint16
from sam2ft.data.store.likeness import ORIENTATIONS, alike, block_means, same_image

SHAPES = [(12, 40, 32), (3, 16, 16), (24, 24, 24), (1, 20, 30), (9, 7, 5)]


def scan(seed: int, shape: tuple[int, int, int] = (12, 40, 32)) -> Any:
    """Smooth structures with noise, in whole scanner units up to about 1000."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), [min(2, size / 8) for size in shape])
    noisy = smooth / smooth.std() + 0.05 * rng.normal(size=shape)
    return np.round(400 + 120 * noisy).clip(0, None)


def stored(image: Any) -> Any:
    return to_uint16(image, intensity_window(image, Intensity()))


def same(one: Any, other: Any) -> bool:
    """As in a preparation: compared voxel by voxel only if the block means are alike."""
    means = np.array([block_means(one), block_means(other)], dtype=np.float64)
    assert bool(list(alike([one.shape, other.shape], means))) or not same_image(one, other, *means)
    return bool(list(alike([one.shape, other.shape], means))) and same_image(one, other, *means)


def test_block_means_are_areas_of_equal_size() -> None:
    image = np.arange(512, dtype=np.uint16).reshape(8, 8, 8)
    assert block_means(image) == list(range(512))
    assert block_means(np.repeat(np.repeat(image, 3, axis=0), 2, axis=2)) == list(range(512))
    assert block_means(image[:1, :1, :1]) == [0] * 512
    # 12 columns: the first block holds column 0 and half of column 1.
    ramp = np.broadcast_to(np.arange(12, dtype=np.uint16) * 30, (8, 8, 12))
    assert block_means(ramp)[:3] == [10, 50, 100]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_is_known_in_all_48_orientations(shape: tuple[int, int, int]) -> None:
    image = stored(scan(1, shape))
    assert len(set(ORIENTATIONS)) == 48
    assert all(same(image, orientation.of(image)) for orientation in ORIENTATIONS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "change",
    [
        lambda image: 2 * image + 100,
        lambda image: image / 7 - 3.25,
        lambda image: 1e-6 * image,
        lambda image: np.round(1.37 * image + 5),
        lambda image: np.round(0.73 * image),
        lambda image: np.round(255 * (image - image.min()) / np.ptp(image)),
        lambda image: 4095 - image,
        lambda image: np.round(2000 - 1.9 * image),
    ],
)
def test_an_image_is_known_after_a_linear_change_of_its_intensities(change: Any, shape: tuple[int, int, int]) -> None:
    image = scan(2, shape)
    changed = change(image)
    assert same(stored(image), stored(changed))
    assert same(stored(changed)[::-1].transpose(2, 0, 1), stored(image))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: np.roll(image, 1, axis=2),
        lambda image: image + 5 * np.random.default_rng(5).normal(size=image.shape),
        lambda image: np.where(np.indices(image.shape)[2] == 17, 1.02 * image, image),
        np.sqrt,
        lambda image: np.concatenate([image[1:], image[:1]]),
        lambda image: image[:, :-1],
    ],
)
def test_an_image_that_differs_in_anything_else_is_another(change: Any) -> None:
    image = 1.001 * scan(3) + np.random.default_rng(4).uniform(size=(12, 40, 32))
    assert not same(stored(image), stored(change(image)))


def test_a_voxel_may_differ_by_two_levels() -> None:
    # Both ends of the scale are there, so that the line is the same.
    image = np.random.default_rng(1).integers(1000, 64000, size=(10, 20, 20)).astype(np.uint16)
    for difference, expected in ((2, True), (5, False)):
        other = image.copy()
        other[4, 5, 6] += difference
        assert same(image, other) is expected


def test_images_of_few_flat_tissues_are_told_apart_by_one_of_them() -> None:
    tissues = np.zeros((16, 16, 16), dtype=np.uint16)
    tissues[2:9, 2:14, 2:14], tissues[9:14, 3:9, 3:9], tissues[10:12, 11:13, 11:13] = 10000, 30000, 60000
    other = np.where(tissues == 30000, 30030, tissues).astype(np.uint16)
    assert same(tissues, tissues[:, ::-1])
    assert not same(tissues, other)


def phantoms(count: int) -> list[Any]:
    """Similar subjects: the same anatomy, each slightly moved, scaled and with noise of its own."""
    base = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(16, 40, 40)), (2, 4, 4))
    base = 400 + 200 * base / base.std()
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        moved = ndimage.shift(base, rng.normal(scale=0.2, size=3), order=1, mode="nearest")
        found.append(np.round((moved + rng.normal(scale=2, size=base.shape)) * rng.uniform(0.5, 2)))
    return found


def test_of_200_similar_phantoms_no_two_are_the_same_and_every_copy_is_found() -> None:
    images = [stored(image) for image in phantoms(200)]
    copies = [stored(3 * image + 7)[:, ::-1] for image in phantoms(10)]
    everything = images + copies
    means = np.array([block_means(image) for image in everything], dtype=np.float64)
    candidates = list(alike([image.shape for image in everything], means))
    found = [(i, j) for i, j in candidates if same_image(everything[i], everything[j], means[i], means[j])]
    assert found == [(number, 200 + number) for number in range(10)]


def test_2000_volumes_are_compared_in_seconds() -> None:
    means = np.random.default_rng(0).integers(0, 65536, size=(2000, 512)).astype(np.float64)
    means[1999] = 65535 - means[3].reshape(8, 8, 8)[::-1].transpose(2, 0, 1).ravel()
    start = time.monotonic()
    assert list(alike([(20, 256, 256)] * 1999 + [(256, 20, 256)], means)) == [(3, 1999)]
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("shape", [(9, 384, 33), (3, 7, 5), (1, 1, 1), (20, 100, 96), (8, 8, 8), (5, 61, 250)])
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 1, 0)])
def test_block_means_are_the_weighted_sums_of_their_voxels(
    shape: tuple[int, int, int], axes: tuple[int, int, int]
) -> None:
    image = np.random.default_rng(sum(shape)).integers(0, 65536, shape).astype(np.uint16).transpose(axes)
    shares = []
    for size in image.shape:
        # Each voxel in 8 equal parts, of which each block has as many as there are voxels.
        of_parts = np.repeat(np.arange(8), size).reshape(size, 8)
        shares.append(np.stack([(of_parts == block).sum(axis=1) for block in range(8)]))
    sums = np.einsum("az,by,cx,zyx->abc", *shares, image.astype(np.int64), optimize=True)
    exact = sums.ravel() / np.prod(image.shape)
    assert np.abs(np.array(block_means(image)) - exact).max() <= 0.5 + 1e-9
