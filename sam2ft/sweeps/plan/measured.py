"""Measured speeds of the runs of an experiment, from status.json, history.csv, and sizes and times of their files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.verified_files import read_sealed_json, tell_damage
from sam2ft.core.errors import DataError
from sam2ft.core.files import listed_files, listed_names
from sam2ft.runs.attempt.claim import LOCAL
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.history import history_if_readable
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import Resources
from sam2ft.runs.resources.timing_key import TargetKind, evaluation_key, training_key
from sam2ft.sweeps.plan.cost import EvaluationSpeed, TrainingSpeed

ENOUGH_RUNS = 5
"""Number of newest runs of one kind that are used; their median does not depend on one slow node."""


@dataclass(frozen=True)
class TimedRun:
    """A run that has written a status, with its experiment and resources."""

    layout: RunLayout
    status: RunStatus
    experiment: Experiment
    evaluations: Mapping[str, Experiment]
    resources: Resources
    eval_resources: Resources

    @property
    def target(self) -> TargetKind:
        """Where it ran: on Slurm or on this machine."""
        return "here" if self.status.attempt.job == LOCAL else "slurm"


@dataclass(frozen=True)
class Speeds:
    """Measured speeds by kind of work: key (runs/resources/timing_key) -> speed."""

    training: Mapping[str, TrainingSpeed] = field(default_factory=dict)
    evaluation: Mapping[str, EvaluationSpeed] = field(default_factory=dict)


def measured(layout: ExperimentLayout, runs: Sequence[TimedRun], slices_of: Callable[[Experiment], int]) -> Speeds:
    """Return the speeds of an experiment, from its runs, else from its calibrations.

    Args:
        slices_of: returns the number of evaluated slices of an experiment.
    """
    newest = sorted(runs, key=lambda run: run.status.heartbeat, reverse=True)
    training: dict[str, list[TrainingSpeed]] = {}
    evaluation: dict[str, list[EvaluationSpeed]] = {}
    for run in newest:
        if run.status.step_s is not None:
            found = training.setdefault(training_key(run.experiment, run.resources, run.target), [])
            if len(found) < ENOUGH_RUNS:
                found.append(_training(run, run.status.step_s))
        for eval_id, experiment in run.evaluations.items():
            slots = evaluation.setdefault(evaluation_key(experiment, eval_id, run.eval_resources, run.target), [])
            if len(slots) < ENOUGH_RUNS and (speed := _evaluation(run, eval_id, slices_of(experiment))) is not None:
                slots.append(speed)
    calibrated = read_calibrations(layout)
    return Speeds(
        {**calibrated.training, **{key: _typical_training(found) for key, found in training.items()}},
        {**calibrated.evaluation, **{key: _typical_evaluation(found) for key, found in evaluation.items() if found}},
    )


# --- runs -------------------------------------------------------------------------------------------------------------


def _training(run: TimedRun, step_s: float) -> TrainingSpeed:
    rows = history_if_readable(run.layout)
    ends = [0.0, *(row["step"] for row in rows)]
    rests = [
        max(0.0, row["seconds"] - (end - begin) * step_s)
        for row, (begin, end) in zip(rows, pairwise(ends), strict=True)
        if "seconds" in row
    ]
    # Listed with their sizes: a running training replaces and removes them.
    files = listed_files(run.layout.checkpoints)
    best = files.get(run.layout.best)
    resume = [stat.st_size for path, stat in files.items() if path.suffix == ".safetensors"]
    return TrainingSpeed(
        step_s=step_s,
        epoch_rest_s=median(rests) if rests else None,
        save_s=run.status.save_s,
        best_bytes=None if best is None else best.st_size,
        resume_bytes=max(resume, default=None),
    )


def _evaluation(run: TimedRun, eval_id: str, num_slices: int) -> EvaluationSpeed | None:
    """Speed from the times at which a finished evaluation wrote its volumes; None with fewer than two volumes."""
    layout = run.layout.evaluation(eval_id)
    if not layout.success.is_file():
        return None
    predictions = layout.folder / "predictions"
    stats = [
        stat for name in listed_names(predictions) for stat in listed_files(predictions / name, "*.nii.gz").values()
    ]
    gaps = [later - earlier for earlier, later in pairwise(sorted(stat.st_mtime for stat in stats))]
    if not gaps or not num_slices:
        return None
    # The median ignores the pause of an interrupted evaluation. Ranks write at the same time: seconds per process.
    seconds = median(gaps) * len(stats) * run.eval_resources.world_size
    return EvaluationSpeed(seconds / num_slices, sum(stat.st_size for stat in stats) / num_slices)


def _typical_training(found: Sequence[TrainingSpeed]) -> TrainingSpeed:
    return TrainingSpeed(
        step_s=median(speed.step_s for speed in found),
        epoch_rest_s=_median([speed.epoch_rest_s for speed in found]),
        save_s=_median([speed.save_s for speed in found]),
        best_bytes=max((speed.best_bytes for speed in found if speed.best_bytes is not None), default=None),
        resume_bytes=max((speed.resume_bytes for speed in found if speed.resume_bytes is not None), default=None),
        source=_runs(len(found)),
    )


def _typical_evaluation(found: Sequence[EvaluationSpeed]) -> EvaluationSpeed:
    return EvaluationSpeed(
        slice_s=median(speed.slice_s for speed in found),
        slice_bytes=_median([speed.slice_bytes for speed in found]),
        source=_runs(len(found)),
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


# --- calibrations -----------------------------------------------------------------------------------------------------


def read_calibrations(layout: ExperimentLayout) -> Speeds:
    """Read the speeds that `--calibrate` measured; one that cannot be read is left out, with a note."""
    training: dict[str, TrainingSpeed] = {}
    evaluation: dict[str, EvaluationSpeed] = {}
    for path in listed_files(layout.calibrations, "*.json"):
        if path.stem.endswith(".task"):
            continue
        try:
            value = read_sealed_json(path)
            if value["stage"] == "train":
                training[path.stem] = TrainingSpeed(**value["measured"], source="calibration")
            else:
                evaluation[path.stem] = EvaluationSpeed(**value["measured"], source="calibration")
        except (DataError, KeyError, TypeError) as error:
            reason = error if isinstance(error, DataError) else f"{path}: not a calibration ({error})"
            tell_damage(f"{reason}; not used, `--calibrate` measures it again")
    return Speeds(training, evaluation)
