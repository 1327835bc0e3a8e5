"""Trainer and Tester with a real, tiny SAM 2 of random weights."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.batches import batch_of_two_boxes
from fixtures.trainers import trainer_settings

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.module import Loss, Trainable
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.samples.batch import Batch, to_model_frame
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene
from sam2ft.model.losses import SegmentationLoss, build_loss
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.model.weights import load_weights
from sam2ft.training.activation_checkpointing import checkpoint_activations
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, save_best, save_resume
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.state import TrainerContext
from sam2ft.training.trainer import Trainer

pytestmark = pytest.mark.sam2
SIDE = 128


@pytest.fixture(scope="module")
def loss() -> SegmentationLoss:
    return build_loss(Loss(seg="BCE"))


@pytest.fixture
def trainable(loss: SegmentationLoss) -> Callable[[], FinetunedSAM2]:
    def make() -> FinetunedSAM2:
        model = build_untrained("sam2_nano", image_size=SIDE, seed=1)
        set_trainable(model, Trainable())
        freeze_unreachable(model, loss, {"box": 1.0})
        return model

    return make


batch = partial(batch_of_two_boxes, SIDE)


def trainer_of(model: FinetunedSAM2, loss: Any, context: TrainerContext | None = None, **changes: Any) -> Trainer:
    optimizer = build_optimizer(model, Optimizer(lr=1e-3))
    settings = trainer_settings(**{"num_epochs": 3, "batches_per_step": 2, **changes})
    return Trainer(model, loss, optimizer, None, settings, context)


def test_training_learns_resumes_bit_for_bit_and_exports_stock_weights(
    trainable: Any, loss: Any, tmp_path: Path, recorder: Any
) -> None:
    batches = [batch(0), batch(1, 2), batch(3)]

    def train(epoch: int, skip: int) -> list[Batch]:
        return batches[skip:]

    seen = recorder()
    whole = trainer_of(trainable(), loss, TrainerContext(observer=seen))
    whole.fit(train, lambda: batches[:1])
    assert seen.epochs[-1].values["val_loss"] < seen.epochs[0].values["val_loss"]

    def crash(event: Any, state: Any) -> None:
        if event.step == 3:
            save_resume(tmp_path / "3.safetensors", first.snapshot(state), keep=1)
            raise KeyboardInterrupt

    first = trainer_of(trainable(), loss, TrainerContext(observer=recorder(crash)))
    with pytest.raises(KeyboardInterrupt):
        first.fit(train, lambda: batches[:1])
    second = trainer_of(trainable(), loss)
    newest = load_newest_resume(tmp_path)
    assert newest is not None
    second.fit(train, lambda: batches[:1], second.restore(newest.snapshot))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name

    save_best(tmp_path / "best.pt", second.weights(), {"epoch": 0})
    loaded = build_untrained("sam2_nano", image_size=SIDE, seed=2)
    load_weights(loaded.sam2_model, tmp_path / "best.pt")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), second.model.parameters(), strict=True))


def test_activation_checkpointing_changes_no_bit(trainable: Any, loss: Any) -> None:
    ends = []
    for wanted in (False, True):
        model = trainable()
        if wanted:
            assert checkpoint_activations(model) == len(model.sam2_model.image_encoder.trunk.blocks)
        trainer_of(model, loss, num_epochs=1).fit(lambda epoch, skip: [batch(0)], lambda: [batch(0)])
        ends.append(model.state_dict())
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_eight_boxes_on_a_slice_are_one_encoder_pass_and_chunks_change_nothing(precision: Any) -> None:
    model = build_untrained("sam2_nano", image_size=SIDE, seed=1)
    passes: list[int] = []
    model.sam2_model.image_encoder.trunk.patch_embed.register_forward_hook(lambda *_: passes.append(1))
    reference = np.zeros((1, 40, 60), dtype=np.uint8)
    for number in range(8):
        reference[0, 4 + 20 * (number // 4) :, :][:10, 3 + 14 * (number % 4) :][:, :9] = 1 + number % 2
    labels = LabelTable((Label(1, "a"), Label(2, "b")))

    class Volume:
        key = VolumeKey("toy", "s", "v")
        scene = Scene(Geometry.axis_aligned((1, 40, 60), (3.0, 0.5, 0.5)), labels)
        reference_zyx = reference

        def views(self, image_size: int, slices: Any, prefetch: int) -> Any:
            image = (reference[0] > 0).astype(np.float32)
            return iter([SliceView(self.key.slice(0), to_model_frame(image, image_size), reference[0])])

    results = []
    for chunk in (64, 3):
        protocol = protocol_class("box")(Evaluation(prompt_chunk=chunk, precision=precision))
        results += Tester(model, protocol, (), ScoreSettings()).evaluate([Volume()])
    assert len(passes) == 2
    assert [len(result.prompted) for result in results] == [8, 8]
    assert (results[0].label_map_zyx == results[1].label_map_zyx).mean() > 0.999
    assert {row["status"] for row in results[0].rows["slice"]} <= {"ok", "missed"}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("protocol", ["box", "points", "mask"])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_slice_without_contrast_gives_numbers_and_no_nan(precision: Any, protocol: str, level: float) -> None:
    """A store may hold such slices: only volumes that are constant throughout are refused when they are prepared."""
    model = build_untrained("sam2_nano", image_size=SIDE, seed=1)
    reference = np.zeros((1, 40, 60), dtype=np.uint8)
    reference[0, 5:20, 5:30] = 1

    class Volume:
        key = VolumeKey("toy", "s", "v")
        scene = Scene(Geometry.axis_aligned((1, 40, 60), (3.0, 0.5, 0.5)), LabelTable((Label(1, "a"),)))
        reference_zyx = reference

        def views(self, image_size: int, slices: Any, prefetch: int) -> Any:
            image = np.full((40, 60), level, dtype=np.float32)
            return iter([SliceView(self.key.slice(0), to_model_frame(image, image_size), reference[0])])

    prompting = protocol_class(protocol)(Evaluation(protocol=protocol, precision=precision))
    (result,) = Tester(model, prompting, (), ScoreSettings()).evaluate([Volume()])
    (row,) = result.rows["instance"]
    assert 0 <= row["dice"] <= 1
    assert row["tp"] + row["fn"] == 15 * 25
