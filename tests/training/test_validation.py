"""Pictures of validation: what they show of each slice, with one copy of the masks for all."""

from typing import Any

import numpy as np
import pytest
import torch
from fixtures.trainings import SIDE

from sam2ft.core.keys import VolumeKey
from sam2ft.core.prompts import Box, Point, Prompts, mixed_prompts
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import ALONE
from sam2ft.training.validation import ForwardResult, slice_predictions, validate


def batch_of(kinds: tuple[str, ...], shapes: tuple[tuple[int, int, int], ...]) -> Batch:
    """Slices whose masks have `shapes` (n, H, W), and instances prompted by `kinds` in turn."""
    num, generator = sum(count for count, _, _ in shapes), torch.Generator().manual_seed(2)
    slice_of_n = np.repeat(np.arange(len(shapes)), [count for count, _, _ in shapes])
    boxes = (
        np.tile(np.array([[1, 1, 5, 6]], dtype=np.float32), (num, 1)) + np.arange(num, dtype=np.float32)[:, None] / 8
    )
    masks = np.random.default_rng(0).normal(size=(num, 1, SIDE // 4, SIDE // 4)).astype(np.float32)
    drawn = [kinds[number % len(kinds)] for number in range(num)]
    labels = torch.arange(1, num + 1)
    volume = VolumeKey("d", "s", "v")
    return Batch(
        keys=tuple(volume.slice(index) for index in range(len(shapes))),
        images_bchw=torch.rand((len(shapes), 1, SIDE, SIDE), generator=generator),
        prompts=mixed_prompts(kinds, drawn, slice_of_n, boxes, boxes[:, :2], masks).map(torch.from_numpy),
        masks=tuple(torch.rand(shape, generator=generator) > 0.5 for shape in shapes),
        labels_n=labels,
        instances_n=torch.ones_like(labels),
        original_boxes_n4=torch.from_numpy(boxes).long(),
    )


SHAPES = [((2, 10, 12),), ((1, 10, 12), (3, 7, 9)), ((2, 5, 6), (1, 5, 6), (2, 16, 4))]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("kinds", [("box",), ("point",), ("mask",), ("box", "point", "mask")])
def test_each_slice_shows_its_own_instances_as_if_it_were_alone(kinds: Any, shapes: Any) -> None:
    batch = batch_of(kinds, shapes)
    logits = torch.randn((len(batch.labels_n), 1, 4, 4), generator=torch.Generator().manual_seed(3))
    found = slice_predictions(batch, logits)
    start = 0
    for index, (slice_found, shape) in enumerate(zip(found, shapes, strict=True)):
        own = slice(start, start := start + shape[0])
        expected = torch.nn.functional.interpolate(logits[own], size=shape[1:], mode="bilinear")[:, 0] > 0
        assert np.array_equal(slice_found.predictions_nyx, expected.numpy())
        assert np.array_equal(slice_found.references_nyx, batch.masks[index].numpy())
        assert list(slice_found.labels_n) == list(range(own.start + 1, own.stop + 1))
        assert slice_found.key == batch.keys[index]
        assert slice_found.image_yx.shape == shape[1:]
        wanted = [kinds[number % len(kinds)] for number in range(own.start, own.stop)]
        kinds_found = ["box" if isinstance(one, Box) else "point" if isinstance(one, Point) else "mask"
                       for one in slice_found.prompts_n]  # fmt: skip
        assert kinds_found == wanted
        assert [tuple(box) for box in slice_found.boxes_n] == [
            tuple(row) for row in batch.original_boxes_n4[own].tolist()
        ]


def test_the_sums_count_every_instance_once_and_samples_are_the_first_slices() -> None:
    batches = [batch_of(("box",), shapes) for shapes in SHAPES]
    seen: list[Prompts] = []

    def forward(batch: Batch) -> ForwardResult:
        seen.append(batch.prompts)
        values = batch.labels_n.double()
        return ForwardResult(torch.ones(len(values), 1, 4, 4), {"loss": values})

    found = validate(batches, forward, ALONE, num_samples=2)
    labels = torch.cat([batch.labels_n for batch in batches]).double()
    assert found.values["val_loss"] == labels.sum().item() / len(labels)
    assert [one.key for one in found.samples] == [batches[0].keys[0], batches[1].keys[0]]
    assert len(seen) == len(batches)
