"""Job file: what the elements of one Slurm array do, as plain ids; written before sbatch is called. No pickle.

A job runs the code that is installed when it starts.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import verified_json
from sam2ft.runs.plan_file import Stage

JOB_FILE_VERSION = 1
WAIT_S = 60.0
"""A node may see a new file of a network file system only after its cache of the folder has expired."""
_POLL_S = 1.0


@dataclass(frozen=True)
class JobFile:
    """The elements of one array (one for a plain job): element k does `stage` of run `runs[k]` of the plan."""

    experiment: str
    """Folder of the experiment, absolute."""
    plan: str
    """Plan id."""
    stage: Stage
    runs: tuple[int, ...]
    """Index in the plan of the run of each element."""


_JOB_FILE = TypeAdapter(JobFile)


def write_job_file(path: Path, job_file: JobFile) -> None:
    """Write a job file completely or not at all, with its digest."""
    content = {"version": JOB_FILE_VERSION, **_JOB_FILE.dump_python(job_file)}
    write_sealed_json(path, content)


def read_job_file(path: Path, sleep: Callable[[float], None] = time.sleep) -> JobFile:
    """Read a job file; a file that is not there yet is waited for.

    Raises:
        DataError: the file does not appear, has another version, or was changed after it was written.
        UserError: somebody else could have written it.
    """
    for _ in range(int(WAIT_S / _POLL_S)):
        if path.is_file():
            break
        sleep(_POLL_S)
    refuse_untrusted(path, "job file")
    again = "submit again with launch/sweep.py"
    try:
        value, is_sealed = verified_json(path)
    except DataError as error:
        raise DataError(f"{error}; {again}") from None
    if not isinstance(value, dict) or value.get("version") != JOB_FILE_VERSION:
        found = value.get("version") if isinstance(value, dict) else type(value).__name__
        raise DataError(f"{path}: job file of version {found}, this sam2ft reads {JOB_FILE_VERSION}; {again}")
    if not is_sealed:  # no version wrote one without
        raise DataError(f"{path}: carries no digest; {again}")
    try:
        return _JOB_FILE.validate_python(value)
    except ValidationError as error:
        raise DataError(f"{path}: not a job file ({error.errors()[0]['msg']}); {again}") from None


def element_of(job_file: JobFile, path: Path, text: str) -> int:
    """Return the index in the plan of the run of element `text` (a Slurm array index).

    Raises:
        DataError: no such element.
    """
    if not re.fullmatch(r"[0-9]+", text) or int(text) >= len(job_file.runs):
        raise DataError(f"{path}: has no element {text!r}; it has 0 to {len(job_file.runs) - 1}")
    return job_file.runs[int(text)]
