"""A run that trains low-rank updates, from the file to best.pt: stopped and continued, averaged, loaded by stock."""

import signal

import pytest
import torch
from fixtures.trainers import read_best
from safetensors.torch import load_file
from sam2.build_sam import build_sam2

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.model.lora import is_low_rank
from sam2ft.model.nano import overrides as nano
from sam2ft.runs.history import read_history
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, read_resume

pytestmark = pytest.mark.sam2
LOW_RANK = (
    "module.visualize=false",
    "module.lora={rank: 4, alpha: 8}",
    "module.trainable={image_encoder: {only: [neck]}, mask_decoder: false}",
    "module.use_amp=bf16",
    "module.ema={decay: 0.9}",
    "module.activation_checkpointing=true",
    "module.optimizer={type: AdamW, lr: 1e-2, lr_scale: {image_encoder: 0.5}, layer_decay: 0.9}",
)


def test_low_rank_training_stops_continues_and_ends_in_weights_of_stock_sam2(point_with, at_step, toy, capfd):
    point = point_with(*LOW_RANK)
    stop = StopFlag()
    at_step(7, lambda: stop.handle(signal.SIGTERM, None))
    with pytest.raises(StopRequestedError, match="after step 7 "):
        point.train(stop)
    assert "lora" in capfd.readouterr().err
    snapshot = load_newest_resume(point.layout.checkpoints).snapshot
    halves = {name for name in snapshot["model"] if is_low_rank(name)}
    assert halves
    assert halves <= snapshot["average"].keys()
    point.train()
    losses = [float(row["train_loss"]) for row in read_history(point.layout)]
    assert losses[1] < losses[0]

    weights, _ = read_best(point.layout.best)
    before = load_file(toy.weights)
    assert weights.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], weights[name])}
    assert {name.split(".")[1] for name in changed} == {"trunk", "neck"}
    assert all(before[name].ndim == 2 for name in changed if ".trunk." in name)
    size = "++model.image_size=64"
    stock = build_sam2(
        nano.BASE_CONFIG, str(point.layout.best), device="cpu", hydra_overrides_extra=[*nano.OVERRIDES, size]
    )
    assert all(torch.equal(tensor, weights[name]) for name, tensor in stock.state_dict().items())
    assert point.evaluate().global_rows

    last = read_resume(point.layout.resume(10))
    point.layout.folder.rename(toy.folder / "stopped")
    at_step(0, lambda: None)
    whole = point_with(*LOW_RANK)
    whole.train()
    again = read_resume(whole.layout.resume(10))
    for kept in ("model", "average"):
        assert all(torch.equal(last[kept][name], again[kept][name]) for name in last[kept]), kept
    best, _ = read_best(whole.layout.best)
    assert all(torch.equal(best[name], weights[name]) for name in best)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("module.lora.rank=40", r"module.lora.rank: 40, but .*attn.qkv.weight is 48 x 16; .* at most 16"),
        (
            "module.trainable.image_encoder={only: [trunk]}",
            r"selects image_encoder.trunk.blocks.0.attn.qkv.weight, which",
        ),
    ],
)
def test_what_cannot_be_updated_with_low_rank_is_refused_before_training(point_with, setting, message):
    point = point_with(*LOW_RANK[:2], "module.trainable.image_encoder=false", setting)
    with pytest.raises(ConfigError, match=message):
        point.train()
    assert not point.layout.history.exists()
