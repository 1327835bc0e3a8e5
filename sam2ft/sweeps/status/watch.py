"""Watch mode of the status table (`--watch`), with a cache that limits how often Slurm is asked."""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live

from sam2ft.runs.plan_file import newest_plan
from sam2ft.sweeps.state.collect import experiment_layout
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot, snapshot_of
from sam2ft.sweeps.status.table import footer, reconciled_rows, status_page

LEAST_S, MOST_S = 10.0, 120.0
"""Seconds between two queries of Slurm: at least 10 s, up to 2 minutes while nothing changes."""
_GROWTH = 1.5
_SHARE = 0.05
"""A slow Slurm is asked rarely: its answers take no more than this share of the time."""


@dataclass
class SnapshotCache:
    """Cache of the newest snapshot of Slurm, which is read again after a waiting time."""

    ask: Callable[[], SlurmSnapshot]
    clock: Callable[[], float] = time.monotonic
    _seen: SlurmSnapshot | None = None
    _asked_at: float = 0.0
    _wait_s: float = LEAST_S

    def look(self) -> SlurmSnapshot:
        """Return the newest snapshot; reads Slurm again when the waiting time is over."""
        if self._seen is None or self.clock() - self._asked_at >= self._wait_s:
            started = self.clock()
            new = self.ask()
            took = self.clock() - started
            same = self._seen is not None and new.queue == self._seen.queue
            wait_s = self._wait_s * _GROWTH if same else LEAST_S
            self._wait_s = min(MOST_S, max(LEAST_S, wait_s, took / _SHARE))
            self._asked_at, self._seen = self.clock(), new
        return self._seen


def watch(path: Path, every_s: float, *, only_failed: bool = False) -> int:
    """Show the table until no run is running or queued: in place on a terminal, otherwise a line per change."""
    layout = experiment_layout(path)
    cache, told = SnapshotCache(lambda: snapshot_of(layout)), ""
    with Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else nullcontext() as live:
        while True:
            plan, snapshot = newest_plan(layout), cache.look()
            rows = reconciled_rows(layout, plan, snapshot)
            if live is not None:
                shown = [row for row in rows if row["state"].bad] if only_failed else rows
                live.update(status_page(shown, rows, snapshot), refresh=True)
            elif (text := footer(rows, snapshot)) != told:
                told = text
                print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
            if not any(row["state"].live for row in rows):
                return 0
            time.sleep(every_s)
