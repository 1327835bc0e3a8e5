"""Cache of checked evaluation tables: each evaluation is read and checked once and kept for later reports as a part.

A part is a folder named by a digest of its sources (the digests of its tables in `_SUCCESS`). Every report compares the
tables with these digests; as long as they are the same, they are not parsed and checked again. The folder holds the
rows as Parquet; their CSV is the evaluation's own file, if it has the bytes that the report writes. What is in the
folder has digests too: a damaged part is made again.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from sam2ft.core.digests.sealed import check_json, sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, has_sha256, sha256_file, sha256_text, sync_folder, write_new
from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.report.comparison.point_tests import PointValues, point_values
from sam2ft.report.tables.collect import FoundEvaluation
from sam2ft.report.tables.consistency import agreement_is_consistent, cohort_is_consistent, recount
from sam2ft.report.tables.frames import (
    Frame,
    all_names,
    frame_of_csv,
    frame_of_parquet,
    frame_of_rows,
    is_canonical,
    misplaced,
    parquet_bytes,
    repeated_key,
    rows_of,
    sorted_by_key,
)
from sam2ft.runs.evaluation_files import table_bytes
from sam2ft.statistics.cohort import biomarker_global_rows, global_rows
from sam2ft.statistics.valid_share import warning_texts

PART_VERSION = 7
"""Increased when the checks or the stored content change: older parts are then made again."""

NEEDED = ("slice", "volume")
MOST_NAMED = 5

_COHORT: Mapping[str, tuple[str, Callable[[Sequence[Row], Sequence[Row]], bool], Callable[[Sequence[Row]], list[Row]]]]
_COHORT = {
    "global": ("volume", cohort_is_consistent, global_rows),
    "biomarker_global": ("biomarker_volume", agreement_is_consistent, biomarker_global_rows),
}
"""Table over subjects -> (source table, check that it matches its source, function that computes it)."""


@dataclass(frozen=True)
class TablePart:
    """One table of a part."""

    names: tuple[str, ...]
    """Its columns."""
    num_rows: int
    canonical: bool
    """Whether the evaluation's own CSV has the bytes that the report writes for these rows."""
    sha256: str
    """Of its Parquet file; empty for a table without rows, which has none."""


@dataclass(frozen=True, kw_only=True)
class CheckedEvaluation:
    """Content of part.json; there are no tables when the evaluation does not count."""

    tables: Mapping[str, TablePart]
    problems: tuple[str, ...]
    """Reasons why it does not count."""
    notes: tuple[str, ...] = ()
    """Problems of an evaluation that counts nevertheless."""
    labels: tuple[tuple[str, int, str], ...] = ()
    """(dataset, label, label_name), sorted."""
    evaluated: tuple[tuple[str, str, str], ...] = ()
    """(dataset, split, protocol), sorted."""
    values: tuple[PointValues, ...] = ()
    """Values per subject, used for the tests between points."""
    biomarkers: tuple[str, ...] = ()
    """Names of the measured biomarkers, sorted."""
    part: str = ""
    """Name of its folder, which is the digest of its sources: the folder of another evaluation is not taken for it."""


@dataclass(frozen=True, kw_only=True)
class EvaluationPart(CheckedEvaluation):
    """One evaluation as it is used in reports."""

    folder: Path
    found: FoundEvaluation
    states: "FileStates" = field(default_factory=dict)
    """The tables when they were verified."""

    @property
    def key(self) -> str:
        return self.folder.name

    def frame(self, name: str) -> Frame:
        """The rows of a table; raises DataError when the cached file is damaged."""
        if not self.tables[name].num_rows:
            return frame_of_rows(TABLES[name], [])
        return frame_of_parquet(self.parquet(name).read_bytes(), str(self.parquet(name)))

    def parquet(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def padded(self, name: str, names: Sequence[str]) -> Path:
        """Path of a Parquet file of the same rows with the columns `names`."""
        return self.folder / f"{name}.{sha256_text(canonical_json(list(names)))[:12]}.parquet"


def part_key(found: FoundEvaluation) -> str:
    """Digest of the sources of a part, 16 hexadecimal digits."""
    content = {"version": PART_VERSION, "run": found.run, "eval": found.eval, "folder": str(found.layout.folder)}
    return sha256_text(canonical_json(content | {"tables": dict(found.digests)}))[:16]


FileStates = Mapping[str, tuple[int, ...]]
"""Table -> device, inode, size and times of its file."""


def table_states(found: FoundEvaluation) -> FileStates:
    """The present state of each table's file, to see whether it changes during a report; it identifies no content.

    Raises:
        DataError: when a table is missing.
    """
    states = {}
    for name in found.digests:
        path = found.layout.table(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        states[name] = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return states


def verified_states(found: FoundEvaluation) -> FileStates | DataError:
    """`table_states` of tables that have the digests in `_SUCCESS`; the error of one that is missing or differs."""
    try:
        states = table_states(found)
        for name, sha256_then in found.digests.items():
            path = found.layout.table(name)
            if not has_sha256(path, sha256_then):
                raise DataError(f"{path} was changed after the evaluation wrote it")
    except DataError as error:
        return error
    return states


def read_part(found: FoundEvaluation, folder: Path) -> EvaluationPart:
    """The part that `make_part` wrote into `folder`.

    Raises:
        DataError: it is damaged; it can be removed and made again.
    """
    path = folder / "part.json"
    try:
        text = path.read_bytes().decode()
        if not check_json(text):
            raise ValueError("part.json without a digest")
        checked = _json_of_checked().validate_json(text)
        if checked.part != folder.name:
            raise ValueError(f"part.json is of {checked.part or 'an unknown evaluation'}")
        part = EvaluationPart(**vars(checked), folder=folder, found=found)
        for name, table in part.tables.items():
            if table.num_rows and sha256_file(part.parquet(name)) != table.sha256:
                raise ValueError(f"{name}.parquet has another sha256")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: damaged ({error})") from None
    return part


def make_part(task: tuple[FoundEvaluation, Path]) -> None:
    """Read and check an evaluation and write its part to a folder atomically; `task` is (evaluation, folder)."""
    found, folder = task
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    new.mkdir(parents=True)
    try:
        text = _json_of_checked().dump_json(replace(_checked(found, new), part=folder.name)).decode()
        write_new(new / "part.json", sealed_json(text).encode())
        sync_folder(new)
        if not folder.exists():
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


@cache
def _json_of_checked() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(CheckedEvaluation)


def _checked(found: FoundEvaluation, folder: Path) -> CheckedEvaluation:
    made = _PartBuilder(found, folder, {}, {}, [])
    problems: list[str] = []
    for name in sorted(found.digests, key=list(TABLES).index):
        try:
            made.read(name)
        except DataError as error:
            problems.append(str(error))
    if problems := problems or made.contradictions():
        for path in folder.iterdir():
            path.unlink()
        return CheckedEvaluation(tables={}, problems=tuple(problems))
    made.compute_cohort()
    volumes = made.frames["volume"]
    return CheckedEvaluation(
        tables=made.tables,
        problems=(),
        notes=tuple(made.notes),
        labels=_different(volumes, "dataset", "label", "label_name"),
        evaluated=_different(volumes, "dataset", "split", "protocol"),
        values=point_values(rows_of(volumes)),
        biomarkers=_biomarkers(made.frames),
    )


def _biomarkers(frames: Mapping[str, Frame]) -> tuple[str, ...]:
    frame = frames.get("biomarker_volume")
    return () if frame is None else tuple(sorted(frame.column("biomarker").unique().to_pylist()))


def _different(frame: Frame, *names: str) -> tuple[Any, ...]:
    """The distinct values of some columns, sorted."""
    return tuple(sorted(tuple(row.values()) for row in frame.group_by(list(names)).aggregate([]).to_pylist()))


@dataclass(frozen=True)
class _PartBuilder:
    """A part that is being made."""

    found: FoundEvaluation
    folder: Path
    frames: dict[str, Frame]
    tables: dict[str, TablePart]
    notes: list[str]

    def read(self, name: str) -> None:
        """Read and check one table of the evaluation; raises DataError that describes a defect of the file."""
        path, table = self.found.layout.table(name), TABLES[name]
        data = table_bytes(path, self.found.digests[name])
        frame = sorted_by_key(table, frame_of_csv(table, data, str(path)))
        if others := misplaced(frame, self.found.run, self.found.eval):
            raise DataError(f"{path} holds rows of {', '.join(others[:MOST_NAMED])}")
        if repeated := repeated_key(table, frame):
            raise DataError(f"{path} holds two rows for {repeated}")
        self._keep(name, frame, data)

    def contradictions(self) -> list[str]:
        """Contradictions between tables that are valid on their own; any of them excludes the evaluation."""
        if lacking := [f"{name}.csv" for name in NEEDED if name not in self.frames or not self.frames[name].num_rows]:
            return [f"evaluation {self.found.eval} has no rows in {' and '.join(lacking)}"]
        found = recount(self.frames["slice"], self.frames["volume"])
        more = [f"{len(found) - MOST_NAMED} more numbers disagree"] if len(found) > MOST_NAMED else []
        return [*found[:MOST_NAMED], *more]

    def compute_cohort(self) -> None:
        """Tables over subjects: the evaluation's own if they match its volume rows, else computed again."""
        for name, (source, agrees, compute) in _COHORT.items():
            if source not in self.frames or not self.frames[source].num_rows:
                continue
            rows = rows_of(self.frames[source])
            given = rows_of(self.frames[name]) if name in self.frames else []
            if not agrees(rows, given):
                self.notes.append(f"{name}.csv does not match {source}.csv; it was computed again")
                self._keep(name, sorted_by_key(TABLES[name], frame_of_rows(TABLES[name], compute(rows))), b"")
        import pyarrow.compute as pc

        if "biomarker_volume" in self.frames and (few := warning_texts(rows_of(self.frames["biomarker_volume"]))):
            self.notes.append("; ".join(few))
        if not pc.any(pc.greater(self.frames["global"].column("n"), 0)).as_py():
            self.notes.append(f"evaluation {self.found.eval} has no value of any label (n = 0 everywhere)")

    def _keep(self, name: str, frame: Frame, data: bytes) -> None:
        names = all_names(TABLES[name], [frame.column_names])
        self.frames[name] = frame = frame.select(names)
        (self.folder / f"{name}.parquet").unlink(missing_ok=True)
        digest = ""
        if frame.num_rows:
            content = parquet_bytes(frame)
            digest = sha256(content).hexdigest()
            write_new(self.folder / f"{name}.parquet", content)
        self.tables[name] = TablePart(names, frame.num_rows, is_canonical(data, frame, names), digest)
