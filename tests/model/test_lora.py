"""Low-rank updates: where they are, what they add, and that stock SAM 2 never hears of them."""

import pytest
import torch
from torch import nn

from sam2ft.config.schema.module import Lora, Trainable, TrainableOnly
from sam2ft.core.errors import ConfigError
from sam2ft.model.lora import DOWN, UP, LowRank, add_low_rank, is_low_rank
from sam2ft.model.losses import LOSSES, SegmentationLoss
from sam2ft.model.segmenter import build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training.checkpoints.checkpoint import stock_weights

pytestmark = pytest.mark.sam2

BOXES = {"box": 1.0}
LOSS = SegmentationLoss(LOSSES["BCE"](), LOSSES["BCE"]())
NOTHING = Trainable(image_encoder=False, mask_decoder=False)
EIGHT = Lora(rank=8, alpha=16.0)
FOUR = Lora(rank=4, alpha=2.0)


def plain(seed=3):
    return build_untrained("sam2_nano", image_size=128, seed=seed)


def adapted(trainable=NOTHING, lora=FOUR, seed=5):
    model = plain()
    set_trainable(model, trainable)
    add_low_rank(model, lora, seed)
    return model


def moved(model):
    """The same model after some training: its updates are no longer zero."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if is_low_rank(name):
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.1)
    return model


def images_and_prompts(model):
    from sam2ft.core.prompts import Prompts

    images = torch.rand((2, 1, model.image_size, model.image_size), generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[10.0, 20, 60, 90], [5, 5, 40, 30], [64, 10, 120, 99]])
    return images, Prompts(torch.tensor([0, 0, 1]), boxes_n4=boxes)


def trained_names(model):
    return {name.removeprefix("sam2_model.") for name, tensor in model.named_parameters() if tensor.requires_grad}


def test_an_update_is_alpha_over_rank_times_up_times_down():
    update = LowRank(torch.zeros(2, 3), 1, 0.5, torch.Generator())
    update.load_state_dict({"down": torch.tensor([[1.0, 2, 3]]), "up": torch.tensor([[2.0], [4]])})
    assert update(torch.ones(2, 3)).tolist() == [[2.0, 3.0, 4.0], [3.0, 5.0, 7.0]]


def test_every_linear_layer_of_the_blocks_and_no_other_tensor_gets_an_update():
    matrices = {
        name.removesuffix(".weight")
        for name, tensor in plain().sam2_model.state_dict().items()
        if name.startswith("image_encoder.trunk.blocks.") and name.endswith(".weight") and tensor.ndim == 2
    }
    kinds = {name.split(".", 4)[4] for name in matrices}
    assert kinds == {"attn.qkv", "attn.proj", "mlp.layers.0", "mlp.layers.1", "proj"}
    assert trained_names(adapted()) == {name + half for name in matrices for half in (DOWN, UP)}


def test_training_starts_from_the_initial_weights_bit_for_bit():
    first, second = plain(), adapted()
    for ours, theirs in zip(first(*images_and_prompts(first)), second(*images_and_prompts(second)), strict=True):
        assert torch.equal(ours, theirs)


def test_the_draw_depends_on_the_seed_and_the_layer_alone():
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = adapted().state_dict()
    assert torch.equal(torch.rand(2), expected), "the global generator was used"
    torch.manual_seed(2)
    again, other = adapted().state_dict(), adapted(seed=6).state_dict()
    downs = [name for name in first if name.endswith(DOWN)]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in downs)
    same_shape = [name for name in downs if first[name].shape == first[downs[0]].shape]
    assert not any(torch.equal(first[downs[0]], first[name]) for name in same_shape[1:])
    for name in downs:
        limit = first[name].shape[1] ** -0.5
        assert 0.8 * limit < first[name].abs().max() <= limit
    assert not any(tensor.any() for name, tensor in first.items() if name.endswith(UP))


def test_the_dry_step_keeps_both_halves_and_counts_them_in_a_row_of_their_own():
    """`down` has no gradient yet: it passes through `up`, which is zero."""
    model = adapted(Trainable(image_encoder=TrainableOnly(only=("neck",))))
    before = trained_names(model)
    report = freeze_unreachable(model, LOSS, BOXES)
    assert {name for name in before if is_low_rank(name)} <= trained_names(model)
    rows = {row.part: row for row in report.rows}
    sizes = {name: tensor.numel() for name, tensor in model.named_parameters() if is_low_rank(name)}
    assert (rows["lora"].trained, rows["lora"].frozen, rows["lora"].unreachable) == (sum(sizes.values()), 0, 0)
    neck = sum(tensor.numel() for tensor in model.sam2_model.image_encoder.neck.parameters())
    assert rows["image_encoder"].trained == neck
    assert [line.split()[0] for line in str(report).splitlines()[1:6]] == [
        "image_encoder", "prompt_encoder", "mask_decoder", "lora", "memory",
    ]  # fmt: skip
    assert "lora" not in str(freeze_unreachable(plain(), LOSS, BOXES))


def test_low_rank_updates_alone_are_enough_to_train():
    assert freeze_unreachable(adapted(), LOSS, BOXES).unreachable == ()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_exported_weights_are_the_trained_model_under_stock_names(precision):
    """Loaded strictly into a model of the stock package; logits are the same bits, under autocast too."""
    model = moved(adapted())
    exported = stock_weights(model)
    stock = plain(seed=4)
    assert exported.keys() == stock.sam2_model.state_dict().keys()
    stock.sam2_model.load_state_dict(exported, strict=True)
    weight = "image_encoder.trunk.blocks.0.attn.qkv.weight"
    assert not torch.equal(exported[weight], plain().sam2_model.state_dict()[weight])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        pairs = [(one(*images_and_prompts(one))) for one in (model, stock, plain())]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(pairs[0], pairs[1], strict=True))
    assert not torch.equal(pairs[0][0], pairs[2][0])
    assert model.sam2_model.image_encoder.trunk.blocks[0].attn.qkv.weight.dtype == torch.float32


def test_averaged_halves_are_merged_instead_of_the_trained_ones():
    model = moved(adapted())
    layer = model.sam2_model.image_encoder.trunk.blocks[2].mlp.layers[0]
    halves = {
        f"sam2_model.image_encoder.trunk.blocks.2.mlp.layers.0.parametrizations.weight.0.{half}": tensor.detach() * 0.5
        for half, tensor in layer.parametrizations.weight[0].named_parameters()
    }
    assert len(halves) == 2
    base, whole = layer.parametrizations.weight.original, layer.weight
    exported = stock_weights(model, halves)["image_encoder.trunk.blocks.2.mlp.layers.0.weight"]
    torch.testing.assert_close(exported - base, (whole - base) / 4, rtol=0, atol=1e-6)


def test_a_rank_beyond_the_smallest_side_is_refused_with_the_layer():
    adapted(lora=Lora(rank=16, alpha=16.0))
    with pytest.raises(
        ConfigError, match=r"rank: 17, but image_encoder.trunk.blocks.0.attn.qkv.weight is 48 x 16; .*16"
    ):
        adapted(lora=Lora(rank=17, alpha=16.0))


def test_a_pattern_that_chooses_the_weight_of_an_updated_layer_is_refused_by_name():
    beside = TrainableOnly(only=(r"norm", r"neck", r"trunk\.blocks\..*\.bias"))
    model = adapted(Trainable(image_encoder=beside, mask_decoder=False), EIGHT)
    assert {name.split(".")[1] for name in trained_names(model)} == {"neck", "trunk"}
    only = TrainableOnly(only=(r"neck", r"blocks\.6\."))
    with pytest.raises(
        ConfigError, match=r"image_encoder: selects image_encoder.trunk.blocks.6.attn.qkv.weight, which"
    ):
        adapted(Trainable(image_encoder=only, mask_decoder=False))


def test_an_updated_layer_is_still_a_linear_layer_and_its_weight_is_frozen():
    layer = adapted().sam2_model.image_encoder.trunk.blocks[0].attn.qkv
    assert isinstance(layer, nn.Linear)
    assert not layer.parametrizations.weight.original.requires_grad
