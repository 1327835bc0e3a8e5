"""Early stopping and selection of the best epoch (patience, monitored value). No torch, no side effects."""

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class StoppingRule:
    """The section `early_stopping`; it selects the best epoch even when early stopping is disabled."""

    enabled: bool = True
    monitor: str = "val_loss"
    """Name of a value in EpochDone."""
    mode: Literal["min", "max"] = "min"
    patience: int = 10
    """Number of consecutive epochs without improvement after which training stops."""
    min_delta: float = 0.0
    """A value is better only if it improves on the best by more than this."""

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether `value` improves on `best` (None: no best value yet). NaN never does."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value + self.min_delta < best if self.mode == "min" else value - self.min_delta > best


@dataclass(frozen=True)
class Stopping:
    """State of early stopping between epochs."""

    best: float | None = None
    best_epoch: int | None = None
    epochs_without_improvement: int = 0

    def after(self, rule: StoppingRule, epoch: int, value: float) -> "Stopping":
        """The state after `epoch` ended with the monitored `value`."""
        if rule.is_better(value, self.best):
            return Stopping(value, epoch, 0)
        return replace(self, epochs_without_improvement=self.epochs_without_improvement + 1)

    def says_stop(self, rule: StoppingRule) -> bool:
        """Whether training should stop."""
        return rule.enabled and self.epochs_without_improvement >= rule.patience
