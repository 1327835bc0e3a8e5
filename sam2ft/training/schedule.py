"""Learning rate schedules by the name of their torch class, stepped per step or per epoch, with a warm-up."""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch.optim import lr_scheduler

from sam2ft.config.schema.arguments import REFUSED
from sam2ft.core.errors import ConfigError
from sam2ft.training.optimizer import SCALE

REFUSED_SCHEDULERS = {
    **REFUSED["schedulers"],
    "SWALR": "it belongs to stochastic weight averaging; use module.ema",
    "LRScheduler": "it is the abstract base class",
}
_PLATEAU = "ReduceLROnPlateau"
_LENGTH = {"total_steps", "epochs", "steps_per_epoch"}


class SchedulerSection(Protocol):
    """`module.scheduler` of the experiment."""

    @property
    def type(self) -> str: ...
    @property
    def arguments(self) -> Mapping[str, Any]: ...
    @property
    def interval(self) -> Literal["step", "epoch"]: ...
    @property
    def monitor(self) -> str | None: ...
    @property
    def warmup_steps(self) -> int: ...


@dataclass(frozen=True)
class SchedulerChoice:
    """The same section as plain values, for code and tests without an experiment."""

    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    interval: Literal["step", "epoch"] = "epoch"
    monitor: str | None = None
    warmup_steps: int = 0


class Schedule:
    """How learning rates change: a torch scheduler (or none: constant), and a linear warm-up over the first steps.

    Between steps every group of the optimizer has the scheduler's rate; `rates_of` makes it the group's own.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        scheduler: Any = None,
        *,
        interval: Literal["step", "epoch"] = "epoch",
        monitor: str | None = None,
        warmup_steps: int = 0,
    ):
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.interval = interval
        self.monitor = monitor
        """The value of an epoch that ReduceLROnPlateau watches; None for every other scheduler."""
        self.warmup_steps = warmup_steps

    def warmup_factor(self, step: int) -> float:
        """Share of the scheduled rate that the 0-based `step` is made with."""
        return min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0

    @contextmanager
    def rates_of(self, step: int) -> Iterator[list[float]]:
        """The optimizer has the rates of the 0-based `step` inside the block, the scheduler's own again after it.

        torch's schedulers compute the next rate from the group's present one, so neither the warm-up nor a group's
        scale may stay in it.
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
        """Of the groups' own rates, without warm-up."""
        return max(float(group["lr"]) * _scale_of(group) for group in self.optimizer.param_groups)

    def after_step(self) -> None:
        if self.scheduler is not None and self.interval == "step":
            self._advance()

    def after_epoch(self, values: Mapping[str, float]) -> None:
        """`values`: what EpochDone carries."""
        if self.scheduler is not None and self.interval == "epoch":
            self._advance(*(() if self.monitor is None else (values[self.monitor],)))

    def _advance(self, *monitored: float) -> None:
        with warnings.catch_warnings():
            # The optimizer has not stepped yet in this process when a run resumes at the end of an epoch, or when its
            # first step is skipped. The order is right all the same.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            self.scheduler.step(*monitored)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.scheduler is None else self.scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.scheduler is not None:
            self.scheduler.load_state_dict(dict(state))


def build_scheduler(
    optimizer: torch.optim.Optimizer, section: SchedulerSection | None, *, steps_per_epoch: int, num_epochs: int
) -> Schedule:
    """The schedule of the experiment; a constant rate without `module.scheduler`.

    A OneCycleLR that is not told its length spans the whole training, at its own interval.
    Errors: ConfigError for an unknown or unfit class, an argument it does not take, a missing or unused monitor, and a
    OneCycleLR that ends before training does (torch would raise in the middle of it).
    """
    if section is None:
        return Schedule(optimizer)
    kind = scheduler_class(section.type)
    if section.type == _PLATEAU and (section.monitor is None or section.interval != "epoch"):
        raise ConfigError(f"module.scheduler: {_PLATEAU} needs monitor (a value of the epoch) and interval: epoch")
    if section.type != _PLATEAU and section.monitor is not None:
        raise ConfigError(f"module.scheduler.monitor: only {_PLATEAU} watches a value, not {section.type}")
    arguments = dict(section.arguments)
    advances = num_epochs * (steps_per_epoch if section.interval == "step" else 1)
    if section.type == "OneCycleLR" and not _LENGTH & arguments.keys():
        arguments["total_steps"] = advances
    try:
        inspect.signature(kind).bind(optimizer, **arguments)
        scheduler = kind(optimizer, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"module.scheduler: {section.type}: {error}") from None
    if section.type == "OneCycleLR" and scheduler.total_steps < advances:
        raise ConfigError(
            f"module.scheduler.total_steps: {scheduler.total_steps}, but this training advances it {advances} times "
            f"(interval: {section.interval}); allowed: at least {advances}"
        )
    return Schedule(
        optimizer,
        scheduler,
        interval=section.interval,
        monitor=section.monitor,
        warmup_steps=section.warmup_steps,
    )


def scheduler_class(name: str) -> Any:
    """The class torch.optim.lr_scheduler.<name>. Errors: ConfigError naming what is allowed or why it is not."""
    found = getattr(lr_scheduler, name, None)
    if not (isinstance(found, type) and issubclass(found, lr_scheduler.LRScheduler)):
        raise ConfigError(f"module.scheduler.type: torch.optim.lr_scheduler has no scheduler {name!r}")
    if name in REFUSED_SCHEDULERS:
        raise ConfigError(f"module.scheduler.type: {name} cannot be used: {REFUSED_SCHEDULERS[name]}")
    return found


def _scale_of(group: Mapping[str, Any]) -> float:
    """1 for a group that build_optimizer did not make."""
    return float(group[SCALE]) if SCALE in group else 1.0
