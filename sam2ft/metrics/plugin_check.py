"""A metric from outside is tried on small made-up masks before a run: better now than after the training."""

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
# One label for each status, all beside one bone.
_LABELS = LabelTable(
    (*(Label(i, name, _BONE.name) for i, name in enumerate(("ok", "missed", "spurious", "absent"), 1)), _BONE)
)
_MAP_MS = 40.0


def try_plugin(metric: Metric, dicom: Mapping[str, Sequence[Any]]) -> list[str]:
    """Warnings about a metric from outside; none for the package's own.

    `dicom`: fields of some volume, of which the first value is handed on. Errors: ConfigError when the metric raises on
    a label that is in both masks, in one or in none, or gives what no table takes.
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
    fixed = {name: set(TABLES[name].column_names()) for name in ("slice", "volume")}
    lost = {
        (column, str(row["status"])): None
        for table, known in fixed.items()
        for row in rows[table]
        for column, value in row.items()
        if column not in known and row["status"] != "absent" and isinstance(value, float) and math.isnan(value)
    }
    return [
        f"metric {metric.place!r}: {column} is NaN for a label that is {status}; means leave it out"
        for column, status in lost
    ]


def _masks() -> tuple[np.ndarray, np.ndarray]:
    """(prediction, reference): plates of each label on a slab of bone."""
    prediction, reference = np.zeros(_SHAPE_ZYX, np.uint8), np.zeros(_SHAPE_ZYX, np.uint8)
    for mask in (prediction, reference):
        mask[:, :10] = _BONE.id
    reference[:, 10:14, 2:12], prediction[:, 10:13, 3:12] = 1, 1
    reference[1:3, 10:14, 12:22] = 2
    prediction[1:3, 10:14, 22:30] = 3
    return prediction, reference
