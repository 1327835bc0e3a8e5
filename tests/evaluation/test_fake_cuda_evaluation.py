"""Waits and copies of an evaluation on a GPU, counted on a fake one: one wait per batch of slices, nothing between."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures.fake_cuda import DEVICE, FakeCuda, fake_cuda, moved
from torch.overrides import TorchFunctionMode

from sam2ft.config.schema.evaluation import Evaluation, PromptNoise
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.predictor import SlicePredictor
from sam2ft.evaluation.protocols.propagate import Propagation
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.metrics.scoring import Scene
from sam2ft.model.attention import MOST_WINDOWS, windows_of
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained

pytestmark = pytest.mark.sam2
SIDE, NUM_SLICES = 64, 6


def reference() -> Any:
    """(6, 48, 40): three objects in every slice, of which the seeds lie in slices 2 (label 1, first), 3 and 0."""
    labels = np.zeros((NUM_SLICES, 48, 40), np.uint8)
    labels[:, 5:15, 5:15], labels[:, 20:30, 25:35], labels[:, 35:45, 2:12] = 1, 2, 1
    labels[2, 5:17, 5:15], labels[3, 20:33, 25:35] = 1, 2
    return labels


class Volume:
    """The reference; its image is noise."""

    key = VolumeKey("toy", "s1", "v1")
    reference_zyx = reference()
    scene = Scene(
        Geometry.axis_aligned(reference_zyx.shape, (2.0, 1.0, 1.0)), LabelTable((Label(1, "bone"), Label(2, "disc")))
    )

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            yield SliceView(self.key.slice(index), torch.rand(1, image_size, image_size), self.reference_zyx[index])


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with fake_cuda() as found:
        yield found


@pytest.fixture
def model(cuda: FakeCuda) -> FinetunedSAM2:
    built = build_untrained("sam2_nano", image_size=SIDE).eval()
    moved(built)
    return built


def copies(cuda: FakeCuda) -> dict[str, int]:
    return dict(Counter(copy.kind for copy in cuda.copies))


@pytest.mark.parametrize(
    "precision", ["bf16", *(pytest.param(other, marks=pytest.mark.slow) for other in ("fp32", "fp16"))]
)
@pytest.mark.parametrize(
    ("settings", "tensors_of_prompts"),
    [
        ({"protocol": "box"}, 2),
        ({"protocol": "box", "encode_batch": 4}, 2),
        ({"protocol": "box", "prompt_noise": PromptNoise(shifts=(3, 5), seeds=(0, 1))}, 5 * 2),
        ({"protocol": "point"}, 3),
        ({"protocol": "points", "points_k": 3}, 3),
        ({"protocol": "mask", "encode_batch": 2}, 2),
    ],
)
def test_a_batch_of_slices_is_one_wait_and_every_copy_is_queued(
    cuda: FakeCuda, model: FinetunedSAM2, settings: Mapping[str, Any], tensors_of_prompts: int, precision: Any
) -> None:
    """Per slice: its image and the tensors of its prompts there; label maps of all passes and masks back."""
    section = Evaluation(precision=precision, **settings)
    predictor = SlicePredictor(model, protocol_class(section.protocol)(section), DEVICE)
    prepared = [predictor.prepared(view, (1, 2)) for view in Volume().views(SIDE, range(NUM_SLICES), 0)]
    cuda.clear()
    found = list(predictor.predict(prepared))
    assert [len(one.prompted) for one in found] == [3] * NUM_SLICES
    assert [len(one.label_maps_pyx) for one in found] == [len(predictor.protocol.passes)] * NUM_SLICES
    assert cuda.counts() == {"event": -(-NUM_SLICES // section.encode_batch)}, cuda.listed()
    assert copies(cuda) == {
        "H2D pinned queued": NUM_SLICES * (1 + tensors_of_prompts),
        "D2H pinned queued": NUM_SLICES * 2,
    }


@pytest.mark.parametrize(
    ("object_batch", "precision"),
    [
        (1, "bf16"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [(64, "fp32"), (1, "fp32"), (1, "fp16"), (64, "bf16"), (64, "fp16")]
        ),
    ],
)
def test_a_propagated_slice_is_one_wait_in_each_direction(
    cuda: FakeCuda, model: FinetunedSAM2, object_batch: int, precision: Any
) -> None:
    """Seeds in slices 0, 2 and 3: up through slices 0 to 5, down through 2 to 0 (slice 3 holds no result but a seed).

    The one list that goes there for every object in every slice but its seed's is that of distances to the slices that
    are remembered: a few numbers, which the driver takes along at once (CUDA: copies of up to 64 KB).
    """
    section = Evaluation(protocol="propagate", precision=precision, object_batch=object_batch)
    calls = 3 * (NUM_SLICES - 1)
    Propagation(section).predict(model, Volume(), DEVICE)  # the first pass computes constants on the host
    cuda.clear()
    Propagation(section).predict(model, Volume(), DEVICE)
    assert copies(cuda) == {
        "H2D pinned queued": NUM_SLICES + 1,
        "H2D pageable queued": calls,
        "D2H pinned queued": 6 + 3,
        "D2H pageable blocking": 1,
    }
    assert cuda.counts() == {"event": 6 + 3, "H2D pageable queued": calls, "D2H pageable blocking": 1}, cuda.listed()
    lists = {wait.place.split(" < ")[0].split(":")[0] for wait in cuda.waits if wait.kind == "H2D pageable queued"}
    assert lists == {"sam2/modeling/sam2_base.py"}


class Largest(TorchFunctionMode):
    """The largest batch that reaches an attention."""

    size = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            self.size = max(self.size, len(args[0]))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("num_slices", "largest"), [(63, windows_of(63, 1024)), (64, MOST_WINDOWS), (100, MOST_WINDOWS)]
)
def test_no_attention_of_a_large_batch_is_beyond_the_grid_of_a_gpu(
    cuda: FakeCuda, num_slices: int, largest: int
) -> None:
    large = build_untrained("sam2_nano", image_size=1024).eval()
    moved(large)
    with torch.inference_mode(), Largest() as seen:
        features = large.encode(torch.zeros((num_slices, 1, 1024, 1024), device=DEVICE))
    assert len(features.embedding_bchw) == num_slices
    assert seen.size == largest <= MOST_WINDOWS
