"""A sweep from its YAML to its jobs: plan, show, run here or submit; a second call finds nothing to do."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sam2ft.cluster.adopt import adopt
from sam2ft.cluster.chain import wanted_of
from sam2ft.cluster.collect import aggregate, standings_of
from sam2ft.cluster.evidence import look, look_for
from sam2ft.cluster.local import LocalTask, Pool
from sam2ft.cluster.partitions import read_limits
from sam2ft.cluster.plan import make_plan, write_configs
from sam2ft.cluster.queue import cluster_name, slurm_is_here
from sam2ft.cluster.site import Site, detect_site, load_site
from sam2ft.cluster.standing import Retry, Standing, reconcile, sentence, to_submit
from sam2ft.cluster.status import status_rows, status_table
from sam2ft.config.experiment import load_experiment
from sam2ft.core.errors import DONE, FAILED, UserError
from sam2ft.core.layout import ExperimentLayout
from sam2ft.report.terminal import show
from sam2ft.run.planned import Plan, PlannedRun, save_plan
from sam2ft.run.preflight import ResolvedSweep, resolve

MAX_RUNS_UNASKED = 100
"""More runs than this are started only with --yes."""
_LOCK_WAIT_S = 10


@dataclass(frozen=True)
class SweepRequest:
    """What launch/sweep.py was asked."""

    experiment: Path
    overrides: Sequence[str] = ()
    site: str | None = None
    local: int | None = None
    """Workers on this machine, or None for Slurm (or, without one, a single worker)."""
    dry_run: bool = False
    retry: Retry | None = None
    force: bool = False
    yes: bool = False
    as_json: bool = False


def sweep(request: SweepRequest) -> int:
    """Do what is missing. Returns the exit code: 1 when a point failed in the local pool.

    Errors: ProblemsError with everything that is wrong with any point, before anything is changed.
    """
    if request.site is not None and request.local is not None:
        raise UserError("--site and --local exclude each other")
    if request.local is not None and request.local < 1:
        raise UserError(f"--local {request.local}; allowed: 1 or more workers")
    site = _site(request)
    loaded = load_experiment(request.experiment, request.overrides)
    resolved = resolve(loaded, dry_run=request.dry_run, fill=site.fill if site else None)
    for warning in resolved.warnings:
        say(warning)
    for merged in resolved.merged:
        say(merged)
    if not resolved.runs:
        _show_points(resolved, request)
        return DONE
    return _sweep_resolved(request, resolved, site)


def _sweep_resolved(request: SweepRequest, resolved: ResolvedSweep, site: Site | None) -> int:
    layout = ExperimentLayout.of(resolved.name)
    plan = make_plan(resolved, fresh=request.force)
    if request.dry_run:
        standings = reconcile(layout, plan, look())
        _show(layout, plan, standings, to_submit(standings, retry=request.retry, force=request.force), request)
        return DONE
    with locked(layout):
        if site is not None:
            for adopted in adopt(layout):
                say(adopted)
        evidence = look_for(layout)
        standings = reconcile(layout, plan, evidence)
        runs = to_submit(standings, retry=request.retry, force=request.force)
        if len(runs) > MAX_RUNS_UNASKED and not request.yes:
            raise UserError(f"{len(runs)} runs to start, more than {MAX_RUNS_UNASKED}; say --yes if that is meant")
        _show(layout, plan, standings, runs, request)
        save_plan(layout, plan)
        wanted = wanted_of(layout, plan, standings, runs, evidence.queue) if site is not None else ()
        write_configs(layout, resolved, {run.index for run in (*runs, *(entry.run for entry in wanted))})
        if site is not None:
            # Also with nothing wanted: it submits a report that an earlier call could not.
            from sam2ft.cluster.submit import submit

            say(submit(layout, plan, wanted, site, read_limits().arrays).sentence())
    if site is not None:
        return DONE
    return run_here(layout, plan, runs, request.local or 1)


def run_here(layout: ExperimentLayout, plan: Plan, runs: Sequence[PlannedRun], workers: int) -> int:
    """Run `runs` with the local pool, then aggregate. Returns 1 when any of them failed."""
    from sam2ft.cluster.progress import progress

    if runs:
        with progress(layout, plan, runs) as on_poll:
            ended = Pool(workers, on_poll=on_poll).run([_task(layout, plan, run) for run in runs])
        for run, end in zip(runs, ended, strict=True):
            if end.code:
                say(f"{run.name}: ended with code {end.code}; see {layout.run(run.run_id).logs}")
    aggregate(layout, plan)
    started = {run.run_id for run in runs}
    missing = [entry for entry in standings_of(layout, plan) if entry.run.run_id in started and entry.state != "done"]
    return FAILED if missing else DONE


def _task(layout: ExperimentLayout, plan: Plan, run: PlannedRun) -> LocalTask:
    place = layout.run(run.run_id)
    command = [sys.executable, "-m", "sam2ft.run.job", str(layout.folder), plan.plan_id, str(run.index), run.stage]
    return LocalTask(run.run_id, command, place.child_output)


def _site(request: SweepRequest) -> Site | None:
    """The site to submit to, or None for this machine."""
    if request.local is not None:
        return None
    if request.site is not None:
        site = load_site(request.site)
        if not slurm_is_here() and not request.dry_run:
            raise UserError(f"--site {request.site}: no sbatch and squeue on this machine; use --local N here")
        return site
    # Slurm's programs may be installed where no Slurm answers.
    if slurm_is_here() and (cluster := cluster_name()) is not None:
        return detect_site(cluster)
    say("no --site and no Slurm on this machine: planned for --local 1")
    return None


@contextmanager
def locked(layout: ExperimentLayout) -> Iterator[None]:
    """One launcher at a time plans an experiment; the lock ends with its holder. Errors: UserError when it is taken."""
    from filelock import FileLock, Timeout

    layout.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(layout.lock, timeout=_LOCK_WAIT_S):
            yield
    except Timeout:
        raise UserError(f"{layout.folder}: another launcher is planning this experiment; try again") from None


def _show(
    layout: ExperimentLayout,
    plan: Plan,
    standings: Sequence[Standing],
    runs: Sequence[PlannedRun],
    request: SweepRequest,
) -> None:
    """The plan: a table for people on stderr, its sentence (or JSON) on stdout."""
    rows = status_rows(layout, standings)
    if request.as_json:
        chosen = {run.run_id for run in runs}
        value = {
            "experiment": plan.experiment,
            "plan": plan.plan_id,
            "dry_run": request.dry_run,
            "runs": [row | {"submit": row["run"] in chosen} for row in rows],
        }
        print(json.dumps(value, indent=2))
        return
    show([status_table(rows)])
    print(sentence(standings, len(runs)), flush=True)


def _show_points(resolved: ResolvedSweep, request: SweepRequest) -> None:
    """Points that have no id yet (a dry run before the data is there)."""
    if request.as_json:
        points = [
            {"index": point.point.index, "name": point.point.name, "run": point.run_id} for point in resolved.points
        ]
        print(json.dumps({"experiment": resolved.name, "plan": None, "dry_run": True, "runs": points}, indent=2))
        return
    for point in resolved.points:
        print(f"{point.point.index}  {point.point.name}  {point.run_id or 'no id yet'}")
    print(f"{len(resolved.points)} points, not to be submitted before the warnings above are settled", flush=True)


def say(text: str) -> None:
    """Talk to people."""
    print(text, file=sys.stderr, flush=True)
