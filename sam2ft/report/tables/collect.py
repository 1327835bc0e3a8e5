"""Selection of the evaluations that count: those that finished successfully with the weights that a run holds now.

Reading and checking their tables is in tables/parts.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam2ft.core.errors import DataError
from sam2ft.core.tables.rows import TABLES
from sam2ft.metrics.factory import VERSIONS
from sam2ft.report.request import RunState
from sam2ft.runs.evaluation_files import success_of
from sam2ft.runs.layout import EvalLayout
from sam2ft.runs.states import State


@dataclass(frozen=True)
class FoundEvaluation:
    """One evaluation that has a valid `_SUCCESS` file."""

    name: str
    """Readable name of the run."""
    run: str
    eval: str
    layout: EvalLayout
    digests: Mapping[str, str]
    """Table name -> SHA-256 of its CSV, from `_SUCCESS`."""
    remedy: str = ""
    """How to create it again, as text for messages."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Versions of its metrics that are not 1, from `_SUCCESS`."""


@dataclass(frozen=True)
class CollectedEvaluations:
    """Evaluations sorted by run and eval, and the reasons why others were refused."""

    found: tuple[FoundEvaluation, ...]
    refused: Mapping[str, tuple[str, ...]]
    """run_id -> one sentence for each of its evaluations that does not count."""
    notes: tuple[str, ...] = ()


def collect_evaluations(states: Sequence[RunState]) -> CollectedEvaluations:
    """The evaluations of `states` that finished successfully.

    Refused with a reason: evaluations without `_SUCCESS` of a run that is done, with a `_SUCCESS` that sam2ft did not
    write, made with other weights than the run holds now, or of another run; and two copies of one evaluation that
    differ. Two equal copies count once.
    """
    found: dict[tuple[str, str], list[FoundEvaluation]] = defaultdict(list)
    refused: dict[str, list[str]] = defaultdict(list)
    for state in states:
        for eval_id in state.planned.eval_ids:
            try:
                if (one := _found(state, eval_id)) is not None:
                    found[one.run, one.eval].append(one)
            except DataError as error:
                refused[state.planned.run_id].append(f"{state.planned.name}: {error}")
    kept, notes = [], []
    for key in sorted(found):
        same = sorted(found[key], key=lambda one: str(one.layout.folder))
        places = " and ".join(str(one.layout.folder) for one in same)
        if any(one.digests != same[0].digests for one in same):
            refused[key[0]].append(
                f"{same[0].name}: run {key[0]}, evaluation {key[1]} exists with different content: {places}; "
                "not counted"
            )
            continue
        kept += same[:1]
        notes += [f"{same[0].name}: evaluation {key[1]} exists {len(same)} times: {places}"] if same[1:] else []
    return CollectedEvaluations(tuple(kept), {run: tuple(texts) for run, texts in refused.items()}, tuple(notes))


def _found(state: RunState, eval_id: str) -> FoundEvaluation | None:
    """None for an unfinished evaluation of an unfinished run; raises DataError with the reason for a refusal."""
    evaluation = state.evaluation(eval_id)
    if not evaluation.success.is_file():
        if state.state == State.DONE:
            raise DataError(
                f"evaluation {eval_id} did not finish (no {evaluation.success}); not counted; {remedy_text(state)}"
            )
        return None
    remedy = remedy_text(state, evaluation)
    try:
        success = success_of(evaluation)
    except DataError as error:
        raise DataError(f"{error}; not counted; {remedy}") from None
    if (success["run"], success["eval"]) != (state.planned.run_id, eval_id):
        raise DataError(
            f"{evaluation.folder} holds evaluation {success['eval']} of {success['run']}, expected {eval_id} of "
            f"{state.planned.run_id} (copied or renamed?); not counted; {remedy}"
        )
    trained = not state.planned.baseline and state.folder is None
    if trained and success.get("checkpoint_sha256") != (state.status.best_sha256 if state.status else None):
        raise DataError(f"evaluation {eval_id} was made with earlier weights; not counted; {remedy_text(state)}")
    known = {name: digest for name, digest in success["tables"].items() if name in TABLES}
    versions = success.get(VERSIONS, {})
    return FoundEvaluation(state.planned.name, state.planned.run_id, eval_id, evaluation, known, remedy, versions)


def remedy_text(state: RunState, damaged: EvalLayout | None = None) -> str:
    """How to create an evaluation again, as text for messages; the `_SUCCESS` of `damaged` must be removed first."""
    first = f"remove {damaged.success} and " if damaged else ""
    if state.folder is not None:
        return f"{first}evaluate or score again into {state.folder}"
    return f"{first}run launch/sweep.py on the experiment again"
