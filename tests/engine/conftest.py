"""A model of two convolutions that takes prompts like SAM 2, and batches of 8 x 8 pixels."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2ft.core.keys import SliceKey
from sam2ft.core.prompts import Prompts
from sam2ft.data.batch import Batch, Sample, collate

SIDE = 8


class TwoConvolutions(nn.Module):
    """(images, prompts) -> logits (n, 1, 4, 4) of the inside of each box, and a predicted IoU."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Conv2d(1, 4, 3, padding=1, dtype=dtype)
        self.second = nn.Conv2d(5, 1, 3, stride=2, padding=1, dtype=dtype)
        for tensor in self.parameters():
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator, dtype=dtype) * 0.3)
        self.num_encoded = 0

    def forward(self, images_bchw: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        return self.decode(self.encode(images_bchw), prompts)

    image_size = SIDE

    def project(self, features: Tensor) -> Tensor:
        return features

    def encode(self, images_bchw: Tensor) -> Tensor:
        self.num_encoded += len(images_bchw)
        return torch.tanh(self.first(images_bchw.to(self.first.weight.dtype)))

    def decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        inside = torch.zeros(len(prompts), 1, *features.shape[2:], dtype=features.dtype)
        for number, (x0, y0, x1, y1) in enumerate(prompts.boxes_n4.round().long().tolist()):
            inside[number, 0, y0 : y1 + 1, x0 : x1 + 1] = 1
        logits = self.second(torch.cat([features[prompts.slice_of_n], inside], dim=1))
        return logits, logits.mean((1, 2, 3)).sigmoid()


class PlainLoss:
    """Cross entropy and squared error on the slice's own grid, per instance."""

    def __call__(self, logits_n1hw: Tensor, iou_n: Tensor, batch: Batch) -> dict[str, Tensor]:
        logits = F.interpolate(logits_n1hw, size=(SIDE, SIDE), mode="bilinear")[:, 0]
        references = torch.cat(batch.masks).to(logits.dtype)
        ce = F.binary_cross_entropy_with_logits(logits, references, reduction="none").mean((1, 2))
        seg = (logits.sigmoid() - references).square().mean((1, 2))
        return {"loss": 0.5 * ce + 0.5 * seg, "ce": ce, "seg": seg}


def make_sample(number: int, num_instances: int | None = None) -> Sample:
    rng = np.random.default_rng(number)
    count = int(rng.integers(1, 4)) if num_instances is None else num_instances
    corners = rng.integers(0, SIDE // 2, size=(count, 2))
    boxes = np.concatenate([corners, corners + rng.integers(2, SIDE // 2, size=(count, 2))], axis=1)
    masks = np.zeros((count, SIDE, SIDE), dtype=bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    image = masks.any(axis=0) * 0.6 + rng.random((SIDE, SIDE)) * 0.4
    return Sample(
        key=SliceKey("toy", "s1", "v1", number),
        image_1hw=torch.tensor(image, dtype=torch.float32)[None],
        masks_nhw=torch.tensor(masks),
        labels_n=torch.ones(count, dtype=torch.int64),
        instances_n=torch.arange(1, count + 1),
        boxes_n4=torch.tensor(boxes, dtype=torch.float32),
        original_boxes_n4=torch.tensor(boxes, dtype=torch.int64),
    )


class ToyData:
    """Slices in an order drawn from the epoch, in batches of `batch_size`, like data/loader.EpochBatches."""

    def __init__(self, num_slices: int, batch_size: int):
        self.samples = [make_sample(number) for number in range(num_slices)]
        self.batch_size = batch_size

    def batches(self, order: Sequence[int]) -> Iterator[Batch]:
        for start in range(0, len(order), self.batch_size):
            yield collate([self.samples[number] for number in order[start : start + self.batch_size]])

    def train(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng([3, epoch]).permutation(len(self.samples)).tolist()
        return self.batches(order[skip * self.batch_size :])

    def val(self) -> Iterator[Batch]:
        return self.batches(range(len(self.samples)))


class Recorder:
    """An observer that keeps everything."""

    def __init__(self, on_step: Callable[[Any, Any], None] | None = None) -> None:
        self.steps: list[Any] = []
        self.epochs: list[Any] = []
        self.samples: list[Any] = []
        self._on_step = on_step

    def on_step(self, event: Any, state: Any) -> None:
        self.steps.append(event)
        if self._on_step:
            self._on_step(event, state)

    def on_epoch(self, event: Any, state: Any) -> None:
        self.epochs.append(event)

    def on_samples(self, epoch: int, samples: Sequence[Any]) -> None:
        self.samples.append((epoch, list(samples)))


@pytest.fixture
def two_convolutions() -> type[TwoConvolutions]:
    return TwoConvolutions


@pytest.fixture
def plain_loss() -> PlainLoss:
    return PlainLoss()


@pytest.fixture
def toy_data() -> type[ToyData]:
    return ToyData


@pytest.fixture
def recorder() -> type[Recorder]:
    return Recorder


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return make_sample
