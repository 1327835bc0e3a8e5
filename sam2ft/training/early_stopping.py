"""Early stopping and selection of the best epoch (patience, monitored value). No torch, no side effects."""

import math
from dataclasses import dataclass, replace

from sam2ft.config.schema.optimizer import EarlyStopping


def is_better(rule: EarlyStopping, value: float, best: float | None) -> bool:
    """Whether `value` improves on `best` (None: no best value yet) by more than min_delta. NaN never does."""
    if math.isnan(value):
        return False
    if best is None:
        return True
    return value + rule.min_delta < best if rule.mode == "min" else value - rule.min_delta > best


@dataclass(frozen=True)
class Stopping:
    """State of early stopping between epochs; the best epoch is selected even when early stopping is disabled."""

    best: float | None = None
    best_epoch: int | None = None
    epochs_without_improvement: int = 0

    def after(self, rule: EarlyStopping, epoch: int, value: float) -> "Stopping":
        """The state after `epoch` ended with the monitored `value`."""
        if is_better(rule, value, self.best):
            return Stopping(value, epoch, 0)
        return replace(self, epochs_without_improvement=self.epochs_without_improvement + 1)

    def says_stop(self, rule: EarlyStopping) -> bool:
        """Whether training should stop."""
        return rule.enabled and self.epochs_without_improvement >= rule.patience
