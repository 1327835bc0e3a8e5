"""A compiled encoder: the values of the plain one, the same names, and every other setting still does what it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.trainers import trainer_settings
from pydantic import ValidationError

from sam2ft.config.schema.module import Lora, Loss, Trainable
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.errors import ConfigError
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.batch import Batch, Sample, collate, to_model_frame
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import build_loss
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training import build_trainer as build_module
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, save_resume
from sam2ft.training.compiled_trunk import compile_trunk, refuse_without_compiler
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.state import TrainerContext
from sam2ft.training.trainer import Trainer

pytestmark = pytest.mark.sam2
SIDE = 64
LOSS = build_loss(Loss(seg="BCE"))
FEW_BLOCKS = (
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    """Compiled forms and torch's settings for them belong to one test."""
    before = torch._dynamo.config.optimize_ddp, torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.optimize_ddp, torch._dynamo.config.recompile_limit = before


def model_of(*, lora: bool = False, compiled: str | None = None) -> FinetunedSAM2:
    model = build_untrained("sam2_nano", image_size=SIDE, seed=1, overrides=FEW_BLOCKS)
    set_trainable(model, Trainable(image_encoder=not lora))
    if lora:
        add_low_rank(model, Lora(rank=4, alpha=8.0), 0)
    freeze_unreachable(model, LOSS, {"box": 1.0})
    if compiled:
        compile_trunk(model, compiled)
    return model


def batch(*numbers: int) -> Batch:
    samples = []
    for number in numbers:
        masks = np.zeros((1, 40, 40), dtype=bool)
        masks[0, 5:20, 5 + number : 25 + number] = True
        corners = torch.tensor([[5 + number, 5, 24 + number, 19]])
        samples.append(
            Sample(
                key=SliceKey("toy", "s", "v", number),
                image_1hw=to_model_frame(masks.any(axis=0).astype(np.float32) * 0.7 + 0.1, SIDE),
                masks_nhw=torch.tensor(masks),
                labels_n=torch.tensor([1]),
                instances_n=torch.tensor([1]),
                boxes_n4=corners * (SIDE / 40),
                original_boxes_n4=corners,
            )
        )
    return collate(samples)


BATCHES = [batch(0, 1), batch(2, 3), batch(4)]  # the last one is smaller, as in an epoch


def trainer_of(model: FinetunedSAM2, context: TrainerContext | None = None, **settings: Any) -> Trainer:
    chosen = trainer_settings(**{"num_epochs": 2, "num_samples": 0} | settings)
    return Trainer(model, LOSS, build_optimizer(model, Optimizer(lr=1e-3)), None, chosen, context)


def fitted(model: FinetunedSAM2, **settings: Any) -> Trainer:
    trainer = trainer_of(model, **settings)
    trainer.fit(lambda epoch, skip: BATCHES[skip:], lambda: BATCHES[:1])
    return trainer


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def assert_close(one: Trainer, other: Trainer, before: FinetunedSAM2) -> None:
    """Equal but for a tenth of the way that the weights went: AdamW divides by small gradients."""
    then, now = before.state_dict(), other.model.state_dict()
    assert then.keys() == now.keys()
    for name, tensor in one.model.state_dict().items():
        moved = float((tensor - then[name]).norm())
        assert float((tensor - now[name]).norm()) <= 0.1 * moved, name


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ({}, {"precision": "bf16", "batches_per_step": 2}),
        ({"lora": True}, {"ema": {"decay": 0.5}}),
    ],
)
def test_a_traced_trunk_trains_to_the_same_bits_under_the_same_names(
    kind: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Without generated code a trace computes what the blocks compute, so a difference would be the trace's fault."""
    plain, compiled = fitted(model_of(**kind), **settings), fitted(model_of(**kind, compiled="eager"), **settings)
    assert compiled.model.block_levels is not None
    assert_equal(plain.model.state_dict(), compiled.model.state_dict())
    assert_equal(plain.weights(), compiled.weights())


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {"lora": True}])
def test_a_traced_backward_pass_differs_by_rounding_only(kind: dict[str, Any]) -> None:
    assert_close(fitted(model_of(**kind)), fitted(model_of(**kind, compiled="aot_eager")), model_of(**kind))


def test_a_resume_file_continues_compiled_and_not(tmp_path: Path, recorder: Any) -> None:
    def saved(event: Any, state: Any) -> None:
        if event.step == 4:
            save_resume(tmp_path / "4.safetensors", first.snapshot(state), keep=1)

    first = trainer_of(model_of(compiled="eager"), TrainerContext(observer=recorder(saved)))
    first.fit(lambda epoch, skip: BATCHES[skip:], lambda: BATCHES[:1])
    for backend in ("eager", None):
        newest = load_newest_resume(tmp_path)
        assert newest is not None
        second = trainer_of(model_of(compiled=backend))
        second.fit(lambda epoch, skip: BATCHES[skip:], lambda: BATCHES[:1], second.restore(newest.snapshot))
        assert_equal(first.model.state_dict(), second.model.state_dict())


@pytest.mark.slow
def test_every_number_of_slices_has_its_own_form_and_none_falls_back() -> None:
    """torch's own limit of 8 forms would be reached, and the ninth size would run as plain code."""
    model, forms = model_of(), []

    def counting(graph: Any, examples: Any) -> Any:
        forms.append(examples)
        return graph

    compile_trunk(model, counting)
    with torch.no_grad():
        for count in (*range(1, 10), 3, 9):
            model.encode(torch.rand(count, 1, SIDE, SIDE))
    assert len(forms) == 9


@pytest.mark.slow
@pytest.mark.timeout(3600)  # minutes of compilation on a free core
def test_generated_code_trains_as_the_plain_blocks_within_rounding_and_repeats_its_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    ends = [fitted(model_of(compiled="inductor")) for _ in range(2)]
    assert_equal(ends[0].model.state_dict(), ends[1].model.state_dict())
    assert_close(fitted(model_of()), ends[0], model_of())


@pytest.mark.slow
def test_a_machine_with_a_compiler_is_taken() -> None:
    refuse_without_compiler(torch.device("cpu"))


def test_without_a_compiler_training_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (None, "no-such-compiler"))
    with pytest.raises(ConfigError, match=r"module\.compile: found true.*no-such-compiler.*slurm\.modules.*false$"):
        refuse_without_compiler(torch.device("cpu"))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_key_decides(point_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(build_module, "refuse_without_compiler", lambda device: asked.append(device.type))
    monkeypatch.setattr(
        build_module, "compile_trunk", lambda model: (asked.append("model"), compile_trunk(model, "eager"))
    )
    point_with("module.num_epochs=1", f"module.compile={str(wanted).lower()}").train()
    assert asked == (["cpu", "model"] if wanted else [])


@pytest.mark.parametrize(("compiled", "checkpointing"), [(True, True), (True, False), (False, True)])
def test_compiled_blocks_are_not_computed_again(compiled: bool, checkpointing: bool) -> None:
    keys = {"compile": compiled, "activation_checkpointing": checkpointing}
    if compiled and checkpointing:
        with pytest.raises(ValidationError, match=r"found true beside module\.compile: true.*allowed: false"):
            trainer_settings(**keys)
    else:
        assert trainer_settings(**keys).module.compile == compiled
