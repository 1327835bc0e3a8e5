"""Counts, ratios and distances against scikit-learn, MONAI and brute force, case by case (never their reductions).

Only labels that are in both masks are compared with MONAI: on an empty mask its Dice is NaN for a false positive, its
HD95 NaN for a miss and its HD and ASSD infinite. What ours are there is in test_empty_masks.py.
"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn import metrics as sklearn_metrics

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.volumes import read_volume
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.masks.surface import boundary
from sam2ft.metrics.scoring import Scene, ScoredRows, ScoreSettings, score_volume

# MONAI warns of an option that it sets itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")

NAMES = ("dice", "iou", "precision", "recall", "specificity", "volume_similarity", "hd", "hd95", "assd", "nsd")
LABELS = LabelTable.unnamed([1, 2, 3])
SPACINGS = [(1.0, 1.0, 1.0), (3.0, 0.5, 0.7)]


def label_map(seed: int) -> np.ndarray:
    """Smooth blobs of labels 1 to 3 that touch the border, some slices without one of them."""
    noise = np.random.default_rng(seed).normal(size=(4, 8, 24, 20))
    smooth = np.stack([ndimage.gaussian_filter(one, (1, 3, 3)) for one in noise])
    smooth[0] += 0.03
    return smooth.argmax(axis=0).astype(np.uint8)


def pictures(seed: int) -> tuple[np.ndarray, np.ndarray]:
    reference = label_map(seed)
    prediction = np.roll(reference, (0, 1, -1), axis=(0, 1, 2))
    prediction[:, :4] = label_map(seed + 100)[:, :4]
    return prediction, reference


def scored(prediction: np.ndarray, reference: np.ndarray, spacing: tuple[float, float, float]) -> ScoredRows:
    scene = Scene(Geometry.axis_aligned(reference.shape, spacing), LABELS)
    metrics = load_metrics(dict.fromkeys(NAMES, True))
    return score_volume(VolumeKey("d", "s", "v"), prediction, reference, scene, (), metrics, ScoreSettings())


@pytest.mark.parametrize("seed", [0, 1])
def test_counts_and_ratios_are_those_of_scikit_learn(seed):
    prediction, reference = pictures(seed)
    for row in scored(prediction, reference, SPACINGS[0])["slice"]:
        masks = [(one[row["slice"]] == row["label"]).ravel() for one in (reference, prediction)]
        tn, fp, fn, tp = sklearn_metrics.confusion_matrix(*masks, labels=[False, True]).ravel()
        assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (tp, fp, fn, tn)
        if row["status"] == "ok":
            assert row["dice"] == pytest.approx(sklearn_metrics.f1_score(*masks))
            assert row["iou"] == pytest.approx(sklearn_metrics.jaccard_score(*masks))
            assert row["precision"] == pytest.approx(sklearn_metrics.precision_score(*masks))
            assert row["recall"] == pytest.approx(sklearn_metrics.recall_score(*masks))


@pytest.fixture(scope="module")
def monai():
    import monai.metrics as found

    return found


def tensors(prediction, reference):
    import torch

    return [torch.from_numpy(np.ascontiguousarray(mask))[None, None].float() for mask in (prediction, reference)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_volume_distances_are_those_of_monai(monai, seed, spacing):
    prediction, reference = pictures(seed)
    for row in scored(prediction, reference, spacing)["volume"]:
        check_against_monai(monai, row, prediction == row["label"], reference == row["label"], list(spacing))


def test_slice_distances_are_those_of_monai(monai):
    prediction, reference = pictures(2)
    rows = [row for row in scored(prediction, reference, SPACINGS[1])["slice"] if row["status"] == "ok"]
    assert len(rows) > 10
    for row in rows:
        masks = [one[row["slice"]] == row["label"] for one in (prediction, reference)]
        check_against_monai(monai, row, *masks, list(SPACINGS[1][1:]))


def check_against_monai(monai, row, prediction, reference, spacing) -> None:
    y_pred, y = tensors(prediction, reference)
    oracle = {
        "dice": monai.compute_dice(y_pred, y),
        "iou": monai.compute_iou(y_pred, y),
        "hd_mm": monai.compute_hausdorff_distance(y_pred, y, include_background=True, spacing=spacing),
        "hd95_mm": monai.compute_hausdorff_distance(y_pred, y, include_background=True, percentile=95, spacing=spacing),
        "assd_mm": monai.compute_average_surface_distance(
            y_pred, y, include_background=True, symmetric=True, spacing=spacing
        ),
        "nsd": monai.compute_surface_dice(y_pred, y, [1.0], include_background=True, spacing=spacing),
    }
    for name, value in oracle.items():
        assert row[name] == pytest.approx(float(value), rel=1e-5, abs=1e-6), name


def check_against_brute_force(row, prediction, reference, spacing) -> None:
    """From the distances of all pairs of boundary voxels."""
    points = [np.argwhere(boundary(mask)) * spacing for mask in (prediction, reference)]
    pairs = cdist(*points)
    one, other = pairs.min(axis=1), pairs.min(axis=0)
    both = np.concatenate([one, other])
    assert row["hd_mm"] == pytest.approx(both.max(), abs=1e-9)
    assert row["hd95_mm"] == pytest.approx(max(np.percentile(one, 95), np.percentile(other, 95)), abs=1e-9)
    assert row["assd_mm"] == pytest.approx(both.mean(), abs=1e-9)
    # A distance that is a sum of roundings may fall on either side of the tolerance.
    clear = np.abs(both - 1.0) > 1e-9
    assert row["nsd"] == pytest.approx((both <= 1.0).mean(), abs=(~clear).mean() + 1e-12)


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.uint8, (3, 5, 6), elements=st.integers(0, 2)), st.integers(0, 2**32), st.sampled_from(SPACINGS))
def test_random_masks_are_measured_as_monai_and_brute_force_do(reference, seed, spacing):
    import monai.metrics

    prediction = reference.copy()
    noise = np.random.default_rng(seed).random(reference.shape) < 0.3
    prediction[noise] = np.roll(reference, 1, 2)[noise]
    for row in scored(prediction, reference, spacing)["volume"]:
        if row["status"] == "ok":
            masks = prediction == row["label"], reference == row["label"]
            check_against_monai(monai.metrics, row, *masks, list(spacing))
            check_against_brute_force(row, *masks, spacing)


REAL = [
    "ct_small/labels.nii.gz",
    "mr_small/labels.nii.gz",
    "spine_mr/sub-mri_seg-subreg_label-6_msk.nii.gz",
    "spine_ct/sub-ct_seg-vert_label-22_msk.nii.gz",
    "thigh_labels/labels.nii.gz",
]


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_masks_are_measured_as_monai_scikit_learn_and_brute_force_do(monai, real_data: Path, name: str):
    """Against themselves, moved by a voxel in the plane and one slice up, isotropic and with slices 3 mm apart."""
    volume = read_volume(real_data / name)
    reference = np.asarray(volume.array_zyx).astype(np.uint16)
    prediction = np.roll(reference, (1, 1), axis=(0, 2))
    sizes = np.bincount(reference.ravel())
    # The two most common labels, and the smallest that is more than a few voxels.
    labels = [int(label) for label in np.argsort(sizes[1:])[::-1][:2] + 1]
    labels += [int(label) for label in np.flatnonzero((sizes > 50) & (sizes < 3000))[:1] if label not in labels]
    for mask in (prediction, reference):
        mask[~np.isin(mask, labels)] = 0
    for spacing in (volume.geometry.spacing_zyx_mm, (3.0, *volume.geometry.spacing_zyx_mm[1:])):
        scene = Scene(Geometry.axis_aligned(reference.shape, spacing), LabelTable.unnamed(labels))
        metrics = load_metrics(dict.fromkeys(NAMES, True))
        rows = score_volume(VolumeKey("d", "s", "v"), prediction, reference, scene, (), metrics, ScoreSettings())
        assert [row["status"] for row in rows["volume"]] == ["ok"] * len(labels)
        for row in rows["volume"]:
            masks = prediction == row["label"], reference == row["label"]
            check_against_monai(monai, row, *masks, list(spacing))
            tn, fp, fn, tp = sklearn_metrics.confusion_matrix(masks[1].ravel(), masks[0].ravel()).ravel()
            assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (tp, fp, fn, tn)
            if sum(int(boundary(mask).sum()) for mask in masks) < 8000:
                check_against_brute_force(row, *masks, spacing)
        slices = [row for row in rows["slice"] if row["status"] == "ok"]
        assert slices
        for row in slices[:: max(1, len(slices) // 3)]:
            masks = [mask[row["slice"]] == row["label"] for mask in (prediction, reference)]
            check_against_monai(monai, row, *masks, list(spacing[1:]))
