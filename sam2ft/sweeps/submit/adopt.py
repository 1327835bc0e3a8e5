"""Finishing the records of a launcher that died: what it submitted without being able to write it down is adopted."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from sam2ft.runs.layout import ExperimentLayout
from sam2ft.slurm.lookup import ids_by_name
from sam2ft.slurm.sbatch import submission_lock
from sam2ft.sweeps.state.slurm_snapshot import submitters
from sam2ft.sweeps.submit.records import Record, RecordedArray, next_number, read_record, write_record

SETTLE_S = 2.0
"""A controller may list a job a moment after it took it from an sbatch that was killed with its launcher."""
_RECENT_S = 60.0


def adopt(layout: ExperimentLayout) -> tuple[str, ...]:
    """Write down the ids of jobs that exist without being recorded; submits nothing. Returns a sentence for each.

    An array that was never submitted stays without an id: its runs are simply found missing. (The jobs themselves need
    nobody: each finds its pickle by the name of its array, written before sbatch was called.) Errors: SubmissionError
    when the queue cannot be asked, or a launcher is at work.
    """
    if not _unknown(_newest(layout)):
        return ()
    with submission_lock(layout):
        # Again, now that nobody else writes. Those before it were looked up before it was begun.
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
    """Names of what has no id, in the order of the sbatch calls."""
    if record is None:
        return []
    names = [array.job_name for array in record.arrays if array.job is None]
    return names if record.report.job is not None else [*names, *filter(None, [record.report.job_name])]


def _may_still_appear(record: Record, found: Mapping[str, str]) -> bool:
    """Whether the first sbatch that nobody saw the end of was called a moment ago."""
    age_s = (datetime.now(UTC) - datetime.fromisoformat(record.time)).total_seconds()
    return age_s < _RECENT_S and _unknown(record)[0] not in found


def _complete(layout: ExperimentLayout, record: Record, found: Mapping[str, str]) -> list[str]:
    sentences = []
    for position, array in enumerate(record.arrays):
        if array.job is None and (job := found.get(array.job_name)) is not None:
            record = record.with_array(position, job=job, depends=_depends(record, array))
            what = f"{array.stage} of {len(array.runs)} runs"
            sentences.append(f"submission {record.number}: job {job} ({what}) had not been written down")
    if record.report.job is None and (job := found.get(record.report.job_name)) is not None:
        record = record.with_report(job)
        sentences.append(f"submission {record.number}: job {job} (report) had not been written down")
    if sentences:
        write_record(layout, record)
    return sentences


def _depends(record: Record, array: RecordedArray) -> str:
    """The dependency with the id of the trainings in place of their name."""
    kind, _, target = array.depends.partition(":")
    trainings = next((other.job for other in record.arrays if other.job_name == target), None)
    return f"{kind}:{trainings}" if trainings else array.depends
