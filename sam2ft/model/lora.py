"""Low-rank updates (LoRA) of the image encoder: weight + alpha / rank * up @ down, merged into the weight on export."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sam2ft.core.errors import ConfigError
from sam2ft.core.files import sha256_text
from sam2ft.model.segmenter import FinetunedSAM2

TRUNK_BLOCKS = "image_encoder.trunk.blocks"
# Where torch.nn.utils.parametrize keeps the weight of a layer and what updates it.
_BASE, _UPDATE = ".parametrizations.weight.original", ".parametrizations.weight.0."
DOWN, UP = f"{_UPDATE}down", f"{_UPDATE}up"


class LoraConfig(Protocol):
    """The section `module.lora` of an experiment."""

    @property
    def rank(self) -> int: ...
    @property
    def alpha(self) -> float: ...


class LowRank(nn.Module):
    """(out, in) weight -> weight + scale * up @ down, with down (rank, in) drawn and up (out, rank) zero at first.

    Zero at first, so that training starts from the initial weights (Hu et al. 2021, LoRA, section 4.1).
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        out, width = weight.shape
        # The uniform Kaiming draw of nn.Linear's own weight, as in the authors' loralib.
        drawn = torch.empty(rank, width).uniform_(-(width**-0.5), width**-0.5, generator=generator)
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(out, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return updated(weight, self.down, self.up, self.scale)


def updated(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """The sum in the weight's own precision, also under autocast: what is exported is what was trained, bit for bit."""
    with torch.autocast(device_type=weight.device.type, enabled=False):
        return torch.addmm(weight, up, down, alpha=scale)


def add_low_rank(model: FinetunedSAM2, lora: LoraConfig, seed: int) -> None:
    """Give every linear layer of the trunk's blocks a trainable low-rank update; its own weight stays frozen.

    Every one (attention, MLP, and the projection where a stage widens): what matters is that all layers have an update
    more than its rank (Dettmers et al. 2023, QLoRA, section 4). A layer's draw depends on the seed and its name alone,
    so ranks agree without asking. Call it after set_trainable and before freeze_unreachable.
    Errors: ConfigError for a rank that no layer's update can have, or a layer whose weight was chosen to train.
    """
    layers = {
        f"{TRUNK_BLOCKS}.{name}": layer
        for name, layer in model.sam2_model.get_submodule(TRUNK_BLOCKS).named_modules()
        if isinstance(layer, nn.Linear)
    }
    smallest = min(layers, key=lambda name: min(layers[name].weight.shape))
    if lora.rank > (most := min(layers[smallest].weight.shape)):
        shape = " x ".join(map(str, layers[smallest].weight.shape))
        raise ConfigError(
            f"module.lora.rank: {lora.rank}, but {smallest}.weight is {shape}; allowed for this model: at most {most}"
        )
    if chosen := [name for name, layer in layers.items() if layer.weight.requires_grad]:
        raise ConfigError(
            f"module.trainable.image_encoder: chooses {chosen[0]}.weight, which module.lora updates with low rank and "
            f"keeps frozen; name only what module.lora does not update, such as norms, biases, pos_embed or neck"
        )
    for name, layer in layers.items():
        generator = torch.Generator().manual_seed(int(sha256_text(f"lora|{seed}|{name}")[:15], 16))
        update = LowRank(layer.weight, lora.rank, lora.alpha / lora.rank, generator)
        parametrize.register_parametrization(layer, "weight", update)


def is_low_rank(name: str) -> bool:
    """Whether a tensor of this name is half of a low-rank update."""
    return name.endswith((DOWN, UP))


@torch.no_grad()
def merged(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` (a state dict of `model`, or averages in its place) with each update added to its weight.

    The result has the names that the model had before `add_low_rank`.
    """
    whole = dict(tensors)
    for name, layer in model.named_modules():
        update = layer.parametrizations["weight"][0] if parametrize.is_parametrized(layer, "weight") else None
        if isinstance(update, LowRank):
            base, down, up = (whole.pop(name + half) for half in (_BASE, DOWN, UP))
            whole[f"{name}.weight"] = updated(base, down, up, update.scale)
    return whole
