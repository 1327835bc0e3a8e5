"""Stale code: runs that were made with a different version of the code. They are only reported."""

from collections.abc import Mapping, Sequence
from typing import Any

from sam2ft.core.digests.verified_files import tell_damage
from sam2ft.core.errors import DataError, listed
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.provenance import code_version, recorded_attempts
from sam2ft.runs.states import State
from sam2ft.sweeps.state.reconcile import ReconciledRun

_SHOWN = 4


def stale_runs(layout: ExperimentLayout, reconciled_runs: Sequence[ReconciledRun]) -> tuple[str, ...]:
    """Return the names of done and running runs of which any attempt ran with different code."""
    now = code_version()
    return tuple(
        reconciled.run.name
        for reconciled in reconciled_runs
        if reconciled.state in (State.DONE, State.RUNNING)
        and any(is_other(code, now) for code in recorded_code(layout.run(reconciled.run.run_id)))
    )


def stale_note(names: Sequence[str]) -> str:
    """Return a sentence about runs with stale code; empty when there are none."""
    if not names:
        return ""
    runs, which = "1 run was" if len(names) == 1 else f"{len(names)} runs were", listed(names, _SHOWN)
    return f"stale code: {runs} made with different code ({which}); kept unless --force or --strict-code"


def recorded_code(layout: RunLayout) -> list[Mapping[str, Any]]:
    """Return the code version of every attempt; empty where none was recorded, or, with a note, not readable."""
    try:
        return [attempt["code"] for attempt in recorded_attempts(layout)]
    except DataError as error:
        tell_damage(f"{error}; which code made this run is not known")
        return []


def is_other(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two code versions are known to differ."""
    if "digest" in then:
        return bool(then["digest"] != now["digest"])
    # Recorded by a version without digests: a checkout with local changes has no known version.
    known = then["commit"] is not None and now["commit"] is not None and not then["modified"] and not now["modified"]
    return known and then["commit"] != now["commit"]
