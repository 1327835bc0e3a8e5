"""What the image encoder knows about a batch of slices, kept so that any number of prompts can use it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class _OfSlices(torch.autograd.Function):
    """`tensor_bchw[slice_of_n]` with a gradient of the same bits every time.

    Its gradient adds the prompts of a slice. Indexing does that with atomics on the CPU, in whatever order the threads
    come, and several times slower; index_add_ does it so on CUDA. Each device has the other one, which keeps the order.
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
            dtype=torch.promote_types(of_prompts.dtype, torch.float32),  # sums of 16-bit numbers are kept in 32
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
    """The encoder's half of a forward pass, for b slices; side s = image_size / 16.

    `encode` stops before the two 1x1 convolutions (`conv_s0`, `conv_s1`) that stock SAM 2 runs with the encoder
    although they belong to the decoder: features of a frozen encoder stay valid while the decoder trains. The neck's
    1x1 convolutions of the same levels wait for them, to be applied as one. `projected` says whether they have been.
    """

    embedding_bchw: Tensor
    """(b, d_model, s, s), `no_mem_embed` added as on stock's image path."""
    high_resolution: tuple[Tensor, ...]
    """Finest first, of the trunk: (b, c, 4s, 4s), (b, 2c, 2s, 2s); projected, d_model / 8 and d_model / 4 channels."""
    projected: bool = False

    def __len__(self) -> int:
        return self.embedding_bchw.shape[0]

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.embedding_bchw, *self.high_resolution)

    def _of(self, tensors: Sequence[Tensor]) -> "Features":
        return Features(tensors[0], tuple(tensors[1:]), self.projected)

    def select(self, slice_of_n: Tensor) -> "Features":
        """Features with the slice of each prompt: b becomes n."""
        return self._of([_OfSlices.apply(tensor, slice_of_n) for tensor in self.tensors()])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Features":
        return self._of([tensor.to(device=device, dtype=dtype) for tensor in self.tensors()])

    def detach(self) -> "Features":
        return self._of([tensor.detach() for tensor in self.tensors()])


def stacked(features: Sequence[Features]) -> Features:
    """One batch of several; all must be projected or none. Errors: ValueError otherwise."""
    if len({each.projected for each in features}) != 1:
        raise ValueError("features before and after projection cannot share a batch")
    columns = zip(*(each.tensors() for each in features), strict=True)
    return features[0]._of([torch.cat(column) for column in columns])
