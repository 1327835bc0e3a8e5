"""Through the Trainer, a real (nano, random) SAM 2 moves in exactly the tensors that were asked for and can be reached.

Which these are is written down here by module names of stock SAM 2, not asked of sam2ft.
"""

import itertools
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.trainers import trainer_settings

from sam2ft.config.schema.module import Lora, Trainable, TrainableOnly
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.batch import Batch, Sample, collate
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import LOSSES, SegmentationLoss
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training.activation_checkpointing import checkpoint_activations
from sam2ft.training.checkpoints.checkpoint import stock_weights
from sam2ft.training.optimizer import build_optimizer, parameter_groups
from sam2ft.training.trainer import Trainer

pytestmark = pytest.mark.sam2
SIDE = 64
LOSS = SegmentationLoss(LOSSES["DiceLoss"](), LOSSES["BCE"]())
BOXES = {"box": 1.0}
LORA = Lora(rank=4, alpha=8.0)

# What box prompts, Dice and cross entropy never reach: heads that no loss reads, tokens of masks that are not given
# out, embeddings of prompts that are not given.
OUT_OF_REACH = re.compile(
    r"sam_mask_decoder\.(iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.[123])\."
    r"|sam_prompt_encoder\.(mask_downscaling|point_embeddings\.[01])\."
)
MODULES = {"image_encoder": "image_encoder", "prompt_encoder": "sam_prompt_encoder", "mask_decoder": "sam_mask_decoder"}


def asked(**parts: Any) -> Any:
    return Trainable(**{"image_encoder": False, "mask_decoder": False, **parts})


def batch(*numbers: int) -> Batch:
    """One slice for each number, with two boxes of which one moves."""
    samples = []
    for number in numbers:
        boxes = torch.tensor([[5 + number, 5, 30 + number, 25], [30, 34, 55, 60]])
        masks = np.zeros((2, SIDE, SIDE), dtype=bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.tolist(), strict=True):
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        image = masks.any(axis=0) * 0.5 + np.random.default_rng(number).random((SIDE, SIDE)) * 0.5
        samples.append(
            Sample(
                key=SliceKey("toy", "s", "v", number),
                image_1hw=torch.tensor(image, dtype=torch.float32)[None],
                masks_nhw=torch.tensor(masks),
                labels_n=torch.tensor([1, 2]),
                instances_n=torch.tensor([1, 1]),
                boxes_n4=boxes.float(),
                original_boxes_n4=boxes,
            )
        )
    return collate(samples)


BATCHES = [batch(0), batch(1, 2), batch(3)]


@cache
def _built() -> FinetunedSAM2:
    return build_untrained("sam2_nano", image_size=SIDE, seed=1)


def initial() -> dict[str, torch.Tensor]:
    """The weights that every training here starts from, by stock name."""
    weights: dict[str, torch.Tensor] = _built().sam2_model.state_dict()
    return weights


def prepared(trainable: Any, lora: Any = None) -> FinetunedSAM2:
    """As training/build_trainer.trainable_model does it."""
    model = deepcopy(_built())
    set_trainable(model, trainable)
    if lora is not None:
        add_low_rank(model, lora, seed=4)
    freeze_unreachable(model, LOSS, BOXES)
    return model


def trained(model: FinetunedSAM2, *, choice: Optimizer | None = None, **settings: Any) -> Trainer:
    """Three steps."""
    optimizer = build_optimizer(model, choice or Optimizer(lr=1e-3))
    trainer = Trainer(model, LOSS, optimizer, None, trainer_settings(**{"num_epochs": 1, **settings}))
    trainer.fit(lambda epoch, skip: BATCHES[skip:], lambda: BATCHES[:1])
    return trainer


def moved(model: FinetunedSAM2) -> set[str]:
    """Names in the stock state dict of what is not as it was built, to the bit."""
    return differing(initial(), stock_weights(model))


def differing(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def stock_names(wanted: Callable[[str], object]) -> set[str]:
    names = (name for name, _ in _built().sam2_model.named_parameters())
    return {name for name in names if wanted(name) and not OUT_OF_REACH.match(name)}


COMBINATIONS = [parts for count in (1, 2, 3) for parts in itertools.combinations(MODULES, count)]


@pytest.mark.parametrize("parts", COMBINATIONS, ids="+".join)
def test_each_combination_of_parts_moves_exactly_their_tensors(parts: tuple[str, ...]) -> None:
    model = prepared(asked(**dict.fromkeys(parts, True)))
    trained(model)
    modules = {MODULES[part] for part in parts}
    assert moved(model) == stock_names(lambda name: name.split(".")[0] in modules)


def test_patterns_move_exactly_what_they_find() -> None:
    only = TrainableOnly(only=(r"trunk\.blocks\.[56]\.", "neck"))
    model = prepared(asked(image_encoder=only, mask_decoder=TrainableOnly(only=("transformer",))))
    trained(model)
    found = re.compile(r"image_encoder\.(trunk\.blocks\.[56]\.|neck)|sam_mask_decoder\.transformer\.")
    assert moved(model) == stock_names(found.match)


IN_BLOCKS = re.compile(r"image_encoder\.trunk\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.layers\.[01]|proj)\.weight$")


@pytest.mark.parametrize(
    ("trainable", "besides"),
    [
        (asked(), "nothing$"),
        (asked(mask_decoder=True), "sam_mask_decoder"),
        (asked(image_encoder=TrainableOnly(only=("norm", "neck"))), r"image_encoder\.(trunk.*norm|neck)"),
    ],
    ids=["alone", "mask_decoder", "norms_and_neck"],
)
def test_low_rank_updates_move_the_blocks_matrices_and_what_is_asked_for_besides(trainable: Any, besides: str) -> None:
    model = prepared(trainable, LORA)
    bases = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.endswith(".original")}
    trainer = trained(model, ema={"decay": 0.9})
    expected = stock_names(lambda name: IN_BLOCKS.match(name) or re.match(besides, name))
    assert moved(model) == expected
    assert bases
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in bases.items())
    averaged = trainer.weights()
    assert differing(initial(), averaged) == expected
    assert differing(stock_weights(model), averaged) == expected


def test_low_rank_updates_learn() -> None:
    model = prepared(asked(), LORA)
    with torch.no_grad():
        before = LOSS(*model(BATCHES[1].images_bchw, BATCHES[1].prompts), BATCHES[1])["loss"].mean()
    trained(model, num_epochs=5, choice=Optimizer(lr=1e-2))
    with torch.no_grad():
        after = LOSS(*model(BATCHES[1].images_bchw, BATCHES[1].prompts), BATCHES[1])["loss"].mean()
    assert after < 0.9 * before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("lora", [None, LORA], ids=["whole", "lora"])
def test_recomputed_activations_give_the_same_gradients_to_the_bit(precision: Any, lora: Any) -> None:
    gradients = []
    for recompute in (False, True):
        model = prepared(asked(image_encoder=lora is None, mask_decoder=True), lora)
        if recompute:
            assert checkpoint_activations(model) == len(model.sam2_model.image_encoder.trunk.blocks)
        trainer = Trainer(
            model, LOSS, build_optimizer(model, Optimizer()), None,
            trainer_settings(num_epochs=1, precision=precision),
        )  # fmt: skip
        trainer.calculate_loss(BATCHES[1]).losses["loss"].sum().backward()  # type: ignore[no-untyped-call]  # torch's
        gradients.append({name: tensor.grad for name, tensor in model.named_parameters() if tensor.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    assert any("trunk.blocks.0." in name for name in gradients[0])
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_rates_of_low_rank_updates_are_those_of_their_part_and_block() -> None:
    model = prepared(asked(mask_decoder=True), LORA)
    num_blocks = len(model.sam2_model.image_encoder.trunk.blocks)
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    choice = Optimizer(lr=1.0, lr_scale={"image_encoder": 0.5}, layer_decay=0.5, no_decay_norms=True)
    seen = set()
    for group in parameter_groups(model, choice):
        for tensor in group["params"]:
            name = names[id(tensor)]
            if block := re.search(r"blocks\.(\d+)\.", name):
                assert group["lr_scale"] == 0.5 * 0.5 ** (num_blocks - int(block[1])), name
                assert "weight_decay" not in group, "matrices, not norms"
                seen.add(int(block[1]))
            else:
                assert group["lr_scale"] == 1.0
    assert seen == set(range(num_blocks))
