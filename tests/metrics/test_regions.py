import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.prompts import Box
from sam2ft.metrics import regions
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.masks import surface, surfel
from sam2ft.metrics.measurement import MaskPair
from sam2ft.metrics.regions import regions_of
from sam2ft.metrics.scoring import PromptedMask


def pair() -> MaskPair:
    """Label in both masks in slices 1 and 2, missed in slice 3, absent in slices 0 and 4."""
    reference, prediction = np.zeros((5, 9, 9), bool), np.zeros((5, 9, 9), bool)
    reference[1:4, 2:5, 3:6] = True
    prediction[1:3, 3:6, 3:7] = True
    return MaskPair(prediction, reference, Geometry.axis_aligned((5, 9, 9), (3.0, 0.5, 0.5)))


def test_regions_are_the_smallest_blocks_of_both_masks():
    *slices, volume = regions_of(pair())
    assert [one.prediction.shape for one in slices] == [(0, 0), (4, 4), (4, 4), (3, 3), (0, 0)]
    assert [one.status for one in slices] == ["absent", "ok", "ok", "missed", "absent"]
    assert volume.reference.shape == (3, 4, 4)
    assert (slices[1].spacing_mm, volume.spacing_mm) == ((0.5, 0.5), (3.0, 0.5, 0.5))


def test_one_crop_and_one_pair_of_searches_serve_all_metrics_of_a_definition(monkeypatch: pytest.MonkeyPatch):
    calls = {"crops": 0, "voxel": 0, "surfel": 0}

    def counted(name, function):
        def counting(*given):
            calls[name] += 1
            return function(*given)

        return counting

    monkeypatch.setattr(regions, "bounding_block", counted("crops", regions.bounding_block))
    monkeypatch.setattr(surface, "distances_to", counted("voxel", surface.distances_to))
    monkeypatch.setattr(surfel, "distances_to", counted("surfel", surfel.distances_to))
    one = pair()
    names = ("hd", "hd95", "assd", "nsd", "hd_surfel", "hd95_surfel", "assd_surfel", "nsd_surfel", "detection")
    for metric in load_metrics(dict.fromkeys(names, True)):
        assert len(list(metric.measure(one))) >= 6
    # Three slices with the label (the volume's block is their hull); two slices and the volume with it in both masks.
    assert calls == {"crops": 3, "voxel": 2 * 3, "surfel": 2 * 3}


def test_an_instance_keeps_its_window_of_the_slice_and_nothing_of_the_rest():
    prediction, reference = np.zeros((512, 512), bool), np.zeros((512, 512), bool)
    prediction[100:110, 200:230] = True
    reference[95:108, 205:230] = True
    whole = PromptedMask(0, 1, 1, Box(205, 95, 229, 107), prediction, reference)
    cut = whole.cropped()
    assert (cut.window, cut.prediction_yx.shape) == ((95, 200), (15, 30))
    # The slice's memory is let go of.
    assert cut.prediction_yx.base is None
    assert cut.reference_yx.base is None
    assert cut.cropped().window == (95, 200)
    back = np.zeros((512, 512), bool)
    (y0, x0), (height, width) = cut.window, cut.prediction_yx.shape
    back[y0 : y0 + height, x0 : x0 + width] = cut.prediction_yx
    assert np.array_equal(back, prediction)


def test_instance_rows_of_a_window_are_those_of_the_whole_slice(score):
    reference, answer = np.zeros((1, 20, 20), np.uint8), np.zeros((20, 20), bool)
    reference[0, 4:9, 4:9] = 1
    answer[5:12, 3:8] = True
    whole = PromptedMask(0, 1, 1, Box(4, 4, 8, 8), answer, reference[0] == 1)
    rows = [score(reference, reference, prompted=[one])["instance"] for one in (whole, whole.cropped())]
    assert rows[0] == rows[1]
    nothing = PromptedMask(0, 1, 1, Box(4, 4, 8, 8), answer & False, answer & False).cropped()
    assert score(reference, reference, prompted=[nothing])["instance"][0]["status"] == "absent"
