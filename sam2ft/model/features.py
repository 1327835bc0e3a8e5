"""Image encoder features (embeddings) of a batch of slices, which any number of prompts can reuse."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class _OfSlices(torch.autograd.Function):
    """`tensor_bchw[slice_of_n]` with a bitwise reproducible gradient.

    The gradient sums over the prompts of a slice. On the CPU, the gradient of indexing uses atomic additions in an
    arbitrary order of threads and is several times slower; on CUDA, index_add_ uses atomic additions. So the CPU uses
    index_add_ and CUDA uses index_put_: each adds in a fixed order.
    """

    @staticmethod
    def forward(ctx: Any, tensor_bchw: Tensor, slice_of_n: Tensor) -> Tensor:
        ctx.save_for_backward(slice_of_n)
        ctx.num_slices = len(tensor_bchw)
        return tensor_bchw[slice_of_n]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slice_of_n,), (of_prompts,) = ctx.saved_tensors, gradients
        channels_last = of_prompts.ndim == 4 and of_prompts.is_contiguous(memory_format=torch.channels_last)
        of_slices = torch.empty(
            (ctx.num_slices, *of_prompts.shape[1:]),
            # sums of 16-bit numbers are accumulated in 32 bits
            dtype=torch.promote_types(of_prompts.dtype, torch.float32),
            device=of_prompts.device,
            memory_format=torch.channels_last if channels_last else torch.contiguous_format,
        ).zero_()
        terms = of_prompts.to(of_slices.dtype)
        if terms.is_cuda:
            of_slices.index_put_((slice_of_n,), terms, accumulate=True)
        else:
            of_slices.index_add_(0, slice_of_n, terms)
        return of_slices.to(of_prompts.dtype), None


@dataclass(frozen=True)
class Features:
    """Encoder outputs of a forward pass for b slices; side s = image_size / 16.

    `encode` stops before the two 1x1 convolutions (`conv_s0`, `conv_s1`) that stock SAM 2 runs with the encoder
    although they belong to the decoder: features of a frozen encoder stay valid while the decoder trains. The neck's
    1x1 convolutions of the same levels are postponed too, so that each pair is applied as one convolution.
    `projected` is true when they have been applied.
    """

    embedding_bchw: Tensor
    """(b, d_model, s, s), with `no_mem_embed` added as stock does for images."""
    high_resolution: tuple[Tensor, ...]
    """Finer levels of the trunk, finest first: (b, c, 4s, 4s), (b, 2c, 2s, 2s); d_model / 8 and d_model / 4 channels
    when projected."""
    projected: bool = False

    def select(self, slice_of_n: Tensor) -> "Features":
        """Features of the slice of each prompt; the batch size changes from b slices to n prompts."""
        embedding, *finer = (
            _OfSlices.apply(tensor, slice_of_n) for tensor in (self.embedding_bchw, *self.high_resolution)
        )
        return Features(embedding, tuple(finer), self.projected)
