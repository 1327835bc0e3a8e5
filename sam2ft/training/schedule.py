"""Learning rate schedules: torch schedulers by class name, advanced per step or per epoch, with linear warm-up."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import lr_scheduler

from sam2ft.config.schema.optimizer import Scheduler
from sam2ft.core.errors import ConfigError
from sam2ft.training.optimizer import SCALE

_LENGTH = {"total_steps", "epochs", "steps_per_epoch"}


class Schedule:
    """Learning rate schedule: a torch scheduler (None: constant rate) and a linear warm-up over the first steps.

    Between steps every parameter group has the scheduler's rate; `rates_of` applies warm-up and the group's factor.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        section: Scheduler | None = None,
        scheduler: Any = None,
    ):
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.interval = section.interval if section else None
        self.monitor = section.monitor if section else None
        """The epoch value that ReduceLROnPlateau monitors; None for every other scheduler."""
        self.warmup_steps = section.warmup_steps if section else 0

    def warmup_factor(self, step: int) -> float:
        """Fraction of the scheduled rate that the 0-based `step` uses."""
        return min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0

    @contextmanager
    def rates_of(self, step: int) -> Iterator[list[float]]:
        """Context in which the optimizer has the rates of the 0-based `step`; the scheduler's are restored afterwards.

        torch's schedulers compute the next rate from the group's current one, so neither the warm-up nor a group's
        factor may remain in it.
        """
        scheduled = [group["lr"] for group in self.optimizer.param_groups]
        factor = self.warmup_factor(step)
        for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
            group["lr"] = rate * factor * _scale_of(group)
        try:
            yield [float(group["lr"]) for group in self.optimizer.param_groups]
        finally:
            for group, rate in zip(self.optimizer.param_groups, scheduled, strict=True):
                group["lr"] = rate

    def largest_rate(self) -> float:
        """Largest learning rate of the groups with their factors, without warm-up."""
        return max(float(group["lr"]) * _scale_of(group) for group in self.optimizer.param_groups)

    def after_step(self) -> None:
        """Advance a scheduler of interval `step`."""
        if self.scheduler is not None and self.interval == "step":
            self._advance()

    def after_epoch(self, values: Mapping[str, float]) -> None:
        """Advance a scheduler of interval `epoch`; `values` are those of EpochDone."""
        if self.scheduler is not None and self.interval == "epoch":
            self._advance(*(() if self.monitor is None else (values[self.monitor],)))

    def _advance(self, *monitored: float) -> None:
        with warnings.catch_warnings():
            # The optimizer has not stepped yet in this process when a run resumes at the end of an epoch, or when its
            # first step is skipped. The order of calls is correct nevertheless.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step(*monitored)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scheduler is not None:
            self.scheduler.load_state_dict(dict(state))


def build_scheduler(
    optimizer: torch.optim.Optimizer, section: Scheduler | None, *, steps_per_epoch: int, num_epochs: int
) -> Schedule:
    """Build the schedule of an experiment; the rate is constant without `module.scheduler`.

    A OneCycleLR without a length covers the whole training at its interval.

    Raises:
        ConfigError: for a value that the class refuses, or a OneCycleLR that is shorter than the training (torch would
            raise during training).
    """
    if section is None:
        return Schedule(optimizer)
    arguments = dict(section.arguments)
    advances = num_epochs * (steps_per_epoch if section.interval == "step" else 1)
    if section.type == "OneCycleLR" and not _LENGTH & arguments.keys():
        arguments["total_steps"] = advances
    try:
        scheduler = getattr(lr_scheduler, section.type)(optimizer, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"module.scheduler: {section.type}: {error}") from None
    if section.type == "OneCycleLR" and scheduler.total_steps < advances:
        raise ConfigError(
            f"module.scheduler.total_steps: {scheduler.total_steps}, but this training advances it {advances} times "
            f"(interval: {section.interval}); allowed: at least {advances}"
        )
    return Schedule(optimizer, section, scheduler)


def _scale_of(group: Mapping[str, Any]) -> float:
    """Factor of a parameter group; 1 for a group that build_optimizer did not create."""
    return float(group[SCALE]) if SCALE in group else 1.0
