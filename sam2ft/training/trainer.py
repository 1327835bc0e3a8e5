"""Training loop: steps of accumulated batches (AMP, DDP, EMA), validation after every epoch, early stopping."""

import logging
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sam2ft.core.errors import CheckpointError, DataError, StopRequestedError
from sam2ft.core.events import EpochDone, StepDone
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.arithmetic import float32_products
from sam2ft.distributed.ranks import seed_step
from sam2ft.distributed.stop_signal import ASK_EVERY_S, StopConsensus
from sam2ft.model.files.digest import non_finite_text
from sam2ft.model.precision import Precision, autocast, full_precision, kept_precision, text_of_kept
from sam2ft.training.accumulation import Group, add_sums, groups_of, slice_names
from sam2ft.training.checkpoints.checkpoint import stock_tensors, stock_weights
from sam2ft.training.early_stopping import Stopping
from sam2ft.training.ema import WeightAverage
from sam2ft.training.memory import peak_memory_bytes
from sam2ft.training.optimizer import restore_optimizer
from sam2ft.training.schedule import Schedule
from sam2ft.training.state import (
    Loss,
    TrainBatches,
    TrainerContext,
    TrainerSettings,
    TrainState,
    ValBatches,
    written_precision,
)
from sam2ft.training.validation import ForwardResult, Validation, validate

_log = logging.getLogger(__name__)


class Trainer:
    """Trains a promptable model: any module `(images_bchw, prompts) -> (logits_n1hw, iou_n)`.

    All side effects are in its TrainerContext. `fit` resumes exactly from `restore(snapshot())` (on a GPU to the bit
    only with `module.deterministic`): batches are a function of (epoch, position), and the random generators are seeded
    from (seed, step, rank) in every step.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule | None,
        settings: TrainerSettings,
        context: TrainerContext | None = None,
    ):
        self.context = context or TrainerContext()
        self.ranks = self.context.ranks
        self.model = model.to(self.ranks.device)
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule or Schedule(optimizer)
        self.settings = settings
        self.scaler = self._compute_in(settings.precision)
        self.module = settings.module
        self.average = WeightAverage(self.model, self.module.ema.decay) if self.module.ema else None
        self._parallel = self.ranks.wrap(self.model)

    # --- the loop -----------------------------------------------------------------------------------------------------

    def fit(self, train_batches: TrainBatches, val_batches: ValBatches, state: TrainState | None = None) -> TrainState:
        """Train until num_epochs or early stopping, starting at `state` when given, and return the final state.

        Raises:
            StopRequestedError: after `context.save`.
            FloatingPointError: after max_skipped_steps consecutive skipped steps.
            DataError: for an epoch without a batch or a step without an instance.
        """
        state = state or TrainState()
        rule = self.module.early_stopping
        while state.epoch < self.module.num_epochs and not state.stopping.says_stop(rule):
            self.model.train()
            batches = train_batches(state.epoch, state.step_in_epoch * self.settings.batches_per_step)
            for group in groups_of(batches, self.settings.batches_per_step):
                state = self._step(group, state)
            started = time.perf_counter()
            if state.step_in_epoch == 0:
                raise DataError(f"epoch {state.epoch}: no training batch; the train split has no labelled slice")
            validation = self._validate(val_batches, state)
            values = {**state.train_values(), **validation.values, "lr": self.schedule.largest_rate()}
            stopping = self._selected(state, values)
            self.schedule.after_epoch(values)
            seconds = state.epoch_seconds + time.perf_counter() - started
            done = EpochDone(state.epoch, state.step, values, stopping.best_epoch == state.epoch, seconds)
            state = state.after_epoch(stopping)
            if self.ranks.is_main:
                self.context.observer.on_samples(done.epoch, validation.samples)
                self.context.observer.on_epoch(done, state)
        return state

    def _step(self, group: Group, state: TrainState) -> TrainState:
        """One optimizer update from the batches of `group`: the mean over their instances, over all ranks."""
        started = time.perf_counter()
        num_instances, num_slices, num_vanished = self._counts_unless_stopped(group.batches, state)
        seed_step(self.settings.seed, state.step, self.ranks.rank)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(group.batches, start=1):
            with self._averaging(last=number == len(group.batches)):
                losses = self.calculate_loss(self._on_device(batch)).losses
                # DDP averages gradients over ranks. Multiplied by the world size and divided by the instances of all
                # ranks and batches, the step is the mean over instances, whatever their distribution over ranks.
                share = losses["loss"].sum() * (batch.weight * self.ranks.world_size / num_instances)
                self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]  # torch's own is untyped
            add_sums(sums, losses, batch.weight)
        totals, norm = self._read(sums, self._clip())
        finite = all(math.isfinite(value) for value in (*totals.values(), norm))
        with self.schedule.rates_of(state.step) as rates:
            self._update(finite=finite)
        self.schedule.after_step()
        seconds = group.data_seconds + time.perf_counter() - started
        state = state.after_step(
            totals,
            num_instances,
            seconds,
            num_vanished=num_vanished,
            skipped=not finite,
            is_scaled=self.scaler.is_enabled(),
        )
        event = StepDone(
            epoch=state.epoch,
            step=state.step,
            steps_in_epoch=self.settings.steps_per_epoch,
            losses={name: value / num_instances for name, value in totals.items()},
            learning_rates=rates,
            num_slices=num_slices,
            seconds=seconds,
            data_seconds=group.data_seconds,
            gradient_norm=norm,
            skipped=not finite,
            num_vanished=num_vanished,
            memory_bytes=peak_memory_bytes(self.ranks.device) if self.ranks.is_main else 0,
        )
        self._after_step(event, state, group.batches)
        return state

    # --- parts of a step ----------------------------------------------------------------------------------------------

    def calculate_loss(self, batch: Batch) -> ForwardResult:
        """Logits and losses of one batch; the model runs in the configured precision, the losses in full precision."""
        # Without gradients there is nothing to average, so DDP's forward is used only in training.
        model = self._parallel if torch.is_grad_enabled() else self.model
        with autocast(self.ranks.device, self.settings.precision):
            logits_n1hw, iou_n = model(batch.images_bchw, batch.prompts)
        logits_n1hw, iou_n = full_precision(logits_n1hw), full_precision(iou_n)
        return ForwardResult(logits_n1hw, self.loss(logits_n1hw, iou_n, batch))

    def check_early_stopping(self, stopping: Stopping, epoch: int, values: Mapping[str, float]) -> Stopping:
        """The early stopping state after `epoch`; its `says_stop` decides whether training continues.

        The values are sums over ranks and bitwise equal on all of them, so all ranks decide the same without
        communication.
        """
        rule = self.module.early_stopping
        return stopping.after(rule, epoch, values[rule.monitor])

    def _selected(self, state: TrainState, values: Mapping[str, float]) -> Stopping:
        """Early stopping after an epoch; an epoch whose weights are not finite is never the best one.

        The monitored value can be finite all the same: not every weight takes part in a validation.
        """
        stopping = self.check_early_stopping(state.stopping, state.epoch, values)
        if stopping.best_epoch != state.epoch:
            return stopping
        # The weights are equal on all ranks, and so is the decision.
        if (problem := non_finite_text(stock_tensors(self.model, self._averages))) is None:
            return stopping
        _log.warning("epoch %d is not taken as the best one: %s", state.epoch + 1, problem)
        monitor = self.module.early_stopping.monitor
        return self.check_early_stopping(state.stopping, state.epoch, {**values, monitor: math.nan})

    def _counts_unless_stopped(self, batches: Sequence[Batch], state: TrainState) -> tuple[int, int, int]:
        """(instances, slices, vanished instances) of the step over all ranks.

        A stop request on any rank ends training on all ranks.
        """
        working = [batch for batch in batches if batch.weight]
        instances = sum(batch.num_instances for batch in working)
        slices = sum(len(batch.keys) for batch in working)
        vanished = sum(batch.num_vanished for batch in working)
        total_instances, total_slices, total_vanished, stop = self.ranks.total(
            [instances, slices, vanished, float(self.context.stop.requested)]
        )
        if stop:
            self._stop(state)
        if not total_instances:
            raise DataError(f"epoch {state.epoch}: a step without any instance ({slice_names(batches)})")
        return int(total_instances), int(total_slices), int(total_vanished)

    def _stop(self, state: TrainState) -> NoReturn:
        if self.ranks.is_main:
            self.context.save(state)
        self.ranks.barrier()
        raise StopRequestedError(
            f"stopped as asked after step {state.step} (epoch {state.epoch + 1}); saved to continue"
        )

    def _averaging(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients are averaged over ranks once per step: in the backward pass of its last batch."""
        if isinstance(self._parallel, DistributedDataParallel) and not last:
            context: AbstractContextManager[None] = self._parallel.no_sync()
            return context
        return nullcontext()

    def _on_device(self, batch: Batch) -> Batch:
        return batch.to(self.ranks.device, non_blocking=True)

    def _clip(self) -> Tensor:
        """Clip the gradient to clip_grad when that is set; return the norm of the whole gradient before clipping."""
        self.scaler.unscale_(self.optimizer)
        trained = (tensor for group in self.optimizer.param_groups for tensor in group["params"])
        parameters = [tensor for tensor in trained if tensor.grad is not None]
        norm = nn.utils.get_total_norm([tensor.grad for tensor in parameters if tensor.grad is not None])
        if self.module.clip_grad is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.module.clip_grad, norm)
        return norm

    def _read(self, sums: Mapping[str, Tensor], norm: Tensor) -> tuple[dict[str, float], float]:
        """Sums of the losses over all ranks, and the norm: one copy, for which the host waits for the device.

        A step has no other wait, except in fp16 with an optimizer that is not fused: its scaler reads whether a
        gradient is infinite.

        The ranks' gradients are equal; their norms are averaged so that a non-finite one is seen by all ranks.
        """
        names = sorted(sums)
        *totals, norms = self.ranks.total(torch.stack([*(sums[name] for name in names), norm.to(sums["loss"])]))
        return dict(zip(names, totals, strict=True)), norms / self.ranks.world_size

    def _update(self, *, finite: bool) -> None:
        if finite:
            self.scaler.step(self.optimizer)
            if self.average is not None:
                self.average.update()
        self.scaler.update()

    def _after_step(self, event: StepDone, state: TrainState, batches: Sequence[Batch]) -> None:
        if self.ranks.is_main:
            self.context.observer.on_step(event, state)
        if state.skipped_in_a_row >= self.module.max_skipped_steps:
            raise FloatingPointError(
                f"step {state.step}: loss or gradient was not finite in {state.skipped_in_a_row} steps in a row "
                f"(module.max_skipped_steps); the last one held {slice_names(batches)}"
            )

    def _validate(self, val_batches: ValBatches, state: TrainState) -> Validation:
        """Validate with fixed prompts, in the precision of training, with the averaged weights when EMA is enabled."""
        self.model.eval()
        try:
            with nullcontext() if self.average is None else self.average.applied():
                return validate(
                    self._until_stopped(val_batches()),
                    self.calculate_loss,
                    self.ranks,
                    num_samples=self.settings.num_samples if self.ranks.is_main else 0,
                )
        except StopRequestedError:
            # Only at this point the model has its own weights again, which are saved.
            self._stop(state)

    def _until_stopped(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, until a rank was asked to stop: a long validation must not exceed Slurm's grace time."""
        # For a single rank the check has no cost.
        consensus = StopConsensus(self.ranks.maxima, every_s=ASK_EVERY_S if self.ranks.world_size > 1 else 0.0)
        for batch in batches:
            if consensus.says_stop(self.context.stop.requested):
                raise StopRequestedError("during validation")
            yield batch

    def _compute_in(self, precision: Precision) -> torch.amp.GradScaler:
        """Set float32 products on a GPU; returns the scaler of the loss, which does nothing for all but fp16."""
        float32_products("tf32" if precision == "tf32" else "ieee")
        return torch.amp.GradScaler(self.ranks.device.type, enabled=precision == "fp16")

    # --- saved state --------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, Tensor]:
        """Weights for best.pt under stock names, averaged with EMA. They are not copies: write them at once."""
        return stock_weights(self.model, self._averages)

    @property
    def _averages(self) -> dict[str, Tensor] | None:
        return None if self.average is None else self.average.tensors

    def snapshot(self, state: TrainState) -> dict[str, Any]:
        """State for `restore` and checkpoint.save_resume. It contains no copies: write it before the next step."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "precision": self.settings.precision,
            "average": self._averages,
            "state": state.state_dict(),
        }

    def restore(self, snapshot: Mapping[str, Any]) -> TrainState:
        """Restore the state of `snapshot`; `fit` continues from the returned state.

        Raises:
            CheckpointError: when the snapshot is of another model or optimizer, or another EMA setting or precision.
        """
        if (snapshot["average"] is None) != (self.average is None):
            raise CheckpointError("the resume file was written with another module.ema; use --fresh to start again")
        try:
            self.model.load_state_dict(snapshot["model"])
            restore_optimizer(self.optimizer, snapshot["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"the resume file is of another model or optimizer; use --fresh to start again ({error})"
            ) from None
        self.schedule.load_state_dict(snapshot["scheduler"])
        precision = kept_precision(written_precision(snapshot, self.settings.precision), self.ranks.device)
        if self.ranks.is_main and precision != self.settings.precision:
            _log.warning("%s", text_of_kept(precision, self.settings.precision, self.ranks.device))
        self.settings = replace(self.settings, precision=precision)
        self.scaler = self._compute_in(precision)
        self.scaler.load_state_dict(snapshot["scaler"])
        if self.average is not None:
            self.average.load(snapshot["average"])
        return TrainState.from_state_dict(snapshot["state"])
