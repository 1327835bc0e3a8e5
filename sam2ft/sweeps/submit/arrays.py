"""Slurm job arrays of a submission: one per stage, resource class and chunk, in the order of the sbatch calls. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sam2ft.core.files import sha256_text
from sam2ft.runs.plan_file import PlannedRun, Resources, Stage
from sam2ft.slurm.partitions import ArrayLimits
from sam2ft.sweeps.submit.records import Record, RecordedArray
from sam2ft.sweeps.submit.throttle import divided_places
from sam2ft.sweeps.submit.wanted_jobs import WantedJobs


@dataclass(frozen=True)
class JobArray:
    """Runs that request the same resources; element k of the Slurm array is `runs[k]`. One run is a plain job."""

    stage: Stage
    resources: Resources
    runs: tuple[PlannedRun, ...]
    follows: int | None = None
    """Position, in the same submission, of the training array; each element waits for its own training."""
    depends: str = ""
    """Dependency on jobs of earlier submissions, as for `sbatch --dependency`."""
    parallel: int = 1
    """Largest number of elements that run at once."""

    def dependency(self, training: str | None) -> str:
        """Return the value of `sbatch --dependency`; `training` is the job id of the training array that it follows."""
        if self.follows is None:
            return self.depends
        # After a plain job aftercorr has the same effect, but only because of how Slurm is implemented.
        return f"{'aftercorr' if len(self.runs) > 1 else 'afterok'}:{training}"


def arrays_of(
    wanted: Sequence[WantedJobs], earlier: Sequence[Record], limits: ArrayLimits, max_parallel: int
) -> tuple[JobArray, ...]:
    """Return the arrays of one submission: each chunk of trainings followed by its evaluations, then other evaluations.

    Args:
        earlier: records of the jobs that evaluations may wait for.
        max_parallel: largest number of elements that run at once over all arrays; each array may run at least one.
    """
    most = max(1, limits.elements)
    arrays: list[JobArray] = []
    classes: dict[tuple[Resources, Resources], list[PlannedRun]] = {}
    for entry in wanted:
        if entry.train:
            classes.setdefault((entry.run.resources, entry.run.eval_resources), []).append(entry.run)
    for (resources, eval_resources), runs in classes.items():
        for chunk in _chunks(runs, most):
            # The same runs at the same positions, because aftercorr pairs elements by their index.
            arrays.append(JobArray("train", resources, chunk))
            arrays.append(JobArray("eval", eval_resources, chunk, follows=len(arrays) - 1))
    arrays += _evaluations([entry for entry in wanted if not entry.train], earlier, most)
    sizes = [(len(array.runs), array.stage) for array in arrays]
    parallel = divided_places(max_parallel, sizes, num_runs=len(wanted))
    return tuple(replace(array, parallel=share) for array, share in zip(arrays, parallel, strict=True))


def _evaluations(wanted: Sequence[WantedJobs], earlier: Sequence[Record], most: int) -> list[JobArray]:
    """Arrays of evaluations without a training; those with the same dependency, or with none, share arrays."""
    known = {array.job: array for record in earlier for array in record.arrays if array.job is not None}
    paired = _paired(wanted, known)
    groups: dict[tuple[str, Resources], list[PlannedRun]] = {}
    for entry in wanted:
        depends = paired.get(entry.run.run_id) or _depends(entry, known)
        groups.setdefault((depends, entry.run.eval_resources), []).append(entry.run)
    return [
        JobArray("eval", resources, chunk, depends=depends)
        for (depends, resources), runs in groups.items()
        for chunk in _chunks(runs, most)
    ]


def _paired(wanted: Sequence[WantedJobs], known: Mapping[str, RecordedArray]) -> dict[str, str]:
    """run_id -> `aftercorr:A` where evaluations wait for all elements of a training array A, in their order."""
    followers: dict[str, list[tuple[int, PlannedRun]]] = {}
    for entry in wanted:
        if len(entry.after) == 1 and "_" in entry.after[0] and _stage(entry.after[0], known) != "eval":
            array, _, position = entry.after[0].partition("_")
            followers.setdefault(array, []).append((int(position), entry.run))
    paired: dict[str, str] = {}
    for array, found in followers.items():
        whole = [position for position, _ in found] == list(range(len(known[array].runs)))
        if whole and len({run.eval_resources for _, run in found}) == 1:
            paired |= {run.run_id: f"aftercorr:{array}" for _, run in found}
    return paired


def _depends(entry: WantedJobs, known: Mapping[str, RecordedArray]) -> str:
    trainings = [job for job in entry.after if _stage(job, known) != "eval"]
    evaluations = [job for job in entry.after if _stage(job, known) == "eval"]
    parts = [f"afterok:{':'.join(trainings)}"] if trainings else []
    # Only one process may write a run: another evaluation of it has to end first, successfully or not.
    return ",".join([*parts, f"afterany:{':'.join(evaluations)}"] if evaluations else parts)


def _stage(job: str, known: Mapping[str, RecordedArray]) -> Stage:
    return known[job.partition("_")[0]].stage


def _chunks(runs: Sequence[PlannedRun], most: int) -> list[tuple[PlannedRun, ...]]:
    return [tuple(runs[start : start + most]) for start in range(0, len(runs), most)]


def name_prefix(experiment: str, folder: str, number: int, token: str) -> str:
    """Return the unique start of the names of all jobs of one submission.

    Args:
        folder: folder of the experiment, absolute; makes names unique over working directories and experiments.
        token: random text of the submission, for a folder that was removed and created again while jobs were queued.
    """
    # Commas and blanks would separate names for squeue; the accounting stores a name in a column of 255 bytes.
    readable = re.sub(r"[^A-Za-z0-9_.-]", "-", experiment)[:60]
    return f"s2ft-{readable}-{sha256_text(folder)[:8]}-{number}-{token}"
