"""Selection of one run by index, name, or the start of its run_id."""

from collections.abc import Callable, Sequence

from sam2ft.core.errors import UserError, listed
from sam2ft.runs.plan_file import PlannedRun

_SHOWN = 10


def find_run(runs: Sequence[PlannedRun], text: str) -> PlannedRun:
    """Return the run that `text` names: an index, a name, the start of a run_id or of its hash, or a part of one name.

    Raises:
        UserError: several runs match, which are listed, or none; then the known runs are listed.
    """
    index = int(text) if text.isdecimal() else None
    ways: tuple[Callable[[PlannedRun], bool], ...] = (
        lambda run: run.index == index,
        lambda run: any(point.name == text for point in run.points),
        lambda run: run.run_id.startswith(text) or run.run_id.rpartition("-")[2].startswith(text),
        lambda run: any(text in point.name for point in run.points),
    )
    for fits in ways if text else ways[:2]:
        found = [run for run in runs if fits(run)]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{text!r} matches {len(found)} runs; give more of it, or the index: {_listed(found)}")
    raise UserError(f"no run {text!r}; known: {_listed(runs)}")


def _listed(runs: Sequence[PlannedRun]) -> str:
    return listed([f"{run.index} {run.name}" for run in runs], _SHOWN)
