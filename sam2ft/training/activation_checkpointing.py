"""Activation (gradient) checkpointing: recompute the image encoder's blocks in the backward pass to save memory."""

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from sam2ft.core.errors import ConfigError
from sam2ft.model.attention import MOST_WINDOWS, fastest_attention

_BLOCKS = "image_encoder.trunk.blocks"


def checkpoint_activations(model: nn.Module) -> int:
    """Enable it for every block of the Hiera trunk and return their number; state dict keys do not change.

    The results are bitwise equal to training without it (on a GPU with `module.deterministic`).

    Raises:
        ConfigError: when the image encoder is not trained, so that no memory would be saved.
    """
    blocks = next((module for name, module in model.named_modules() if name.endswith(_BLOCKS)), None)
    if not isinstance(blocks, nn.ModuleList) or not any(tensor.requires_grad for tensor in blocks.parameters()):
        raise ConfigError(
            "module.activation_checkpointing: no block of the image encoder is trained, so it would save no memory"
        )
    for block in blocks:
        contexts = partial(_contexts, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)
    return len(blocks)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts of the first and second forward pass: attention is computed in the same dtype in both."""
    return nullcontext(), fastest_attention(next(block.parameters()).device.type, MOST_WINDOWS + 1)
