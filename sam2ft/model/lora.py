"""LoRA (low-rank updates) of the image encoder: weight + alpha / rank * up @ down, merged into the weight on export."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sam2ft.config.schema.module import Lora
from sam2ft.core.errors import ConfigError
from sam2ft.core.files import sha256_text
from sam2ft.model.segmenter import FinetunedSAM2

TRUNK_BLOCKS = "image_encoder.trunk.blocks"
# Key suffixes under which torch.nn.utils.parametrize stores a layer's weight and its update.
_BASE, _UPDATE = ".parametrizations.weight.original", ".parametrizations.weight.0."
DOWN, UP = f"{_UPDATE}down", f"{_UPDATE}up"


class LowRank(nn.Module):
    """Parametrization that maps an (out, in) weight to weight + scale * up @ down.

    `down` (rank, in) is initialised at random and `up` (out, rank) with zeros, so that training starts from the initial
    weights (Hu et al. 2021, LoRA, section 4.1).
    """

    def __init__(self, weight: Tensor, rank: int, scale: float, generator: torch.Generator):
        super().__init__()
        out, width = weight.shape
        # Kaiming uniform initialisation, as for nn.Linear's own weight and in the authors' loralib.
        drawn = torch.empty(rank, width).uniform_(-(width**-0.5), width**-0.5, generator=generator)
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(out, rank))
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return updated(weight, self.down, self.up, self.scale)


def updated(weight: Tensor, down: Tensor, up: Tensor, scale: float) -> Tensor:
    """weight + scale * up @ down in the weight's own precision, also under autocast.

    The exported weights are therefore bitwise equal to the trained ones.
    """
    with torch.autocast(device_type=weight.device.type, enabled=False):
        return torch.addmm(weight, up, down, alpha=scale)


def add_low_rank(model: FinetunedSAM2, lora: Lora, seed: int) -> None:
    """Add a trainable low-rank update to every linear layer of the trunk's blocks; the layer's own weight stays frozen.

    The layers are those of attention and MLP, and the projection where a stage widens: adapting all layers matters more
    than the rank (Dettmers et al. 2023, QLoRA, section 4). The initial values depend only on the seed and the layer's
    name, so they are equal on all ranks without communication. Call this after set_trainable and before
    freeze_unreachable.

    Raises:
        ConfigError: for a rank larger than a layer's weight allows, or a layer whose weight was selected for training.
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
            f"module.trainable.image_encoder: selects {chosen[0]}.weight, which module.lora updates with low rank and "
            f"keeps frozen; select only what module.lora does not update, such as norms, biases, pos_embed or neck"
        )
    for name, layer in layers.items():
        generator = torch.Generator().manual_seed(int(sha256_text(f"lora|{seed}|{name}")[:15], 16))
        update = LowRank(layer.weight, lora.rank, lora.alpha / lora.rank, generator)
        parametrize.register_parametrization(layer, "weight", update)


def is_low_rank(name: str) -> bool:
    """Whether a parameter of this name is the `down` or `up` matrix of a low-rank update."""
    return name.endswith((DOWN, UP))


@torch.no_grad()
def merged(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add each low-rank update to its weight.

    Args:
        model: the model with its low-rank updates.
        tensors: a state dict of `model`, or averages under the same names.

    Returns:
        Tensors under the names that the model had before `add_low_rank`.
    """
    whole = dict(tensors)
    for name, layer in model.named_modules():
        update = layer.parametrizations["weight"][0] if parametrize.is_parametrized(layer, "weight") else None
        if isinstance(update, LowRank):
            base, down, up = (whole.pop(name + half) for half in (_BASE, DOWN, UP))
            whole[f"{name}.weight"] = updated(base, down, up, update.scale)
    return whole
