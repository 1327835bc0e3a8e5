"""Submission of runs to Slurm: arrays of trainings followed by their evaluations, then one report after all of them.

submitit writes the script's text (submitit_adapter) around a command of sam2ft, which finds its work in a job file
(jobs/job_file). States, job names, stopping and requeueing are implemented by sam2ft.
"""

import secrets
import shlex
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sam2ft.jobs.job_file import JobFile, write_job_file
from sam2ft.runs.attempt.status import status_if_readable
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan
from sam2ft.slurm.answers import answer_of
from sam2ft.slurm.batch_script import BatchJob, element_word, report_parameters, report_resources, work_parameters
from sam2ft.slurm.lookup import NO_QUEUE, SubmissionError, ids_by_name
from sam2ft.slurm.partitions import ArrayLimits
from sam2ft.slurm.queue import QueueEntry, read_queue
from sam2ft.slurm.sbatch import sbatch, submission_lock
from sam2ft.slurm.site import Site
from sam2ft.sweeps.state.slurm_snapshot import submitters
from sam2ft.sweeps.submit.arrays import JobArray, arrays_of, name_prefix
from sam2ft.sweeps.submit.records import (
    Record,
    RecordedArray,
    RecordedReport,
    RecordedRun,
    next_number,
    records_of,
    refuse_untrusted_records,
    write_record,
)
from sam2ft.sweeps.submit.stop_lead import stop_lead_s
from sam2ft.sweeps.submit.submitit_adapter import module_command, write_batch
from sam2ft.sweeps.submit.wanted_jobs import WantedJobs


@dataclass(frozen=True)
class Submitted:
    """Jobs that one call submitted to Slurm."""

    number: int | None
    """Number of the submission; None when there was nothing to submit."""
    jobs: tuple[str, ...]
    """One job id per array, in the order of the sbatch calls."""
    report: str | None
    """Job id of the report, when a new one was submitted."""
    num_trainings: int = 0
    num_evaluations: int = 0

    def sentence(self) -> str:
        """Return the submission as text."""
        if self.number is None:
            return "nothing to submit"
        what = f"{self.num_trainings} trainings and {self.num_evaluations} evaluations as job {', '.join(self.jobs)}"
        return f"submitted {what if self.jobs else 'no runs'}; the report is job {self.report}"


def submit(
    layout: ExperimentLayout, plan: Plan, wanted: Sequence[WantedJobs], site: Site, limits: ArrayLimits
) -> Submitted:
    """Submit the wanted jobs, and a report after everything that is queued or running; returns at once.

    Also called with nothing wanted: then a report that an earlier call could not submit is submitted. The record is
    written before the first sbatch call (the planned jobs with unique names) and after each call (the job id).

    Raises:
        SubmissionError: with the message of sbatch; jobs submitted before remain, and the next call submits the rest.
        UserError: somebody else could have written a submission record or a batch script.
    """
    if shutil.which("srun") is None:
        raise SubmissionError("no srun on this machine; submit from a machine with sbatch and srun")
    with submission_lock(layout) as lock:
        queue = read_queue(submitters(layout))
        if queue is None:
            raise SubmissionError(NO_QUEUE)
        refuse_untrusted_records(layout)
        earlier = records_of(layout)
        arrays = arrays_of(wanted, earlier, limits, site.slurm.max_parallel)
        if not arrays and not _report_is_due(earlier, queue):
            return Submitted(None, (), None)
        record = _intent(layout, plan, site, arrays, earlier)
        write_record(layout, record)
        submitter = _Submitter(layout, site, lock)
        for position, array in enumerate(arrays):
            record = submitter.submit_array(record, position, array)
        own = [str(array.job) for array in record.arrays] if arrays else []
        record = submitter.submit_report(record, [*_live_arrays(earlier, queue), *own])
        _cancel_superseded(earlier, queue)
    trained = sum(len(array.runs) for array in arrays if array.stage == "train")
    evaluated = sum(len(array.runs) for array in arrays if array.stage == "eval")
    return Submitted(record.number, tuple(own), record.report.job, trained, evaluated)


def _report_is_due(earlier: Sequence[Record], queue: Mapping[str, QueueEntry]) -> bool:
    """Whether jobs were submitted that no submitted report waits for."""
    last = max((record.number for record in earlier if record.report.job is not None), default=0)
    later = any(array.job is not None for record in earlier if record.number > last for array in record.arrays)
    ahead = any(record.report.job in queue for record in earlier if record.number == last)
    return later or (bool(_live_arrays(earlier, queue)) and not ahead)


def _live_arrays(records: Sequence[Record], queue: Mapping[str, QueueEntry]) -> list[str]:
    """Ids of the arrays of `records` that have an element in the queue."""
    listed = {job.partition("_")[0] for job in queue}
    return [array.job for record in records for array in record.arrays if array.job in listed and array.job]


def _intent(
    layout: ExperimentLayout, plan: Plan, site: Site, arrays: Sequence[JobArray], earlier: Sequence[Record]
) -> Record:
    """Record of the jobs to submit. Where only a report is missing, the record of its submission is returned."""
    if (
        not arrays
        and earlier[-1].report.job is None
        and earlier[-1].report.job_name
        and earlier[-1].plan == plan.plan_id
    ):
        return earlier[-1]
    number = next_number(layout)
    prefix = name_prefix(plan.experiment, str(layout.folder.resolve()), number, secrets.token_hex(3))
    names = [f"{prefix}-{count}" for count in range(len(arrays))]
    recorded = tuple(
        RecordedArray(
            job_name=name,
            stage=array.stage,
            job=None,
            depends=array.dependency(None if array.follows is None else names[array.follows]),
            runs=tuple(
                RecordedRun(run.index, run.run_id, run.eval_ids if array.stage == "eval" else ()) for run in array.runs
            ),
        )
        for name, array in zip(names, arrays, strict=True)
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(number, plan.plan_id, site.name, now, recorded, RecordedReport(f"{prefix}-report", None))


@dataclass(frozen=True)
class _Submitter:
    """Experiment, site and lock that all sbatch calls of one submission share."""

    layout: ExperimentLayout
    site: Site
    lock: int
    """File descriptor of the `submission_lock`."""

    def submit_array(self, record: Record, position: int, array: JobArray) -> Record:
        """Submit one array; returns the record with its job id."""
        name, scripts = record.arrays[position].job_name, self.layout.scripts(record.number).resolve()
        runs = self.layout.folder.resolve()
        depends = array.dependency(None if array.follows is None else record.arrays[array.follows].job)
        statuses = [status_if_readable(self.layout.run(run.run_id)) for run in array.runs]
        lead_s = stop_lead_s(self.site.slurm.stop_lead_s, array.resources, statuses)
        batch = BatchJob(name, array.resources, len(array.runs), array.parallel, depends, lead_s)
        work = scripts / f"{name}.json"
        write_job_file(work, JobFile(str(runs), record.plan, array.stage, tuple(run.index for run in array.runs)))
        words = shlex.quote(str(work)), element_word(len(array.runs))
        command = module_command(self.site, "sam2ft.jobs.job", *words)
        job = self._submit(record, work_parameters(batch, self.site, runs), command)
        record = record.with_array(position, job=job, depends=depends)
        write_record(self.layout, record)
        return record

    def submit_report(self, record: Record, after: Collection[str]) -> Record:
        """Submit the report job. afterany: with afterok it would wait for ever after one failure."""
        depends = f"afterany:{':'.join(after)}" if after else ""
        batch = BatchJob(record.report.job_name, report_resources(self.site), 1, dependency=depends)
        words = shlex.quote(str(self.layout.folder.resolve())), record.plan
        command = module_command(self.site, "sam2ft.sweeps.state.collect", *words)
        record = record.with_report(self._submit(record, report_parameters(batch, self.site), command))
        write_record(self.layout, record)
        return record

    def _submit(self, record: Record, chosen: dict[str, Any], command: str) -> str:
        name = str(chosen["job_name"])
        script = write_batch(self.layout.scripts(record.number).resolve(), chosen, command)
        return sbatch(self.lock, script, lambda: ids_by_name([name], record.time, submitters(self.layout)).get(name))


def _cancel_superseded(earlier: Sequence[Record], queue: Mapping[str, QueueEntry]) -> None:
    """Cancel waiting reports that the new one replaces: a sweep has one report and sends one mail.

    A failure has no effect on the results: a report that is not cancelled reports the runs that exist at its time.
    """
    reports = [record.report.job for record in earlier if record.report.job is not None]
    if waiting := [job for job in reports if job in queue and queue[job].waits]:
        answer_of("scancel", "--state=PENDING", *waiting)
