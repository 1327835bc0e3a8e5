"""Every transform offered moves image and masks alike, or leaves masks alone; one seed, one result."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from sam2ft.config.schema.arguments import argument_problems, known_names
from sam2ft.config.schema.datamodule import Transform
from sam2ft.core.errors import ConfigError
from sam2ft.data.samples.augment import augmentation_of
from sam2ft.data.samples.dataset import augmented_slice
from sam2ft.data.samples.instances import instances_of

# Strong enough that a mask that stayed behind would show.
SPATIAL: dict[str, dict[str, Any]] = {
    "RandFlip": {"spatial_axis": 1},
    "RandRotate90": {"max_k": 3},
    "RandRotate": {"range_x": 0.6, "padding_mode": "zeros"},
    "RandZoom": {"min_zoom": 0.7, "max_zoom": 1.3},
    "RandAffine": {"rotate_range": [0.5], "shear_range": [0.2, 0.2], "translate_range": [6, 6], "scale_range": [0.2]},
    "Rand2DElastic": {"spacing": [12, 12], "magnitude_range": [1, 2], "rotate_range": [0.2]},
    "RandGridDistortion": {"num_cells": 4, "distort_limit": 0.2},
}
INTENSITY: dict[str, dict[str, Any]] = {
    "RandGaussianNoise": {"std": 0.2},
    "RandRicianNoise": {"std": 0.2},
    "RandAdjustContrast": {"gamma": [0.5, 2.0]},
    "RandBiasField": {"coeff_range": [0.1, 0.4]},
    "RandGaussianSmooth": {},
    "RandGaussianSharpen": {},
    "RandGibbsNoise": {"alpha": [0.4, 0.6]},
    "RandHistogramShift": {},
    "RandScaleIntensity": {"factors": 0.4},
    "RandShiftIntensity": {"offsets": 0.2},
    "RandStdShiftIntensity": {"factors": 0.4},
    "RandCoarseDropout": {"holes": 4, "spatial_size": 9},
}

OTHERS: dict[str, list[dict[str, Any]]] = {
    "RandZoom": [{"min_zoom": 1.2, "max_zoom": 1.2, "keep_size": False}, {"align_corners": True}],
    "RandRotate": [{"range_x": [0.7, 0.7], "keep_size": False, "padding_mode": "zeros"}],
    "RandAffine": [{"translate_range": [[9, 9], [-12, -12]], "padding_mode": "border"}],
    "Rand2DElastic": [{"spacing": 15, "magnitude_range": [3, 3], "padding_mode": "zeros"}],
}


def scene() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Three shapes on a 61 x 80 grid, none symmetric; the image is 0.5 along their outlines, brighter inside."""
    y, x = np.indices((61, 80))
    masks = np.stack(
        [
            (y - 22) ** 2 + (x - 25) ** 2 < 11**2,
            ((y - 38) / 8) ** 2 + ((x - 55) / 13) ** 2 < 1,
            (abs(y - 12) < 6) & (abs(x - 58) < 6),
        ]
    )
    union = masks.any(axis=0)
    depth = ndimage.distance_transform_edt(union) - ndimage.distance_transform_edt(~union)
    return (1 / (1 + np.exp(-0.5 * (depth - 0.5 * np.sign(depth))))).astype(np.float32), masks


def test_each_transform_offered_is_tested_here() -> None:
    assert sorted({**SPATIAL, **INTENSITY}) == sorted(known_names("transforms"))
    for name, arguments in {**SPATIAL, **INTENSITY}.items():
        assert argument_problems("transforms", name, {"prob": 1.0, **arguments}) == {}


CASES = list(SPATIAL.items())
CASES += [(name, arguments) for name, several in OTHERS.items() for arguments in several]


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[f"{name}{n}" for n, (name, _) in enumerate(CASES)])
def test_a_spatial_transform_moves_image_and_masks_alike(name: str, arguments: Mapping[str, Any]) -> None:
    """Where the image says inside and the masks do not, or the other way round, is an outline: within a pixel."""
    image, masks = scene()
    apply = augmentation_of([Transform(type=name, prob=1.0, **arguments)])
    assert apply is not None
    moved = 0
    for seed in range(12):
        changed, changed_masks = apply(image, masks, seed)
        assert changed_masks.dtype == np.bool_
        assert changed_masks.shape == (3, *changed.shape)
        assert changed.dtype == np.float32
        assert 0 <= changed.min() <= changed.max() <= 1
        union = changed_masks.any(axis=0)
        outline = ndimage.binary_dilation(union) & ~ndimage.binary_erosion(union, border_value=1)
        disagreeing = (changed > 0.5) != union
        assert not (disagreeing & ~outline).any()
        # Along the outline too most pixels agree: a systematic shift by half a pixel would not pass.
        assert disagreeing.sum() <= 0.2 * outline.sum()
        moved += not np.array_equal(changed_masks, masks)
    assert moved >= (6 if name in ("RandRotate90", "RandZoom") else 10)


@pytest.mark.parametrize("name", sorted(INTENSITY))
def test_an_intensity_transform_leaves_masks_alone_and_the_image_in_range(name: str) -> None:
    image, masks = scene()
    apply = augmentation_of([Transform(type=name, prob=1.0, **INTENSITY[name])])
    assert apply is not None
    before = image.copy()
    for seed in range(8):
        changed, changed_masks = apply(image, masks, seed)
        assert np.array_equal(changed_masks, masks)
        assert changed.shape == image.shape
        assert np.isfinite(changed).all()
        assert 0 <= changed.min() <= changed.max() <= 1
        assert not np.array_equal(changed, before)
    assert np.array_equal(image, before), "the caller's image was written into"


@pytest.mark.parametrize("name", sorted({**SPATIAL, **INTENSITY}))
def test_one_seed_gives_the_same_bytes_whatever_came_before(name: str) -> None:
    image, masks = scene()
    spec = Transform(type=name, prob=0.8, **(SPATIAL | INTENSITY)[name])
    first, second = (
        augmentation_of([spec, Transform(type="RandFlip")]),
        augmentation_of([spec, Transform(type="RandFlip")]),
    )
    assert first is not None
    assert second is not None
    second(image, masks, 99)
    results = [apply(image, masks, 4) for apply in (first, second, first)]
    assert len({(one.tobytes(), own.tobytes()) for one, own in results}) == 1


def test_a_slice_left_without_instances_keeps_its_image_even_from_transforms_that_write_into_it() -> None:
    image, _ = scene()
    label_map = np.zeros(image.shape, dtype=np.uint8)
    label_map[2:5, 2:5] = 1
    apply = augmentation_of(
        [
            Transform(type="RandCoarseDropout", prob=1.0, holes=9, spatial_size=20),
            Transform(type="RandAffine", prob=1.0, translate_range=[[40, 40], [0, 0]], padding_mode="zeros"),
        ]
    )
    assert apply is not None
    before = image.copy()
    kept_image, kept = augmented_slice(apply, image, instances_of(label_map, (1,)), seed=1)
    assert np.array_equal(kept_image, before)
    assert [one.mask_yx.sum() for one in kept] == [9]


def test_a_transform_that_monai_refuses_at_its_construction_is_named() -> None:
    with pytest.raises(ConfigError, match=r"datamodule.augmentation: RandHistogramShift: "):
        augmentation_of([Transform(type="RandHistogramShift", num_control_points=1)])
