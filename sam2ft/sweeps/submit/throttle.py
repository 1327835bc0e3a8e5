"""How many elements run at once: one number for an experiment, divided over its arrays; `make throttle` changes it."""

import heapq
import subprocess
from collections.abc import Sequence

from sam2ft.core.errors import UserError
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Stage
from sam2ft.slurm.queue import read_queue
from sam2ft.sweeps.state.slurm_snapshot import submitters
from sam2ft.sweeps.submit.records import records_of

_TRAIN_WEIGHT, _EVAL_WEIGHT = 3.0, 1.0
"""Evaluations that follow trainings are shorter and need fewer places."""
_TIMEOUT_S = 30
_FINE = (": No error", ": Job has already finished")


def shares(total: int, arrays: Sequence[tuple[int, Stage]], *, num_runs: int) -> list[int]:
    """`total` places divided over arrays given as (elements, stage), in proportion to what they have to do.

    Each array gets at least one place (Slurm has no throttle of none) and never more than it has elements; beyond that
    the sum is never more than `total`. The `num_runs` runs behind the arrays are at most that many elements at work,
    because a run's evaluation waits for its training: where they are not more than `total`, nothing is held back.
    """
    if num_runs <= total:
        return [size for size, _ in arrays]
    given = [1 for _ in arrays]
    weights = [size * (_EVAL_WEIGHT if stage == "eval" else _TRAIN_WEIGHT) for size, stage in arrays]
    # Whoever has most left to do per place gets the next one (D'Hondt).
    hungry = [(-weight / 2, position) for position, weight in enumerate(weights) if arrays[position][0] > 1]
    heapq.heapify(hungry)
    for _ in range(total - len(arrays)):
        if not hungry:
            break
        _, position = heapq.heappop(hungry)
        given[position] += 1
        if given[position] < arrays[position][0]:
            heapq.heappush(hungry, (-weights[position] / (given[position] + 1), position))
    return given


def throttle(layout: ExperimentLayout, most: int) -> tuple[str, ...]:
    """Let at most `most` elements of the experiment run at once, over all arrays that are queued or running.

    Returns a sentence per array. What runs already is not stopped. Errors: UserError when `most` is below 1, or when
    Slurm does not answer or refuses.
    """
    if most < 1:
        raise UserError(f"throttle {most}; allowed: 1 or more elements at once")
    queue = read_queue(submitters(layout))
    if queue is None:
        raise UserError("squeue does not answer; the throttle is as it was")
    sizes: dict[str, tuple[int, Stage]] = {}
    in_arrays: set[str] = set()
    alone: set[str] = set()
    for array in (array for record in records_of(layout) for array in record.arrays if array.job is not None):
        live = [run.run_id for position, run in enumerate(array.runs) if array.element(position) in queue]
        if len(array.runs) == 1:
            alone.update(live)
        elif live:
            sizes[str(array.job)] = (len(live), array.stage)
            in_arrays.update(live)
    # A plain job cannot be held back by a throttle: it takes a place.
    places = shares(max(1, most - len(alone)), list(sizes.values()), num_runs=len(in_arrays))
    said = []
    for (job, (left, stage)), share in zip(sizes.items(), places, strict=True):
        _scontrol("update", f"JobId={job}", f"ArrayTaskThrottle={share}")
        said.append(f"array {job} ({stage}, {left} left): {share} at once")
    return tuple(said) or ("no array of this experiment is queued or running",)


def _scontrol(*arguments: str) -> None:
    command = ["scontrol", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"`{' '.join(command)}` does not answer ({error})") from None
    # Elements that have ended are told with an exit code of 1, although the throttle of the others is changed.
    answers = (done.stderr or done.stdout).strip().splitlines()
    if done.returncode and not (answers and all(line.endswith(_FINE) for line in answers)):
        raise UserError(f"`{' '.join(command)}`: {' '.join(answers)}")
