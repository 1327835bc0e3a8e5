"""What became of every planned run, as plain values, handed to the report."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import DataError
from sam2ft.report.comparison.words import printable
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportOutcome, ReportRequest, RunState
from sam2ft.report.terminal import ComparisonTable, coverage_table, show
from sam2ft.runs.attempt.status import ACTIVE
from sam2ft.runs.layout import RUNS, ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, load_plan
from sam2ft.slurm.accounting import Accounted
from sam2ft.sweeps.state.logs import last_log_lines
from sam2ft.sweeps.state.reconcile import ReconciledRun, reconcile
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot, snapshot_of


def newest_plan(layout: ExperimentLayout) -> Plan:
    """The plan that was made or submitted last. Errors: DataError when there is none."""
    paths = sorted(layout.folder.glob("plan-*.json"), key=lambda path: path.stat().st_mtime_ns)
    if not paths:
        raise DataError(f"{layout.folder}: no plan here; run launch/sweep.py first")
    try:
        return load_plan(layout, paths[-1].stem.removeprefix("plan-"))
    except DataError as error:
        raise DataError(f"{error}; launch/sweep.py makes a new one and keeps what is done") from None


def experiment_layout(path: Path) -> ExperimentLayout:
    """The folder of an experiment, given its file or the folder itself. Errors: DataError when it is neither."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give an experiment file, or its folder under {RUNS}/")
    if path.is_dir():
        return ExperimentLayout(path)
    return ExperimentLayout.of(load_experiment(path).experiment.experiment.name)


def reconciled_runs_of(
    layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot | None = None
) -> tuple[ReconciledRun, ...]:
    """Where the runs of a plan stand now; what a plan made with --force has finished counts as done.

    Slurm is asked once, unless `snapshot` says what it would answer.
    """
    return reconcile(layout, replace(plan, fresh=False), snapshot_of(layout) if snapshot is None else snapshot)


def plans(layout: ExperimentLayout) -> Iterator[Plan]:
    """Every plan of an experiment that can be read, the newest first."""
    paths = sorted(layout.folder.glob("plan-*.json"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in paths:
        with suppress(DataError):
            yield load_plan(layout, path.stem.removeprefix("plan-"))


def states_of(layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot | None = None) -> list[RunState]:
    """What became of the runs of a plan, as plain values for the report. Slurm is asked as `standings_of` does."""
    known = snapshot_of(layout) if snapshot is None else snapshot
    return run_states(layout, reconciled_runs_of(layout, plan, known), known.accounting)


def run_states(
    layout: ExperimentLayout,
    reconciled_runs: Sequence[ReconciledRun],
    accounting: Mapping[str, Accounted] | None = None,
) -> list[RunState]:
    """The standings as the report takes them: a run at work is called what it says itself."""
    states = []
    for reconciled in reconciled_runs:
        at_work = reconciled.state == "running" and reconciled.status is not None and reconciled.status.state in ACTIVE
        run = layout.run(reconciled.run.run_id)
        failed = reconciled.state in ("failed", "lost")
        used = [known.gpu_hours for job in reconciled.jobs if (known := (accounting or {}).get(job.job)) is not None]
        states.append(
            RunState(
                planned=reconciled.run,
                layout=run,
                state=reconciled.status.state if at_work and reconciled.status else reconciled.state,
                reason=reconciled.reason,
                status=reconciled.status,
                log=last_log_lines(layout, run.run_id, reconciled.jobs) if failed else (),
                failure_class=reconciled.failure_class,
                gpu_hours_planned=_asked_gpu_hours(reconciled.run),
                gpu_hours_used=sum(used) if used else None,
            )
        )
    return states


def _asked_gpu_hours(run: PlannedRun) -> float:
    """What its tasks may use at most: GPUs x hours of their limit."""
    tasks = {"train": (run.resources,), "eval": (run.eval_resources,)}
    both = tasks.get(run.stage, (run.resources, run.eval_resources))
    return sum(one.nodes * one.gpus_per_node * one.hours for one in both)


def show_outcome(outcome: ReportOutcome) -> None:
    """The comparison goes to stdout, what is missing to stderr."""
    show([ComparisonTable(outcome.comparison)], sys.stdout)
    show([coverage_table(outcome.coverage)])
    for problem in outcome.problems:
        print(printable(problem), file=sys.stderr)
    print(outcome.page, flush=True)


def aggregate(layout: ExperimentLayout, plan: Plan) -> ReportOutcome:
    """Tables and report of a plan's runs."""
    from sam2ft.report.report import report  # its statistics import scipy: 0.25 s that a plan need not wait for

    request = ReportRequest(layout.folder.name, ReportLayout(layout.report), tuple(states_of(layout, plan)))
    outcome = report(request)
    show_outcome(outcome)
    return outcome


def aggregate_folder(experiment_dir: str, plan_id: str) -> None:
    """What the Slurm job after all arrays does; submitted by reference."""
    layout = ExperimentLayout(Path(experiment_dir))
    aggregate(layout, load_plan(layout, plan_id))
