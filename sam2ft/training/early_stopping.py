"""Which epoch is the best so far, and whether to go on. No torch, no state of its own."""

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class StoppingRule:
    """`early_stopping:` of the experiment. The best epoch is chosen by it whether or not it may stop the run."""

    enabled: bool = True
    monitor: str = "val_loss"
    """Any value that EpochDone carries."""
    mode: Literal["min", "max"] = "min"
    patience: int = 10
    """Epochs in a row without improvement after which training stops."""
    min_delta: float = 0.0
    """A value counts as better only if it beats the best by more than this."""

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether `value` improves on `best` (None: nothing yet). NaN never does."""
        if math.isnan(value):
            return False
        if best is None:
            return True
        return value + self.min_delta < best if self.mode == "min" else value - self.min_delta > best


@dataclass(frozen=True)
class Stopping:
    """What the rule remembers between epochs."""

    best: float | None = None
    best_epoch: int | None = None
    epochs_without_improvement: int = 0

    def after(self, rule: StoppingRule, epoch: int, value: float) -> "Stopping":
        """The memory after `epoch` ended with `value`."""
        if rule.is_better(value, self.best):
            return Stopping(value, epoch, 0)
        return replace(self, epochs_without_improvement=self.epochs_without_improvement + 1)

    def says_stop(self, rule: StoppingRule) -> bool:
        return rule.enabled and self.epochs_without_improvement >= rule.patience
