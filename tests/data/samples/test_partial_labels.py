"""Training on volumes in which not every label was drawn: no sample knows of the others, and no loss does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam2ft.config.schema.module import Loss
from sam2ft.data.samples.batch import collate
from sam2ft.data.samples.dataset import SliceDataset, SliceSettings
from sam2ft.data.store.store import Store
from sam2ft.model.losses import build_loss

PARTLY = {"b": (1,), "c": (5,)}
SETTINGS = {
    "boxes": SliceSettings(image_size=32, seed=1, bbox_shift_px=3),
    "mixed": SliceSettings(image_size=32, seed=2, shares={"box": 0.4, "point": 0.3, "mask": 0.3}),
    "fixed": SliceSettings(image_size=32, seed=3, fixed_prompts=True),
}


@pytest.fixture
def datasets(tmp_path: Path, write_store: Callable[..., Store], prepared: Callable[..., Any]) -> Any:
    """(all labels of a to d, the same without those that were not drawn in b and c), as data sets of slices."""
    whole = [prepared(name) for name in "abcd"]
    partly = []
    for one in whole:
        drawn = PARTLY.get(one.key.subject)
        mask = one.mask_zyx if drawn is None else np.where(np.isin(one.mask_zyx, drawn), one.mask_zyx, 0)
        partly.append(prepared(one.key.subject, mask_zyx=mask.astype(np.uint8), labelled=drawn))
    stores = write_store(tmp_path / "whole", whole), write_store(tmp_path / "partly", partly)
    return lambda settings: tuple(SliceDataset([store], store.volumes, settings) for store in stores)


def logits_of(sample: Any) -> torch.Tensor:
    """Answers of a model that knows each instance by its label and number alone."""
    pairs = zip(sample.labels_n.tolist(), sample.instances_n.tolist(), strict=True)
    numbers = [torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(10 * label + one)) for label, one in pairs]
    return torch.stack(numbers)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("epoch", [0, 3])
def test_a_sample_holds_what_was_drawn_as_it_was(datasets: Any, settings: SliceSettings, epoch: int) -> None:
    before, after = datasets(settings)
    assert before.keys == after.keys  # every slice of b and c still has a label
    loss = build_loss(Loss(seg="DiceLoss", ce="BCE", iou_weight=0.5))
    for place, key in enumerate(before.keys):
        for one in (before, after):
            one.set_epoch(epoch)
        ours, theirs = before[place], after[place]
        drawn = [label in PARTLY.get(key.subject, (1, 5)) for label in ours.labels_n.tolist()]
        kept = torch.tensor(drawn)
        assert torch.equal(ours.image_1hw, theirs.image_1hw)
        assert torch.equal(ours.labels_n[kept], theirs.labels_n)
        assert torch.equal(ours.masks_nhw[kept], theirs.masks_nhw)
        assert torch.equal(ours.boxes_n4[kept], theirs.boxes_n4)
        found = [loss(logits_of(one), torch.zeros(len(one.labels_n)), collate([one])) for one in (ours, theirs)]
        for term, values in found[1].items():
            assert torch.equal(found[0][term][kept], values), term


@pytest.mark.parametrize("frame", ["decoder", "original"])
def test_the_loss_of_a_batch_without_such_a_volume_is_the_same(datasets: Any, frame: Any) -> None:
    loss = build_loss(Loss(frame=frame))
    found = []
    for slices in datasets(SETTINGS["boxes"]):
        batch = [slices[place] for place, key in enumerate(slices.keys) if key.subject in "ad"]
        logits = torch.cat([logits_of(one) for one in batch])
        found.append(loss(logits, torch.zeros(len(logits)), collate(batch))["loss"].mean())
    assert found[0].item().hex() == found[1].item().hex()
