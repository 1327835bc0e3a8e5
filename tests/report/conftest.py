from collections.abc import Callable

import pytest

from sam2ft.core.tables.rows import Row, Value

HOSTILE = "<img src=x onerror=alert(1)>"

Rows = Callable[..., dict[str, Value]]


@pytest.fixture
def slice_row() -> Rows:
    """A row of slice.csv; counts decide dice and iou."""

    def make(run: str, subject: str, index: int, label: int, **counts: int) -> dict[str, Value]:
        tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
        whole = 2 * tp + fp + fn
        measures: dict[str, Value] = dict.fromkeys(
            ("area_reference_mm2", "area_prediction_mm2", "precision", "recall", "hd_mm", "hd95_mm", "assd_mm", "nsd")
        )
        return {
            **_stamp(run, subject),
            "slice": index,
            "label": label,
            "label_name": f"label {label}",
            "num_instances": 1,
            **{"tp": tp, "fp": fp, "fn": fn, "tn": 100 - tp - fp - fn},
            **measures,
            "dice": 2 * tp / whole if whole else None,
            "iou": tp / (tp + fp + fn) if whole else None,
            "status": "ok" if whole else "absent",
        }

    return make


@pytest.fixture
def volume_row() -> Rows:
    """A row of volume.csv; counts decide dice and iou."""

    def make(run: str, subject: str, label: int, *, num_slices: int, **counts: int) -> dict[str, Value]:
        tp, fp, fn = counts["tp"], counts["fp"], counts["fn"]
        whole = 2 * tp + fp + fn
        empty = ("dice_slice_mean", "iou_slice_mean", "volume_reference_mm3", "volume_prediction_mm3")
        measures: dict[str, Value] = dict.fromkeys((*empty, "hd_mm", "hd95_mm", "assd_mm", "nsd"))
        return {
            **_stamp(run, subject),
            "label": label,
            "label_name": f"label {label}",
            **{"tp": tp, "fp": fp, "fn": fn, "tn": 100 * num_slices - tp - fp - fn},
            **measures,
            "dice": 2 * tp / whole if whole else None,
            "iou": tp / (tp + fp + fn) if whole else None,
            "num_slices": num_slices,
            "status": "ok" if whole else "absent",
        }

    return make


@pytest.fixture
def global_row() -> Rows:
    """A row of global.csv of one run; without a label it is the `mean_of_labels`."""

    def make(run: str, mean: Value, **other: Value) -> dict[str, Value]:
        return {
            "run": run,
            "eval": "e" * 12,
            "dataset": "knee",
            "split": "test",
            "protocol": "box",
            "label": None,
            "label_name": "mean_of_labels",
            "measure": "dice_slice_mean",
            **{"n": 4, "n_absent": 0, "n_missed": 0, "n_spurious": 0},
            **{"mean": mean, "sd": 0.1, "median": mean, "q25": mean, "q75": mean, "ci_low": 0.5, "ci_high": 0.9},
            **other,
        }

    return make


def _stamp(run: str, subject: str) -> Row:
    key = {"dataset": "knee", "subject": subject, "volume": "t2", "split": "test", "protocol": "box"}
    return {"run": run, "eval": "e" * 12, **key}
