"""Selection of one run by index, name, or the start of its run_id."""

from collections.abc import Sequence

from sam2ft.core.errors import UserError
from sam2ft.runs.plan_file import PlannedRun

_SHOWN = 10


def find_run(runs: Sequence[PlannedRun], text: str) -> PlannedRun:
    """Return the run that `text` names: an index, a name, the start of a run_id or of its hash, or a part of one name.

    Raises:
        UserError: several runs match, which are listed, or none; then the known runs are listed.
    """
    for fits in (_is_index, _is_name, _starts_id, _is_part_of_name):
        found = [run for run in runs if fits(run, text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{text!r} matches {len(found)} runs; give more of it, or the index: {_listed(found)}")
    raise UserError(f"no run {text!r}; known: {_listed(runs)}")


def _is_index(run: PlannedRun, text: str) -> bool:
    return text.isdecimal() and run.index == int(text)


def _is_name(run: PlannedRun, text: str) -> bool:
    return any(point.name == text for point in run.points)


def _starts_id(run: PlannedRun, text: str) -> bool:
    return bool(text) and (run.run_id.startswith(text) or run.run_id.rpartition("-")[2].startswith(text))


def _is_part_of_name(run: PlannedRun, text: str) -> bool:
    return bool(text) and any(text in point.name for point in run.points)


def _listed(runs: Sequence[PlannedRun]) -> str:
    shown = ", ".join(f"{run.index} {run.name}" for run in runs[:_SHOWN])
    return f"{shown}, and {len(runs) - _SHOWN} more" if len(runs) > _SHOWN else shown
