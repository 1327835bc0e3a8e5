"""Attention in float32 within bfloat16 autocast on a CPU, and in parts of a batch on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from sam2ft.model import attention
from sam2ft.model.attention import MOST_WINDOWS, fastest_attention, windows_of
from sam2ft.model.segmenter import build_untrained


@pytest.fixture
def qkv():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn((2, 3, tokens, 8), generator=generator).bfloat16() for tokens in (16, 64, 64)]


def attended(qkv, **keywords):
    with torch.autocast("cpu", dtype=torch.bfloat16), fastest_attention("cpu"):
        return F.scaled_dot_product_attention(*qkv, **keywords)


def test_small_windows_are_computed_in_float32_and_returned_in_bfloat16(qkv):
    exact = F.scaled_dot_product_attention(*(tensor.float() for tensor in qkv))
    assert torch.equal(attended(qkv), exact.bfloat16())
    assert not torch.equal(F.scaled_dot_product_attention(*qkv), exact.bfloat16()), "nothing to tell apart"
    scaled = F.scaled_dot_product_attention(*(tensor.float() for tensor in qkv), scale=2.0)
    assert torch.equal(attended(qkv, scale=2.0), scaled.bfloat16())


@pytest.mark.parametrize("amx", [False, True])
def test_large_ones_stay_in_bfloat16_where_the_cpu_multiplies_faster_so(amx, monkeypatch):
    monkeypatch.setattr(attention, "has_amx", lambda: amx)
    grid = [torch.randn((1, 1, 300, 8), generator=torch.Generator().manual_seed(n)).bfloat16() for n in range(3)]
    exact = F.scaled_dot_product_attention(*(tensor.float() for tensor in grid)).bfloat16()
    assert torch.equal(attended(grid), exact) == (not amx)


def test_nothing_changes_without_autocast_or_on_another_device(qkv):
    stock = F.scaled_dot_product_attention(*qkv)
    with fastest_attention("cpu"):
        assert torch.equal(F.scaled_dot_product_attention(*qkv), stock)
    with torch.autocast("cpu", dtype=torch.bfloat16), fastest_attention("cuda"):
        assert torch.equal(F.scaled_dot_product_attention(*qkv), stock)


class Batches(TorchFunctionMode):
    """The size of the batch of every attention."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is F.scaled_dot_product_attention:
            self.sizes.append(len(arguments[0]))
        return function(*arguments, **(keywords or {}))


@pytest.mark.sam2
@pytest.mark.parametrize("config", ["sam2_nano", "configs/sam2.1/sam2.1_hiera_t.yaml"])
@pytest.mark.parametrize(("num_slices", "side"), [(1, 64), (3, 128), (2, 224)])
def test_the_windows_are_those_of_the_largest_attention_of_the_encoder(config, num_slices, side):
    model = build_untrained(config, image_size=side).eval()
    with torch.inference_mode(), Batches() as seen:
        model.encode(torch.zeros((num_slices, 1, side, side)))
    assert max(seen.sizes) == windows_of(num_slices, side)


def test_64_slices_of_1024_px_are_more_than_a_grid_has_places():
    assert windows_of(63, 1024) <= MOST_WINDOWS < windows_of(64, 1024)
    for num_slices, in_parts in ((63, False), (64, True)):
        context = fastest_attention("cuda", windows_of(num_slices, 1024))
        assert isinstance(context, attention._AttentionInParts) == in_parts


@pytest.mark.sam2
@pytest.mark.parametrize("most", [1, 7, 64])
def test_attention_in_parts_is_that_of_the_whole_to_the_bit(monkeypatch, most):
    """As on a GPU with a grid of so few places, through `encode` as evaluation calls it."""
    model = build_untrained("sam2_nano", image_size=64, seed=1).eval()
    images = torch.rand((5, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), Batches() as whole:
        expected = model.encode(images)
    monkeypatch.setattr(attention, "MOST_WINDOWS", most)
    monkeypatch.setattr("sam2ft.model.segmenter.fastest_attention", lambda _, *more: fastest_attention("cuda", *more))
    with torch.inference_mode(), Batches() as parts:
        found = model.encode(images)
    assert max(whole.sizes) == windows_of(5, 64) == 20
    # A mode that was entered later is asked first, so this one sees what is left of each call.
    assert max(parts.sizes) == min(most, 20)
    assert torch.equal(found.embedding_bchw, expected.embedding_bchw)
    for one, other in zip(found.high_resolution, expected.high_resolution, strict=True):
        assert torch.equal(one, other)
