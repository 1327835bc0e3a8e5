"""What became of every planned run, as plain values, handed to the report."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sam2ft.cluster.evidence import Evidence, look_for
from sam2ft.cluster.logs import last_log_lines
from sam2ft.cluster.standing import Standing, reconcile
from sam2ft.config.experiment import load_experiment
from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.core.layout import RUNS, ExperimentLayout
from sam2ft.core.report_layout import ReportLayout
from sam2ft.report.terminal import ComparisonTable, coverage_table, show
from sam2ft.run.planned import Plan, load_plan
from sam2ft.run.report_run import report
from sam2ft.run.report_state import ReportOutcome, ReportRequest, RunState
from sam2ft.run.status import ACTIVE


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


def standings_of(layout: ExperimentLayout, plan: Plan, evidence: Evidence | None = None) -> tuple[Standing, ...]:
    """Where the runs of a plan stand now; what a plan made with --force has finished counts as done.

    Slurm is asked once, unless `evidence` says what it would answer.
    """
    return reconcile(layout, replace(plan, fresh=False), look_for(layout) if evidence is None else evidence)


def run_states(layout: ExperimentLayout, standings: Sequence[Standing]) -> list[RunState]:
    """The standings as the report takes them: a run at work is called what it says itself."""
    states = []
    for standing in standings:
        at_work = standing.state == "running" and standing.status is not None and standing.status.state in ACTIVE
        state = standing.status.state if at_work and standing.status else standing.state
        run = layout.run(standing.run.run_id)
        log = last_log_lines(layout, run.run_id, standing.jobs) if standing.state in ("failed", "lost") else ()
        states.append(RunState(standing.run, run, state, standing.reason, standing.status, log, standing.failure_class))
    return states


def aggregate(layout: ExperimentLayout, plan: Plan) -> ReportOutcome:
    """Tables and report of a plan's runs; the comparison goes to stdout, what is missing to stderr."""
    states = run_states(layout, standings_of(layout, plan))
    outcome = report(ReportRequest(layout.folder.name, ReportLayout(layout.report), tuple(states)))
    show([ComparisonTable(outcome.comparison)], sys.stdout)
    show([coverage_table(outcome.coverage)])
    for problem in outcome.problems:
        print(problem, file=sys.stderr)
    print(outcome.page, flush=True)
    return outcome


def aggregate_experiment(path: Path, *, require_complete: bool = False) -> int:
    """What launch/aggregate.py does. Errors: IncompleteError when asked for and a planned run is not done."""
    layout = experiment_layout(path)
    outcome = aggregate(layout, newest_plan(layout))
    if require_complete and not outcome.coverage.complete:
        raise IncompleteError(f"{layout.folder}: {outcome.coverage.sentence()}")
    return 0


def aggregate_folder(experiment_dir: str, plan_id: str) -> None:
    """What the Slurm job after all arrays does; submitted by reference."""
    layout = ExperimentLayout(Path(experiment_dir))
    aggregate(layout, load_plan(layout, plan_id))
