"""torch optimizers by class name, with parameter groups: learning rates per part, layer decay, weight decay."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from sam2ft.config.schema.arguments import REFUSED
from sam2ft.core.errors import ConfigError
from sam2ft.model.trainable import PARTS

REFUSED_OPTIMIZERS = {**REFUSED["optimizers"], "Optimizer": "it is the abstract base class"}
# Key in a parameter group: the factor on its learning rate, which Schedule.rates_of applies.
SCALE = "lr_scale"

_TRUNK_BLOCK = re.compile(r"image_encoder\.trunk\.blocks\.(\d+)\.")


class OptimizerSection(Protocol):
    """The section `module.optimizer` of an experiment."""

    @property
    def type(self) -> str: ...
    @property
    def lr(self) -> float: ...
    @property
    def arguments(self) -> Mapping[str, Any]:
        """Arguments of the constructor besides lr."""

    @property
    def lr_scale(self) -> Mapping[Any, float]: ...
    @property
    def layer_decay(self) -> float | None: ...
    @property
    def no_decay_norms(self) -> bool: ...


@dataclass(frozen=True)
class OptimizerChoice:
    """The same section as plain values, for code and tests without an experiment."""

    type: str = "AdamW"
    lr: float = 1e-4
    arguments: Mapping[str, Any] = field(default_factory=dict)
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None
    no_decay_norms: bool = False


def build_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Build the optimizer of all parameters of `model` that require a gradient.

    Raises:
        ConfigError: for an unknown or unsuitable class, an argument that the class does not accept, a part in lr_scale
            without trained parameters, or a model without trained parameters.
    """
    kind = optimizer_class(section.type)
    arguments = {"lr": section.lr, **section.arguments}
    groups = parameter_groups(model, section)
    try:
        inspect.signature(kind).bind(groups, **arguments)
        optimizer: torch.optim.Optimizer = kind(groups, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"module.optimizer: {section.type}: {error}") from None
    return optimizer


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The class torch.optim.<name>.

    Raises:
        ConfigError: when torch has no such optimizer or it cannot be used, with the reason.
    """
    found = getattr(torch.optim, name, None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(f"module.optimizer.type: torch.optim has no optimizer {name!r}")
    if name in REFUSED_OPTIMIZERS:
        raise ConfigError(f"module.optimizer.type: {name} cannot be used: {REFUSED_OPTIMIZERS[name]}")
    return found


def parameter_groups(model: nn.Module, section: OptimizerSection) -> list[dict[str, Any]]:
    """One group per learning rate and weight decay, in order of first appearance in the model.

    Every group has the learning rate of the section and, separately, its factor: with scaled rates, a scheduler would
    set all groups to its absolute rates (eta_min, max_lr, min_lr), so slow groups would end as fast as the others.

    Raises:
        ConfigError: for an unknown part in lr_scale or one without trained parameters, or a model without any.
    """
    trained = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    if not trained:
        raise ConfigError("module.trainable: nothing would be trained")
    _refuse_idle_scales(section.lr_scale, [name for name, _ in trained])
    num_blocks = 1 + max((_block_of(name) or 0 for name, _ in model.named_parameters()), default=0)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, tensor in trained:
        scale = _part_scale(name, section.lr_scale) * _depth_scale(name, section.layer_decay, num_blocks)
        decays = not (section.no_decay_norms and tensor.ndim <= 1)
        settings = {"lr": section.lr, SCALE: scale} | ({} if decays else {"weight_decay": 0.0})
        groups.setdefault((scale, decays), {"params": [], **settings})["params"].append(tensor)
    return list(groups.values())


def _refuse_idle_scales(scales: Mapping[str, float], trained: list[str]) -> None:
    for part in scales:
        if part not in PARTS:
            raise ConfigError(f"module.optimizer.lr_scale: unknown part {part!r}; known: {', '.join(PARTS)}")
        if not any(_part_of(name) == part for name in trained):
            raise ConfigError(f"module.optimizer.lr_scale.{part}: nothing of this part is trained")


def _part_of(name: str) -> str | None:
    """The part of a parameter, with or without the prefix `sam2_model.`; None for a parameter in no part."""
    top = name.removeprefix("sam2_model.").partition(".")[0]
    return next((part for part, module in PARTS.items() if module == top), None)


def _part_scale(name: str, scales: Mapping[str, float]) -> float:
    part = _part_of(name)
    return scales[part] if part is not None and part in scales else 1.0


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


def trained_parameters(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    """All parameters that the optimizer updates."""
    for group in optimizer.param_groups:
        yield from group["params"]
