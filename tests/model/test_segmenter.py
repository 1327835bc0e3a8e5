"""FinetunedSAM2 gives what stock SAM 2 gives, for many prompts of many slices at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2ft.core.errors import CheckpointError
from sam2ft.core.prompts import KINDS, Box, Prompts, boxes_to_model_frame, mixed_prompts
from sam2ft.model.segmenter import FinetunedSAM2, build_segmenter, build_untrained

pytestmark = pytest.mark.sam2

# Sums over a batch run in another order than over one slice; FACTS measured 4e-7.
SAME = {"atol": 2e-5, "rtol": 1e-4}


def stock_calls(model: FinetunedSAM2, image_chw: torch.Tensor, points, labels, mask=None):
    """One prompt on one slice as sam2_image_predictor.py calls it: forward_image, no_mem_embed, repeat_image."""
    sam2 = model.sam2_model
    mean, sd = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    backbone = sam2.forward_image(((image_chw.expand(3, -1, -1) - mean) / sd)[None])
    _, feats, _, sizes = sam2._prepare_backbone_features(backbone)
    feats[-1] = feats[-1] + sam2.no_mem_embed
    fine, middle, coarse = (f.permute(1, 2, 0).view(1, -1, *size) for f, size in zip(feats, sizes, strict=True))
    sparse, dense = sam2.sam_prompt_encoder(points=(points[None], labels[None]), boxes=None, masks=mask)
    logits, iou, _, _ = sam2.sam_mask_decoder(
        image_embeddings=coarse,
        image_pe=sam2.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
        repeat_image=True,
        high_res_features=[fine, middle],
    )
    return logits[0], iou[0, 0]


@torch.no_grad()
def test_boxes_of_several_slices_in_one_decoder_batch_equal_stock_calls_one_by_one(nano, images, boxes):
    logits, iou = nano(images, boxes)
    assert logits.shape == (5, 1, 64, 64)
    assert iou.shape == (5,)
    for i, (of, box) in enumerate(zip(boxes.slice_of_n, boxes.boxes_n4, strict=True)):
        expected, expected_iou = stock_calls(nano, images[of], box.reshape(2, 2), torch.tensor([2, 3]))
        torch.testing.assert_close(logits[i], expected, **SAME)
        torch.testing.assert_close(iou[i], expected_iou, **SAME)


@torch.no_grad()
def test_points_and_masks_travel_with_boxes_as_in_stock(nano, images, boxes):
    points = torch.arange(30, dtype=torch.float32).reshape(5, 3, 2) * 8
    labels = torch.tensor([[1, 0, -1]] * 5, dtype=torch.int32)
    masks = torch.randn((5, 1, 64, 64), generator=torch.Generator().manual_seed(2))
    prompts = replace(boxes, points_nk2=points, point_labels_nk=labels, masks_n1hw=masks)
    logits, _ = nano(images, prompts)
    for i in (0, 3):
        all_points = torch.cat([boxes.boxes_n4[i].reshape(2, 2), points[i]])
        expected, _ = stock_calls(
            nano, images[boxes.slice_of_n[i]], all_points, torch.tensor([2, 3, 1, 0, -1]), masks[i : i + 1]
        )
        torch.testing.assert_close(logits[i], expected, **SAME)


@torch.no_grad()
def test_points_alone_and_masks_alone_are_prompts(nano, images):
    of = torch.tensor([0, 1])
    points = Prompts(of, points_nk2=torch.full((2, 1, 2), 99.0), point_labels_nk=torch.ones((2, 1)))
    masks = Prompts(of, masks_n1hw=torch.ones((2, 1, 64, 64)))
    assert nano(images, points)[0].shape == nano(images, masks)[0].shape == (2, 1, 64, 64)
    with pytest.raises(ValueError, match="neither boxes nor points nor masks"):
        nano(images, Prompts(of))


def mixed(kinds, offered=KINDS):
    """Prompts on slices 0, 0, 2, 2, 2, of the given kinds."""
    corners = [[20, 30, 90, 100], [50, 50, 60, 58], [0, 0, 255, 255], [100, 10, 140, 200], [7, 200, 99, 250]]
    points = np.array([[33, 44], [99, 7], [128, 128], [250, 3], [60, 61]], dtype=np.float32)
    masks = np.full((5, 1, 64, 64), -10, dtype=np.float32)
    masks[:, :, 10:40, 20:50] = 10
    of, boxes = np.array([0, 0, 2, 2, 2]), np.array(corners, dtype=np.float32)
    return mixed_prompts(offered, kinds, of, boxes, points, masks).map(torch.from_numpy)


@torch.no_grad()
def test_a_mixed_batch_gives_every_instance_what_stock_calls_give_it_alone(nano, images):
    """A box is two points (2, 3), a point one (1), each with the padding point that stock adds; a mask has no point."""
    kinds = ["mask", "point", "box", "mask", "point"]
    prompts = mixed(kinds)
    logits, iou = nano(images, prompts)
    for i, kind in enumerate(kinds):
        if kind == "mask":
            expected, expected_iou = stock_mask(nano, images[prompts.slice_of_n[i]], prompts.masks_n1hw[i : i + 1])
        else:
            used = prompts.num_points_n[i]
            points, labels = prompts.points_nk2[i, :used], prompts.point_labels_nk[i, :used]
            expected, expected_iou = stock_calls(nano, images[prompts.slice_of_n[i]], points, labels)
        torch.testing.assert_close(logits[i], expected, **SAME)
        torch.testing.assert_close(iou[i], expected_iou, **SAME)
    assert nano.sam2_model.sam_prompt_encoder.mask_input_size == prompts.masks_n1hw.shape[2:]


def stock_mask(model, image_chw, mask):
    """sam2_image_predictor._predict with a mask alone: no points at all."""
    points, labels = torch.zeros((0, 2)), torch.zeros(0)
    encoder = model.sam2_model.sam_prompt_encoder
    forward = encoder.forward
    encoder.forward = lambda points, boxes, masks: forward(None, boxes, masks)
    try:
        return stock_calls(model, image_chw, points, labels, mask)
    finally:
        del encoder.forward


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_mixed_batch_equals_the_batches_of_one_kind(nano, images, kind):
    kinds = ["mask", "point", "box", "box", "point"]
    logits, iou = nano(images, mixed(kinds))
    alone, alone_iou = nano(images, mixed([kind] * 5, (kind,)))
    members = [i for i, each in enumerate(kinds) if each == kind]
    torch.testing.assert_close(logits[members], alone[members], **SAME)
    torch.testing.assert_close(iou[members], alone_iou[members], **SAME)


@torch.no_grad()
def test_what_stands_in_the_mask_of_an_instance_without_one_is_unread(nano, images):
    prompts = mixed(["box", "point", "box", "point", "box"])
    changed = replace(prompts, masks_n1hw=torch.full_like(prompts.masks_n1hw, torch.nan))
    assert torch.equal(nano(images, prompts)[0], nano(images, changed)[0])


@torch.no_grad()
def test_a_slice_without_prompts_gives_no_masks(nano, images):
    nothing = Prompts(torch.zeros(0, dtype=torch.int64), boxes_n4=torch.zeros((0, 4)))
    logits, iou = nano(images, nothing)
    assert logits.shape == (0, 1, 64, 64)
    assert iou.shape == (0,)


@torch.no_grad()
def test_training_mode_and_evaluation_mode_predict_the_same(nano, images, boxes):
    expected, _ = nano.eval()(images, boxes)
    found, _ = nano.train()(images, boxes)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@torch.no_grad()
def test_features_can_be_projected_once_and_decoded_in_chunks(nano, images, boxes):
    expected, _ = nano(images, boxes)
    features = nano.project(nano.encode(images))
    assert features.projected
    assert nano.project(features) is features
    chunks = [nano.decode(features, Prompts(boxes.slice_of_n[i : i + 2], boxes.boxes_n4[i : i + 2])) for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat([logits for logits, _ in chunks]), expected, **SAME)


def test_features_of_a_frozen_encoder_let_the_decoders_convolutions_train(nano, images, boxes):
    """conv_s0 and conv_s1 are the decoder's: cached features stop before them."""
    with torch.no_grad():
        features = nano.encode(images)
    logits, _ = nano.decode(features, boxes)
    gradient = torch.autograd.grad(logits.sum(), nano.sam2_model.sam_mask_decoder.conv_s0.weight)[0]
    assert gradient.abs().sum() > 0


@torch.no_grad()
def test_bf16_autocast_keeps_box_corners_apart(nano, images):
    """At 1024 px a coordinate in bf16 moves in steps of 4 px: without care these two boxes would be one."""
    of = torch.tensor([0, 0])
    pair = Prompts(of, boxes_n4=torch.tensor([[200.0, 200, 204, 240], [200.0, 200, 205, 240]]))
    with torch.autocast("cpu", torch.bfloat16):
        sparse, dense, _ = nano._embed(pair)
        logits, iou = nano(images, pair)
    assert sparse.dtype == dense.dtype == logits.dtype == iou.dtype == torch.float32
    assert (sparse[0] - sparse[1]).abs().max() > 0
    exact, _ = nano(images, pair)
    assert (logits - exact).abs().max() < 0.05 * exact.abs().max()


def test_other_image_sizes_work_and_impossible_ones_are_refused(boxes):
    small = build_untrained("sam2_nano", image_size=128)
    with torch.no_grad():
        assert small(torch.rand(3, 3, 128, 128), boxes)[0].shape == (5, 1, 32, 32)
    with pytest.raises(ValueError, match="images are 1 x 256 x 256, expected 1 or 3 x 128 x 128"):
        small(torch.rand(3, 1, 256, 256), boxes)


def test_equal_seeds_make_equal_weights_and_leave_torchs_generator_alone():
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, second = (build_untrained("sam2_nano", image_size=128, seed=5).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_stock_model_without_weights_is_refused():
    with pytest.raises(CheckpointError, match=r"none given for sam2.1_hiera_tiny;"):
        build_segmenter("configs/sam2.1/sam2.1_hiera_t.yaml", image_size=1024, checkpoint=None)


def test_predictor_of_stock_gives_the_same_mask_for_a_box_in_original_pixels():
    """SAM2ImagePredictor works at 1024 px only. Its boxes are edges scaled as points; ours are inclusive indices.

    A box (x0, y0, x1, y1) of ours is the box (x0, y0, x1 + 1 - 1/s, y1 + 1 - 1/s) of stock, s = 1024 / width.
    """
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = build_untrained("sam2_nano", image_size=1024, seed=3)
    height, width = 96, 128
    image = np.random.default_rng(4).integers(0, 255, (height, width), dtype=np.uint8)
    box = Box(20, 10, 79, 69)
    predictor = SAM2ImagePredictor(model.sam2_model)
    predictor.set_image(np.repeat(image[..., None], 3, axis=2))
    sx, sy = 1024 / width, 1024 / height
    stock_box = np.array([box.x0, box.y0, box.x1 + 1 - 1 / sx, box.y1 + 1 - 1 / sy])
    masks, iou, low = predictor.predict(box=stock_box, multimask_output=False, return_logits=True)

    resized = torch.nn.functional.interpolate(
        torch.from_numpy(image / np.float32(255))[None, None], (1024, 1024), mode="bilinear", antialias=True
    )
    ours = boxes_to_model_frame([box], height=height, width=width, image_size=1024)
    with torch.no_grad():
        logits, our_iou = model(resized, Prompts(torch.tensor([0]), boxes_n4=torch.from_numpy(ours)))
    np.testing.assert_allclose(logits[0, 0].clamp(-32, 32), low[0], atol=1e-4)
    np.testing.assert_allclose(our_iou[0], iou[0], atol=1e-5)
    fine = torch.nn.functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(fine[0, 0], masks[0], atol=1e-4)
