"""Submission records `submissions/<n>.json`: jobs with their Slurm ids, written before and after each sbatch call."""

import json
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import TypeAdapter

from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.digests.sealed import sealed_json
from sam2ft.core.digests.verified_files import read_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import listed_names, write_text
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Stage

RECORD_VERSION = 2


@dataclass(frozen=True)
class Element:
    """One Slurm job that was submitted for a run: an element of an array, or a plain job."""

    job: str
    """`<array>_<k>`, or the plain id where the array has one element (submitit submits those as plain jobs)."""
    stage: Stage
    submission: int
    eval_ids: tuple[str, ...] = ()
    """Evaluations that it makes, where its record lists them."""

    @property
    def work(self) -> str:
        """What it does, as text."""
        return {"train": "training", "eval": "evaluation", "train_eval": "training and evaluation"}[self.stage]


@dataclass(frozen=True)
class RecordedRun:
    """The run of one element; the job is started with the run's index in the plan."""

    index: int
    run_id: str
    eval_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordedArray:
    """One sbatch call; element k is `runs[k]`, which never changes."""

    job_name: str
    """Unique over submissions, experiments and working directories; a job id that was not recorded is found by it."""
    stage: Stage
    job: str | None
    """Slurm's id; None until sbatch has answered."""
    depends: str
    """Value of `sbatch --dependency`; before sbatch is called, with job names instead of ids that are not known yet."""
    runs: tuple[RecordedRun, ...]

    def element(self, position: int) -> str | None:
        """Job id of element `position`, or None while it is not known."""
        return self.job if self.job is None or len(self.runs) == 1 else f"{self.job}_{position}"


@dataclass(frozen=True)
class RecordedReport:
    """The job that writes tables and report after all others."""

    job_name: str
    job: str | None


@dataclass(frozen=True)
class Record:
    """One submission: the jobs to submit, and their Slurm job ids once they are known."""

    number: int
    plan: str
    """Plan id; the plan's file lists the runs by index."""
    site: str
    time: str
    """UTC, ISO 8601: when the record was first written, before the first sbatch call."""
    arrays: tuple[RecordedArray, ...]
    report: RecordedReport

    def with_array(self, position: int, **changes: Any) -> Self:
        """Return the record with changed fields of array `position`."""
        arrays = list(self.arrays)
        arrays[position] = replace(arrays[position], **changes)
        return replace(self, arrays=tuple(arrays))

    def with_report(self, job: str) -> Self:
        """Return the record with the job id of the report."""
        return replace(self, report=replace(self.report, job=job))


_RECORD = TypeAdapter(Record)
"""JSON value of a record, read and written faster than by dataclasses.asdict: a record is written many times."""


def write_record(layout: ExperimentLayout, record: Record) -> None:
    """Write a record completely or not at all; one line per array, because indented JSON is ten times slower."""
    value = {"version": RECORD_VERSION} | _RECORD.dump_python(record)
    arrays = ",\n".join(json.dumps(array, ensure_ascii=False, allow_nan=False) for array in value.pop("arrays"))
    head = json.dumps(value, ensure_ascii=False, allow_nan=False).removesuffix("}")
    write_text(layout.submission(record.number), sealed_json(f'{head}, "arrays": [\n{arrays}\n]}}\n'))


def read_record(layout: ExperimentLayout, number: int) -> Record:
    """Read one submission record, of version 1 or 2.

    Raises:
        DataError: the file is damaged, or not the record of a submission; the message says what to do.
    """
    path = layout.submission(number)
    remedy = f"wait until none of its jobs is in the queue ({path.with_suffix('')} has their scripts), then remove it"
    try:
        value = read_sealed_json(path)
    except DataError as error:
        raise DataError(f"{error}; the jobs of this submission are not known: {remedy}") from None
    try:
        if value.get("version", 1) not in (1, RECORD_VERSION):
            raise ValueError(f"version {value['version']}, this sam2ft reads 1 and {RECORD_VERSION}")
        if value.get("number", number) != number:
            raise ValueError(f"it is that of submission {value['number']}")
        # Version 1 had no dependencies, and only the report's job id.
        report = value["report"] if "report" in value else {"job_name": "", "job": value["aggregate"]}
        arrays = [{"depends": ""} | array for array in value["arrays"]]
        return _RECORD.validate_python(value | {"arrays": arrays, "report": report})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the record of a submission ({error}); {remedy}") from None


def records_of(layout: ExperimentLayout) -> tuple[Record, ...]:
    """Read every submission record of an experiment, oldest first."""
    return tuple(read_record(layout, number) for number in _numbers(layout))


def refuse_untrusted_records(layout: ExperimentLayout) -> None:
    """Refuse records that somebody else could have written: their job ids are cancelled, throttled and waited for.

    Raises:
        UserError: owner, mode and remedy.
    """
    for number in _numbers(layout):
        refuse_untrusted(layout.submission(number), "submission record")


def next_number(layout: ExperimentLayout) -> int:
    """Return the number of the next submission."""
    return max(_numbers(layout), default=0) + 1


def _numbers(layout: ExperimentLayout) -> list[int]:
    stems = (name.removesuffix(".json") for name in listed_names(layout.submissions, "*.json"))
    return sorted(int(stem) for stem in stems if stem.isdecimal())


def elements_of(layout: ExperimentLayout) -> dict[str, tuple[Element, ...]]:
    """Return run_id -> the Slurm jobs that were ever submitted for it, oldest first.

    Arrays that were recorded but never submitted have no jobs.
    """
    elements: dict[str, list[Element]] = {}
    for record in records_of(layout):
        for array in record.arrays:
            for position, run in enumerate(array.runs):
                if (job := array.element(position)) is not None:
                    element = Element(job, array.stage, record.number, run.eval_ids)
                    elements.setdefault(run.run_id, []).append(element)
    return {run_id: tuple(found) for run_id, found in elements.items()}
