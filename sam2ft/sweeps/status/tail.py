"""Tail of a run's newest log file, optionally followed (`status.py EXP tail RUN`)."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.runs.attempt.status import SILENCE_S, status_if_readable
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedRun, newest_plan
from sam2ft.sweeps.state.collect import experiment_layout
from sam2ft.sweeps.state.logs import last_lines, newest_log
from sam2ft.sweeps.status.select_run import find_run
from sam2ft.sweeps.submit.records import elements_of

TAIL_LINES = 20
_POLL_S = 1.0


def show_tail(path: Path, text: str, *, lines: int = TAIL_LINES, follow: bool = False) -> int:
    """Print the end of a run's newest log to stdout and its path to stderr; returns the exit code.

    Raises:
        DataError: the run has no log yet.
    """
    layout = experiment_layout(path)
    run = find_run(newest_plan(layout).runs, text)
    log = _log_of(layout, run)
    if log is None:
        raise DataError(f"{run.name}: no log yet in {layout.run(run.run_id).logs}; `why` shows what it waits for")
    print(log, file=sys.stderr, flush=True)
    for line in last_lines(log, lines):
        print(line)
    sys.stdout.flush()
    if follow:
        _follow(layout, run, log, lambda: time.sleep(_POLL_S))
    return 0


def _log_of(layout: ExperimentLayout, run: PlannedRun) -> Path | None:
    return newest_log(layout, run.run_id, elements_of(layout).get(run.run_id, ()))


def _follow(layout: ExperimentLayout, run: PlannedRun, log: Path, wait: Callable[[], None]) -> None:
    """Print lines that are added, also by later attempts, until the run is no longer active."""
    position = log.stat().st_size
    while True:
        active = _is_active(layout, run)
        with log.open("rb") as stream:
            stream.seek(position)
            added = stream.read()
        position += len(added)
        sys.stdout.write(added.decode("utf-8", errors="replace"))
        sys.stdout.flush()
        newer = _log_of(layout, run)
        if newer is not None and newer != log:
            log, position = newer, 0
            print(log, file=sys.stderr, flush=True)
        elif not active:
            return
        wait()


def _is_active(layout: ExperimentLayout, run: PlannedRun) -> bool:
    status = status_if_readable(layout.run(run.run_id))
    return status is not None and status.state.active and status.silence_s() < SILENCE_S
