"""Trial of a custom metric (plugin) on small synthetic masks before a run.

Errors in the metric are then found before the training and not after it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.tables.rows import TABLES
from sam2ft.metrics.measurement import Metric, ScoreSettings
from sam2ft.metrics.plugins import PluginMetric
from sam2ft.metrics.scoring import Scene, score_volume

_SHAPE_ZYX, _SPACING_ZYX_MM = (4, 32, 32), (3.0, 0.5, 0.75)
_BONE = Label(5, "bone")
# One label for each status, all next to one bone.
_LABELS = LabelTable(
    (*(Label(i, name, _BONE.name) for i, name in enumerate(("ok", "missed", "spurious", "absent"), 1)), _BONE)
)
_MAP_MS = 40.0


def try_plugin(metric: Metric, dicom: Mapping[str, Sequence[Any]]) -> list[str]:
    """Try a custom metric and return warnings about it; built-in metrics are not tried.

    Args:
        metric: the metric to try.
        dicom: DICOM fields of any volume; the metric gets the first value of each field for every slice.

    Raises:
        ConfigError: The metric raises for a label that is in both masks, in one mask or in none, or yields a result
            that no table accepts.
    """
    if not isinstance(metric, PluginMetric):
        return []
    maps = {
        need.removeprefix("map:"): np.full(_SHAPE_ZYX, _MAP_MS, np.float32)
        for need in metric.needs
        if need.startswith("map:")
    }
    first = {name: [values[0]] * _SHAPE_ZYX[0] for name, values in dicom.items() if len(values)}
    scene = Scene(Geometry.axis_aligned(_SHAPE_ZYX, _SPACING_ZYX_MM), _LABELS, maps, first)
    settings = ScoreSettings(tissues=_LABELS.ids[:-1])
    rows = score_volume(VolumeKey("probe", "probe", "probe"), *_masks(), scene, (), (metric,), settings)
    fixed = {name: set(TABLES[name].kinds()) for name in ("slice", "volume")}
    lost = {
        (column, str(row["status"])): None
        for table, known in fixed.items()
        for row in rows[table]
        for column, value in row.items()
        if column not in known and row["status"] != "absent" and isinstance(value, float) and math.isnan(value)
    }
    return [
        f"metric {metric.place!r}: {column} is NaN for a label with status {status}; it is excluded from means"
        for column, status in lost
    ]


def _masks() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference): one plate per label on a slab of bone."""
    prediction, reference = np.zeros(_SHAPE_ZYX, np.uint8), np.zeros(_SHAPE_ZYX, np.uint8)
    for mask in (prediction, reference):
        mask[:, :10] = _BONE.id
    reference[:, 10:14, 2:12], prediction[:, 10:13, 3:12] = 1, 1
    reference[1:3, 10:14, 12:22] = 2
    prediction[1:3, 10:14, 22:30] = 3
    return prediction, reference
