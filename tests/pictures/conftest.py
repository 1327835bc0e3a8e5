import numpy as np
import pytest

from sam2ft.core.events import SlicePrediction
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import box_around

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def labels() -> LabelTable:
    return LabelTable((Label(1, "femoral cartilage"), Label(2, HOSTILE), Label(3, r"_$\frac{")))


@pytest.fixture
def sample() -> SlicePrediction:
    """A 20 x 30 slice: label 1 matched exactly, label 2 (two instances) half found, label 3 missed at the border."""
    references = np.zeros((4, 20, 30), bool)
    references[0, 2:8, 2:12] = True
    references[1, 10:14, 2:6] = True
    references[2, 10:14, 20:24] = True
    references[3, 16:20, 25:30] = True
    predictions = references.copy()
    predictions[2:] = False
    image = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    boxes = [box_around(mask) for mask in references]
    return SlicePrediction(VolumeKey("knee", "P1", "t2").slice(4), image, [1, 2, 2, 3], boxes, references, predictions)
