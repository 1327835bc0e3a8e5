"""Evaluation and propagation on a fake GPU: nothing on two devices, and every wait of the host is counted here."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.fake_cuda import DEVICE, fake_cuda, moved

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.predictor import SlicePredictor
from sam2ft.evaluation.protocols.propagate import Propagation
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.metrics.scoring import Scene
from sam2ft.model.segmenter import build_untrained

pytestmark = pytest.mark.sam2

SIDE, SHAPE, LABELS = 128, (6, 96, 80), (1, 2)
EVENT_PER_SLICE, EVENT_PER_BATCH = {"event": 6}, {"event": 2}

WAITS: dict[tuple[str, str, int], dict[str, int]] = {
    ("box", "fp32", 1): EVENT_PER_SLICE,
    ("box", "bf16", 4): EVENT_PER_BATCH,
    ("box", "fp16", 1): EVENT_PER_SLICE,
    ("points", "bf16", 1): EVENT_PER_SLICE,
    ("points", "fp32", 4): EVENT_PER_BATCH,
    ("mask", "fp16", 1): EVENT_PER_SLICE,
    ("mask", "bf16", 4): EVENT_PER_BATCH,
}
"""(protocol, precision, slices per batch of the encoder) -> waits for six slices."""

WAITS_OF_PROPAGATION: dict[str, int] = {
    # one per slice and direction: six slices forward; back, the slices below the highest seed
    "event": 8,
    # the label map, at the end
    "D2H pageable blocking": 1,
    # stock's tables of rotary positions, once per process (sam2: sam/transformer.py)
    "H2D pageable blocking": 4,
    # stock's list of distances in slices, at most 16 numbers, which the driver copies at once (sam2_base.py)
    "H2D pageable queued": 15,
}
"""Waits for six slices with three objects."""


class _Volume:
    """Six slices with three objects of two labels; one of them is in two slices."""

    key = VolumeKey("d", "s", "v")

    def __init__(self) -> None:
        self.reference_zyx = np.zeros(SHAPE, dtype=np.uint8)
        self.reference_zyx[:, 10:30, 10:30] = 1
        self.reference_zyx[:, 40:60, 50:70] = 2
        self.reference_zyx[2:4, 70:90, 5:25] = 1
        labels = LabelTable((Label(1, "a"), Label(2, "b")))
        self.scene = Scene(Geometry.axis_aligned(SHAPE, (3.0, 0.5, 0.5)), labels)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            image = torch.rand(1, image_size, image_size)
            yield SliceView(self.key.slice(index), image, self.reference_zyx[index])


@pytest.mark.parametrize("case", WAITS, ids=str)
def test_slices_wait_once_per_batch_of_the_encoder(case: tuple[str, Any, int]) -> None:
    protocol, precision, encode_batch = case
    model, volume = build_untrained("sam2_nano", image_size=SIDE), _Volume()
    section = Evaluation(protocol=protocol, precision=precision, encode_batch=encode_batch)
    with fake_cuda() as cuda:
        moved(model.eval())
        predictor = SlicePredictor(model, protocol_class(protocol)(section), DEVICE)
        cuda.clear()
        views = volume.views(SIDE, range(SHAPE[0]), 0)
        predicted = list(predictor.predict(predictor.prepared(view, LABELS) for view in views))
        assert cuda.counts() == WAITS[case], cuda.listed()
        assert {copy.kind for copy in cuda.copies} == {"H2D pinned queued", "D2H pinned queued"}
    assert [one.index for one in predicted] == list(range(SHAPE[0]))
    assert all(one.label_maps_pyx[0].shape == SHAPE[1:] for one in predicted)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_propagation_waits_once_per_slice(precision: Any) -> None:
    model, volume = build_untrained("sam2_nano", image_size=SIDE), _Volume()
    with fake_cuda() as cuda:
        moved(model.eval())
        cuda.clear()
        section = Evaluation(protocol="propagate", precision=precision)
        label_map_zyx, prompted = Propagation(section).predict(model, volume, DEVICE)
        assert cuda.counts() == WAITS_OF_PROPAGATION, cuda.listed()
    assert label_map_zyx.shape == SHAPE
    assert len({one.instance for one in prompted if one.label == 1}) == 2
