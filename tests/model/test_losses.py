"""The loss of an instance: what it is worth, on which grid, and that nothing else of the batch changes it."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from sam2ft.config.schema.module import Loss
from sam2ft.core.errors import ConfigError
from sam2ft.model.losses import LOSSES, build_loss

SURE = 20.0


def config(**changes):
    return Loss(**changes)


def batch(*masks):
    return SimpleNamespace(masks=masks)


def blocks(*rows_of_each):
    """(n, 8, 8) masks, each the first `rows` rows."""
    masks = torch.zeros((len(rows_of_each), 8, 8), dtype=torch.bool)
    for mask, rows in zip(masks, rows_of_each, strict=True):
        mask[:rows] = True
    return masks


def sure_of(masks):
    """Logits that say exactly `masks`."""
    return torch.where(masks, SURE, -SURE)[:, None]


def test_a_perfect_mask_costs_nothing_and_half_of_one_costs_a_third_of_dice():
    """2 of 4 rows found: Dice = 2 * 2 / (2 + 4) = 2 / 3."""
    loss = build_loss(config(seg_args={"smooth_nr": 0.0, "smooth_dr": 1e-6}))
    values = loss(sure_of(blocks(4, 2)), torch.zeros(2), batch(blocks(4, 4)))
    assert values["seg"].tolist() == pytest.approx([0.0, 1 / 3], abs=1e-4)
    # a quarter of the pixels is wrong by a logit of 20
    assert values["ce"].tolist() == pytest.approx([0.0, 0.25 * SURE], abs=1e-4)
    assert torch.allclose(values["loss"], 0.5 * values["seg"] + 0.5 * values["ce"])


def test_weights_are_obeyed():
    logits, masks = torch.randn(2, 1, 8, 8), batch(blocks(3, 5))
    whole = build_loss(config(seg_loss_weight=0.2, ce_loss_weight=3.0))(logits, torch.zeros(2), masks)
    assert torch.allclose(whole["loss"], 0.2 * whole["seg"] + 3.0 * whole["ce"])


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("term", ["seg", "ce"])
def test_the_loss_of_an_instance_does_not_depend_on_its_batch(name, term):
    """Slices of different grids in one batch give what each instance gives alone: sum / N is the mean of any split."""
    loss = build_loss(config(**{term: name}))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((5, 1, 16, 16), generator=generator)
    masks = [torch.rand((n, h, w), generator=generator) > 0.6 for n, h, w in ((2, 20, 24), (1, 16, 9), (2, 20, 24))]
    together = loss(logits, torch.zeros(5), batch(*masks))
    flat = [mask[i : i + 1] for mask in masks for i in range(len(mask))]
    alone = [loss(logits[i : i + 1], torch.zeros(1), batch(mask))["loss"] for i, mask in enumerate(flat)]
    torch.testing.assert_close(together["loss"], torch.cat(alone))
    assert together[term].shape == (5,)


@pytest.mark.parametrize("name", sorted(LOSSES))
@pytest.mark.parametrize("frame", ["original", "decoder"])
def test_gradients_are_finite_for_empty_tiny_and_full_masks_however_sure_the_logits_are(name, frame):
    masks = torch.zeros((4, 20, 24), dtype=torch.bool)
    masks[1, 3, 5] = True  # one pixel: nothing is left of it in the decoder frame
    masks[2, 4:9, 3:12] = True
    masks[3] = True
    loss = build_loss(config(seg=name, ce=name, frame=frame))
    for scale in (0.0, 1.0, 100.0):
        for sign in (-1.0, 1.0):
            logits = (torch.randn((4, 1, 8, 8), generator=torch.Generator().manual_seed(1)) + sign) * scale
            logits.requires_grad_(True)
            values = loss(logits, torch.zeros(4), batch(masks))["loss"]
            assert values.isfinite().all()
            assert torch.autograd.grad(values.sum(), logits)[0].isfinite().all()


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_falls_when_the_logits_go_towards_the_mask(name):
    masks = blocks(3)
    steps = [build_loss(config(seg=name))(scale * sure_of(masks), torch.zeros(1), batch(masks))["seg"].item()
             for scale in (-0.1, 0.0, 0.05, 0.2)]  # fmt: skip
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1] + 0.1


@pytest.mark.parametrize("name", ["DiceLoss", "DiceCELoss", "DiceFocalLoss", "FocalLoss", "TverskyLoss"])
def test_an_instance_is_worth_what_monai_says_of_it_alone(name):
    """DiceCELoss has no reduction "none" in MONAI: of a batch of one, its mean is the instance's value."""
    from monai import losses

    given = {} if name == "FocalLoss" else {"sigmoid": True}
    arguments = {
        "DiceCELoss": {"lambda_ce": 0.25, "lambda_dice": 2.0, "squared_pred": True},
        "DiceFocalLoss": {"lambda_focal": 3.0, "gamma": 1.5, "alpha": 0.7},
        "FocalLoss": {"gamma": 1.0, "alpha": 0.25},
        "TverskyLoss": {"alpha": 0.3, "beta": 0.7},
    }.get(name, {"jaccard": True})
    theirs = getattr(losses, name)(**given, **arguments)
    generator = torch.Generator().manual_seed(3)
    logits, masks = torch.randn((3, 1, 8, 8), generator=generator), blocks(1, 4, 8)
    ours = build_loss(config(seg=name, seg_args=arguments))(logits, torch.zeros(3), batch(masks))["seg"]
    expected = [theirs(logits[i : i + 1], masks[i : i + 1, None].float()).item() for i in range(3)]
    assert ours.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("FocalLoss", {"alpha": 0.3}),
        ("FocalLoss", {"alpha": 1, "gamma": 1.0}),
        ("FocalLoss", {"alpha": [0.7]}),
        ("FocalLoss", {"alpha": [1]}),
        ("DiceFocalLoss", {"alpha": 0.1, "lambda_focal": 2.0}),
        ("TverskyLoss", {"alpha": 0.1, "beta": 0.9}),
    ],
)
def test_a_balance_that_is_filled_in_on_the_device_gives_monais_bits(name, arguments, dtype):
    from monai import losses

    given = {} if name == "FocalLoss" else {"sigmoid": True}
    theirs = getattr(losses, name)(**given, reduction="none", **arguments)
    generator = torch.Generator().manual_seed(4)
    logits, masks = torch.randn((3, 1, 8, 8), generator=generator, dtype=dtype) * 5, blocks(1, 4, 8)
    ours = build_loss(config(seg=name, seg_args=arguments, frame="decoder"))
    for _ in range(2):
        values = ours(logits, torch.zeros(3), batch(masks))["seg"]
        assert torch.equal(values, theirs(logits, masks[:, None].float()).flatten(1).mean(1))


def test_a_slice_without_instances_takes_no_place():
    loss = build_loss(config())
    logits = torch.randn(2, 1, 8, 8)
    with_gap = loss(logits, torch.zeros(2), batch(blocks(3), blocks(), blocks(5)))
    torch.testing.assert_close(with_gap["loss"], loss(logits, torch.zeros(2), batch(blocks(3, 5)))["loss"])


def test_original_frame_sees_a_line_that_the_decoder_frame_loses():
    """One row of a 16 x 16 grid is a quarter of a 4 x 4 decoder pixel: gone in the decoder frame."""
    mask = torch.zeros((1, 16, 16), dtype=torch.bool)
    mask[:, 5] = True
    nothing = torch.full((1, 1, 4, 4), -SURE)
    coarse = build_loss(config(frame="decoder"))(nothing, torch.zeros(1), batch(mask))
    fine = build_loss(config(frame="original"))(nothing, torch.zeros(1), batch(mask))
    assert coarse["ce"].item() == pytest.approx(0.0, abs=1e-6)
    assert fine["ce"].item() == pytest.approx(SURE / 16, abs=1e-4)


def test_the_iou_term_pulls_the_predicted_iou_to_the_true_one():
    """2 of 4 rows: IoU 1 / 2. Predicted 0.9 is off by 0.4."""
    loss = build_loss(config(iou_weight=2.0))
    predicted = torch.tensor([0.9], requires_grad=True)
    values = loss(sure_of(blocks(2)), predicted, batch(blocks(4)))
    assert values["iou"].item() == pytest.approx(0.4)
    assert values["loss"].item() == pytest.approx(
        0.5 * values["seg"].item() + 0.5 * values["ce"].item() + 2.0 * 0.4, abs=1e-6
    )
    assert torch.autograd.grad(values["loss"].sum(), predicted)[0].item() == pytest.approx(2.0)
    assert "iou" not in build_loss(config())(sure_of(blocks(2)), predicted, batch(blocks(4)))


def test_positive_pixels_can_weigh_more():
    loss = build_loss(config(ce_args={"pos_weight": 4.0}))
    values = loss(sure_of(blocks(0)), torch.zeros(1), batch(blocks(8)))
    assert values["ce"].item() == pytest.approx(4 * SURE, rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seg": "Dice"}, 'found "Dice".*allowed: .*DiceLoss'),
        ({"seg_args": {"batch": True}}, "batch.*cannot be given: the engine sets it"),
        ({"seg_args": {"weight": 2.0}}, "weight.*weights classes against each other"),
        ({"seg": "DiceCELoss", "seg_args": {"label_smoothing": 0.1}}, "smooths the labels of several classes"),
        ({"ce_args": {"gamma": 2}}, "BCE takes no gamma"),
    ],
)
def test_the_schema_refuses_what_no_loss_takes(keys, message):
    with pytest.raises(ValidationError, match=message):
        Loss(**keys)


def test_what_monai_refuses_is_refused_with_the_key():
    with pytest.raises(ConfigError, match=r"module.loss.seg_args: DiceCELoss does not accept {'lambda_dice': -1"):
        build_loss(config(seg="DiceCELoss", seg_args={"lambda_dice": -1.0}))


def test_every_instance_needs_a_prediction():
    with pytest.raises(ValueError, match="2 predictions for 3 reference masks"):
        build_loss(config())(torch.zeros(2, 1, 8, 8), torch.zeros(2), batch(blocks(1, 1, 1)))
