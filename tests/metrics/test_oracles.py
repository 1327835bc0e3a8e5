"""Counts, ratios and distances against scikit-learn and MONAI, one case at a time (never their reductions)."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn import metrics as sklearn_metrics

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.scoring import Scene, ScoredRows, ScoreSettings, score_volume

# MONAI warns of an option that it sets itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")

NAMES = ("dice", "iou", "precision", "recall", "specificity", "hd", "hd95", "assd", "nsd")
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
