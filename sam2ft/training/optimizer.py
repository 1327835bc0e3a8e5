"""torch optimizers by class name, with parameter groups: learning rates per part, layer decay, weight decay."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.errors import ConfigError
from sam2ft.model.trainable import part_of

# Key in a parameter group: the factor on its learning rate, which Schedule.rates_of applies.
SCALE = "lr_scale"

FUSED = ("Adam", "AdamW", "SGD")
"""Optimizers that update all tensors in one kernel of a GPU where the settings choose neither `fused` nor `foreach`."""

_TRUNK_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")


def chooses_fused(section: Optimizer, device_type: str) -> bool:
    """Whether a training that begins on such a device updates all tensors in one kernel.

    The results are rounded differently than without it, so a training keeps what it began with.
    """
    is_open = not section.arguments.keys() & {"fused", "foreach"}
    return device_type == "cuda" and is_open and section.type in FUSED


def build_optimizer(model: nn.Module, section: Optimizer, *, fused: bool = False) -> torch.optim.Optimizer:
    """Build the optimizer of all parameters of `model` that require a gradient.

    Args:
        fused: the choice of `chooses_fused` when the training began; arguments of the section are used as they are.

    Raises:
        ConfigError: for a value that the class refuses, or a part in lr_scale without trained parameters.
    """
    groups = parameter_groups(model, section)
    arguments = {**section.arguments, **({"fused": True} if fused else {})}
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, section.type)(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"module.optimizer: {section.type}: {error}") from None
    return optimizer


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a saved state; the optimizer goes on fused or not as it was when it was saved.

    Raises:
        RuntimeError, ValueError: for the state of another model or optimizer.
    """
    optimizer.load_state_dict(saved)
    # torch sets this in constructors only. GradScaler hands its scale to an optimizer that says so, and the updates
    # that are not fused refuse it.
    optimizer._step_supports_amp_scaling = any(  # type: ignore[attr-defined]
        group.get("fused") for group in optimizer.param_groups
    )


def parameter_groups(model: nn.Module, section: Optimizer) -> list[dict[str, Any]]:
    """One group per learning rate and weight decay, in order of first appearance in the model.

    Every group has the learning rate of the section and, separately, its factor: with scaled rates, a scheduler would
    set all groups to its absolute rates (eta_min, max_lr, min_lr), so slow groups would end as fast as the others.

    Raises:
        ConfigError: for a part in lr_scale without trained parameters.
    """
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    scales: Mapping[Any, float] = section.lr_scale
    if idle := [part for part in scales if part not in {part_of(name) for name, _ in trained}]:
        raise ConfigError(f"module.optimizer.lr_scale.{idle[0]}: nothing of this part is trained")
    num_blocks = 1 + max((_block_of(name) or 0 for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, tensor in trained:
        scale = scales.get(part_of(name), 1.0) * _depth_scale(name, section.layer_decay, num_blocks)
        decays = not (section.no_decay_norms and tensor.ndim <= 1)
        settings = {"lr": section.lr, SCALE: scale} | ({} if decays else {"weight_decay": 0.0})
        groups.setdefault((scale, decays), {"params": [], **settings})["params"].append(tensor)
    return list(groups.values())


def _block_of(name: str) -> int | None:
    match = _TRUNK_BLOCK.search(name)
    return int(match[1]) if match else None


def _depth_scale(name: str, decay: float | None, num_blocks: int) -> float:
    """decay ** (distance from the top of the Hiera trunk): 1 outside the trunk, smallest for the patch embedding.

    Layer-wise decay as in BEiT and in SAM 2's training code (training/optimizer.py: layer_decay_param_modifier).
    """
    if decay is None or "image_encoder.trunk." not in name:
        return 1.0
    block = _block_of(name)
    depth = 0 if block is None else block + 1
    return float(decay ** (num_blocks + 1 - depth))
