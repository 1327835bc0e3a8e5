"""The table of memory needs against sizes of tensors on a fake GPU: what a step of the tiny model keeps."""

from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fixtures.fake_cuda import DEVICE, fake_cuda, moved
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from sam2ft.config.schema.module import Lora, Loss, Module, Trainable
from sam2ft.core.prompts import Prompts
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import build_loss
from sam2ft.model.memory_needs import memory_need
from sam2ft.model.precision import autocast, full_precision
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained
from sam2ft.model.trainable import set_trainable
from sam2ft.training.activation_checkpointing import checkpoint_activations

pytestmark = pytest.mark.sam2

GIB, SIDE, NUM_PROMPTS, GRID = 2**30, 1024, 8, (384, 384)
TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


class _Kept:
    """Storages that the forward pass keeps for the backward pass, besides parameters and buffers."""

    def __init__(self, model: nn.Module):
        self._own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
        self.storages: dict[int, Any] = {}
        self.largest_block = 0.0

    def add(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self.storages[storage._cdata] = storage
        return tensor

    def gib(self) -> float:
        return float(sum(storage.nbytes() for storage in self.storages.values())) / GIB

    def watch(self, block: nn.Module, *, checkpointed: bool) -> None:
        """Add a checkpointed block's input, which it keeps itself; else note how much more the block keeps."""
        before = [0.0]

        def begins(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if checkpointed:
                self.add(arguments[0])
            before[0] = self.gib()

        def ends(_: nn.Module, __: Any, ___: Any) -> None:
            self.largest_block = max(self.largest_block, self.gib() - before[0])

        block.register_forward_pre_hook(begins)
        block.register_forward_hook(ends)


def _tiny(settings: Module) -> FinetunedSAM2:
    model = build_untrained(TINY, image_size=SIDE)
    set_trainable(model, settings.trainable)
    if settings.lora:
        add_low_rank(model, settings.lora, 0)
    if settings.activation_checkpointing:
        checkpoint_activations(model)
    return model


def _measured(settings: Module) -> tuple[float, float, float]:
    """Weights, gradients and moments; what a forward pass keeps; what its largest block keeps of that [GiB]."""
    model = _tiny(settings)
    trained = sum(tensor.numel() for tensor in model.parameters() if tensor.requires_grad)
    state = 4 * (sum(tensor.numel() for tensor in model.parameters()) + 3 * trained) / GIB
    loss = build_loss(Loss())
    with fake_cuda(), ExitStack() as stack:
        moved(model)
        kept = _Kept(model)
        for block in model.sam2_model.image_encoder.trunk.blocks:
            kept.watch(block, checkpointed=settings.activation_checkpointing)
        slice_of_n = torch.zeros(NUM_PROMPTS, dtype=torch.int64, device=DEVICE)
        prompts = Prompts(slice_of_n, boxes_n4=torch.zeros(NUM_PROMPTS, 4, device=DEVICE))
        images = torch.zeros(1, 1, SIDE, SIDE, device=DEVICE)
        masks = (torch.zeros((NUM_PROMPTS, *GRID), dtype=torch.bool, device=DEVICE),)
        stack.enter_context(saved_tensors_hooks(kept.add, lambda tensor: tensor))
        with autocast(DEVICE, "bf16"):
            logits, iou = model(images, prompts)
        loss(full_precision(logits), full_precision(iou), SimpleNamespace(masks=masks))
    return state, kept.gib(), kept.largest_block


CASES: dict[str, tuple[dict[str, Any], float]] = {
    "all parts": ({"trainable": Trainable(prompt_encoder=True)}, 2.2),
    "with checkpointing": ({"trainable": Trainable(prompt_encoder=True), "activation_checkpointing": True}, 1.4),
    "decoder only": ({"trainable": Trainable(image_encoder=False)}, 0.7),
    "LoRA": ({"trainable": Trainable(image_encoder=False), "lora": Lora(rank=8)}, 1.9),
}
"""Keys of `module:`, and the sum that docs/training.md states [GiB]."""


@pytest.mark.parametrize(
    "name", ["decoder only", *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name != "decoder only")]
)
def test_the_table_of_tiny_is_within_a_tenth(name: str) -> None:
    keys, documented = CASES[name]
    settings = Module.model_validate(
        {"sam2_model_cfg": TINY, "image_size": SIDE, "prompts": {"max_instances_per_slice": NUM_PROMPTS}, **keys}
    )
    state, kept, _ = _measured(settings)
    if settings.activation_checkpointing:  # one block at a time is computed again
        kept += _measured(settings.model_copy(update={"activation_checkpointing": False}))[2]
    need = memory_need(settings, 1)
    assert need is not None
    assert need.state / GIB == pytest.approx(state, rel=0.1)
    assert need.activations / GIB == pytest.approx(kept, rel=0.1)
    assert state + kept == pytest.approx(documented, rel=0.1)
