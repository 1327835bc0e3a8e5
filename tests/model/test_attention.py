"""Attention in float32 within bfloat16 autocast on a CPU."""

import pytest
import torch
import torch.nn.functional as F

from sam2ft.model import attention
from sam2ft.model.attention import fastest_attention


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
