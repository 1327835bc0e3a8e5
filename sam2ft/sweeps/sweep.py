"""Hyperparameter sweep (launch/sweep.py) from its YAML to its jobs: plan, show the plan, run locally or submit.

A second call finds nothing to do.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.errors import DISK_FAILED, DONE, FAILED, UserError
from sam2ft.core.system.nvidia import least_gpu_memory
from sam2ft.jobs.preflight.preflight import ResolvedSweep, resolve
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedRun, save_plan
from sam2ft.runs.provenance import code_digest
from sam2ft.runs.states import State
from sam2ft.slurm.partitions import read_limits
from sam2ft.slurm.queue import cluster_name, slurm_is_installed
from sam2ft.slurm.site import Site, detect_site, load_site
from sam2ft.sweeps.local.pool import EndedTask, LocalTask, Pool, visible_gpus
from sam2ft.sweeps.lock import locked, writable
from sam2ft.sweeps.plan.estimate import SweepTarget
from sam2ft.sweeps.plan.plan import make_plan, write_configs
from sam2ft.sweeps.plan.proposal import Proposal, print_json, propose
from sam2ft.sweeps.state.collect import aggregate, reconciled_runs_of
from sam2ft.sweeps.state.reconcile import Retry
from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot, snapshot_of
from sam2ft.sweeps.submit.recover import adopt
from sam2ft.sweeps.submit.wanted_jobs import wanted_of

MAX_RUNS_UNASKED = 100
"""More runs than this are started only with --yes."""


@dataclass(frozen=True)
class SweepRequest:
    """Command line of launch/sweep.py, field by field; `--check-site` is a command of its own."""

    experiment: Path
    overrides: Sequence[str] = ()
    site: str | None = None
    local: int | None = None
    """Workers on this machine; None for Slurm (or, without Slurm, one worker)."""
    dry_run: bool = False
    retry: Retry | None = None
    force: bool = False
    calibrate: bool = False
    """Measure the seconds per step instead of starting runs."""
    strict_code: bool = False
    max_gpu_hours: float | None = None
    yes: bool = False
    as_json: bool = False


def sweep(request: SweepRequest) -> int:
    """Plan the experiment and start the missing runs; returns the exit code, 1 when a point failed in the local pool.

    Raises:
        ProblemsError: all problems of all points, before anything is changed.
        UserError: options that exclude each other, a sweep that Slurm or an option refuses, or files that somebody else
            could have written.
    """
    _refuse_contradictions(request)
    site = _site(request)
    loaded = load_experiment(request.experiment, request.overrides, to_run=True)
    code = code_digest() if request.strict_code else None
    resolved = resolve(loaded, dry_run=request.dry_run, fill=site.fill if site else None, code=code)
    for text in (*resolved.warnings, *resolved.merged):
        print_message(text)
    if not resolved.runs:
        _show_points(resolved, request)
        return DONE
    layout, where = ExperimentLayout.of(resolved.name), _where(site, request)
    if request.calibrate:
        from sam2ft.sweeps.plan.calibrate import calibrate_sweep

        with locked(layout), writable(layout.folder):
            return calibrate_sweep(layout, resolved, where, request.local or 1)
    plan = make_plan(resolved, fresh=request.force, code=code)
    if request.dry_run:
        return _show_only(request, layout, resolved, plan, where)
    return _start(request, layout, resolved, plan, where)


def _show_only(
    request: SweepRequest, layout: ExperimentLayout, resolved: ResolvedSweep, plan: Plan, where: SweepTarget
) -> int:
    proposal = propose(layout, resolved, plan, snapshot_of(layout), where, retry=request.retry, ask_sbatch=True)
    if request.as_json:
        print_json(proposal.to_json(layout) | {"dry_run": True})
    else:
        proposal.show(layout)
    proposal.refuse(request.max_gpu_hours)
    return DONE


def _start(
    request: SweepRequest, layout: ExperimentLayout, resolved: ResolvedSweep, plan: Plan, where: SweepTarget
) -> int:
    """Plan and submit under the lock; local runs start after the lock is released."""
    _refuse_untrusted(layout, plan, ())
    with locked(layout):
        if where.site is not None:
            for adopted in adopt(layout):
                print_message(adopted)
        snapshot = snapshot_of(layout)
        proposal = propose(layout, resolved, plan, snapshot, where, retry=request.retry, ask_sbatch=False)
        _refuse(proposal, request, where)
        if not request.as_json:
            proposal.show(layout)
        with writable(layout.folder):
            submitted = _hand_over(layout, resolved, proposal, snapshot, where)
    if request.as_json:
        print_json(proposal.to_json(layout) | {"dry_run": False, "submitted": submitted})
    if where.site is not None:
        return DONE
    return run_locally(layout, plan, proposal.runs, request.local or 1)


def _hand_over(
    layout: ExperimentLayout, resolved: ResolvedSweep, proposal: Proposal, snapshot: SlurmSnapshot, where: SweepTarget
) -> dict[str, Any] | None:
    """Write the plan and the configurations of its jobs, and submit to the site if there is one."""
    plan, runs = proposal.plan, proposal.runs
    wanted = wanted_of(layout, plan, proposal.reconciled_runs, runs, snapshot.queue) if where.site is not None else ()
    started = (*runs, *(entry.run for entry in wanted))
    _refuse_untrusted(layout, plan, started)
    save_plan(layout, plan)
    write_configs(layout, resolved, {run.index for run in started})
    # Again: with an open umask the new files are refused here, and not by each job when its turn has come.
    _refuse_untrusted(layout, plan, started)
    if where.site is None or where.limits is None:
        return None
    # Also with nothing wanted: it submits a report that an earlier call could not submit.
    from sam2ft.sweeps.submit.submit import submit

    done = submit(layout, plan, wanted, where.site, where.limits.arrays)
    print_message(done.sentence())
    return asdict(done)


# --- what is refused --------------------------------------------------------------------------------------------------


def _refuse_contradictions(request: SweepRequest) -> None:
    """Raise UserError for options that exclude each other or are out of range."""
    if request.site is not None and request.local is not None:
        raise UserError("--site and --local exclude each other")
    if request.local is not None and request.local < 1:
        raise UserError(f"--local {request.local}; allowed: 1 or more workers")
    if request.max_gpu_hours is not None and not request.max_gpu_hours >= 0:
        raise UserError(f"--max-gpu-hours {request.max_gpu_hours:g}; allowed: 0 or more")
    if request.calibrate and request.dry_run:
        raise UserError("--calibrate and --dry-run exclude each other; a plan shows what was measured")


def _refuse_untrusted(layout: ExperimentLayout, plan: Plan, runs: Sequence[PlannedRun]) -> None:
    """Raise UserError when somebody else could have written (or could write) what the jobs of `runs` read."""
    refuse_untrusted(layout.plan(plan.plan_id), "plan")
    for run in runs:
        refuse_untrusted(layout.run(run.run_id).config, "configuration")


def _refuse(proposal: Proposal, request: SweepRequest, where: SweepTarget) -> None:
    """Raise UserError when too many runs would be started, or the partition cannot run them."""
    count = len(proposal.runs)
    if where.site is not None and proposal.cost.problems:
        listed = "\n".join(f"  {problem}" for problem in proposal.cost.problems)
        raise UserError(f"site {where.site.name}: Slurm will not run this; nothing was submitted\n{listed}")
    proposal.refuse(request.max_gpu_hours)
    if count > MAX_RUNS_UNASKED and not request.yes:
        raise UserError(f"{count} runs to start, more than {MAX_RUNS_UNASKED}; add --yes to start them")


# --- site or this machine ---------------------------------------------------------------------------------------------


def _where(site: Site | None, request: SweepRequest) -> SweepTarget:
    """This machine, or the site with the limits of its cluster; a dry run goes on without limits that are unknown."""
    if site is None:
        gpus = visible_gpus(os.environ)
        return SweepTarget(None, None, min(1, len(gpus)), least_gpu_memory(gpus))
    try:
        return SweepTarget(site, read_limits())
    except UserError as error:
        if not request.dry_run:
            raise
        print_message(f"limits of the cluster are not checked: {error}")
        return SweepTarget(site, None)


def run_locally(layout: ExperimentLayout, plan: Plan, runs: Sequence[PlannedRun], workers: int) -> int:
    """Run `runs` with the local pool, then aggregate; returns the exit code: 1 when any run failed, 4 when only the
    file system did."""
    from sam2ft.sweeps.status.progress import progress

    ended: list[EndedTask] = []
    if runs:
        at_once, gpus = min(workers, len(runs)), len(visible_gpus(os.environ))
        if 0 < gpus < at_once:
            print_message(f"{at_once} points at a time share {gpus} GPUs; with --local {gpus} each has its own GPU")
        with progress(layout, plan, runs) as on_poll:
            ended = Pool(workers, on_poll=on_poll).run([_task(layout, plan, run) for run in runs])
        for run, end in zip(runs, ended, strict=True):
            if end.code:
                print_message(f"{run.name}: ended with code {end.code}; see {layout.run(run.run_id).logs}")
    aggregate(layout, plan)
    done = {entry.run.run_id for entry in reconciled_runs_of(layout, plan) if entry.state is State.DONE}
    codes = {end.code for run, end in zip(runs, ended, strict=True) if run.run_id not in done}
    return DONE if not codes else DISK_FAILED if codes == {DISK_FAILED} else FAILED


def _task(layout: ExperimentLayout, plan: Plan, run: PlannedRun) -> LocalTask:
    run_layout = layout.run(run.run_id)
    arguments = [str(layout.folder), plan.plan_id, str(run.index), run.stage]
    command = [sys.executable, "-P", "-m", "sam2ft.jobs.job", *arguments]
    return LocalTask(run.run_id, command, run_layout.child_output)


def _site(request: SweepRequest) -> Site | None:
    """The site to submit to, or None for this machine."""
    if request.local is not None:
        return None
    if request.site is not None:
        site = load_site(request.site)
        if not slurm_is_installed() and not request.dry_run:
            raise UserError(
                f"--site {request.site}: no sbatch and squeue on this machine; use --local N on this machine"
            )
        return site
    # Slurm's programs may be installed on a machine where no Slurm answers.
    if slurm_is_installed() and (cluster := cluster_name()) is not None:
        return detect_site(cluster)
    print_message("no --site and no Slurm on this machine: planned for --local 1")
    return None


def _show_points(resolved: ResolvedSweep, request: SweepRequest) -> None:
    """Print points that have no run_id yet (a dry run before the data exists)."""
    if request.as_json:
        points = [
            {"index": point.point.index, "name": point.point.name, "run": point.run_id} for point in resolved.points
        ]
        print_json({"experiment": resolved.name, "plan": None, "dry_run": True, "runs": points})
        return
    for point in resolved.points:
        print(f"{point.point.index}  {point.point.name}  {point.run_id or 'no id yet'}")
    print(f"{len(resolved.points)} points; they can be submitted when the warnings above are resolved", flush=True)


def print_message(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)
