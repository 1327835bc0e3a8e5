"""Job: executes one run of a plan in a Slurm task or a local child process, from claim to final status.

A batch script calls `python -m sam2ft.jobs.job JOB_FILE ELEMENT`, the local pool `python -m sam2ft.jobs.job
EXPERIMENT_FOLDER PLAN INDEX STAGE`. Plan and configurations must be trusted (config/trust). No torch at import.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.identity import baseline_id
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import model_name
from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.command import in_allocation, run_command, tell_unverified
from sam2ft.core.errors import (
    DISK_FAILED,
    DONE,
    FAILED,
    INTERRUPTED,
    TO_BE_CONTINUED,
    ClaimedError,
    DataError,
    StopRequestedError,
    exit_code_of,
)
from sam2ft.core.files import fenced, sha256_file
from sam2ft.core.sharing import apply_umask
from sam2ft.core.system.path_errors import translated
from sam2ft.distributed import stop_signal
from sam2ft.distributed.launcher_environment import planned_gpus
from sam2ft.jobs.job_file import element_of, read_job_file
from sam2ft.runs.attempt.claim import LOCAL, Attempt, check_claim, check_job, claim
from sam2ft.runs.attempt.ending import by_keyboard, failure_class_of, record_ending
from sam2ft.runs.attempt.log import kept_output, redirect_output
from sam2ft.runs.attempt.rank import is_main_rank, rank, world_size
from sam2ft.runs.attempt.restarts import NotRestartableError, idle_before, progress_of, refuse_idle
from sam2ft.runs.attempt.status import RunStatus, heartbeat, is_trained, status_at_start, update_status
from sam2ft.runs.config_file import planned_experiment
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import STAGES, PlannedRun, Stage, load_plan
from sam2ft.runs.provenance import code_digest, record_provenance, record_unverified
from sam2ft.runs.states import FailureClass, State
from sam2ft.runs.trained_weights import other_weights


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
    """Execute `stage` of run `index` of a plan; return when it is done, else exit the process with another code.

    Pickles of jobs that earlier versions queued name this function.

    Raises:
        DataError: the plan is missing or damaged.
        UserError: somebody else could have written the plan or the configuration of the run.
    """
    # First statement: a stop signal during the import of torch, which takes seconds, must not be lost.
    stop = stop_signal.install_stop_handlers()
    apply_umask()
    _run(planned_job(Path(experiment_dir), plan_id, index, stage), stop)


def _run(job: PointJob, stop: stop_signal.StopFlag) -> None:
    with kept_output(job.log):
        code = _code_of(job, stop)
    stop_signal.ignore_stop_signals()
    if code != DONE:
        sys.exit(code)


def planned_job(experiment_dir: Path, plan_id: str, index: int, stage: Stage) -> PointJob:
    """Return the job of one run of a plan file.

    Raises:
        DataError: the plan is missing or damaged, or has no such run.
        UserError: somebody else could have written the plan or the configuration of the run; nothing was written.
    """
    layout = ExperimentLayout(experiment_dir)
    refuse_untrusted(layout.plan(plan_id), "plan")
    plan = load_plan(layout, plan_id)
    run = plan.run(index)
    refuse_untrusted(layout.run(run.run_id).config, "configuration")
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
    if is_main_rank():
        tell_unverified()
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
                try:
                    _do(job, stop)
                finally:
                    if main:
                        record_unverified(job.layout, job.attempt)
    except (StopRequestedError, KeyboardInterrupt) as error:
        print(str(error) or "interrupted", file=sys.stderr)
        return INTERRUPTED if by_keyboard(error, stop) else exit_code_of(error, in_allocation=in_allocation())
    except (ClaimedError, NotRestartableError) as error:
        print(error, file=sys.stderr)
        return exit_code_of(error)
    except Exception as error:
        if (message := translated(error)) is not None:
            print(message, file=sys.stderr)
            return exit_code_of(message)
        traceback.print_exc()
        # Not raised again: the traceback is printed once, to the log.
        raise SystemExit(DISK_FAILED if failure_class_of(error) is FailureClass.DISK else FAILED) from error
    return DONE


def _claim(job: PointJob) -> RunStatus | None:
    """Claim the run. Returns the last status of the previous attempt."""
    claim(job.layout, job.attempt)
    before = status_at_start(job.layout, fresh=job.fresh)
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
    experiment = planned_experiment(job.layout.config)
    with planned_gpus(_planned_gpus(job)), _process_group(job, stop):
        if "train" in job.stage and not job.run.baseline:
            _train(job, experiment, stop)
        if "eval" in job.stage:
            _evaluate(job, experiment, stop)


def _planned_gpus(job: PointJob) -> int | None:
    """GPUs per node in the plan of this stage; None on this machine, which uses the GPUs that it has."""
    asked = job.run.eval_resources if job.stage == "eval" else job.run.resources
    return None if job.attempt.job == LOCAL else asked.gpus_per_node


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
    if is_trained(job.layout) and not job.fresh and other_weights(job.layout) is None:
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
        chosen = planned_experiment(own) if own.is_file() else experiment
        checkpoint = initial_weights(chosen) if job.run.baseline else job.layout.best
        if checkpoint is None:
            raise DataError(
                f"module.sam2_checkpoint: missing; {model_name(chosen.module.sam2_model_cfg)} needs its weights"
            )
        if job.run.baseline:
            _refuse_changed_weights(job, chosen, checkpoint)
        evaluate(chosen, job.layout, job.attempt, checkpoint=checkpoint, eval_id=eval_id, stop=stop)


def _refuse_changed_weights(job: PointJob, experiment: Experiment, weights: Path) -> None:
    """Check that the initial weights are those that the name of the baseline is the digest of: the plan may have had
    their digest from its cache."""
    code = code_digest() if job.strict_code else None
    name = baseline_id(experiment, weights_sha256=sha256_file(weights), code_version=code)
    if name != job.layout.run_id:
        raise DataError(
            f"{weights}: changed after the baseline was planned (it now gives the run {name}); restore it, or plan "
            "again with launch/sweep.py"
        )


USAGE = "usage: python -m sam2ft.jobs.job JOB_FILE ELEMENT, or EXPERIMENT_FOLDER PLAN INDEX {train,eval,train_eval}"


def main(arguments: list[str]) -> None:
    """Command line of a Slurm task (two arguments) and of a child of the local pool (four)."""
    if len(arguments) == 2:
        # Before the file is read, which may have to be waited for: an early stop signal must not kill the task.
        stop = stop_signal.install_stop_handlers()
        apply_umask()
        path = Path(arguments[0])
        job_file = read_job_file(path)
        index = element_of(job_file, path, arguments[1])
        _run(planned_job(Path(job_file.experiment), job_file.plan, index, job_file.stage), stop)
        return
    if len(arguments) != 4 or arguments[3] not in STAGES:
        sys.exit(USAGE)
    stop = stop_signal.install_stop_handlers()
    apply_umask()
    job = planned_job(Path(arguments[0]), arguments[1], int(arguments[2]), arguments[3])
    # All output is written to the log of the attempt.
    redirect_output(job.log)
    sys.exit(_code_of(job, stop))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
