"""Cost estimate of a sweep before it starts: time and disk estimated from earlier runs, and check of Slurm limits."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.jobs.preflight.preflight import ResolvedRun, ResolvedSweep
from sam2ft.runs.attempt.status import is_trained
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import PlannedRun, Resources
from sam2ft.runs.resources.timing_key import TargetKind, evaluation_key, training_key
from sam2ft.slurm.batch_script import report_resources
from sam2ft.slurm.limits import SbatchAnswer, limit_problems, try_submission
from sam2ft.slurm.partitions import ClusterLimits
from sam2ft.slurm.site import Site
from sam2ft.sweeps.plan.cost import (
    Amount,
    ClassCost,
    EvaluationSpeed,
    Stage,
    Task,
    TrainingSpeed,
    Workload,
    checkpoint_bytes,
    class_costs,
    evaluation_seconds,
    prediction_bytes,
    steps_left,
    training_seconds,
)
from sam2ft.sweeps.plan.gpu_memory import MemoryCheck, check_memory
from sam2ft.sweeps.plan.measured import Speeds, TimedRun, measured
from sam2ft.sweeps.plan.workload import Workloads
from sam2ft.sweeps.state.reconcile import ReconciledRun


@dataclass(frozen=True)
class SweepTarget:
    """Place where a sweep would run: a Slurm site, or this machine."""

    site: Site | None
    """None: this machine."""
    limits: ClusterLimits | None
    """None where no Slurm answers."""
    gpus_here: int = 0
    """GPUs of this machine that a point would get."""
    memory_here: int | None = None
    """Bytes of the smallest of them; None where they are not known."""

    @property
    def kind(self) -> TargetKind:
        """Kind of the target in the keys of measured speeds."""
        return "here" if self.site is None else "slurm"

    @property
    def gpu_bytes(self) -> int | None:
        """Memory of the smallest GPU that a point may get; None where it is not known."""
        if self.site is None:
            return self.memory_here
        known = self.site.slurm.gpu_memory_gb
        # As in data sheets: 16 GB are 14.9 GiB.
        return None if known is None else int(known * 10**9)

    def asked(self, planned: PlannedRun, stage: Stage) -> Resources:
        """Return what a stage of a run gets: on this machine one process makes both stages, with `gpus_here` GPUs."""
        if self.site is None:
            return replace(planned.resources, gpus_per_node=self.gpus_here)
        return planned.resources if stage == "train" else planned.eval_resources


@dataclass(frozen=True)
class ClassRow:
    """One stage with one set of resources: the states of its runs, and the cost of those to start."""

    stage: Stage
    resources: Resources
    states: Mapping[str, int]
    cost: ClassCost | None
    """None when no run is to be started."""
    problems: tuple[str, ...] = ()
    """Why the partition cannot run it."""
    answer: SbatchAnswer | None = None
    """Answer of `sbatch --test-only`; None when it was not asked."""


@dataclass(frozen=True)
class CostEstimate:
    """Cost of all runs that a sweep would start."""

    rows: tuple[ClassRow, ...]
    checkpoint_bytes: Amount
    prediction_bytes: Amount
    free_bytes: int | None
    """Free bytes on the file system of the runs."""
    report_problems: tuple[str, ...] = ()
    """Why the report job cannot run."""
    memory: MemoryCheck = field(default_factory=MemoryCheck)
    """Memory of the trainings to start against that of a GPU."""

    @property
    def gpu_hours(self) -> Amount:
        """GPU-hours of all runs to start."""
        return sum((row.cost.gpu_hours for row in self.rows if row.cost), Amount())

    @property
    def cpu_hours(self) -> Amount:
        """Core-hours of all runs to start."""
        return sum((row.cost.cpu_hours for row in self.rows if row.cost), Amount())

    @property
    def problems(self) -> tuple[str, ...]:
        """Jobs that the cluster would refuse or never start, as texts with their stage."""
        found = []
        for row in self.rows:
            refusal = [row.answer.text] if row.answer is not None and row.answer.accepted is False else []
            # Problems found by the limits are more precise than sbatch's message.
            found += [f"{row.stage}: {text}" for text in (row.problems or refusal)]
        found += [f"report: {text}" for text in self.report_problems]
        return tuple(dict.fromkeys(found))


def estimate_cost(
    layout: ExperimentLayout,
    resolved: ResolvedSweep,
    reconciled_runs: Sequence[ReconciledRun],
    started: Iterable[PlannedRun],
    target: SweepTarget,
    *,
    fresh: bool = False,
    ask_sbatch: bool = False,
) -> CostEstimate:
    """Estimate the cost of starting the runs `started`.

    Args:
        fresh: whether trained runs are trained again from the start.
        ask_sbatch: whether to ask `sbatch --test-only` about each class of resources.
    """
    workloads, resolved_runs = Workloads(), {run.planned.run_id: run for run in resolved.runs}
    status = {reconciled.run.run_id: reconciled.status for reconciled in reconciled_runs}
    timed = [
        TimedRun(layout.run(run_id), known, run.experiment, run.evaluations,
                 target.asked(run.planned, "train"), target.asked(run.planned, "eval"))
        for run_id, run in resolved_runs.items()
        if (known := status.get(run_id)) is not None
    ]  # fmt: skip
    speeds = measured(layout, timed, workloads.slices_of)
    tasks: list[Task] = []
    checkpoints, predictions, on_gpus = [], [], dict[str, Experiment]()
    for planned in started:
        run = resolved_runs[planned.run_id]
        work, known = workloads.of(run), status.get(planned.run_id)
        trained = planned.baseline or (is_trained(layout.run(planned.run_id)) and not fresh)
        train_speed, eval_speed = _speeds(run, speeds, target)
        if not trained:
            done = known.step if known is not None and not fresh else None
            tasks.append(_training_task(work, target.asked(planned, "train"), done, train_speed))
            checkpoints.append(checkpoint_bytes(work, train_speed))
            if target.asked(planned, "train").gpus_per_node:
                on_gpus[planned.name] = run.experiment
        tasks.append(_evaluation_task(work, target.asked(planned, "eval"), eval_speed))
        predictions.append(prediction_bytes(work, eval_speed))
    return CostEstimate(
        rows=_rows(reconciled_runs, tasks, target, ask_sbatch=ask_sbatch),
        checkpoint_bytes=Amount.of(checkpoints),
        prediction_bytes=Amount.of(predictions),
        free_bytes=free_bytes(layout.folder),
        report_problems=_report_problems(target) if tasks else (),
        memory=check_memory(on_gpus, target.gpu_bytes),
    )


def _speeds(
    run: ResolvedRun, speeds: Speeds, target: SweepTarget
) -> tuple[TrainingSpeed | None, EvaluationSpeed | None]:
    planned, (eval_id, first) = run.planned, next(iter(run.evaluations.items()))
    return (
        speeds.training.get(training_key(run.experiment, target.asked(planned, "train"), target.kind)),
        speeds.evaluation.get(evaluation_key(first, eval_id, target.asked(planned, "eval"), target.kind)),
    )


def _training_task(work: Workload, resources: Resources, done: int | None, speed: TrainingSpeed | None) -> Task:
    steps = steps_left(work, done)
    known = (None, "") if speed is None else (speed.step_s, speed.source)
    return Task("train", resources, steps, known[0], training_seconds(work, steps, speed), known[1])


def _evaluation_task(work: Workload, resources: Resources, speed: EvaluationSpeed | None) -> Task:
    seconds = evaluation_seconds(work, speed, resources.world_size)
    return Task("eval", resources, seconds=seconds, source="" if speed is None else speed.source)


def _rows(
    reconciled_runs: Sequence[ReconciledRun], tasks: Sequence[Task], target: SweepTarget, *, ask_sbatch: bool
) -> tuple[ClassRow, ...]:
    site, limits = target.site, target.limits
    costs = class_costs(
        tasks,
        limited=site is not None,
        stop_lead_s=site.slurm.stop_lead_s if site is not None else 0,
        elements_per_array=limits.arrays.elements if site is not None and limits is not None else None,
    )
    by_class = {(cost.stage, cost.resources): cost for cost in costs}
    states: dict[tuple[Stage, Resources], Counter[str]] = {}
    for reconciled in reconciled_runs:
        run = reconciled.run
        stages: tuple[Stage, ...] = ("eval",) if run.baseline else ("train", "eval")
        for stage in stages:
            states.setdefault((stage, target.asked(run, stage)), Counter())[reconciled.state] += 1
    rows = []
    for (stage, resources), counted in sorted(states.items(), key=lambda item: item[0][0] == "eval"):
        cost = by_class.get((stage, resources))
        row = ClassRow(stage, resources, dict(counted), cost)
        if site is not None and limits is not None and cost is not None:
            answer = try_submission(resources, site) if ask_sbatch else None
            row = replace(row, problems=tuple(limit_problems(resources, site, limits)), answer=answer)
        rows.append(row)
    return tuple(rows)


def _report_problems(target: SweepTarget) -> tuple[str, ...]:
    """Problems of the report job, found early: a submission whose last sbatch is refused has no report."""
    site, limits = target.site, target.limits
    if site is None or limits is None:
        return ()
    found = limit_problems(report_resources(site), site, limits, partition_name=site.report.partition)
    return tuple(text.replace("resources.", "report.") for text in found)


def free_bytes(folder: Path) -> int | None:
    """Return the free space in bytes on the file system where `folder` is or will be; None when unknown."""
    existing = (parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    return next((shutil.disk_usage(parent).free for parent in existing), None)
