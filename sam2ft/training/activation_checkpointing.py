"""Activation checkpointing: the image encoder's blocks are computed again in the backward pass instead of kept."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from sam2ft.core.errors import ConfigError
from sam2ft.model.attention import fastest_attention

_BLOCKS = "image_encoder.trunk.blocks"


def checkpoint_activations(model: nn.Module) -> int:
    """Switch it on for every block of the Hiera trunk; returns their number. State dict keys stay as they are.

    Bit-equal to training without it. Errors: ConfigError when the image encoder does not train: nothing would be saved.
    """
    blocks = next((module for name, module in model.named_modules() if name.endswith(_BLOCKS)), None)
    if not isinstance(blocks, nn.ModuleList) or not any(tensor.requires_grad for tensor in blocks.parameters()):
        raise ConfigError(
            "module.activation_checkpointing: no block of the image encoder trains, it would save nothing"
        )
    for block in blocks:
        contexts = partial(_contexts, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
    return len(blocks)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Of the first pass and of the second: attention is computed in the same type again."""
    return nullcontext(), fastest_attention(next(block.parameters()).device.type)
