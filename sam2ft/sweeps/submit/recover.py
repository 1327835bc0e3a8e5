"""Adoption of jobs after a launcher was killed: ids of jobs that it submitted but did not record are looked up."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.lookup import ids_by_name
from sam2ft.slurm.sbatch import submission_lock
from sam2ft.sweeps.state.slurm_snapshot import submitters
from sam2ft.sweeps.submit.records import (
    Record,
    RecordedArray,
    next_number,
    read_record,
    refuse_untrusted_records,
    write_record,
)

SETTLE_S = 2.0
"""The controller may list a job only a moment after it received it from an sbatch that was killed with its launcher."""
_RECENT_S = 60.0


def adopt(layout: ExperimentLayout) -> tuple[str, ...]:
    """Record the ids of jobs that exist but are not recorded; submits nothing. Returns a sentence for each job.

    An array that was never submitted stays without an id: its runs are then missing. The jobs themselves run without
    this: the job file that each reads was written before sbatch was called.

    Raises:
        SubmissionError: squeue does not answer, or another launcher is submitting.
        UserError: somebody else could have written a record.
    """
    refuse_untrusted_records(layout)
    if not _unknown(_newest(layout)):
        return ()
    with submission_lock(layout):
        # Read again under the lock. Earlier records were completed before this one was begun.
        record = _newest(layout)
        if record is None or not (names := _unknown(record)):
            return ()
        users = submitters(layout)
        found = ids_by_name(names, record.time, users)
        if _may_still_appear(record, found):
            time.sleep(SETTLE_S)
            found = ids_by_name(names, record.time, users)
        return tuple(_complete(layout, record, found))


def _newest(layout: ExperimentLayout) -> Record | None:
    number = next_number(layout) - 1
    return read_record(layout, number) if number else None


def _unknown(record: Record | None) -> list[str]:
    """Names of the jobs without an id, in the order of the sbatch calls."""
    if record is None:
        return []
    names = [array.job_name for array in record.arrays if array.job is None]
    return names if record.report.job is not None else [*names, *filter(None, [record.report.job_name])]


def _may_still_appear(record: Record, found: Mapping[str, str]) -> bool:
    """Whether the first sbatch call without a recorded id was made a moment ago."""
    age_s = (datetime.now(UTC) - datetime.fromisoformat(record.time)).total_seconds()
    return age_s < _RECENT_S and _unknown(record)[0] not in found


def _complete(layout: ExperimentLayout, record: Record, found: Mapping[str, str]) -> list[str]:
    sentences = []
    for position, array in enumerate(record.arrays):
        if array.job is None and (job := found.get(array.job_name)) is not None:
            record = record.with_array(position, job=job, depends=_depends(record, array))
            what = f"{array.stage} of {len(array.runs)} runs"
            sentences.append(f"submission {record.number}: job {job} ({what}) was not recorded; it is now")
    if record.report.job is None and (job := found.get(record.report.job_name)) is not None:
        record = record.with_report(job)
        sentences.append(f"submission {record.number}: job {job} (report) was not recorded; it is now")
    if sentences:
        write_record(layout, record)
    return sentences


def _depends(record: Record, array: RecordedArray) -> str:
    """The dependency, with the job id of the trainings instead of their job name."""
    kind, _, target = array.depends.partition(":")
    trainings = next((other.job for other in record.arrays if other.job_name == target), None)
    return f"{kind}:{trainings}" if trainings else array.depends
