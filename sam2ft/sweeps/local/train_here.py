"""Training of one point in this process, in the foreground (launch/train.py)."""

import sys
from collections.abc import Sequence
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.errors import DONE, INTERRUPTED, TOLD_TO_STOP, UserError
from sam2ft.distributed import stop_signal
from sam2ft.jobs.job import PointJob, execute_job
from sam2ft.jobs.preflight.preflight import ResolvedRun, ResolvedSweep, resolve
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.log import kept_output
from sam2ft.runs.attempt.rank import is_main_rank, world_size
from sam2ft.runs.attempt.status import is_trained
from sam2ft.runs.identity_file import own_identity
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import save_plan
from sam2ft.runs.resources.resources import local_resources
from sam2ft.runs.trained_weights import other_weights
from sam2ft.sweeps.plan.plan import make_plan, write_configs


def train_here(path: Path, overrides: Sequence[str], *, point: int | None, fresh: bool) -> int:
    """Train a point of the experiment file `path` in this process; returns the exit code.

    Args:
        point: index of the point; None when the file has only one.
        fresh: train again from the start, also when the point is trained.

    Raises:
        UserError: the file has several points and none is chosen, no such point, or somebody else could have written
            the file or the run's configuration.
    """
    # Before torch is imported, which takes seconds: a stop signal during the import must not be lost.
    stop = stop_signal.install_stop_handlers()
    loaded = load_experiment(path, overrides, to_run=True)
    own = _run_of(path) if not overrides else None
    # The number of processes that a run was planned for is part of its name; those here share its steps.
    processes = world_size() if own is None else _planned_processes(own, loaded.experiment) or world_size()
    resolved = resolve(loaded, fill=lambda experiment: local_resources(experiment, processes))
    chosen = _chosen(resolved, point)
    layout = ExperimentLayout.of(resolved.name)
    run_layout = layout.run(chosen.planned.run_id)
    refuse_untrusted(run_layout.config, "configuration")
    if own is None or own.folder != run_layout.folder.resolve():
        # Every rank of a torchrun writes the same files, so that no rank has to wait for another one.
        save_plan(layout, make_plan(resolved))
        write_configs(layout, resolved, [chosen.planned.index])
    job = PointJob(run_layout, chosen.planned, "train", Attempt.current(), fresh=fresh)
    if is_trained(run_layout) and not fresh and other_weights(run_layout) is None:
        print(f"already trained: {run_layout.best}; --fresh starts again", file=sys.stderr)
        return 0
    with kept_output(job.log):
        code = execute_job(job, stop)
    if is_main_rank():
        if code == DONE:
            print(f"next        python launch/eval.py --ckpt {run_layout.best}", file=sys.stderr)
            print(run_layout.best)
        elif code in (INTERRUPTED, TOLD_TO_STOP):
            print("call the same command again to continue", file=sys.stderr)
    return code


def _run_of(path: Path) -> RunLayout | None:
    """The run whose own config.yaml `path` is: training it continues that run, and the plan of its sweep stays."""
    layout = RunLayout(path.resolve().parent)
    return layout if layout.config == path.resolve() and layout.identity.is_file() else None


def _planned_processes(layout: RunLayout, experiment: Experiment) -> int | None:
    """Number of processes that a run was planned for, from the slices of a step that its identity holds."""
    known = (own_identity(layout) or {}).get("content", {}).get("slices_per_step")
    return None if known is None else known // (experiment.datamodule.batch_size * experiment.module.grad_accum)


def _chosen(resolved: ResolvedSweep, point: int | None) -> ResolvedRun:
    trainable = [run for run in resolved.runs if not run.planned.baseline]
    if point is None and len(trainable) == 1:
        return trainable[0]
    known = [entry for entry in resolved.points if not entry.baseline]
    if point is None:
        names = ", ".join(f"{entry.point.index} {entry.point.name}" for entry in known)
        raise UserError(f"this experiment has {len(known)} points; choose one with --point: {names}")
    if point not in range(len(known)):
        raise UserError(f"--point {point}; this experiment has the points 0 to {len(known) - 1}")
    wanted = known[point].run_id
    return next(run for run in trainable if run.planned.run_id == wanted)
