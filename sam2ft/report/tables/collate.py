"""Collation: result tables of all evaluations that count, written into the report as CSV and Parquet and read back."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.errors import DataError
from sam2ft.core.files import remove_partial, replacing, sync_folder, write_new
from sam2ft.core.folders import link_or_copy
from sam2ft.core.parallel import parallel_map
from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.report.comparison.point_tests import PointValues
from sam2ft.report.layout import ReportLayout
from sam2ft.report.tables.collect import CollectedEvaluations, FoundEvaluation
from sam2ft.report.tables.comparability import comparability_warnings
from sam2ft.report.tables.frames import (
    COHORT,
    COLLATED,
    Frame,
    all_names,
    csv_header,
    frame_of_csv,
    frame_of_parquet,
    frame_of_rows,
    padded,
    parquet_bytes,
    rows_of,
)
from sam2ft.report.tables.parts import EvaluationPart, make_part, part_key, read_part
from sam2ft.report.tables.splice import EarlierTables, Spliced, splice

ALWAYS = ("slice", "instance", "volume", "global")
"""Tables that every report has; the other tables have a file only when they have rows."""

# Starting a worker process takes about a second, reading an evaluation of 10,000 rows 0.06 s.
_PARTS_PER_WORKER = 16
_MOST_WORKERS = 8


@dataclass(frozen=True)
class CollatedTables:
    """Implementation of `report.request.ReportTables` on the files of a report."""

    layout: ReportLayout
    spliced: Mapping[str, Spliced]
    runs: Mapping[str, tuple[str, ...]]
    """run_id -> keys of its parts."""
    refused: Mapping[str, tuple[str, ...]]
    """run_id -> reasons why evaluations of this run do not count."""
    notes: tuple[str, ...]
    values: tuple[PointValues, ...]
    """Values per subject of every evaluation that counts."""
    _kept: dict[str, Sequence[Row]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.spliced)

    def frame(self, name: str, run: str | None = None) -> Frame:
        """Rows as a pyarrow.Table, empty for a table without a CSV.

        Raises:
            KeyError: for an unknown table name.
        """
        if name not in self.spliced:
            return frame_of_rows(TABLES[name], [])
        path, table = self.layout.table(name), self.spliced[name]
        if run is None:
            return frame_of_csv(TABLES[name], path.read_bytes(), str(path))
        data = [csv_header(table.names)]
        with path.open("rb") as stream:
            for key in self.runs.get(run, ()):
                first, length = table.places.get(key, (0, 0))
                stream.seek(first)
                data.append(stream.read(length))
        return frame_of_csv(TABLES[name], b"".join(data), str(path))

    def rows(self, name: str, run: str | None = None) -> Sequence[Row]:
        if run is not None:
            return rows_of(self.frame(name, run))
        # Tables of all runs, such as volumes, are requested more than once; slice rows are only requested per run.
        if name not in self._kept:
            self._kept[name] = rows_of(self.frame(name))
        return self._kept[name]


def collated(collected: CollectedEvaluations, old: ReportLayout, new: ReportLayout) -> CollatedTables:
    """Write the tables of all evaluations that count into `new`; unchanged evaluations are not read again.

    Raises:
        DataError: when the files of an evaluation change while they are read.
    """
    parts, refused = _parts(collected, old)
    counted = [part for part in parts if not part.problems]
    before = EarlierTables.read(old)
    spliced = {}
    for name in (*COLLATED, *COHORT):
        having = [part for part in counted if name in part.tables]
        if name in ALWAYS or any(part.tables[name].num_rows for part in having):
            names = all_names(TABLES[name], [part.tables[name].names for part in having])
            spliced[name] = splice(name, names, having, before, new.table(name))
            write = _write_folder if name in COLLATED else _write_file
            write(name, names, having, new)
    for part in counted:
        if part_key(part.found) != part.key:
            raise DataError(f"{part.found.layout.folder}: changed while it was read; aggregate again")
    _remove_unused_parts(old, {part.key for part in parts})
    files = {path.name for path in new.folder.iterdir()}
    before.remember(spliced, frozenset(files))
    runs: dict[str, tuple[str, ...]] = {}
    for part in counted:
        runs[part.found.run] = (*runs.get(part.found.run, ()), part.key)
    notes = [*collected.notes, *(f"{part.found.name}: {note}" for part in parts for note in part.notes)]
    notes += comparability_warnings(
        {part.found.name: part.labels for part in counted}, {p.found.name: p.evaluated for p in counted}
    )
    values = tuple(one for part in counted for one in part.values)
    return CollatedTables(new, spliced, runs, refused, tuple(notes), values)


def _parts(
    collected: CollectedEvaluations, layout: ReportLayout
) -> tuple[list[EvaluationPart], dict[str, tuple[str, ...]]]:
    """The part of every evaluation (missing parts are made), and the reasons why evaluations do not count."""
    refused = {run: list(texts) for run, texts in collected.refused.items()}
    places: list[tuple[FoundEvaluation, Path]] = []
    for found in collected.found:
        try:
            places.append((found, layout.part(part_key(found))))
        except DataError as error:
            refused.setdefault(found.run, []).append(_refusal(found, str(error)))
    for left in layout.kept_parts.glob(".*"):
        shutil.rmtree(left, ignore_errors=True)
    for folder in layout.kept_parts.glob("*"):
        remove_partial(folder)
    missing = [place for place in places if not place[1].is_dir()]
    workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS, len(missing) // _PARTS_PER_WORKER)
    for number, _ in enumerate(parallel_map(make_part, missing, workers), start=1):
        if number % 100 == 0:
            print(f"read {number} of {len(missing)} evaluations", file=sys.stderr, flush=True)
    if missing:
        sync_folder(layout.kept_parts)
    parts = [read_part(found, folder) for found, folder in places]
    for part in parts:
        if part.problems:
            refused.setdefault(part.found.run, []).append(_refusal(part.found, "; ".join(part.problems)))
    return parts, {run: tuple(texts) for run, texts in refused.items() if texts}


def _refusal(found: FoundEvaluation, why: str) -> str:
    return f"{found.name}: {why}; not counted; {found.remedy}"


def _remove_unused_parts(layout: ReportLayout, used: set[str]) -> None:
    """Remove cached parts of evaluations that are not in this report."""
    for folder in layout.kept_parts.glob("*"):
        if folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)


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
    if not path.is_file():
        frame = frame_of_parquet(part.parquet(name).read_bytes(), str(part.parquet(name)))
        with replacing(path) as partial:
            partial.write_bytes(parquet_bytes(padded(TABLES[name], frame, names)))
    return path


def _write_file(name: str, names: Sequence[str], parts: Sequence[EvaluationPart], new: ReportLayout) -> None:
    """Write Parquet as one file, because tables over subjects are small."""
    frame = frame_of_csv(TABLES[name], new.table(name).read_bytes(), str(new.table(name)))
    write_new(new.parquet(name), parquet_bytes(frame.select(names)))
