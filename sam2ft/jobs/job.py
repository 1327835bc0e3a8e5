"""Job: executes one run of a plan in a Slurm task or a local child process, from claim to final status.

submitit pickles `run_point` by reference; `python -m sam2ft.jobs.job EXPERIMENT_FOLDER PLAN INDEX STAGE` does the same
for the local pool. No torch at import.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.command import in_allocation
from sam2ft.core.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    TO_BE_CONTINUED,
    ClaimedError,
    DataError,
    StopRequestedError,
    UserError,
    exit_code_of,
)
from sam2ft.core.files import fenced, sha256_file
from sam2ft.distributed import stop_signal
from sam2ft.runs.attempt.claim import LOCAL, Attempt, check_claim, check_job, claim
from sam2ft.runs.attempt.ending import by_keyboard, failure_class_of, record_ending
from sam2ft.runs.attempt.log import kept_output, redirect_output
from sam2ft.runs.attempt.rank import is_main_rank, rank, world_size
from sam2ft.runs.attempt.restarts import NotRestartableError, idle_before, progress_of, refuse_idle
from sam2ft.runs.attempt.status import RunStatus, heartbeat, is_trained, read_status, update_status
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import STAGES, PlannedRun, Stage, load_plan
from sam2ft.runs.provenance import record_provenance
from sam2ft.runs.states import State


@dataclass(frozen=True)
class PointJob:
    """The work for one run: stage, attempt and folder."""

    layout: RunLayout
    run: PlannedRun
    stage: Stage
    attempt: Attempt
    fresh: bool = False
    """Train from the start even if results exist; a requeued job continues its own checkpoints."""
    strict_code: bool = False
    """The run_id includes the digest of the code, so different code must not train the run."""

    @property
    def log(self) -> Path:
        """Log file of this attempt, one per rank."""
        suffix = "" if is_main_rank() else f".rank{rank()}"
        return self.layout.logs / f"{self.attempt.name}{suffix}.log"


def run_point(experiment_dir: str, plan_id: str, index: int, stage: Stage) -> None:
    """Execute `stage` of run `index` of a plan; return when it is done, else exit the process with another code."""
    # First statement: submitit ignores SIGTERM until other handlers are installed, and importing torch takes seconds.
    stop = stop_signal.install_stop_handlers()
    job = planned_job(Path(experiment_dir), plan_id, index, stage)
    with kept_output(job.log):
        code = _code_of(job, stop)
    stop_signal.ignore_stop_signals()
    if code != DONE:
        sys.exit(code)


def planned_job(experiment_dir: Path, plan_id: str, index: int, stage: Stage) -> PointJob:
    """Return the job of one run of a plan file."""
    layout = ExperimentLayout(experiment_dir)
    plan = load_plan(layout, plan_id)
    run = plan.run(index)
    attempt = Attempt.current()
    fresh = plan.fresh and attempt.restart == 0
    return PointJob(layout.run(run.run_id), run, stage, attempt, fresh=fresh, strict_code=plan.code is not None)


def _code_of(job: PointJob, stop: stop_signal.StopFlag) -> int:
    """Exit code of `work_on`. A failed rank of several exits at once, so that the launcher detects it: the shutdown of
    torch and of its workers could wait for the other ranks."""
    try:
        code = execute_job(job, stop)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else FAILED
    if world_size() > 1 and code not in (DONE, TO_BE_CONTINUED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def execute_job(job: PointJob, stop: stop_signal.StopFlag) -> int:
    """Claim the run, do the job, and write the final state to status.json. Returns the exit code."""
    main = is_main_rank()
    check = check_claim if main else check_job
    try:
        before = _claim(job) if main else None
        with fenced(job.layout.folder, lambda: check(job.layout, job.attempt)):
            num_idle = _begin(job, before) if main else 0
            beating = heartbeat(job.layout, job.attempt) if main else nullcontext()
            with beating, record_ending(job.layout, job.run, job.attempt, stop):
                refuse_idle(num_idle)
                _do(job, stop)
    except (StopRequestedError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return INTERRUPTED if by_keyboard(error, stop) else exit_code_of(error, in_allocation=in_allocation())
    except (UserError, ClaimedError, NotRestartableError) as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    except Exception as error:
        traceback.print_exc()
        # Not raised again: the traceback is printed once, to the log.
        raise SystemExit(FAILED) from error
    return DONE


def _claim(job: PointJob) -> RunStatus | None:
    """Claim the run. Returns the last status of the previous attempt."""
    before = read_status(job.layout)
    claim(job.layout, job.attempt)
    job.layout.requeue.unlink(missing_ok=True)
    return before


def _begin(job: PointJob, before: RunStatus | None) -> int:
    """Write the state `starting`. Returns the number of consecutive restarts without progress, up to this one."""
    progress = progress_of(job.layout, job.run)
    num_idle = idle_before(before, job.attempt, progress)
    begun = {"state": State.STARTING, "failure_class": None, "reason": "", "progress": progress}
    update_status(job.layout, job.attempt, **begun, idle_restarts=num_idle, **({"trained": False} if job.fresh else {}))
    record_provenance(job.layout, job.attempt)
    return num_idle


def _do(job: PointJob, stop: stop_signal.StopFlag) -> None:
    experiment = _experiment(job.layout.config)
    if job.attempt.job != LOCAL:
        _refuse_missing_gpus(job)
    with _process_group(job, stop):
        if "train" in job.stage and not job.run.baseline:
            _train(job, experiment, stop)
        if "eval" in job.stage:
            _evaluate(job, experiment, stop)


def _refuse_missing_gpus(job: PointJob) -> None:
    """DeviceError where the plan has GPUs for this stage and torch sees none."""
    from sam2ft.distributed.device import refuse_missing_gpus

    asked = job.run.eval_resources if job.stage == "eval" else job.run.resources
    refuse_missing_gpus(asked.gpus_per_node)


@contextmanager
def _process_group(job: PointJob, stop: stop_signal.StopFlag) -> Iterator[None]:
    """One process group for the whole job, because the rendezvous of its processes is possible only once."""
    if world_size() == 1:
        yield
        return
    from sam2ft.distributed.ranks import process_group

    def fail(reason: str) -> None:
        if is_main_rank():
            failure_class = failure_class_of(RuntimeError(reason))
            update_status(job.layout, job.attempt, state=State.FAILED, failure_class=failure_class, reason=reason)

    with process_group(job.layout.folder, stop_requested=lambda: stop.requested, on_failure=fail):
        yield


def _unless_stopped(job: PointJob, stop: stop_signal.StopFlag, what: str) -> None:
    """StopRequestedError on all ranks when one was asked to stop; called after the import of torch, which takes
    seconds."""
    from sam2ft.distributed.ranks import process_group

    with process_group(job.layout.folder) as ranks:
        (requested,) = ranks.maxima([float(stop.requested)])
    if requested:
        raise StopRequestedError(f"stopped as asked before the {what} began")


def _train(job: PointJob, experiment: Experiment, stop: stop_signal.StopFlag) -> None:
    if is_trained(job.layout) and not job.fresh:
        return
    from sam2ft.training.run import train

    _unless_stopped(job, stop, "training")
    if is_main_rank():
        update_status(job.layout, job.attempt, state=State.TRAINING)
    planned = job.run.resources.world_size
    ended = train(
        experiment,
        job.layout,
        job.attempt,
        stop=stop,
        fresh=job.fresh,
        planned_world_size=planned,
        strict_code=job.strict_code,
    )
    # Do not test for the file: with --fresh the best.pt of an earlier training exists until it is replaced.
    if ended.stopping.best_epoch is None:
        monitor = experiment.module.early_stopping.monitor
        raise FloatingPointError(f"training ended without a best epoch: {monitor} was not finite in any epoch")
    if is_main_rank():
        update_status(job.layout, job.attempt, trained=True, best_sha256=sha256_file(job.layout.best))


def _evaluate(job: PointJob, experiment: Experiment, stop: stop_signal.StopFlag) -> None:
    # A Slurm dependency on a purged job counts as met, so check for the weights and do not rely on the dependency.
    # Only the main rank checks: other ranks leave training before the main rank has written that it ended.
    if is_main_rank() and not job.run.baseline and not is_trained(job.layout):
        raise DataError(f"{job.layout.folder}: is not trained, so it cannot be evaluated")
    from sam2ft.evaluation.run import evaluate

    _unless_stopped(job, stop, "evaluation")
    if is_main_rank():
        update_status(job.layout, job.attempt, state=State.EVALUATING)
    for eval_id in job.run.eval_ids:
        own = job.layout.evaluation(eval_id).config
        chosen = _experiment(own) if own.is_file() else experiment
        checkpoint = initial_weights(chosen) if job.run.baseline else job.layout.best
        if checkpoint is None:
            raise DataError(f"module.sam2_checkpoint: missing; {chosen.module.sam2_model_cfg} needs its weights")
        evaluate(chosen, job.layout, job.attempt, checkpoint=checkpoint, eval_id=eval_id, stop=stop)


def _experiment(path: Path) -> Experiment:
    """The resolved experiment that planning stored in the folder of the run."""
    return load_experiment(path).points[0].experiment


def main(arguments: list[str]) -> None:
    """Command line of the local pool; all output is written to the log of the attempt."""
    if len(arguments) != 4 or arguments[3] not in STAGES:
        sys.exit("usage: python -m sam2ft.jobs.job EXPERIMENT_FOLDER PLAN INDEX {train,eval,train_eval}")
    stop = stop_signal.install_stop_handlers()
    job = planned_job(Path(arguments[0]), arguments[1], int(arguments[2]), arguments[3])
    redirect_output(job.log)
    sys.exit(_code_of(job, stop))


if __name__ == "__main__":
    main(sys.argv[1:])
