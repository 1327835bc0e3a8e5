"""What trains is what was asked for, less what nothing reaches."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sam2ft.config.schema.module import Loss, Trainable, TrainableOnly
from sam2ft.core.errors import ConfigError
from sam2ft.core.prompts import kinds_of, mixed_prompts
from sam2ft.model.losses import LOSSES, SegmentationLoss
from sam2ft.model.trainable import PARTS, freeze_unreachable, set_trainable

pytestmark = pytest.mark.sam2

BOXES = {"box": 1.0}
ALL_PROMPTS = {"box": 1.0, "point": 0.5, "mask": 0.5}
LOSS = SegmentationLoss(LOSSES["BCE"](), LOSSES["BCE"]())


def asked(image_encoder=False, prompt_encoder=False, mask_decoder=False):
    return Trainable(image_encoder=image_encoder, prompt_encoder=prompt_encoder, mask_decoder=mask_decoder)


def training_names(model):
    return {name for name, tensor in model.sam2_model.named_parameters() if tensor.requires_grad}


@pytest.mark.parametrize("image_encoder", [False, True])
@pytest.mark.parametrize("prompt_encoder", [False, True])
@pytest.mark.parametrize("mask_decoder", [False, True])
def test_each_part_is_obeyed_alone_and_together(nano, image_encoder, prompt_encoder, mask_decoder):
    wanted = {"image_encoder": image_encoder, "prompt_encoder": prompt_encoder, "mask_decoder": mask_decoder}
    set_trainable(nano, asked(**wanted))
    parts = {name.split(".")[0] for name in training_names(nano)}
    assert parts == {PARTS[part] for part, yes in wanted.items() if yes}
    for part in parts:
        assert all(tensor.requires_grad for tensor in nano.sam2_model.get_submodule(part).parameters())


def test_only_trains_what_its_patterns_find(nano):
    set_trainable(nano, asked(image_encoder=TrainableOnly(only=(r"trunk\.blocks\.[56]\.", r"neck"))))
    names = training_names(nano)
    assert {name.split(".")[1] for name in names} == {"trunk", "neck"}
    assert {name.split(".")[3] for name in names if ".blocks." in name} == {"5", "6"}
    with pytest.raises(ConfigError, match=r"trainable.image_encoder.only: 'block_9' matches none of its tensors"):
        set_trainable(nano, asked(image_encoder=TrainableOnly(only=("neck", "block_9"))))


def test_box_prompts_and_dice_leave_thirty_tensors_of_the_decoder_unreached(nano):
    """12 without gradient (IoU head, object score) and 18 of the multimask tokens' hypernetworks, as FACTS measured."""
    set_trainable(nano, asked(mask_decoder=True))
    report = freeze_unreachable(nano, LOSS, BOXES)
    assert len(report.unreachable) == 30
    assert {name.split(".")[1] for name in report.unreachable} == {
        "iou_prediction_head", "pred_obj_score_head", "output_hypernetworks_mlps",
    }  # fmt: skip
    assert not any("hypernetworks_mlps.0" in name for name in report.unreachable)
    assert not training_names(nano) & set(report.unreachable)


def test_what_is_left_gets_a_gradient_and_every_gradient_is_left(nano, images, boxes):
    """DDP without find_unused_parameters needs exactly this."""
    set_trainable(nano, asked(image_encoder=True, prompt_encoder=True, mask_decoder=True))
    freeze_unreachable(nano, LOSS, BOXES)
    nano.zero_grad(set_to_none=True)
    nano(images, boxes)[0].square().sum().backward()
    assert training_names(nano) == {
        name
        for name, tensor in nano.sam2_model.named_parameters()
        if tensor.grad is not None and tensor.grad.count_nonzero()
    }


def test_the_iou_term_makes_the_iou_head_reachable(nano):
    set_trainable(nano, asked(mask_decoder=True))
    loss = SegmentationLoss(LOSSES["BCE"](), LOSSES["BCE"](), Loss(iou_weight=0.1))
    report = freeze_unreachable(nano, loss, BOXES)
    assert not any("iou_prediction_head" in name for name in report.unreachable)


def test_each_kind_of_prompt_reaches_its_own_embeddings(nano):
    set_trainable(nano, asked(prompt_encoder=True))
    only_boxes = freeze_unreachable(nano, LOSS, BOXES)
    assert len(only_boxes.unreachable) == 12
    assert sum("mask_downscaling" in name for name in only_boxes.unreachable) == 10
    assert prompt_tensors(nano, ALL_PROMPTS) == NAMED - {"point_embeddings.0"}, "training gives no point outside"
    assert prompt_tensors(nano, shares(point=1.0)) == {"point_embeddings.1", "not_a_point_embed", "no_mask_embed"}
    assert prompt_tensors(nano, shares(mask=1.0)) == {"mask_downscaling"}
    assert prompt_tensors(nano, shares(box=0.5, mask=0.5)) == NAMED - {"point_embeddings.0", "point_embeddings.1"}


NAMED = {*(f"point_embeddings.{i}" for i in range(4)), "not_a_point_embed", "no_mask_embed", "mask_downscaling"}


def shares(box=0.0, point=0.0, mask=0.0):
    return {"box": box, "point": point, "mask": mask}


def prompt_tensors(nano, given):
    """What of the prompt encoder trains with these shares, by the names of its modules."""
    set_trainable(nano, asked(prompt_encoder=True))
    freeze_unreachable(nano, LOSS, given)
    names = {name.removeprefix("sam_prompt_encoder.").removesuffix(".weight") for name in training_names(nano)}
    return {"mask_downscaling" if name.startswith("mask_downscaling.") else name for name in names}


@pytest.mark.parametrize("given", [shares(point=1.0), shares(mask=1.0), shares(0.4, 0.3, 0.3)], ids=str)
@pytest.mark.parametrize("iou_weight", [0.0, 0.5])
def test_every_mixture_of_prompts_puts_all_that_trains_into_the_graph_of_every_batch(nano, images, given, iou_weight):
    """So that DDP finds a gradient for each tensor on each rank, whatever was drawn there: here one kind at a time."""
    set_trainable(nano, asked(image_encoder=True, prompt_encoder=True, mask_decoder=True))
    loss = SegmentationLoss(LOSSES["BCE"](), LOSSES["BCE"](), Loss(iou_weight=iou_weight))
    freeze_unreachable(nano, loss, given)
    trained = {name: tensor for name, tensor in nano.sam2_model.named_parameters() if tensor.requires_grad}
    corners = np.array([[20, 30, 90, 100], [7, 9, 99, 250]], dtype=np.float32)
    masks = np.where(np.indices((2, 1, 64, 64))[3] < 20, 10, -10).astype(np.float32)
    for kind in kinds_of(given):
        prompts = mixed_prompts(kinds_of(given), [kind] * 2, np.array([0, 2]), corners, corners[:, :2] + 9, masks)
        logits, iou = nano(images, prompts.map(torch.tensor))
        values = loss(logits, iou, SimpleNamespace(masks=[torch.ones(1, 60, 50), torch.ones(1, 60, 50)]))["loss"].sum()
        gradients = torch.autograd.grad(values, list(trained.values()), allow_unused=True)
        assert [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None] == []


def test_a_part_that_gets_nothing_is_an_error(nano):
    set_trainable(nano, asked(mask_decoder=TrainableOnly(only=("iou_prediction_head",))))
    with pytest.raises(ConfigError, match=r"module.trainable.mask_decoder: selected for training, but the configured"):
        freeze_unreachable(nano, LOSS, BOXES)


def test_the_report_adds_up_and_reads_as_a_table(nano):
    set_trainable(nano, asked(image_encoder=True, mask_decoder=True))
    report = freeze_unreachable(nano, LOSS, BOXES)
    total = sum(row.trained + row.frozen + row.unreachable for row in report.rows)
    assert total == sum(tensor.numel() for tensor in nano.sam2_model.parameters())
    trained = sum(tensor.numel() for tensor in nano.parameters() if tensor.requires_grad)
    assert sum(row.trained for row in report.rows) == trained
    lines = str(report).splitlines()
    assert lines[0].split() == ["part", "trained", "frozen", "unreachable"]
    assert lines[2].split() == ["prompt_encoder", "0", "3,276", "0"]
    assert lines[4].split()[:2] == ["memory", "0"]
    assert lines[5:] == [
        *(f"unreachable: sam_mask_decoder.output_hypernetworks_mlps.{number}.* (6)" for number in (1, 2, 3)),
        "unreachable: sam_mask_decoder.iou_prediction_head.* (6)",
        "unreachable: sam_mask_decoder.pred_obj_score_head.* (6)",
    ]
    set_trainable(nano, asked(prompt_encoder=True))
    lines = str(freeze_unreachable(nano, LOSS, shares(point=0.5, mask=0.5))).splitlines()
    assert "unreachable: sam_prompt_encoder.point_embeddings.0.* (1)" in lines


def test_the_dry_step_leaves_no_trace(nano):
    set_trainable(nano, asked(image_encoder=True, mask_decoder=True))
    nano.zero_grad(set_to_none=True)
    before = {name: tensor.clone() for name, tensor in nano.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    freeze_unreachable(nano, LOSS, ALL_PROMPTS)
    assert torch.equal(torch.rand(2), expected)
    assert all(tensor.grad is None for tensor in nano.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in nano.state_dict().items())
