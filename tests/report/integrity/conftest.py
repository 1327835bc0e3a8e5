"""Cohorts of small artificial subjects, clean and with one planted failure each."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter

LABELS = LabelTable((Label(1, "liver"), Label(2, "kidney_left"), Label(3, "kidney_right"), Label(7, "spleen")))
SHAPE = (12, 40, 48)
SPACING = (4.0, 1.5, 1.2)
# Axial slices as scanners write them: x to the patient's left, y to the back, z to the head.
AXIAL = Geometry.from_affine(
    SHAPE, [[-SPACING[2], 0, 0, 30], [0, -SPACING[1], 0, 30], [0, 0, SPACING[0], -20], [0, 0, 0, 1]]
)


def subject(name: str, seed: int) -> PreparedVolume:
    """Smooth noise; four ellipsoids whose radii differ by some percent between subjects, the liver on the right."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(rng.normal(size=SHAPE), 2)
    image = np.interp(image, (image.min(), image.max()), (2000, 60000)) + rng.uniform(0, 3000)
    mask = np.zeros(SHAPE, np.uint8)
    # In columns the patient's right comes first.
    for label, centre, radius in ((1, (6, 14, 12), 6), (2, (6, 28, 37), 4), (3, (6, 28, 11), 4), (7, (6, 12, 38), 4)):
        sides = np.array([0.6, 1, 1]) * radius * rng.uniform(0.93, 1.07, 3)
        places = (np.indices(SHAPE).transpose(1, 2, 3, 0) - np.array(centre)) / sides
        mask[(places**2).sum(axis=-1) <= 1] = label
    return PreparedVolume(
        key=VolumeKey("abdomen", name, "t1"),
        geometry=AXIAL,
        image_zyx=image.astype(np.uint16),
        mask_zyx=mask,
        maps={"t2": PreparedMap(np.full(SHAPE, 40, np.float32), None, {})},
        window=(0.0, 800.0 * float(rng.uniform(0.9, 1.1))),
        slices={"rows": [SHAPE[1]] * SHAPE[0], "columns": [SHAPE[2]] * SHAPE[0]},
        subject_fields={},
        facts={"modality": "MR"},
    )


def cohort(count: int, seed: int) -> list[PreparedVolume]:
    return [subject(f"s{number:02d}", 1000 * seed + number) for number in range(count)]


def stored(folder: Path, volumes: list[PreparedVolume], split_of: Mapping[str, str] | None = None) -> Store:
    writer = StoreWriter(folder, "abdomen", "abdomen", LABELS, split_seed=1)
    for volume in volumes:
        writer.write(volume, source="test")
    writer.finish([volume.key for volume in volumes], {one.key.subject: "train" for one in volumes} | (split_of or {}))
    return Store.open(folder)


def with_mask(volume: PreparedVolume, change: Callable[[Any], None]) -> PreparedVolume:
    mask = volume.mask_zyx.copy()
    change(mask)
    return replace(volume, mask_zyx=mask)


@pytest.fixture
def clean(tmp_path: Path) -> Store:
    """Ten subjects without any failure."""
    return stored(tmp_path / "clean", cohort(10, seed=5), {"s00": "val", "s01": "test"})
