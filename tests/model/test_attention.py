"""Attention in float32 within bfloat16 autocast on a CPU, and in parts where a GPU's grid is too small."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from sam2.modeling.backbones.hieradet import Hiera, MultiScaleBlock

from sam2ft.model import attention
from sam2ft.model.attention import MOST_WINDOWS, fastest_attention, windows_of
from sam2ft.model.segmenter import build_untrained
from sam2ft.training import activation_checkpointing


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


@pytest.mark.parametrize(
    ("image_size", "slices", "windows"), [(1024, 64, 65_536), (1024, 63, 64_512), (1000, 1, 1_024)]
)
def test_windows_are_counted_as_the_first_stage_of_the_encoder_makes_them(image_size, slices, windows):
    assert windows_of(slices, image_size) == windows


def test_no_call_of_the_encoder_has_more_windows_than_are_counted(monkeypatch):
    """Counted in a real trunk; 96 px are no multiple of all its windows."""
    seen, stock = [], F.scaled_dot_product_attention
    for size in (96, 64):
        trunk = Hiera(embed_dim=8, num_heads=1, stages=(1, 2, 3, 1), global_att_blocks=(4,), window_spec=(8, 4, 14, 7))
        monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, *rest: seen.append(len(q)) or stock(q, *rest))
        trunk(torch.zeros(2, 3, size, size))
        assert max(seen) <= windows_of(2, size)
        seen.clear()


class Sizes(torch.overrides.TorchFunctionMode):
    """Keeps the number of windows of every call of attention; enter it before what divides the calls."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        if function is F.scaled_dot_product_attention:
            self.seen.append(len(arguments[0]))
        return function(*arguments, **(keywords or {}))


@pytest.fixture
def four_at_most(monkeypatch):
    monkeypatch.setattr(attention, "MOST_WINDOWS", 4)


def with_gradients(tensors, context):
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    with context:
        result = F.scaled_dot_product_attention(*leaves)
    result.square().sum().backward()
    return [result.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_more_windows_than_a_grid_has_are_attended_to_in_parts(count, dtype, device, four_at_most):
    generator = torch.Generator().manual_seed(count)
    shapes = [(count, 2, tokens, 16) for tokens in (4, 16, 16)]
    tensors = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    whole = with_gradients(tensors, nullcontext())
    with Sizes() as sizes:
        parts = with_gradients(tensors, fastest_attention("cuda", count))
    assert max(sizes.seen) <= 4
    assert sum(sizes.seen) == count
    for one, other in zip(whole, parts, strict=True):
        if device.type == "cpu":
            assert torch.equal(one, other)
        else:  # its kernels add gradients in an arbitrary order
            assert torch.allclose(one, other, rtol=1e-2, atol=1e-2 * float(one.abs().max()))


def test_a_batch_at_the_limit_is_left_whole_without_a_mode(four_at_most):
    assert isinstance(fastest_attention("cuda", 4), nullcontext)
    assert not isinstance(fastest_attention("cuda", 5), nullcontext)
    assert isinstance(fastest_attention("cpu", 5), nullcontext)


def test_recomputed_blocks_attend_in_parts_too(four_at_most, monkeypatch):
    """The backward pass computes the blocks again, outside of the context of the forward pass."""
    blocks = torch.nn.ModuleList([MultiScaleBlock(8, 8, 1, window_size=2)])
    model = torch.nn.ModuleDict(
        {"image_encoder": torch.nn.ModuleDict({"trunk": torch.nn.ModuleDict({"blocks": blocks})})}
    )
    monkeypatch.setattr(activation_checkpointing, "MOST_WINDOWS", 4)
    sizes = Sizes()

    @contextmanager
    def counted(_type, windows):
        with sizes, fastest_attention("cuda", windows):
            yield

    monkeypatch.setattr(activation_checkpointing, "fastest_attention", counted)
    picture = torch.randn(1, 6, 6, 8, requires_grad=True)  # nine windows
    whole = blocks[0](picture)
    (expected,) = torch.autograd.grad(whole.square().sum(), picture)
    activation_checkpointing.checkpoint_activations(model)
    with counted("cuda", 9):
        result = blocks[0](picture)
    assert sizes.seen == [4, 4, 1]
    (gradient,) = torch.autograd.grad(result.square().sum(), picture)
    assert sizes.seen == [4, 4, 1, 4, 4, 1]
    assert torch.equal(result, whole)
    assert torch.equal(gradient, expected)


@pytest.mark.sam2
@pytest.mark.parametrize("config", ["sam2_nano", "configs/sam2.1/sam2.1_hiera_t.yaml"])
@pytest.mark.parametrize(("num_slices", "side"), [(1, 64), (3, 128), (2, 224)])
def test_the_windows_are_those_of_the_largest_attention_of_the_encoder(config, num_slices, side):
    model = build_untrained(config, image_size=side).eval()
    with torch.inference_mode(), Sizes() as seen:
        model.encode(torch.zeros((num_slices, 1, side, side)))
    assert max(seen.seen) == windows_of(num_slices, side)


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
    with torch.inference_mode(), Sizes() as whole:
        expected = model.encode(images)
    monkeypatch.setattr(attention, "MOST_WINDOWS", most)
    monkeypatch.setattr("sam2ft.model.segmenter.fastest_attention", lambda _, *more: fastest_attention("cuda", *more))
    with torch.inference_mode(), Sizes() as parts:
        found = model.encode(images)
    assert max(whole.seen) == windows_of(5, 64) == 20
    # A mode that was entered later is asked first, so this one sees what is left of each call.
    assert max(parts.seen) == min(most, 20)
    assert torch.equal(found.embedding_bchw, expected.embedding_bchw)
    for one, other in zip(found.high_resolution, expected.high_resolution, strict=True):
        assert torch.equal(one, other)
