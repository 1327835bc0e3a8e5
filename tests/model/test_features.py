"""Features of a batch of slices, given to their prompts."""

from collections.abc import Iterator

import pytest
import torch

from sam2ft.model.features import Features

SLICE_OF_N = torch.tensor([0] * 9 + [1] * 5 + [3] * 11)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def gradient(slices: torch.Tensor, of_prompts: torch.Tensor) -> torch.Tensor:
    """Of the slices' features, when that of the prompts' features is `of_prompts`."""
    leaf = slices.detach().clone(memory_format=torch.preserve_format).requires_grad_(True)
    selected = Features(leaf, ()).select(SLICE_OF_N).embedding_bchw
    assert torch.equal(selected, slices[SLICE_OF_N])
    selected.backward(of_prompts)
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_slice_s_gradient_is_that_of_its_prompts_added_in_order(
    layout: torch.memory_format, dtype: torch.dtype, two_threads: None
) -> None:
    """In 32 bits or more: to the bit, on any number of threads. Slice 2 has no prompt."""
    generator = torch.Generator().manual_seed(0)
    slices = torch.randn((4, 16, 24, 24), generator=generator).to(dtype).to(memory_format=layout)
    of_prompts = torch.randn((25, 16, 24, 24), generator=generator).to(dtype).to(memory_format=layout)
    sums = torch.zeros((4, 16, 24, 24), dtype=torch.promote_types(dtype, torch.float32))
    for number, one in zip(SLICE_OF_N.tolist(), of_prompts, strict=True):
        sums[number] += one
    for _ in range(10):
        assert torch.equal(gradient(slices, of_prompts), sums.to(dtype))
