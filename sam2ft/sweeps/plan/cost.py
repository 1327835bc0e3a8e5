"""Cost of a plan: optimizer steps, GPU-hours, requeues, disk space. Pure arithmetic.

Unknown values are None, and a sum counts its unknown terms.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sam2ft.runs.plan_file import Resources

Stage = Literal["train", "eval"]

BYTES_PER_PARAMETER = 4
"""Weights, gradients and optimizer states are kept in float32."""


@dataclass(frozen=True)
class TrainingSpeed:
    """Measured speed of trainings of one kind."""

    step_s: float
    """Seconds per optimizer step."""
    epoch_rest_s: float | None
    """Seconds of an epoch without its steps (validation); None: no epoch was measured."""
    save_s: float | None = None
    """Seconds to write a resume file."""
    best_bytes: int | None = None
    resume_bytes: int | None = None
    """Size of best.pt and of one resume file."""
    source: str = ""
    """Origin of the values, as text: `2 runs`, `calibration`."""


@dataclass(frozen=True)
class EvaluationSpeed:
    """Measured speed of evaluations of one kind."""

    slice_s: float
    """Seconds per evaluated slice, metrics and writing included."""
    slice_bytes: float | None = None
    """Bytes of the stored prediction per slice."""
    source: str = ""


@dataclass(frozen=True)
class Workload:
    """Work of one run from start to end, from its settings and stores."""

    steps_per_epoch: int
    num_epochs: int
    eval_slices: int
    """Slices of all its evaluations."""
    eval_bytes: int
    """Bytes of the predictions of these slices, uncompressed."""
    num_parameters: int | None
    """Parameters of the model; None when there is no file of initial weights."""
    resume_copies: int
    """Largest number of values per parameter in a resume file: weights, optimizer states, average."""
    keep: int
    """Number of resume files that are kept."""


@dataclass(frozen=True)
class Task:
    """Remaining work of one stage of one run that is to be started."""

    stage: Stage
    resources: Resources
    steps: int = 0
    """Largest number of remaining optimizer steps (early stopping may end a training before)."""
    step_s: float | None = None
    seconds: float | None = None
    """Largest remaining time; None: unknown."""
    source: str = ""


@dataclass(frozen=True)
class Amount:
    """A sum in which terms may be unknown."""

    known: float = 0.0
    num_unknown: int = 0

    @classmethod
    def of(cls, terms: Iterable[float | None]) -> "Amount":
        """Return the sum of `terms`; None is an unknown term."""
        listed = list(terms)
        return cls(sum(term for term in listed if term is not None), sum(term is None for term in listed))

    @property
    def total(self) -> float | None:
        """The sum, or None when a term is unknown."""
        return None if self.num_unknown else self.known

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.known + other.known, self.num_unknown + other.num_unknown)


@dataclass(frozen=True)
class ClassCost:
    """Total cost of the tasks of one stage with the same resources."""

    stage: Stage
    resources: Resources
    num_tasks: int
    step_s: tuple[float, float] | None
    """Smallest and largest seconds per step of the tasks; None when any is unknown, or for evaluations."""
    steps: tuple[int, int]
    """Smallest and largest number of remaining steps."""
    gpu_hours: Amount
    cpu_hours: Amount
    requeues: Amount
    sources: tuple[str, ...]
    num_arrays: int


# --- time -------------------------------------------------------------------------------------------------------------


def steps_per_epoch(num_slices: int, *, batch_size: int, world_size: int, grad_accum: int) -> int:
    """Return the optimizer steps of one epoch; a smaller last group is a step too (training/accumulation)."""
    return math.ceil(math.ceil(num_slices / (batch_size * world_size)) / grad_accum)


def steps_left(workload: Workload, steps_done: int | None) -> int:
    """Return the number of steps from `steps_done` to the end of the last epoch."""
    return max(0, workload.steps_per_epoch * workload.num_epochs - (steps_done or 0))


def training_seconds(workload: Workload, steps: int, speed: TrainingSpeed | None) -> float | None:
    """Return the seconds for `steps` more steps with a validation after each epoch; None when the speed is unknown."""
    if steps == 0:
        return 0.0
    if speed is None or speed.epoch_rest_s is None:
        return None
    return steps * speed.step_s + math.ceil(steps / workload.steps_per_epoch) * speed.epoch_rest_s


def evaluation_seconds(workload: Workload, speed: EvaluationSpeed | None, world_size: int = 1) -> float | None:
    """Return the seconds to evaluate all slices, which are divided between `world_size` processes."""
    return None if speed is None else workload.eval_slices * speed.slice_s / world_size


def gpu_hours(seconds: float | None, resources: Resources) -> float | None:
    """Return seconds x GPUs in hours; 0 without GPUs, also when the time is unknown."""
    gpus = resources.nodes * resources.gpus_per_node
    return 0.0 if gpus == 0 else None if seconds is None else seconds / 3600 * gpus


def cpu_hours(seconds: float | None, resources: Resources) -> float | None:
    """Return seconds x cores of all processes in hours; None when the time is unknown."""
    return None if seconds is None else seconds / 3600 * resources.world_size * resources.cpus_per_task


def requeues(seconds: float | None, limit_hours: float | None, stop_lead_s: float) -> int | None:
    """Return how often work of `seconds` reaches its time limit; None when unknown.

    Args:
        limit_hours: time limit of one allocation; None: no limit.
        stop_lead_s: seconds of each allocation that are reserved for saving. The result is also None when no time for
            work remains.
    """
    if limit_hours is None:
        return 0
    usable_s = limit_hours * 3600 - stop_lead_s
    if seconds is None or usable_s <= 0:
        return None
    return max(0, math.ceil(seconds / usable_s) - 1)


# --- disk -------------------------------------------------------------------------------------------------------------


def checkpoint_bytes(workload: Workload, speed: TrainingSpeed | None) -> float | None:
    """Return the bytes of best.pt and the resume files of one run; None when unknown.

    Measured sizes are used where they exist; otherwise an upper bound, as if all parameters were trained.
    """
    if speed is not None and speed.best_bytes is not None and speed.resume_bytes is not None:
        return float(speed.best_bytes + workload.keep * speed.resume_bytes)
    if workload.num_parameters is None:
        return None
    return float(workload.num_parameters * BYTES_PER_PARAMETER * (1 + workload.keep * workload.resume_copies))


def prediction_bytes(workload: Workload, speed: EvaluationSpeed | None) -> float:
    """Return the bytes of the stored predictions of one run: measured, else the uncompressed size."""
    if speed is not None and speed.slice_bytes is not None:
        return workload.eval_slices * speed.slice_bytes
    return float(workload.eval_bytes)


# --- sums by stage and resources --------------------------------------------------------------------------------------


def class_costs(
    tasks: Sequence[Task], *, limited: bool, stop_lead_s: float, elements_per_array: int | None
) -> tuple[ClassCost, ...]:
    """Sum the cost of the tasks by stage and resources, in the order of the first task of each.

    Args:
        limited: whether an allocation ends at the resources' hours (not the case on this machine).
        elements_per_array: largest size of a job array; None where there are no arrays.
    """
    groups: dict[tuple[Stage, Resources], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.stage, task.resources), []).append(task)
    return tuple(
        ClassCost(
            stage=stage,
            resources=resources,
            num_tasks=len(members),
            step_s=_range([task.step_s for task in members]) if stage == "train" else None,
            steps=(min(task.steps for task in members), max(task.steps for task in members)),
            gpu_hours=Amount.of(gpu_hours(task.seconds, resources) for task in members),
            cpu_hours=Amount.of(cpu_hours(task.seconds, resources) for task in members),
            requeues=Amount.of(
                requeues(task.seconds, resources.hours if limited else None, stop_lead_s) for task in members
            ),
            sources=tuple(dict.fromkeys(task.source for task in members if task.source)),
            num_arrays=0 if elements_per_array is None else math.ceil(len(members) / elements_per_array),
        )
        for (stage, resources), members in groups.items()
    )


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known and len(known) == len(values) else None
