"""Collation: result tables of all evaluations that count, written into the report as CSV and Parquet."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sam2ft.core.digests.verified_files import digest_file, read_with_digest, write_with_digest
from sam2ft.core.errors import DataError
from sam2ft.core.files import naming_written, remove_partial, sync_folder, write_new
from sam2ft.core.folders import link_or_copy
from sam2ft.core.parallel import parallel_map
from sam2ft.core.tables.rows import TABLES
from sam2ft.report.comparison.point_tests import PointValues
from sam2ft.report.layout import ReportLayout
from sam2ft.report.request import ReportTables
from sam2ft.report.tables.collect import CollectedEvaluations, FoundEvaluation
from sam2ft.report.tables.comparability import comparability_warnings, earlier_definitions, scored_warnings
from sam2ft.report.tables.frames import (
    COHORT,
    COLLATED,
    all_names,
    csv_body,
    csv_header,
    frame_of_csv,
    frame_of_rows,
    padded,
    parquet_bytes,
)
from sam2ft.report.tables.parts import (
    EvaluationPart,
    FileStates,
    make_part,
    part_key,
    read_part,
    table_states,
    verified_states,
)

ALWAYS = ("slice", "instance", "volume", "global")
"""Tables that every report has; the other tables have a file only when they have rows."""

# Starting a worker process takes about a second, reading an evaluation of 10,000 rows 0.06 s.
_PARTS_PER_WORKER = 16
_MOST_WORKERS = 8
# Bytes copied at a time.
_BLOCK = 1 << 20


@dataclass(frozen=True)
class CollatedTables:
    """Result of `collated`."""

    tables: ReportTables
    refused: Mapping[str, tuple[str, ...]]
    """run_id -> reasons why evaluations of this run do not count."""
    notes: tuple[str, ...]
    values: tuple[PointValues, ...]
    """Values per subject of every evaluation that counts."""


def collated(collected: CollectedEvaluations, old: ReportLayout, new: ReportLayout) -> CollatedTables:
    """Write the tables of all evaluations that count into `new`; unchanged evaluations are not read again.

    Raises:
        DataError: when the files of an evaluation change while they are read.
    """
    parts, refused, made_again = _parts(collected, old)
    counted = [part for part in parts if not part.problems]
    written = []
    for name in (*COLLATED, *COHORT):
        having = [part for part in counted if name in part.tables]
        if name in ALWAYS or any(part.tables[name].num_rows for part in having):
            names = all_names(TABLES[name], [part.tables[name].names for part in having])
            _write_csv(name, names, having, new)
            write = _write_folder if name in COLLATED else _write_file
            write(name, names, having, new)
            written.append(name)
    for part in counted:
        if table_states(part.found) != part.states:
            raise DataError(f"{part.found.layout.folder}: changed while it was read; aggregate again")
    _remove_unused_parts(old, {part.key for part in parts})
    notes = [*collected.notes, *made_again, *(f"{part.found.name}: {note}" for part in parts for note in part.notes)]
    notes += comparability_warnings(
        {part.found.name: part.labels for part in counted}, {p.found.name: p.evaluated for p in counted}
    )
    notes += scored_warnings({part.found.name: part.values for part in counted})
    values = tuple(one for part in counted for one in part.values)
    return CollatedTables(ReportTables(new, tuple(written)), refused, tuple(notes), values)


def _parts(
    collected: CollectedEvaluations, layout: ReportLayout
) -> tuple[list[EvaluationPart], dict[str, tuple[str, ...]], list[str]]:
    """(the part of every evaluation, the reasons why evaluations do not count, notes about parts made again)."""
    refused = {run: list(texts) for run, texts in collected.refused.items()}
    places: list[tuple[FoundEvaluation, Path]] = []
    states: list[FileStates] = []
    with ThreadPoolExecutor(_workers(len(collected.found))) as pool:  # hashing needs no lock of Python
        for found, verified in zip(collected.found, pool.map(verified_states, collected.found), strict=True):
            if isinstance(verified, DataError):
                refused.setdefault(found.run, []).append(_refusal(found, str(verified)))
            else:
                places.append((found, layout.part(part_key(found))))
                states.append(verified)
    for left in layout.kept_parts.glob(".*"):
        shutil.rmtree(left, ignore_errors=True)
    for folder in layout.kept_parts.glob("*"):
        remove_partial(folder)
    _make_missing(places, layout)
    made, made_again = [], []
    for (found, folder), state in zip(places, states, strict=True):
        part, note = _read_or_made(found, folder)
        made.append(replace(part, states=state))
        made_again += note
    parts = _without_mixed_versions(made)
    for part in parts:
        if part.problems:
            refused.setdefault(part.found.run, []).append(_refusal(part.found, "; ".join(part.problems)))
    return parts, {run: tuple(texts) for run, texts in refused.items() if texts}, made_again


def _workers(tasks: int) -> int:
    return max(1, min(len(os.sched_getaffinity(0)), _MOST_WORKERS, tasks))


def _make_missing(places: Sequence[tuple[FoundEvaluation, Path]], layout: ReportLayout) -> None:
    missing = [place for place in places if not place[1].is_dir()]
    workers = min(_workers(len(missing)), len(missing) // _PARTS_PER_WORKER)
    for number, _ in enumerate(parallel_map(make_part, missing, workers), start=1):
        if number % 100 == 0:
            print(f"read {number} of {len(missing)} evaluations", file=sys.stderr, flush=True)
    if missing:
        sync_folder(layout.kept_parts)


def _read_or_made(found: FoundEvaluation, folder: Path) -> tuple[EvaluationPart, list[str]]:
    """(the part in `folder`, a note if it was damaged and therefore made again)."""
    try:
        return read_part(found, folder), []
    except DataError as error:
        shutil.rmtree(folder)
        make_part((found, folder))
        return read_part(found, folder), [f"{error}; it was made again from the evaluation"]


def _without_mixed_versions(parts: Sequence[EvaluationPart]) -> list[EvaluationPart]:
    """The parts, with a problem where a metric was measured by an earlier definition than in other evaluations."""
    measured = {
        part.key: {name: part.found.versions.get(name, 1) for name in part.biomarkers}
        for part in parts
        if not part.problems
    }
    earlier = earlier_definitions(measured)
    return [replace(part, problems=(earlier[part.key],)) if part.key in earlier else part for part in parts]


def _refusal(found: FoundEvaluation, why: str) -> str:
    return f"{found.name}: {why}; not counted; {found.remedy}"


def _remove_unused_parts(layout: ReportLayout, used: set[str]) -> None:
    """Remove cached parts of evaluations that are not in this report."""
    for folder in layout.kept_parts.glob("*"):
        if folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)


def _write_csv(name: str, names: Sequence[str], parts: Sequence[EvaluationPart], new: ReportLayout) -> None:
    """Write the rows of `parts`, which must be sorted by run and evaluation: a copy of their own files where possible.

    Rows are sorted by run first, so that the file is the concatenation of the rows of the evaluations.
    """
    header = csv_header(names)
    path = new.table(name)
    with naming_written(path), path.open("xb") as stream:
        stream.write(header)
        for part in parts:
            if part.tables[name].canonical and part.tables[name].names == tuple(names):
                with part.found.layout.table(name).open("rb") as source:
                    source.seek(len(header))
                    shutil.copyfileobj(source, stream, _BLOCK)
            else:
                stream.writelines(csv_body(padded(TABLES[name], part.frame(name), names)))
        stream.flush()
        os.fsync(stream.fileno())


def _write_folder(name: str, names: Sequence[str], parts: Sequence[EvaluationPart], new: ReportLayout) -> None:
    """Write Parquet as a folder: one file per evaluation in the order of the CSV, all with the same columns."""
    folder = new.parquet(name)
    folder.mkdir()
    having = [part for part in parts if part.tables[name].num_rows]
    for number, part in enumerate(having):
        link_or_copy(_with_columns(name, names, part), folder / f"{number:05d}.parquet")
    if not having:
        write_new(folder / "00000.parquet", parquet_bytes(padded(TABLES[name], frame_of_rows(TABLES[name], []), names)))


def _with_columns(name: str, names: Sequence[str], part: EvaluationPart) -> Path:
    """The part's Parquet file, extended by the columns that only other evaluations have."""
    if part.tables[name].names == tuple(names):
        return part.parquet(name)
    path = part.padded(name, names)
    with suppress(DataError, FileNotFoundError):  # not made yet, or damaged
        if digest_file(path).is_file() and read_with_digest(path):
            return path
    # Not in place: a report that was written before may be a link to it.
    path.unlink(missing_ok=True)
    write_with_digest(path, parquet_bytes(padded(TABLES[name], part.frame(name), names)))
    return path


def _write_file(name: str, names: Sequence[str], parts: Sequence[EvaluationPart], new: ReportLayout) -> None:
    """Write Parquet as one file, because tables over subjects are small."""
    frame = frame_of_csv(TABLES[name], new.table(name).read_bytes(), str(new.table(name)))
    write_new(new.parquet(name), parquet_bytes(frame.select(names)))
