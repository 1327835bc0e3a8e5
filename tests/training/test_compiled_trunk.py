"""A compiled encoder: the values of the plain one, the same names, and every other setting still does what it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.compilers import without_compiler
from fixtures.trainers import trainer_settings
from pydantic import ValidationError

from sam2ft.config.schema.module import Lora, Loss, Trainable
from sam2ft.config.schema.optimizer import Optimizer
from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.core.keys import SliceKey
from sam2ft.data.samples.batch import Batch, Sample, collate, to_model_frame
from sam2ft.distributed.stop_signal import NeverStop
from sam2ft.model.encoder import BlockLevels, block_levels
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import build_loss
from sam2ft.model.segmenter import FinetunedSAM2, build_untrained
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.training import build_trainer as build_module
from sam2ft.training.checkpoints.checkpoint import load_newest_resume, save_resume
from sam2ft.training.compiled_trunk import compile_trunk, refuse_without_compiler, stopped_compilation
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.state import TrainerContext
from sam2ft.training.trainer import Trainer

pytestmark = pytest.mark.sam2
SIDE = 64
LOSS = build_loss(Loss(seg="BCE"))
ADAMW = Optimizer(lr=1e-3)
FEW_BLOCKS = (
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
)
ONE_BLOCK_A_STAGE = (
    "++model.image_encoder.trunk.stages=[1,1,1,1]",
    "++model.image_encoder.trunk.global_att_blocks=[0]",  # a block that shrinks its input cannot be global
)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Any:
    """Compiled forms and torch's settings for them belong to one test."""
    before = torch._dynamo.config.optimize_ddp, torch._dynamo.config.recompile_limit
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
    torch._dynamo.config.optimize_ddp, torch._dynamo.config.recompile_limit = before


def model_of(*, lora: bool = False, compiled: str | None = None, blocks: tuple[str, ...] = FEW_BLOCKS) -> FinetunedSAM2:
    model = build_untrained("sam2_nano", image_size=SIDE, seed=1, overrides=blocks)
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


def trainer_of(
    model: FinetunedSAM2,
    context: TrainerContext | None = None,
    optimizer: Optimizer = ADAMW,
    **settings: Any,
) -> Trainer:
    chosen = trainer_settings(**{"num_epochs": 2, "num_samples": 0} | settings)
    return Trainer(model, LOSS, build_optimizer(model, optimizer), None, chosen, context)


def fitted(model: FinetunedSAM2, *, batches: list[Batch] = BATCHES, **settings: Any) -> Trainer:
    trainer = trainer_of(model, **settings)
    trainer.fit(lambda epoch, skip: batches[skip:], lambda: batches[:1])
    return trainer


def assert_equal(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("lora", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_traced_backward_pass_differs_by_rounding_only(lora: bool) -> None:
    """Equal but for a twentieth of the way that weights went, or the resolution of float32.

    Plain gradient descent: AdamW divides by the size of a gradient, so noise around 0 would move a weight as far as a
    gradient does (biases of keys have a gradient of 0).
    """
    models = [model_of(lora=lora, compiled=found, blocks=ONE_BLOCK_A_STAGE) for found in (None, None, "aot_eager")]
    for model in models[1:]:
        fitted(model, batches=BATCHES[:1], optimizer=Optimizer(type="SGD", lr=0.1))
    then, plain, compiled = (model.state_dict() for model in models)
    assert then.keys() == plain.keys() == compiled.keys()
    for name, tensor in plain.items():
        moved, resolution = float((tensor - then[name]).norm()), 1e-7 * float(then[name].norm())
        assert float((tensor - compiled[name]).norm()) <= 0.05 * moved + resolution, name


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ({}, {"precision": "bf16", "batches_per_step": 2}),
        pytest.param({"lora": True}, {"ema": {"decay": 0.5}}, marks=pytest.mark.slow),
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
def test_generated_code_computes_levels_and_gradients_of_the_plain_blocks_within_rounding_and_repeats_its_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two blocks, the second of which shrinks its input: every kernel of theirs is a call of the C++ compiler."""
    from sam2.modeling.backbones.hieradet import Hiera

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    generated = model_of(compiled="inductor").block_levels
    assert generated is not None
    torch.manual_seed(0)
    trunk = Hiera(embed_dim=16, stages=(1, 1), q_pool=1, window_spec=(8, 4), global_att_blocks=(0,))
    patches = torch.randn(2, 16, 16, 16)

    def computed(levels_of: BlockLevels) -> list[torch.Tensor]:
        levels = levels_of(trunk, patches)
        used = list(trunk.blocks.parameters())
        gradients = torch.autograd.grad(sum(level.square().mean() for level in levels), used)
        return [*(level.detach() for level in levels), *gradients]

    plain, first, second = computed(block_levels), computed(generated), computed(generated)
    for one, other in zip(plain, first, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.slow
def test_a_machine_with_a_compiler_is_taken() -> None:
    refuse_without_compiler(torch.device("cpu"))


def test_without_a_compiler_training_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    match = r"module\.compile: found true.*no-such-compiler.*slurm\.modules.*false$"
    with without_compiler(), pytest.raises(ConfigError, match=match):
        refuse_without_compiler(torch.device("cpu"))


@pytest.mark.parametrize("wanted", [True, False])
def test_the_key_decides(point_with: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, wanted: bool) -> None:
    asked: list[str] = []
    monkeypatch.setattr(build_module, "refuse_without_compiler", lambda device: asked.append(device.type))
    monkeypatch.setattr(build_module, "compile_trunk", lambda model: asked.append("model"))
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


@pytest.mark.parametrize("requested", [True, False])
def test_a_compiler_that_ends_after_a_request_to_stop_is_a_stop(requested: bool) -> None:
    """Slurm and `timeout` send the signal to the whole process group, and so to g++."""

    def killed(*_: object) -> None:
        raise OSError("g++ ended by signal 15")

    compiled = torch.compile(lambda values: values + 1, backend=killed)
    expected = StopRequestedError if requested else torch._dynamo.exc.BackendCompilerFailed
    with pytest.raises(expected), stopped_compilation(NeverStop(requested)):
        compiled(torch.zeros(3))
