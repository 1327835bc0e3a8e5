"""What a plan costs: steps, hours, requeues, disk. Pure arithmetic; what is not known is None, and a sum says so."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sam2ft.runs.plan_file import Resources

Stage = Literal["train", "eval"]

BYTES_PER_PARAMETER = 4
"""Weights, gradients and optimizer states are kept in float32."""
_COPIES = {"Adagrad": 1, "ASGD": 2, "Adafactor": 1, "Rprop": 2}
_DEFAULT_COPIES = 2


@dataclass(frozen=True)
class TrainingSpeed:
    """How fast trainings of one kind went."""

    step_s: float
    """Seconds per optimizer step."""
    epoch_rest_s: float | None
    """Seconds of an epoch beside its steps: validation; None: no epoch was measured."""
    save_s: float | None = None
    """Seconds that writing a resume file takes."""
    best_bytes: int | None = None
    resume_bytes: int | None = None
    """Size of best.pt and of one resume file."""
    source: str = ""
    """Where this is known from, for people: `2 runs`, `calibration`."""


@dataclass(frozen=True)
class EvaluationSpeed:
    """How fast evaluations of one kind went."""

    slice_s: float
    """Seconds per evaluated slice, metrics and writing included."""
    slice_bytes: float | None = None
    """Stored prediction per slice."""
    source: str = ""


@dataclass(frozen=True)
class Workload:
    """What one run has to do from start to end, as its settings and stores say."""

    steps_per_epoch: int
    num_epochs: int
    eval_slices: int
    """Slices of all its evaluations together."""
    eval_bytes: int
    """Predictions of these, uncompressed."""
    num_parameters: int | None
    """Of the model; None where its initial weights do not say."""
    resume_copies: int
    """Values that a resume file holds per parameter, at most: weights, optimizer states, average."""
    keep: int
    """Resume files that are kept."""


@dataclass(frozen=True)
class Task:
    """One stage of one run that is to be started: what is left of it."""

    stage: Stage
    resources: Resources
    steps: int = 0
    """Optimizer steps left, at most (early stopping may end a training before)."""
    step_s: float | None = None
    seconds: float | None = None
    """Of work left, at most; None: unknown."""
    source: str = ""


@dataclass(frozen=True)
class Amount:
    """A sum of which some terms may be unknown."""

    known: float = 0.0
    num_unknown: int = 0

    @classmethod
    def of(cls, terms: Iterable[float | None]) -> "Amount":
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
    """What the tasks of one stage that ask for the same resources cost together."""

    stage: Stage
    resources: Resources
    num_tasks: int
    step_s: tuple[float, float] | None
    """Smallest and largest of the tasks; None when any is unknown, or for evaluations."""
    steps: tuple[int, int]
    """Smallest and largest number of steps left."""
    gpu_hours: Amount
    cpu_hours: Amount
    requeues: Amount
    sources: tuple[str, ...]
    num_arrays: int


# --- time -------------------------------------------------------------------------------------------------------------


def steps_per_epoch(num_slices: int, *, batch_size: int, world_size: int, grad_accum: int) -> int:
    """Optimizer steps of one epoch; the last group may be smaller and is stepped too (training/accumulation)."""
    return math.ceil(math.ceil(num_slices / (batch_size * world_size)) / grad_accum)


def steps_left(workload: Workload, steps_done: int | None) -> int:
    """Steps from `steps_done` to the last epoch."""
    return max(0, workload.steps_per_epoch * workload.num_epochs - (steps_done or 0))


def training_seconds(workload: Workload, steps: int, speed: TrainingSpeed | None) -> float | None:
    """Seconds for `steps` more steps with a validation after each epoch; None when the speed is not known."""
    if steps == 0:
        return 0.0
    if speed is None or speed.epoch_rest_s is None:
        return None
    return steps * speed.step_s + math.ceil(steps / workload.steps_per_epoch) * speed.epoch_rest_s


def evaluation_seconds(workload: Workload, speed: EvaluationSpeed | None, world_size: int = 1) -> float | None:
    """Seconds to evaluate all slices, which are dealt out to `world_size` processes."""
    return None if speed is None else workload.eval_slices * speed.slice_s / world_size


def gpu_hours(seconds: float | None, resources: Resources) -> float | None:
    """Without GPUs none are used, however long it takes."""
    gpus = resources.nodes * resources.gpus_per_node
    return 0.0 if gpus == 0 else None if seconds is None else seconds / 3600 * gpus


def cpu_hours(seconds: float | None, resources: Resources) -> float | None:
    return None if seconds is None else seconds / 3600 * resources.world_size * resources.cpus_per_task


def requeues(seconds: float | None, limit_hours: float | None, stop_lead_s: float) -> int | None:
    """How often work of `seconds` meets a time limit, of which `stop_lead_s` are left for saving.

    None: unknown, also where the lead leaves nothing to work in. `limit_hours` None: there is no limit.
    """
    if limit_hours is None:
        return 0
    usable_s = limit_hours * 3600 - stop_lead_s
    if seconds is None or usable_s <= 0:
        return None
    return max(0, math.ceil(seconds / usable_s) - 1)


# --- disk -------------------------------------------------------------------------------------------------------------


def optimizer_copies(kind: str, arguments: Mapping[str, Any]) -> int:
    """Values that torch's optimizer `kind` keeps per trained parameter (two, as Adam does, for one not known here)."""
    if kind == "SGD":
        return 1 if arguments.get("momentum") else 0
    if kind == "RMSprop":
        return 1 + bool(arguments.get("momentum")) + bool(arguments.get("centered"))
    return _COPIES.get(kind, _DEFAULT_COPIES) + bool(arguments.get("amsgrad"))


def checkpoint_bytes(workload: Workload, speed: TrainingSpeed | None) -> float | None:
    """best.pt and the resume files of one run: as measured, else at most, as if all parameters were trained."""
    if speed is not None and speed.best_bytes is not None and speed.resume_bytes is not None:
        return float(speed.best_bytes + workload.keep * speed.resume_bytes)
    if workload.num_parameters is None:
        return None
    return float(workload.num_parameters * BYTES_PER_PARAMETER * (1 + workload.keep * workload.resume_copies))


def prediction_bytes(workload: Workload, speed: EvaluationSpeed | None) -> float:
    """Stored predictions of one run: as measured, else at most, as if nothing could be compressed."""
    if speed is not None and speed.slice_bytes is not None:
        return workload.eval_slices * speed.slice_bytes
    return float(workload.eval_bytes)


# --- together ---------------------------------------------------------------------------------------------------------


def class_costs(
    tasks: Sequence[Task], *, limited: bool, stop_lead_s: float, elements_per_array: int | None
) -> tuple[ClassCost, ...]:
    """The tasks by stage and resources, in the order of their first ones.

    `limited`: whether allocations end at the resources' hours (not on this machine). `elements_per_array`: None where
    there are no arrays.
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
