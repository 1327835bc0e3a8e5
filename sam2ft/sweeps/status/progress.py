"""Progress display of the local pool on stderr: a live table on a terminal, otherwise a line per change."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from sam2ft.core.errors import DataError
from sam2ft.runs.attempt.status import RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun
from sam2ft.runs.states import State
from sam2ft.sweeps.state.collect import reconciled_runs_of
from sam2ft.sweeps.state.slurm_snapshot import snapshot_of
from sam2ft.sweeps.status.table import status_page, status_rows

_REFRESH_S = 1.0

OnPoll = Callable[[Sequence[str]], None]


@contextmanager
def progress(layout: ExperimentLayout, plan: Plan, runs: Sequence[PlannedRun]) -> Iterator[OnPoll]:
    """Yield the function that the pool calls while it runs; it shows the progress of the runs on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(layout, runs).show
        return
    # Slurm is read once: local runs are followed by their heartbeats.
    snapshot = snapshot_of(layout)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        shown_at, wait_s = -_REFRESH_S, _REFRESH_S

        def show(_running: Sequence[str]) -> None:
            nonlocal shown_at, wait_s
            if (started := time.monotonic()) - shown_at < wait_s:
                return
            rows = status_rows(layout, reconciled_runs_of(layout, plan, snapshot), snapshot)
            live.update(status_page(rows, rows, snapshot), refresh=True)
            shown_at = time.monotonic()
            # With thousands of runs a refresh takes seconds, during which the pool waits.
            wait_s = max(_REFRESH_S, 10 * (shown_at - started))

        yield show


class _Lines:
    """One line on stderr whenever a run changes its state or ends an epoch."""

    def __init__(self, layout: ExperimentLayout, runs: Sequence[PlannedRun]):
        self._layout = layout
        self._runs: Mapping[str, PlannedRun] = {run.run_id: run for run in runs}
        # The last status of an earlier attempt is not shown again.
        self._shown: dict[str, str] = {run.run_id: self._text(run.run_id) for run in runs}
        self._looked: set[str] = set()
        self._last_s = -_REFRESH_S

    def show(self, running: Sequence[str]) -> None:
        """Print changes. `running`: run_ids that run now; runs that have ended are read once more."""
        if running and time.monotonic() - self._last_s < _REFRESH_S:
            return
        self._last_s = time.monotonic()
        self._looked.update(running)
        for run_id in sorted(self._looked, key=list(self._runs).index):
            text = self._text(run_id)
            if text and self._shown.get(run_id) != text:
                self._shown[run_id] = text
                print(f"{self._runs[run_id].name}: {text}", file=sys.stderr, flush=True)

    def _text(self, run_id: str) -> str:
        try:
            status = read_status(self._layout.run(run_id))
        except DataError as error:
            # The problem of one run; raised, it would stop all others.
            return str(error)
        return "" if status is None else status_text(status)


def status_text(status: RunStatus) -> str:
    """Return a status as text: `training, epoch 3/12, best val_loss 0.1234`."""
    parts: list[str] = [status.state]
    if status.epoch is not None and status.state is State.TRAINING:
        parts.append(f"epoch {status.epoch + 1}" + (f"/{status.num_epochs}" if status.num_epochs else ""))
        if status.best_value is not None:
            parts.append(f"best {status.monitor} {status.best_value:.4f}")
    if status.state in (State.STOPPED, State.FAILED):
        return f"{status.state}: {status.reason}" if status.reason else status.state
    return ", ".join(parts)
