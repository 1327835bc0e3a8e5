"""Collection of the states of all planned runs for status and report, and the aggregation of one experiment."""

import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError, printable
from sam2ft.core.given.wrong_kind import Wanted, not_there
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportOutcome, ReportRequest, RunState
from sam2ft.report.terminal import ComparisonTable, coverage_table, show
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, load_plan
from sam2ft.runs.states import State
from sam2ft.slurm.accounting import Accounted
from sam2ft.sweeps.state.logs import last_log_lines
from sam2ft.sweeps.state.reconcile import ReconciledRun, reconcile
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot, snapshot_of


def experiment_layout(path: Path) -> ExperimentLayout:
    """Return the folder of an experiment, given its file or the folder itself.

    Raises:
        DataError: the path does not exist.
    """
    if (problem := not_there(path, Wanted.RUNS)) is not None:
        raise DataError(problem)
    if path.is_dir():
        return ExperimentLayout(path)
    return ExperimentLayout.of(load_experiment(path).experiment.experiment.name)


def reconciled_runs_of(
    layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot | None = None
) -> tuple[ReconciledRun, ...]:
    """Return the current state of the runs of a plan; finished runs of a plan made with --force count as done.

    Args:
        snapshot: earlier answer of Slurm; None: Slurm is asked once.
    """
    return reconcile(layout, replace(plan, fresh=False), snapshot_of(layout) if snapshot is None else snapshot)


def states_of(layout: ExperimentLayout, plan: Plan, snapshot: SlurmSnapshot | None = None) -> list[RunState]:
    """Return the states of the runs of a plan for the report; `snapshot` as in `reconciled_runs_of`."""
    known = snapshot_of(layout) if snapshot is None else snapshot
    return report_states(layout, reconciled_runs_of(layout, plan, known), known.accounting)


def report_states(
    layout: ExperimentLayout,
    reconciled_runs: Sequence[ReconciledRun],
    accounting: Mapping[str, Accounted] | None = None,
) -> list[RunState]:
    """Convert reconciled runs to the report's form; a running run has the state of its status.json."""
    states = []
    for reconciled in reconciled_runs:
        active = reconciled.state is State.RUNNING and reconciled.status is not None and reconciled.status.state.active
        run = layout.run(reconciled.run.run_id)
        used = [known.gpu_hours for job in reconciled.jobs if (known := (accounting or {}).get(job.job)) is not None]
        states.append(
            RunState(
                planned=reconciled.run,
                layout=run,
                state=reconciled.status.state if active and reconciled.status else reconciled.state,
                reason=reconciled.reason,
                status=reconciled.status,
                log=last_log_lines(layout, run.run_id, reconciled.jobs) if reconciled.state.bad else (),
                failure_class=reconciled.failure_class,
                gpu_hours_planned=_asked_gpu_hours(reconciled.run),
                gpu_hours_used=sum(used) if used else None,
            )
        )
    return states


def _asked_gpu_hours(run: PlannedRun) -> float:
    """Upper limit of the GPU-hours of its tasks: GPUs x hours of their time limits."""
    tasks = {"train": (run.resources,), "eval": (run.eval_resources,)}
    both = tasks.get(run.stage, (run.resources, run.eval_resources))
    return sum(one.nodes * one.gpus_per_node * one.hours for one in both)


def show_outcome(outcome: ReportOutcome) -> None:
    """Print the comparison and the page's path to stdout, coverage and problems to stderr."""
    show([ComparisonTable(outcome.comparison)], sys.stdout)
    show([coverage_table(outcome.coverage)])
    for problem in outcome.problems:
        print(printable(problem), file=sys.stderr)
    print(outcome.page, flush=True)


def aggregate(layout: ExperimentLayout, plan: Plan) -> ReportOutcome:
    """Write tables and report of a plan's runs."""
    from sam2ft.report.report import report  # its statistics import scipy, 0.25 s that a plan does not need

    request = ReportRequest(layout.folder.name, ReportLayout(layout.report), tuple(states_of(layout, plan)))
    outcome = report(request)
    show_outcome(outcome)
    return outcome


def aggregate_folder(experiment_dir: str, plan_id: str) -> None:
    """Write the report of a plan: the work of the Slurm report job. Pickles of earlier versions name this function."""
    layout = ExperimentLayout(Path(experiment_dir))
    aggregate(layout, load_plan(layout, plan_id))


if __name__ == "__main__":
    # A warning before the time limit must not end a report early: it has nothing to save.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    run_command(lambda: aggregate_folder(sys.argv[1], sys.argv[2]))
