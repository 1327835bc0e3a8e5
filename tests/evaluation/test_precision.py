"""What half precision changes in the numbers of an evaluation: the nano on phantom subjects that no training saw."""

import numpy as np
import pytest

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.protocols.box import BoxPrompts
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene
from sam2ft.model.segmenter import build_segmenter
from sam2ft.tools.nano_pictures import pictures_of
from sam2ft.tools.nano_quality import UNSEEN_SEED

pytestmark = [pytest.mark.sam2, pytest.mark.slow]


class Drawn:
    """The slices of one phantom subject as a volume."""

    key = VolumeKey("phantom", "s", "v")

    def __init__(self, pictures):
        self.pictures = pictures
        self.reference_zyx = np.stack([picture.labels_yx for picture in pictures])
        labels = LabelTable.unnamed(np.unique(self.reference_zyx)[1:])
        self.scene = Scene(Geometry.axis_aligned(self.reference_zyx.shape, (3.0, 0.5, 0.5)), labels)

    def views(self, image_size, slices, prefetch):
        for index in slices:
            one = self.pictures[index]
            yield SliceView(self.key.slice(index), to_model_frame(one.image_yx, image_size), one.labels_yx)


@pytest.mark.parametrize("phantom", ["knee", "spine"])
def test_half_precision_moves_dice_by_less_than_two_thousandths(phantom):
    model = build_segmenter("sam2_nano", image_size=256, checkpoint=None)
    volumes = [Drawn(pictures_of(phantom, seed=UNSEEN_SEED, indices=[index])) for index in range(2)]
    means = {}
    for precision in ("fp32", "bf16", "fp16"):
        protocol = BoxPrompts(Evaluation(precision=precision))
        results = Tester(model, protocol, (), ScoreSettings()).evaluate(volumes)
        means[precision] = np.nanmean([row["dice"] for one in results for row in one.rows["slice"]])
    assert means["fp32"] > 0.75
    assert means["bf16"] == pytest.approx(means["fp32"], abs=0.002)
    assert means["fp16"] == pytest.approx(means["fp32"], abs=0.002)
    assert means["bf16"] != means["fp32"]  # it was computed in another precision
