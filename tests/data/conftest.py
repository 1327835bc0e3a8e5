"""Small stores made from arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store import Store
from sam2ft.data.store_writer import PreparedVolume, StoreWriter

LABELS = LabelTable((Label(1, "cartilage", interface="bone"), Label(5, "bone")))


def two_discs(shape_zyx: tuple[int, int, int] = (4, 24, 32)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Slice 0 empty; slices 1.. hold two 4x6 blocks of label 1 and one 3x3 block of label 5."""
    mask = np.zeros(shape_zyx, dtype=np.uint8)
    mask[1:, 2:6, 3:9] = 1
    mask[1:, 12:16, 20:26] = 1
    mask[1:, 18:21, 4:7] = 5
    return mask


def prepared(subject: str, volume: str = "image", dataset: str = "toy", **changes: Any) -> PreparedVolume:
    mask = changes.pop("mask_zyx", two_discs())
    rng = np.random.default_rng(sum(subject.encode()))
    image = rng.integers(0, 65536, size=mask.shape).astype(np.uint16)
    slices: Mapping[str, list[Any]] = {
        "pixel_spacing": [[0.5, 0.5]] * len(mask),
        "slice_thickness": [4.0] * len(mask),
        "slice_spacing": [3.0] * len(mask),
        "rows": [mask.shape[1]] * len(mask),
        "columns": [mask.shape[2]] * len(mask),
        "TE": [10.0 + i for i in range(len(mask))],
    }
    values: dict[str, Any] = {
        "key": VolumeKey(dataset, subject, volume),
        "geometry": Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.5)),
        "image_zyx": image,
        "mask_zyx": mask,
        "maps": {"t2": np.full(mask.shape, 40, dtype=np.float32)},
        "window": (0.0, 100.0),
        "slices": slices,
        "subject_fields": {},
    }
    return PreparedVolume(**values | changes)


def write_store(folder: Path, volumes: list[PreparedVolume], split_of: dict[str, str] | None = None) -> Store:
    """A store of `volumes`, all in train unless `split_of` says otherwise."""
    writer = StoreWriter(folder, volumes[0].key.dataset, "knee", LABELS, split_seed=7)
    for volume in volumes:
        writer.write(volume, source="test")
    splits = {volume.key.subject: "train" for volume in volumes} | (split_of or {})
    writer.finish([volume.key for volume in volumes], splits)
    return Store.open(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six subjects of one volume: a, b, c in train, d in val, e and f in test."""
    splits = {"d": "val", "e": "test", "f": "test"}
    return write_store(tmp_path / "store", [prepared(name) for name in "abcdef"], splits)
