"""Comparison of checkpoints: several are evaluated in one pass over the data and compared with the first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sam2ft.config.identity import evaluation_identity
from sam2ft.core.errors import UserError
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.core.tables.rows import Row, write_csv
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.evaluation.checkpoints import CheckpointRequest, job_of
from sam2ft.evaluation.compare_table import COMPARE, checkpoint_rows
from sam2ft.evaluation.evaluate_volumes import EvaluationJob
from sam2ft.evaluation.run import evaluate_jobs
from sam2ft.runs.attempt.rank import is_main_rank
from sam2ft.runs.evaluation_files import read_table
from sam2ft.runs.layout import RUNS, EvalLayout, comparison_folder


@dataclass(frozen=True)
class Compared:
    """Output of a comparison: the table and its rows."""

    table: Path
    rows: Sequence[Row]


def compare_checkpoints(
    checkpoints: Sequence[str], request: CheckpointRequest, stop: StopRequest | None = None
) -> Compared:
    """Evaluate several checkpoints as requested and compare them with the first.

    Data, protocol and metrics of the first checkpoint are used for all. Each is evaluated into its own folder, exactly
    as without a comparison; all models are in memory at the same time.

    Args:
        checkpoints: `FILE`, or `FILE,key=value,...` with its own settings.

    Raises:
        UserError: fewer than two checkpoints, one is given twice, or they would be evaluated in different ways or on
            different volumes.
    """
    jobs: list[EvaluationJob] = []
    for text in checkpoints:
        path, own = _parsed(text)
        asked = replace(request, checkpoint=path, overrides=(*request.overrides, *own), out=None)
        jobs.append(job_of(asked, like=jobs[0].experiment if jobs else None))
    _refuse_unlike(checkpoints, jobs)
    if request.out is not None:
        folders = [EvalLayout(request.out / f"{job.run}-{job.eval_id}") for job in jobs]
        jobs = [replace(job, evaluation=folder) for job, folder in zip(jobs, folders, strict=True)]
    outcomes = evaluate_jobs(jobs, stop)
    volumes = [read_table(EvalLayout(outcome.folder), "volume") for outcome in outcomes]
    rows = checkpoint_rows([(str(job.checkpoint), found) for job, found in zip(jobs, volumes, strict=True)])
    identity = sha256_text(canonical_json([[job.run, job.eval_id] for job in jobs]))[:12]
    table = (request.out or comparison_folder(identity, RUNS)) / "compare.csv"
    if is_main_rank():
        write_csv(table, COMPARE, rows)
    return Compared(table, rows)


def _parsed(text: str) -> tuple[Path, list[str]]:
    """The file and its own settings; a text with a comma is a file name if that file exists."""
    if Path(text).exists():
        return Path(text), []
    name, *own = text.split(",")
    return Path(name), own


def _refuse_unlike(checkpoints: Sequence[str], jobs: Sequence[EvaluationJob]) -> None:
    if len(jobs) < 2:
        raise UserError(f"--compare needs two checkpoints or more; found {', '.join(checkpoints) or 'none'}")
    folders = [job.evaluation.folder.resolve() for job in jobs]
    for position, job in enumerate(jobs):
        if folders.index(folders[position]) != position:
            raise UserError(f"{job.checkpoint}: is given twice with the same settings")
        if canonical_json(evaluation_identity(job.experiment)) != canonical_json(
            evaluation_identity(jobs[0].experiment)
        ):
            raise UserError(f"{job.checkpoint}: its own settings change how it is evaluated; allowed: those of module")
        if [(one.key, one.digest) for one in job.records] != [(one.key, one.digest) for one in jobs[0].records]:
            raise UserError(
                f"{job.checkpoint}: is evaluated on {len(job.records)} volumes, {jobs[0].checkpoint} on "
                f"{len(jobs[0].records)} other volumes; a comparison needs the same volumes"
            )
