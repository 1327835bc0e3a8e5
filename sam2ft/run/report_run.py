"""The tables and the page of an experiment, from what its runs wrote. No torch."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, replacing, sha256_file, write_json, write_text
from sam2ft.core.layout import EvalLayout, ExperimentLayout
from sam2ft.core.rows import TABLES, Row, write_csv
from sam2ft.metrics.summary import biomarker_global_rows, global_rows
from sam2ft.report.compare import COMPARE, Comparison, PointRun, compare, compare_rows
from sam2ft.report.coverage import Coverage
from sam2ft.report.coverage import PlannedRun as CoveredRun
from sam2ft.report.html import render
from sam2ft.report.recount import recount
from sam2ft.report.tables import COLLATED, Collated, Frame, collate, csv_chunks, frame_of_csv, parquet_bytes, rows_of
from sam2ft.run.planned import PlannedRun
from sam2ft.run.report_page import page_of
from sam2ft.run.status import RunStatus


@dataclass(frozen=True)
class RunState:
    """A planned run and what became of it, as the cluster layer found it."""

    planned: PlannedRun
    state: str
    """A value of status.json, or new, queued, running, lost, unknown."""
    reason: str
    """Why it is not done, in one line."""
    status: RunStatus | None
    log: tuple[str, ...] = ()
    """The last lines of its log, for a run that failed."""


@dataclass(frozen=True)
class ReportOutcome:
    """What was written, for whoever shows it."""

    comparison: Comparison
    coverage: Coverage
    problems: tuple[str, ...]
    page: Path


def report(layout: ExperimentLayout, states: Sequence[RunState]) -> ReportOutcome:
    """Collate every finished evaluation of `states` into `report/`.

    Only evaluations with `_SUCCESS` count, made with the weights that the run holds now. What is left out is named in
    coverage.json and on the page. Errors: DataError when nothing was planned.
    """
    if not states:
        raise DataError(f"{layout.folder}: no planned run, there is nothing to report")
    found, problems = finished_evaluations(layout, states)
    collated = collate([(run, frames_of(evaluation)) for run, evaluation in found])
    problems = (*problems, *collated.problems, *recount(collated.tables["slice"], collated.tables["volume"]))
    volume_rows = rows_of(collated.tables["volume"])
    biomarker_rows = rows_of(collated.tables["biomarker_volume"])
    of_cohort = {"global": global_rows(volume_rows), "biomarker_global": biomarker_global_rows(biomarker_rows)}
    points = [point for state in states for point in points_of(state, layout)]
    comparison = compare(points, of_cohort["global"])
    coverage = Coverage(tuple(_covered(state) for state in states))
    write_tables(layout.report, collated, of_cohort, comparison)
    write_json(layout.report / "coverage.json", coverage.to_json(problems))
    page = page_of(layout, states, comparison, coverage, of_cohort, biomarker_rows, problems)
    for name, source in page.assets.items():
        _put(layout.report / name, source)
    kept = {layout.report / name for name in page.assets}
    # Last: a page never shows a table or picture that is not there yet.
    write_text(layout.report / "index.html", render(page.data))
    for path in (layout.report / "assets").glob("*"):
        if path not in kept:
            path.unlink()
    return ReportOutcome(comparison, coverage, problems, layout.report / "index.html")


def finished_evaluations(
    layout: ExperimentLayout, states: Sequence[RunState]
) -> tuple[list[tuple[str, EvalLayout]], tuple[str, ...]]:
    """(run_id, evaluation) of everything that ended well, and why others do not count."""
    found, problems = [], []
    for state in states:
        run = layout.run(state.planned.run_id)
        for eval_id in state.planned.eval_ids:
            evaluation = run.evaluation(eval_id)
            if not evaluation.success.is_file():
                continue
            success = read_json(evaluation.success)
            if not state.planned.baseline and success["checkpoint_sha256"] != _best_sha256(state):
                problems.append(
                    f"{state.planned.name}: evaluation {eval_id} was made with earlier weights; not counted"
                )
            elif changed := _changed_tables(evaluation, success["tables"]):
                problems.append(
                    f"{state.planned.name}: {changed} is not what the evaluation wrote; not counted; "
                    f"remove {evaluation.success} and sweep again"
                )
            else:
                found.append((run.run_id, evaluation))
    return found, tuple(problems)


def _best_sha256(state: RunState) -> str | None:
    return state.status.best_sha256 if state.status else None


def _changed_tables(evaluation: EvalLayout, digests: Mapping[str, str]) -> str:
    changed = [name for name, digest in digests.items() if _digest(evaluation.table(name)) != digest]
    return ", ".join(f"{name}.csv" for name in changed)


def _digest(path: Path) -> str:
    return sha256_file(path) if path.is_file() else "missing"


def frames_of(evaluation: EvalLayout) -> dict[str, Frame]:
    """The collated kinds of tables of one evaluation."""
    paths = {name: evaluation.table(name) for name in COLLATED}
    return {
        name: frame_of_csv(TABLES[name], path.read_bytes(), str(path)) for name, path in paths.items() if path.is_file()
    }


def points_of(state: RunState, layout: ExperimentLayout) -> list[PointRun]:
    """The points of the sweep that a run stands for; the baseline has no index."""
    status, planned = state.status, state.planned
    return [
        PointRun(
            index=None if planned.baseline else planned.index,
            name=point.name,
            run=planned.run_id,
            overrides=point.overrides,
            state=state.state,
            reason=state.reason,
            best_epoch=None if status is None else status.best_epoch,
            monitor=(status.monitor if status else None) or "val_loss",
            mode="max" if status is not None and status.mode == "max" else "min",
            validation=None if status is None or planned.baseline else status.best_value,
        )
        for point in planned.points
    ]


def _covered(state: RunState) -> CoveredRun:
    return CoveredRun(state.planned.name, state.planned.run_id, state.state, state.reason)


def write_tables(
    folder: Path, collated: Collated, of_cohort: Mapping[str, Sequence[Row]], comparison: Comparison
) -> None:
    """Every table as CSV, the collated ones as Parquet too; biomarker tables only when there are such rows."""
    for name, frame in collated.tables.items():
        if name.startswith("biomarker") and frame.num_rows == 0:
            _forget(folder, name)
            continue
        with replacing(folder / f"{name}.csv") as partial, partial.open("wb") as stream:
            stream.writelines(csv_chunks(TABLES[name], frame))
        _put(folder / f"{name}.parquet", parquet_bytes(frame))
    for name, rows in of_cohort.items():
        if rows or name == "global":
            write_csv(folder / f"{name}.csv", TABLES[name], rows)
        else:
            _forget(folder, name)
    write_csv(folder / "compare.csv", COMPARE, compare_rows(comparison))


def _forget(folder: Path, name: str) -> None:
    """Remove an earlier report's table that has no rows any more: the page lists what lies beside it."""
    for suffix in (".csv", ".parquet"):
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _put(path: Path, content: bytes | Path) -> None:
    """A file of the report: bytes, or a copy of another file."""
    with replacing(path) as partial:
        if isinstance(content, Path):
            shutil.copyfile(content, partial)
        else:
            partial.write_bytes(content)
