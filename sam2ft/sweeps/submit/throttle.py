"""Throttle: the largest number of array elements that run at once, divided over an experiment's arrays.

`make throttle` changes it.
"""

import heapq
from collections.abc import Sequence

from sam2ft.core.errors import UserError
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Stage
from sam2ft.slurm.answers import run_program
from sam2ft.slurm.queue import read_queue
from sam2ft.sweeps.state.slurm_snapshot import submitters
from sam2ft.sweeps.submit.records import records_of, refuse_untrusted_records

_TRAIN_WEIGHT, _EVAL_WEIGHT = 3.0, 1.0
"""Evaluations are shorter than trainings and need fewer places."""
_FINE = (": No error", ": Job has already finished")


def divided_places(total: int, arrays: Sequence[tuple[int, Stage]], *, num_runs: int) -> list[int]:
    """Divide `total` places over arrays given as (elements, stage), in proportion to their work.

    Each array gets at least one place (Slurm has no throttle of 0) and never more than its number of elements; apart
    from that the sum is at most `total`.

    Args:
        num_runs: number of runs of the arrays. A run's evaluation waits for its training, so at most `num_runs`
            elements run at once; when this is not more than `total`, no array is limited.
    """
    if num_runs <= total:
        return [size for size, _ in arrays]
    given = [1 for _ in arrays]
    weights = [size * (_EVAL_WEIGHT if stage == "eval" else _TRAIN_WEIGHT) for size, stage in arrays]
    # The array with the most work per place gets the next one (D'Hondt method).
    heap = [(-weight / 2, position) for position, weight in enumerate(weights) if arrays[position][0] > 1]
    heapq.heapify(heap)
    for _ in range(total - len(arrays)):
        if not heap:
            break
        _, position = heapq.heappop(heap)
        given[position] += 1
        if given[position] < arrays[position][0]:
            heapq.heappush(heap, (-weights[position] / (given[position] + 1), position))
    return given


def throttle(layout: ExperimentLayout, most: int) -> tuple[str, ...]:
    """Let at most `most` elements of the experiment run at once, over all arrays that are queued or running.

    Elements that already run are not stopped. Returns a sentence per array.

    Raises:
        UserError: `most` is below 1, Slurm does not answer or refuses, or somebody else could have written a record.
    """
    if most < 1:
        raise UserError(f"throttle {most}; allowed: 1 or more elements at once")
    refuse_untrusted_records(layout)
    queue = read_queue(submitters(layout))
    if queue is None:
        raise UserError("squeue does not answer; the throttle is unchanged")
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
    # A throttle has no effect on a plain job, so each takes a place.
    places = divided_places(max(1, most - len(alone)), list(sizes.values()), num_runs=len(in_arrays))
    sentences = []
    for (job, (left, stage)), share in zip(sizes.items(), places, strict=True):
        _scontrol("update", f"JobId={job}", f"ArrayTaskThrottle={share}")
        sentences.append(f"array {job} ({stage}, {left} left): {share} at once")
    return tuple(sentences) or ("no array of this experiment is queued or running",)


def _scontrol(*arguments: str) -> None:
    command = ["scontrol", *arguments]
    done = run_program(command)
    # scontrol ends with 1 when elements have already ended, although it changes the throttle of the others.
    answers = (done.stderr or done.stdout).strip().splitlines()
    if done.returncode and not (answers and all(line.endswith(_FINE) for line in answers)):
        raise UserError(f"`{' '.join(command)}`: {' '.join(answers)}")
