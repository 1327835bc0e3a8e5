"""A channel per label: with and without a channel of the background, and refused where both could be meant."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.one_hot import of_channels
from sam2ft.data.masks.read_masks import MaskReader

TABLE = LabelTable((Label(1, "femur"), Label(2, "tibia"), Label(3, "patella")))
LABELS = np.random.default_rng(0).integers(0, 4, size=(3, 4, 5))


def channels(first: int) -> list[Any]:
    return [(label == LABELS).astype(np.uint8) for label in range(first, 4)]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("scale", [1, 255])
@pytest.mark.parametrize("table", [TABLE, None])
def test_channels_are_labels_with_or_without_a_background(first: int, scale: int, table: LabelTable | None) -> None:
    found = of_channels([one * scale for one in channels(first)], Meaning(table), "refuse")
    assert np.array_equal(found.array, LABELS)
    assert ("the first is background" if first == 0 else "none of them is background") in found.notes[-1]


def test_as_many_labels_as_channels_that_cover_everything_are_refused() -> None:
    full = np.where(LABELS == 0, 1, LABELS)
    with pytest.raises(DataError, match="whether the first is background is not known"):
        of_channels([full == label for label in (1, 2, 3)], Meaning(TABLE), "refuse")
    with pytest.raises(DataError, match="whether the first is background is not known"):
        of_channels([np.ones_like(full), full == 2], Meaning(TABLE), "first")


@pytest.mark.parametrize(("rule", "label"), [("first", 1), ("last", 2)])
def test_channels_that_overlap_follow_the_rule(rule: Any, label: int) -> None:
    both = [(LABELS == 1) | (LABELS == 2), LABELS == 2]
    found = of_channels(both, Meaning(TABLE), rule)
    assert (found.array[LABELS == 2] == label).all()
    with pytest.raises(DataError, match=f"{(LABELS == 2).sum()} voxels in both 1 and 2"):
        of_channels(both, Meaning(TABLE), "refuse")


@pytest.mark.parametrize("value", [0.3, 2, -1, np.nan])
def test_channels_of_other_values_are_refused(value: float) -> None:
    wrong = channels(1)
    wrong[1] = np.where(LABELS == 2, value, 0)
    with pytest.raises(DataError, match=r"channel 1 \(from 0\) holds the values"):
        of_channels(wrong, Meaning(TABLE), "refuse")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_file_of_channels_is_cut_as_its_grid_says(tmp_path: Path, axis: int) -> None:
    edges = np.ones(3)
    edges[axis] = 3
    affine = np.diag([*edges, 1.0])
    path, plain = tmp_path / "hot.nii.gz", tmp_path / "plain.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.stack(channels(0), axis=-1), affine), path)
    nibabel.save(nibabel.Nifti1Image(LABELS.astype(np.uint8), affine), plain)
    found, expected = (MaskReader(meaning=Meaning(TABLE)).read(one) for one in (path, plain))
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert found.geometry == expected.geometry


def write_hot(path: Path, array: Any) -> None:
    """`array` zyx, with its channels last."""
    image = sitk.GetImageFromArray(array, isVector=True)
    image.SetSpacing((0.5, 0.6, 3))
    sitk.WriteImage(image, path)


@pytest.mark.parametrize("ending", ["mha", "nrrd", "npy"])
def test_channels_in_files_of_other_kinds(tmp_path: Path, ending: str) -> None:
    path, hot = tmp_path / f"hot.{ending}", np.stack(channels(0), axis=-1)
    write_hot(path, hot) if ending != "npy" else np.save(path, hot)
    reading = Reading(spacing_mm=(3, 0.6, 0.5), axes="zyx") if ending == "npy" else Reading()
    found = MaskReader(meaning=Meaning(TABLE), reading=reading).read(path)
    assert np.array_equal(found.array_zyx, LABELS)
    assert found.geometry.spacing_zyx_mm == pytest.approx((3, 0.6, 0.5))
    alone = MaskReader(reading=reading.model_copy(update={"channel": 2})).read(path)
    assert np.array_equal(alone.array_zyx, LABELS == 2)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "hot.nii"
    nibabel.save(nibabel.Nifti1Image(np.stack(channels(0), axis=-1), np.eye(4)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"hot\.nii"):
        MaskReader(meaning=Meaning(TABLE)).read(path)


@pytest.mark.parametrize("value", [0.9995, 1.0004, 254.9999])
def test_noise_of_floats_is_no_value(value: float) -> None:
    labels = np.random.default_rng(5).integers(0, 3, size=(4, 5, 6))
    noise = np.random.default_rng(6).uniform(-9e-4, 9e-4, (3, *labels.shape))
    channels = [np.where(labels == index, value, noise[index]).astype(np.float32) for index in range(3)]
    assert np.array_equal(of_channels(channels, Meaning(), "refuse").array, labels)
