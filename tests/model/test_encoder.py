"""The encoder's pass over stock's layers, against stock's own.

In float32 they differ by rounding, which depends on the processor's instructions: they are compared in float64.
"""

import pytest
import torch
import torch.nn.functional as F

from sam2ft.model.resizing import resized
from sam2ft.model.segmenter import build_untrained


def stock_features(model, images_bchw):
    """forward_image on normalised slices: (finest, finer, embedding with no_mem_embed)."""
    normalised = (images_bchw.expand(-1, 3, -1, -1) - model.mean_c11) / model.sd_c11
    *finer, embedding = model.sam2_model.forward_image(normalised)["backbone_fpn"]
    return [*finer, embedding + model.sam2_model.no_mem_embed.reshape(1, -1, 1, 1)]


def our_features(model, images_bchw):
    features = model.project(model.encode(images_bchw))
    return [*features.high_resolution, features.embedding_bchw]


def with_positions(model):
    """Stock leaves the positions of a new model at zero; trained ones are not."""
    trunk = model.sam2_model.image_encoder.trunk
    generator = torch.Generator().manual_seed(0)
    for positions in (trunk.pos_embed, trunk.pos_embed_window):
        positions.data = torch.randn(positions.shape, generator=generator)
    return model


@pytest.mark.parametrize(
    ("config", "side"),
    [
        ("sam2_nano", 256),
        ("sam2_nano", 160),
        ("configs/sam2.1/sam2.1_hiera_t.yaml", 96),
        pytest.param("configs/sam2/sam2_hiera_b+.yaml", 64, marks=pytest.mark.slow),
    ],
)
def test_features_and_gradients_are_those_of_stock(config, side):
    """Also where the side is no multiple of a window, and where positions must be stretched unevenly.

    In float64, to rounding; in float32, as it is used, ours is near the float64 of stock.
    """
    model = with_positions(build_untrained(config, image_size=side, seed=5))
    images = torch.rand((2, 1, side, side), generator=torch.Generator().manual_seed(2))
    ours = passed(our_features, model, images)
    model.double()
    exact = passed(stock_features, model, images.double())
    assert ours.keys() == exact.keys()
    for name, true in exact.items():
        # Elsewhere 2e-6. Stock pools queries by their maximum: where two are nearly equal, rounding may send a gradient
        # to the other one, in ours or in stock's, and 1 % of a small tensor's gradient moves.
        allowed = 1e-5 if name.startswith("level") else 0.05
        assert float((ours[name] - true).norm()) <= allowed * float(true.norm()), name
    same = passed(our_features, model, images.double())
    assert same.keys() == exact.keys()
    for name, true in exact.items():
        torch.testing.assert_close(same[name], true, rtol=1e-10, atol=1e-10 * float(true.abs().max()), msg=name)


def passed(features_of, model, images):
    """name -> features of each level and gradient of each parameter that has one."""
    model.zero_grad(set_to_none=True)
    levels = features_of(model, images)
    weights = [torch.randn(level.shape, generator=torch.Generator().manual_seed(3)) for level in levels]
    sum((level * weight).mean() for level, weight in zip(levels, weights, strict=True)).backward()
    gradients = {name: t.grad for name, t in model.named_parameters() if t.grad is not None}
    return {**{f"level {number}": level.detach() for number, level in enumerate(levels)}, **gradients}


@torch.no_grad()
def test_in_bf16_features_are_no_farther_from_fp32_than_those_of_stock():
    model = with_positions(build_untrained("sam2_nano", image_size=256, seed=5))
    images = torch.rand((2, 1, 256, 256), generator=torch.Generator().manual_seed(2))
    exact = stock_features(model, images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, stocks = our_features(model, images), stock_features(model, images)
    for true, our, stock in zip(exact, ours, stocks, strict=True):
        assert (our.float() - true).norm() <= 1.05 * (stock.float() - true).norm()


def test_a_neck_that_mixes_the_finer_levels_is_refused(nano, images):
    neck = nano.sam2_model.image_encoder.neck
    before, neck.fpn_top_down_levels = neck.fpn_top_down_levels, [0, 1, 2, 3]
    try:
        with pytest.raises(ValueError, match="neck"):
            nano.encode(images)
    finally:
        neck.fpn_top_down_levels = before


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("before", "after"), [((7, 7), (64, 64)), ((64, 48), (320, 111)), ((64, 64), (20, 30))])
def test_resizing_is_torchs_up_and_down(mode, before, after):
    values = torch.randn((3, 2, *before), dtype=torch.float64, requires_grad=True)
    expected = F.interpolate(values, size=after, mode=mode, align_corners=False)
    weight = torch.randn_like(expected)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), values)
    found = resized(values, after, mode)
    (got,) = torch.autograd.grad((found * weight).sum(), values)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)


def test_what_inference_resized_first_training_can_still_use():
    with torch.inference_mode():
        resized(torch.ones(5, 6), (9, 11), "bilinear")
    values = torch.ones((5, 6), requires_grad=True)
    resized(values, (9, 11), "bilinear").sum().backward()
    assert values.grad is not None
    assert float(values.grad.sum()) == pytest.approx(99)


def test_resizing_keeps_full_precision_within_autocast():
    values = torch.tensor([[1.0, 1.001]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resized(values, (1, 2), "bilinear"), values)
