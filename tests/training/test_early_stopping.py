import math
from typing import Any

import pytest

from sam2ft.config.schema.optimizer import EarlyStopping
from sam2ft.training.early_stopping import Stopping


def patient(**keys: Any) -> EarlyStopping:
    return EarlyStopping(**{"min_delta": 0.0, **keys})


def run(rule: EarlyStopping, *values: float) -> tuple[Stopping, int]:
    """(memory, epochs trained) when epochs end with `values`."""
    stopping = Stopping()
    for epoch, value in enumerate(values):
        if stopping.says_stop(rule):
            return stopping, epoch
        stopping = stopping.after(rule, epoch, value)
    return stopping, len(values)


def test_training_stops_after_patience_epochs_without_improvement() -> None:
    rule = patient(patience=2)
    assert run(rule, 1.0, 0.9, 0.95, 0.91, 0.5) == (Stopping(0.9, 1, 2), 4)


def test_an_improvement_starts_the_count_anew() -> None:
    rule = patient(patience=2)
    assert run(rule, 1.0, 1.1, 0.9, 1.0, 0.8, 0.9) == (Stopping(0.8, 4, 1), 6)


def test_a_gain_of_min_delta_is_not_enough_and_more_is() -> None:
    rule = patient(patience=1, min_delta=0.25)
    assert run(rule, 1.0, 0.75)[0].best_epoch == 0
    assert run(rule, 1.0, 0.5)[0].best_epoch == 1


def test_small_gains_below_min_delta_do_not_move_the_best_that_they_are_compared_with() -> None:
    rule = patient(patience=3, min_delta=0.25)
    assert run(rule, 1.0, 0.875, 0.75, 0.625)[0] == Stopping(0.625, 3, 0)


@pytest.mark.parametrize(("mode", "best"), [("min", 0), ("max", 2)])
def test_mode_says_which_way_is_better(mode: str, best: int) -> None:
    rule = patient(mode=mode, monitor={"min": "val_loss", "max": "val_dice"}[mode], patience=9)
    assert run(rule, 0.1, 0.2, 0.3)[0].best_epoch == best


def test_disabled_never_stops_but_still_knows_the_best_epoch() -> None:
    rule = patient(enabled=False, patience=1)
    assert run(rule, 0.5, 0.6, 0.7, 0.8) == (Stopping(0.5, 0, 3), 4)


def test_nan_is_never_an_improvement() -> None:
    rule = patient(patience=2)
    assert run(rule, math.nan, math.nan, 0.1) == (Stopping(None, None, 2), 2)
    assert run(rule, 0.5, math.nan, 0.4) == (Stopping(0.4, 2, 0), 3)
