"""The loop: accumulation, resume, stops, skipped steps, what is announced."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from fixtures.trainers import trainer_settings

from sam2ft.config.schema.optimizer import Scheduler
from sam2ft.core.errors import CheckpointError, DataError, StopRequestedError
from sam2ft.data.samples.batch import Batch, collate
from sam2ft.training.checkpoints.nested_state import pack, unpack
from sam2ft.training.schedule import build_scheduler
from sam2ft.training.state import MOST_SCALE_SEARCHES, TrainerContext, TrainState
from sam2ft.training.trainer import Trainer


@pytest.fixture
def make_trainer(two_convolutions: Any, plain_loss: Any) -> Callable[..., Trainer]:
    def make(
        context: TrainerContext | None = None,
        *,
        loss: Any = None,
        dtype: torch.dtype = torch.float32,
        schedule: Scheduler | None = None,
        sgd: bool = False,
        **settings: Any,
    ) -> Trainer:
        model = two_convolutions(dtype)
        kind = torch.optim.SGD if sgd else torch.optim.AdamW
        optimizer = kind(model.parameters(), lr=0.05)
        built = build_scheduler(optimizer, schedule, steps_per_epoch=4, num_epochs=3) if schedule else None
        chosen = trainer_settings(**{"num_epochs": 3, "seed": 1, **settings})
        return Trainer(model, loss or plain_loss, optimizer, built, chosen, context)

    return make


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def written(trainer: Trainer, state: TrainState) -> Any:
    """The snapshot as it would be read from a file that is written now: not the tensors that training goes on with."""
    tensors, text = pack(trainer.snapshot(state))
    return unpack({name: tensor.clone() for name, tensor in tensors.items()}, text)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_four_batches_of_two_make_the_step_of_one_batch_of_eight(make_trainer: Any, toy_data: Any) -> None:
    steps = []
    for batch_size, grad_accum in ((2, 4), (8, 1)):
        data = toy_data(8, batch_size)
        trainer = make_trainer(dtype=torch.float64, sgd=True, num_epochs=1, batches_per_step=grad_accum)
        assert trainer.fit(data.train, data.val).step == 1
        steps.append(trainer)
    small, big = (list(trainer.model.parameters()) for trainer in steps)
    for a, b in zip(small, big, strict=True):
        assert (a - b).abs().max() <= 1e-12 * b.abs().max()
        assert a.grad is not None
        assert b.grad is not None
        assert (a.grad - b.grad).abs().max() <= 1e-12 * b.grad.abs().max()


def test_instances_weigh_alike_however_they_are_spread_over_batches(
    make_trainer: Any, sample: Any, plain_loss: Any, recorder: Any
) -> None:
    uneven = [collate([sample(1, 5)]), collate([sample(2, 1)])]
    seen = recorder()
    trainer = make_trainer(TrainerContext(observer=seen), num_epochs=1, batches_per_step=2)
    with torch.no_grad():
        losses = torch.cat([plain_loss(*trainer.model(b.images_bchw, b.prompts), b)["loss"] for b in uneven])
    trainer.fit(lambda epoch, skip: uneven, lambda: uneven)
    assert len(losses) == 6
    assert seen.steps[0].losses["loss"] == pytest.approx(float(losses.mean()), rel=1e-6)


def test_the_last_short_group_of_an_epoch_is_stepped(make_trainer: Any, toy_data: Any, recorder: Any) -> None:
    seen = recorder()
    data = toy_data(7, 1)
    make_trainer(TrainerContext(observer=seen), num_epochs=2, batches_per_step=3).fit(data.train, data.val)
    assert [event.num_slices for event in seen.steps] == [3, 3, 1] * 2
    assert [event.step for event in seen.steps] == [1, 2, 3, 4, 5, 6]


def test_every_epoch_is_validated_and_announced_with_pictures_of_the_same_slices(
    make_trainer: Any, toy_data: Any, recorder: Any
) -> None:
    seen = recorder()
    data = toy_data(5, 2)
    make_trainer(TrainerContext(observer=seen), num_samples=3).fit(data.train, data.val)
    assert [event.epoch for event in seen.epochs] == [0, 1, 2]
    expected = {f"{stage}_{term}" for stage in ("train", "val") for term in ("loss", "ce", "seg")}
    expected |= {"val_dice", "lr", "train_vanished"}
    assert all(set(event.values) == expected for event in seen.epochs)
    assert [[one.key.index for one in samples] for _, samples in seen.samples] == [[0, 1, 2]] * 3
    assert seen.samples[0][1][0].image_yx.shape == (8, 8)


def test_instances_that_augmentation_moved_away_are_counted_per_epoch_and_through_a_resume(
    make_trainer: Any, sample: Any, recorder: Any
) -> None:
    batches = [replace(collate([sample(n, 1)]), num_vanished=n) for n in (1, 0, 3)]
    padding = replace(batches[-1], weight=0.0)  # the last sample again, on a rank without work: already counted
    seen = recorder()
    trainer = make_trainer(TrainerContext(observer=seen), num_epochs=2, batches_per_step=2)
    trainer.fit(lambda epoch, skip: [*batches, padding][skip:], lambda: batches)
    assert [event.values["train_vanished"] for event in seen.epochs] == [4.0, 4.0]
    halfway = TrainState.from_state_dict(TrainState(step_in_epoch=1, num_vanished=1).state_dict())
    again = recorder()
    trainer = make_trainer(TrainerContext(observer=again), num_epochs=1, batches_per_step=2)
    trainer.fit(lambda epoch, skip: [*batches, padding][skip:], lambda: batches, halfway)
    assert [event.values["train_vanished"] for event in again.epochs] == [4.0]


def test_val_dice_is_the_mean_over_instances_on_the_original_grid(make_trainer: Any, sample: Any) -> None:
    batch = collate([sample(1, 1), sample(2, 3)])
    trainer = make_trainer(num_epochs=1)

    class Halves(torch.nn.Module):
        """Predicts the first instance exactly and nothing of the other three."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: Any, prompts: Any) -> Any:
            logits = torch.full((4, 1, 8, 8), -9.0)
            logits[0, 0][batch.masks[0][0]] = 9.0
            return logits + self.bias * 0, torch.zeros(4)

    trainer.model = trainer._parallel = Halves()
    done: dict[str, float] = {}
    trainer.context = TrainerContext(
        observer=type("Keep", (), {
            "on_step": lambda *_: None,
            "on_samples": lambda *_: None,
            "on_epoch": lambda _, event, state: done.update(event.values),
        })()
    )  # fmt: skip
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.schedule.optimizer = trainer.optimizer
    trainer.fit(lambda epoch, skip: [batch], lambda: [batch])
    assert done["val_dice"] == pytest.approx(0.25)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("stop_at", [1, 3, 4, 5, 8, 11])
def test_resume_equals_the_uninterrupted_run_bit_for_bit(
    make_trainer: Any, toy_data: Any, recorder: Any, stop_at: int, interval: Any
) -> None:
    data = toy_data(7, 1)
    options = {
        "batches_per_step": 2,
        "num_epochs": 3,
        "ema": {"decay": 0.9},
        "clip_grad": 0.5,
        "schedule": Scheduler(type="CosineAnnealingLR", T_max=9, interval=interval, warmup_steps=3),
    }
    whole = recorder()
    uninterrupted = make_trainer(TrainerContext(observer=whole), **options)
    end = uninterrupted.fit(data.train, data.val)
    assert end.step == 12

    kept: list[Any] = []

    def crash(event: Any, state: TrainState) -> None:
        if event.step == stop_at:
            kept.append(written(first, state))
            raise KeyboardInterrupt

    before = recorder(crash)
    first = make_trainer(TrainerContext(observer=before), **options)
    with pytest.raises(KeyboardInterrupt):
        first.fit(data.train, data.val)
    after = recorder()
    second = make_trainer(TrainerContext(observer=after), **options)
    state = second.restore(kept[0])
    again = second.fit(data.train, data.val, state)
    assert same(weights_of(second), weights_of(uninterrupted))
    assert same(second.weights(), uninterrupted.weights())
    assert [e.losses for e in before.steps + after.steps] == [e.losses for e in whole.steps]
    assert [e.learning_rates for e in before.steps + after.steps] == [e.learning_rates for e in whole.steps]
    assert [e.values for e in before.epochs + after.epochs] == [e.values for e in whole.epochs]
    assert again.stopping == end.stopping
    assert again.step == 12


def test_a_stop_request_saves_the_state_of_the_last_step_and_continues_to_the_same_end(
    make_trainer: Any, toy_data: Any, recorder: Any
) -> None:
    data = toy_data(6, 1)
    uninterrupted = make_trainer()
    uninterrupted.fit(data.train, data.val)

    class Flag:
        requested = False

    flag, saved = Flag(), []

    def ask(event: Any, state: TrainState) -> None:
        flag.requested = event.step == 9

    context = TrainerContext(
        observer=recorder(ask), stop=flag, save=lambda state: saved.append(written(stopped, state))
    )
    stopped = make_trainer(context)
    with pytest.raises(StopRequestedError, match="step 9"):
        stopped.fit(data.train, data.val)
    continued = make_trainer()
    state = continued.restore(saved[0])
    assert (state.epoch, state.step_in_epoch, state.step) == (1, 3, 9)
    continued.fit(data.train, data.val, state)
    assert same(weights_of(continued), weights_of(uninterrupted))


@pytest.mark.parametrize("ema", [None, {"decay": 0.9}])
def test_a_stop_request_during_validation_saves_before_the_next_batch_what_is_trained(
    make_trainer: Any, toy_data: Any, recorder: Any, ema: Any
) -> None:
    """Not the average, which the model has while it is validated."""
    data = toy_data(3, 1)
    uninterrupted = make_trainer(ema=ema)
    uninterrupted.fit(data.train, data.val)

    class Flag:
        requested = False

    flag, saved, numbers = Flag(), [], []

    def val() -> Iterator[Batch]:
        for number, batch in enumerate(data.val()):
            numbers.append(number)
            flag.requested = number == 1
            yield batch

    seen = recorder()
    context = TrainerContext(observer=seen, stop=flag, save=lambda state: saved.append(written(stopped, state)))
    stopped = make_trainer(context, ema=ema)
    with pytest.raises(StopRequestedError):
        stopped.fit(data.train, val)
    assert numbers == [0, 1]
    assert not seen.epochs
    # What is left of the epoch is its validation.
    continued = make_trainer(TrainerContext(observer=seen), ema=ema)
    state = continued.restore(saved[0])
    assert (state.epoch, state.step_in_epoch) == (0, 3)
    continued.fit(data.train, data.val, state)
    assert [event.epoch for event in seen.epochs] == [0, 1, 2]
    assert same(weights_of(continued), weights_of(uninterrupted))
    assert same(continued.weights(), uninterrupted.weights())


def test_an_exception_in_the_loss_reaches_the_caller(make_trainer: Any, toy_data: Any) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("no such loss")

    data = toy_data(2, 1)
    with pytest.raises(ZeroDivisionError, match="no such loss"):
        make_trainer(loss=broken).fit(data.train, data.val)


def poisoned(plain_loss: Any, bad: set[int]) -> Any:
    def loss(logits: Any, iou: Any, batch: Batch) -> dict[str, torch.Tensor]:
        factor = float("nan") if batch.keys[0].index in bad and torch.is_grad_enabled() else 1.0
        return {name: values * factor for name, values in plain_loss(logits, iou, batch).items()}

    return loss


def test_a_step_whose_loss_is_not_finite_changes_nothing_and_is_counted(
    make_trainer: Any, toy_data: Any, plain_loss: Any, recorder: Any
) -> None:
    data = toy_data(4, 1)
    seen = recorder()
    trainer = make_trainer(TrainerContext(observer=seen), loss=poisoned(plain_loss, {2}), num_epochs=1)
    weights: list[dict[str, torch.Tensor]] = [weights_of(trainer)]
    seen._on_step = lambda event, state: weights.append(weights_of(trainer))
    state = trainer.fit(data.train, data.val)
    assert state.skipped_steps == 1
    assert state.step == 4
    for event, old, new in zip(seen.steps, weights[:-1], weights[1:], strict=True):
        assert same(old, new) == event.skipped
    assert all(value == value for value in seen.epochs[0].values.values())


def test_too_many_skipped_steps_in_a_row_name_the_slices(make_trainer: Any, toy_data: Any, plain_loss: Any) -> None:
    data = toy_data(4, 1)
    trainer = make_trainer(loss=poisoned(plain_loss, {0, 1, 2, 3}), max_skipped_steps=2)
    with pytest.raises(FloatingPointError, match=r"step 2: .*2 steps in a row.*toy/s1/v1 slice \d"):
        trainer.fit(data.train, data.val)


def test_early_stopping_ends_training_and_disabled_does_not(make_trainer: Any, toy_data: Any, recorder: Any) -> None:
    data = toy_data(2, 1)
    for enabled, epochs in ((True, 3), (False, 6)):
        rule = {"enabled": enabled, "monitor": "val_dice", "mode": "max", "patience": 2, "min_delta": 2.0}
        seen = recorder()
        trainer = make_trainer(TrainerContext(observer=seen), num_epochs=6, early_stopping=rule)
        state = trainer.fit(data.train, data.val)
        assert state.epoch == epochs
        assert [event.improved for event in seen.epochs] == [True] + [False] * (epochs - 1)
        assert trainer.fit(data.train, data.val, state) == state


def test_the_gradient_is_clipped_to_its_norm(make_trainer: Any, toy_data: Any, recorder: Any) -> None:
    data = toy_data(4, 4)
    free, clipped = recorder(), recorder()
    make_trainer(TrainerContext(observer=free), num_epochs=1).fit(data.train, data.val)
    trainer = make_trainer(TrainerContext(observer=clipped), num_epochs=1, clip_grad=1e-3)
    trainer.fit(data.train, data.val)
    norm = torch.nn.utils.get_total_norm([tensor.grad for tensor in trainer.model.parameters()])
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)
    assert clipped.steps[0].gradient_norm == free.steps[0].gradient_norm > 1e-3


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_keeps_weights_and_losses_in_full(
    make_trainer: Any, toy_data: Any, recorder: Any, precision: Any
) -> None:
    data = toy_data(6, 2)
    seen = recorder()
    trainer = make_trainer(TrainerContext(observer=seen), precision=precision, num_epochs=8, max_skipped_steps=20)
    trainer.fit(data.train, data.val)
    assert {tensor.dtype for tensor in trainer.model.parameters()} == {torch.float32}
    assert seen.epochs[-1].values["val_loss"] < seen.epochs[0].values["val_loss"]
    assert trainer.scaler.is_enabled() == (precision == "fp16")
    assert bool(trainer.snapshot(TrainState())["scaler"]) == (precision == "fp16")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_validation_is_in_the_precision_of_training(make_trainer: Any, toy_data: Any, precision: Any) -> None:
    data = toy_data(4, 2)
    trainer = make_trainer(precision=precision, num_epochs=1)
    seen: set[tuple[bool, torch.dtype]] = set()
    trainer.model.second.register_forward_hook(lambda module, _, logits: seen.add((module.training, logits.dtype)))
    trainer.fit(data.train, data.val)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {(True, dtype), (False, dtype)}


def test_a_loss_scale_that_is_too_large_for_fp16_is_halved_by_skipped_steps_and_resumed(
    make_trainer: Any, toy_data: Any, plain_loss: Any, recorder: Any
) -> None:
    def loss(logits: Any, iou: Any, batch: Any) -> Any:
        return {name: values * 100 for name, values in plain_loss(logits, iou, batch).items()}

    data = toy_data(6, 1)
    kept: list[Any] = []
    # In the middle of the skipped steps.
    seen = recorder(lambda event, state: kept.append(written(whole, state)) if event.step == 2 else None)
    # The search of the scale does not count among the steps that may be skipped.
    whole = make_trainer(TrainerContext(observer=seen), loss=loss, precision="fp16", num_epochs=2, max_skipped_steps=1)
    state = whole.fit(data.train, data.val)
    skipped = [event.skipped for event in seen.steps]
    assert state.skipped_steps == sum(skipped) > 2
    assert skipped == sorted(skipped, reverse=True)
    assert not skipped[-1]
    assert whole.scaler.get_scale() == 65536 / 2 ** sum(skipped)
    # On a device for which `use_amp: true` chooses another precision, it continues in that of the resume file.
    resumed = make_trainer(loss=loss, precision="fp32", num_epochs=2, max_skipped_steps=1)
    resumed.fit(data.train, data.val, resumed.restore(kept[0]))
    assert resumed.settings.precision == "fp16"
    assert same(weights_of(resumed), weights_of(whole))
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_gradients_that_no_scale_makes_finite_end_an_fp16_training(
    make_trainer: Any, toy_data: Any, plain_loss: Any
) -> None:
    class Endless(torch.autograd.Function):
        """A finite value with an infinite gradient."""

        @staticmethod
        def forward(_context: Any, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(_context: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * math.inf

    def loss(logits: Any, iou: Any, batch: Any) -> Any:
        return plain_loss(Endless.apply(logits), iou, batch)

    trainer = make_trainer(loss=loss, precision="fp16", num_epochs=50, max_skipped_steps=3)
    with pytest.raises(FloatingPointError, match=f"^step {MOST_SCALE_SEARCHES + 3}: .* in 3 steps in a row"):
        trainer.fit(toy_data(6, 1).train, toy_data(6, 1).val)
    poison = make_trainer(loss=poisoned(plain_loss, set(range(6))), precision="fp16", max_skipped_steps=3)
    with pytest.raises(FloatingPointError, match=r"^step 3: "):
        poison.fit(toy_data(6, 1).train, toy_data(6, 1).val)


@pytest.mark.parametrize("written", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("now", ["fp32", "bf16", "fp16"])
def test_a_training_keeps_the_precision_of_its_resume_file(
    make_trainer: Any, written: Any, now: Any, caplog: pytest.LogCaptureFixture
) -> None:
    snapshot = make_trainer(precision=written).snapshot(TrainState())
    trainer = make_trainer(precision=now)
    trainer.restore(snapshot)
    expected = f"continues in {written}, in which it was begun; on this device it would be {now}"
    assert (expected in caplog.text) == (written != now)
    assert trainer.settings.precision == written
    assert trainer.scaler.is_enabled() == (written == "fp16")
    del snapshot["precision"]  # as sam2ft 0.1.0 wrote it
    trainer = make_trainer(precision=now)
    trainer.restore(snapshot)
    expected = "fp16" if written == "fp16" else "bf16" if now == "fp16" else now
    assert trainer.settings.precision == expected
    assert trainer.scaler.is_enabled() == (expected == "fp16")


def test_products_in_tf32_are_refused_where_there_is_no_gpu(make_trainer: Any) -> None:
    trainer = make_trainer()
    with pytest.raises(CheckpointError, match="written in tf32, which only GPUs have"):
        trainer.restore({**trainer.snapshot(TrainState()), "precision": "tf32"})


def test_the_average_is_what_is_exported_and_validated_but_not_trained(make_trainer: Any, toy_data: Any) -> None:
    data = toy_data(4, 1)
    plain, averaged = make_trainer(num_epochs=1), make_trainer(num_epochs=1, ema={"decay": 0.5})
    start = weights_of(plain)
    plain.fit(data.train, data.val)
    averaged.fit(data.train, data.val)
    assert same(weights_of(plain), weights_of(averaged))
    assert not same(averaged.weights(), weights_of(averaged))
    # 4 steps: the start weighs 1/16
    assert not same(averaged.weights(), start)


def test_an_empty_split_is_an_error_and_not_a_nan(make_trainer: Any, toy_data: Any) -> None:
    data = toy_data(2, 1)
    with pytest.raises(DataError, match="train split"):
        make_trainer().fit(lambda epoch, skip: [], data.val)
    with pytest.raises(DataError, match="validation split"):
        make_trainer().fit(data.train, lambda: [])


def test_a_snapshot_of_another_model_or_optimizer_is_refused(make_trainer: Any, toy_data: Any) -> None:
    trainer = make_trainer()
    snapshot = trainer.snapshot(TrainState())
    with pytest.raises(CheckpointError, match="another model"):
        trainer.restore({**snapshot, "model": {"first.weight": torch.zeros(1)}})
    with pytest.raises(CheckpointError, match=r"another module\.ema"):
        make_trainer(ema={"decay": 0.9}).restore(snapshot)


def test_plateau_watches_the_value_it_is_told(make_trainer: Any, toy_data: Any) -> None:
    data = toy_data(2, 1)
    choice = Scheduler(type="ReduceLROnPlateau", patience=0, threshold=1e9, threshold_mode="abs", monitor="val_loss")
    trainer = make_trainer(schedule=choice, num_epochs=3)
    trainer.fit(data.train, data.val)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * 0.1**2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_epoch_whose_weights_are_not_finite_is_never_the_best_one(
    make_trainer: Any, toy_data: Any, recorder: Any, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    """A value that no validation reads, so that the monitored loss stays finite and improves."""
    data, seen = toy_data(8, 2), recorder()
    trainer = make_trainer(TrainerContext(observer=seen), num_epochs=3)
    spoilt = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    trainer.model.register_parameter("unread", spoilt)

    def after_first_epoch(event: Any, state: TrainState) -> None:
        seen_epoch(event, state)
        if event.epoch == 0:
            spoilt.data[1] = value

    seen_epoch = seen.on_epoch
    seen.on_epoch = after_first_epoch
    state = trainer.fit(data.train, data.val)
    assert [event.improved for event in seen.epochs] == [True, False, False]
    losses = [event.values["val_loss"] for event in seen.epochs]
    assert losses[1] < losses[0], "it would have been the best"
    assert (state.stopping.best, state.stopping.best_epoch) == (losses[0], 0)
    assert "epoch 2 is not taken as the best one: unread holds values that are not finite" in caplog.text
