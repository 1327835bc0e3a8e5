"""Whether a mask lies on the grid of an image: what a scan says from headers is what `prepare` does with the voxels."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.images.grids import Segment, on_grid
from sam2ft.data.scan.found import Grid, same_place


def image_grid(draw: np.random.Generator, *, oblique: bool) -> Grid:
    affine = np.eye(4)
    turned = np.linalg.qr(draw.normal(size=(3, 3)))[0] if oblique else np.eye(3)
    affine[:3, :3], affine[:3, 3] = turned * draw.uniform(0.3, 4, 3), draw.normal(size=3) * 50
    return Grid(tuple(int(size) for size in draw.integers(3, 12, 3)), affine)


def mask_grid(draw: np.random.Generator, image: Grid, *, cropped: bool) -> Grid:
    """A mask beside an image, or nearly on it: cropped or not, in another order of axes, shifted, larger."""
    affine, shape = image.affine.copy(), list(image.shape)
    if cropped:
        start = [int(draw.integers(0, size)) for size in shape]
        shape = [
            int(draw.integers(1, size - low + 1)) + int(draw.random() < 0.05)
            for size, low in zip(shape, start, strict=True)
        ]
        affine[:3, 3] += affine[:3, :3] @ start
    for axis in range(3):
        if draw.random() < 0.5:
            affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
            affine[:3, axis] *= -1
    order = draw.permutation(3)
    affine = affine[:, [*order, 3]]
    affine[draw.integers(3), 3] += draw.choice([0, 0.03, 0.09, 0.11, 0.3, 1.0]) * image.edges_mm.min()
    affine[:3, :3] *= draw.choice([1, 1, 1, 1.001, 1.05])
    return Grid(tuple(shape[axis] for axis in order), affine)


@pytest.mark.parametrize("cropped", [False, True])
@pytest.mark.parametrize("oblique", [False, True])
def test_a_mask_fits_an_image_where_prepare_takes_it(cropped: bool, oblique: bool) -> None:
    draw = np.random.default_rng(5)
    answers = []
    for _ in range(150):
        image = image_grid(draw, oblique=oblique)
        mask = mask_grid(draw, image, cropped=cropped)
        whole: Any = np.ones(mask.shape[::-1], np.uint8)
        segments = (Segment(1, "a"),) if cropped else ()
        try:
            on_grid(replace(mask.volume, array_zyx=whole, segments=segments), image.volume.geometry)
            expected = True
        except DataError:
            expected = False
        assert same_place(mask, image, cropped=cropped) == expected, (mask, image)
        answers.append(expected)
    assert 20 < sum(answers) < 130
