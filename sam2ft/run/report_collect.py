"""Which evaluations count: those that ended well, with the tables that they wrote, of the weights that a run holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam2ft.core.files import read_json, sha256_file
from sam2ft.core.layout import EvalLayout
from sam2ft.run.report_state import RunState


@dataclass(frozen=True)
class Found:
    """One evaluation that counts."""

    run: str
    eval: str
    layout: EvalLayout


@dataclass(frozen=True)
class Counted:
    """Evaluations that count, sorted by run and eval, and why others do not."""

    found: tuple[Found, ...]
    problems: tuple[str, ...]


def collect(states: Sequence[RunState]) -> Counted:
    """The evaluations of `states` that count."""
    found, problems = [], []
    for state in states:
        for eval_id in state.planned.eval_ids:
            evaluation = state.layout.evaluation(eval_id)
            if not evaluation.success.is_file():
                continue
            success = read_json(evaluation.success)
            if not state.planned.baseline and success["checkpoint_sha256"] != _best_sha256(state):
                problems.append(
                    f"{state.planned.name}: evaluation {eval_id} was made with earlier weights; not counted"
                )
            elif changed := _changed_tables(evaluation, success["tables"]):
                problems.append(
                    f"{state.planned.name}: {changed} is not what the evaluation wrote; not counted; "
                    f"remove {evaluation.success} and sweep again"
                )
            else:
                found.append(Found(state.layout.run_id, eval_id, evaluation))
    return Counted(tuple(sorted(found, key=lambda one: (one.run, one.eval))), tuple(problems))


def _best_sha256(state: RunState) -> str | None:
    return state.status.best_sha256 if state.status else None


def _changed_tables(evaluation: EvalLayout, digests: Mapping[str, str]) -> str:
    changed = [name for name, digest in digests.items() if _digest(evaluation, name) != digest]
    return ", ".join(f"{name}.csv" for name in changed)


def _digest(evaluation: EvalLayout, name: str) -> str:
    path = evaluation.table(name)
    return sha256_file(path) if path.is_file() else "missing"
