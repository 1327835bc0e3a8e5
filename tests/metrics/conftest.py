"""Small pictures for the tests of metrics."""

from collections.abc import Callable

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.scoring import Scene, ScoredRows, ScoreSettings, score_volume

Score = Callable[..., ScoredRows]


@pytest.fixture
def score() -> Score:
    """score(prediction_zyx, reference_zyx, names=("dice",), **what differs from a plain 1 mm scene)."""

    def scored(prediction, reference, names=("dice",), **given) -> ScoredRows:  # type: ignore[no-untyped-def]
        prediction, reference = np.asarray(prediction), np.asarray(reference)
        labels = given.pop("labels", LabelTable((Label(1, "one"), Label(2, "two"))))
        geometry = Geometry.axis_aligned(reference.shape, given.pop("spacing", (1.0, 1.0, 1.0)))
        key = given.pop("key", VolumeKey("phantom", "anna", "v1"))
        prompted = given.pop("prompted", ())
        scene = {name: given.pop(name) for name in ("maps", "slices", "dicom") if name in given}
        metrics = [*load_metrics(dict.fromkeys(names, True)), *given.pop("metrics", ())]
        return score_volume(
            key, prediction, reference, Scene(geometry, labels, **scene), prompted, metrics, ScoreSettings(**given)
        )

    return scored
