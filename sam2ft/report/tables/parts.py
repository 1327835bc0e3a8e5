"""Cache of checked evaluation tables: each evaluation is read and checked once and kept for later reports as a part.

A part is a folder named by a digest of its sources (the digests in `_SUCCESS`, and size and modification time of each
table). As long as the digest is the same, the evaluation is not read again. The folder holds the rows as Parquet, and
as CSV only where the evaluation's own CSV differs from the form that the report writes.
"""

import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, read_json, sha256_text, sync_folder, write_json, write_new
from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.report.comparison.point_tests import PointValues, point_values
from sam2ft.report.tables.collect import FoundEvaluation
from sam2ft.report.tables.consistency import agreement_is_consistent, cohort_is_consistent, recount
from sam2ft.report.tables.frames import (
    Frame,
    all_names,
    csv_bytes,
    csv_header,
    frame_of_csv,
    frame_of_rows,
    is_canonical,
    misplaced,
    parquet_bytes,
    repeated_key,
    rows_of,
    sorted_by_key,
)
from sam2ft.statistics.cohort import biomarker_global_rows, global_rows

PART_VERSION = 2
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
    first: int
    """Offset of the first row in its CSV, in bytes."""
    length: int
    """Number of bytes of the rows."""
    is_own: bool
    """Whether the CSV is in the folder of the part; otherwise it is the evaluation's own file."""


@dataclass(frozen=True)
class EvaluationPart:
    """One evaluation as it is used in reports; it has no tables when it does not count."""

    folder: Path
    found: FoundEvaluation
    tables: Mapping[str, TablePart]
    problems: tuple[str, ...]
    """Reasons why it does not count."""
    notes: tuple[str, ...]
    """Problems of an evaluation that counts nevertheless."""
    labels: tuple[tuple[str, int, str], ...]
    """(dataset, label, label_name), sorted."""
    evaluated: tuple[tuple[str, str, str], ...]
    """(dataset, split, protocol), sorted."""
    values: tuple[PointValues, ...]
    """Values per subject, used for the tests between points."""

    @property
    def key(self) -> str:
        return self.folder.name

    def csv(self, name: str) -> Path:
        """The CSV file that holds the rows of a table, from the offset `first`."""
        return self.folder / f"{name}.csv" if self.tables[name].is_own else self.found.layout.table(name)

    def parquet(self, name: str) -> Path:
        return self.folder / f"{name}.parquet"

    def padded(self, name: str, names: Sequence[str]) -> Path:
        """Path of a Parquet file of the same rows with the columns `names`."""
        return self.folder / f"{name}.{sha256_text(canonical_json(list(names)))[:12]}.parquet"


def part_key(found: FoundEvaluation) -> str:
    """Digest of the sources of a part, 16 hexadecimal digits.

    Raises:
        DataError: when a table is missing.
    """
    files = {}
    for name in found.digests:
        path = found.layout.table(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            raise DataError(f"{path} is missing") from None
        files[name] = [stat.st_size, stat.st_mtime_ns]
    content = {"version": PART_VERSION, "run": found.run, "eval": found.eval, "folder": str(found.layout.folder)}
    return sha256_text(canonical_json(content | {"files": files, "tables": dict(found.digests)}))[:16]


def read_part(found: FoundEvaluation, folder: Path) -> EvaluationPart:
    """The part that `make_part` wrote into `folder`."""
    value = read_json(folder / "part.json")
    tables = {name: TablePart(**{**entry, "names": tuple(entry["names"])}) for name, entry in value["tables"].items()}
    return EvaluationPart(
        folder,
        found,
        tables,
        problems=tuple(value["problems"]),
        notes=tuple(value["notes"]),
        labels=tuple((dataset, label, name) for dataset, label, name in value["labels"]),
        evaluated=tuple((dataset, split, protocol) for dataset, split, protocol in value["evaluated"]),
        values=tuple(PointValues.from_json(one) for one in value["values"]),
    )


def make_part(task: tuple[FoundEvaluation, Path]) -> None:
    """Read and check an evaluation and write its part to a folder atomically; `task` is (evaluation, folder)."""
    found, folder = task
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    new.mkdir(parents=True)
    try:
        write_json(new / "part.json", _content(found, new))
        sync_folder(new)
        if not folder.exists():
            new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _content(found: FoundEvaluation, folder: Path) -> dict[str, Any]:
    made = _PartBuilder(found, folder, {}, {}, [])
    problems: list[str] = []
    for name in sorted(found.digests, key=list(TABLES).index):
        try:
            made.read(name)
        except DataError as error:
            problems.append(str(error))
    problems = problems or made.contradictions()
    if problems:
        for path in folder.iterdir():
            path.unlink()
        return _json({}, problems, [], [], [], [])
    made.compute_cohort()
    volumes = made.frames["volume"]
    labels = volumes.select(["dataset", "label", "label_name"])
    evaluated = volumes.select(["dataset", "split", "protocol"])
    values = [one.to_json() for one in point_values(rows_of(volumes))]
    return _json(made.tables, [], made.notes, _different(labels), _different(evaluated), values)


_LISTS = ("problems", "notes", "labels", "evaluated", "values")


def _json(tables: Mapping[str, TablePart], *lists: list[Any]) -> dict[str, Any]:
    of_tables = {name: asdict(table) for name, table in tables.items()}
    return {"tables": of_tables, **dict(zip(_LISTS, lists, strict=True))}


def _different(frame: Frame) -> list[list[Any]]:
    """The distinct rows of a frame, sorted."""
    return sorted(list(row.values()) for row in frame.group_by(frame.column_names).aggregate([]).to_pylist())


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
        data = path.read_bytes()
        if sha256(data).hexdigest() != self.found.digests[name]:
            raise DataError(f"{path} was changed after the evaluation wrote it")
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

        if not pc.any(pc.greater(self.frames["global"].column("n"), 0)).as_py():
            self.notes.append(f"evaluation {self.found.eval} has no value of any label (n = 0 everywhere)")

    def _keep(self, name: str, frame: Frame, data: bytes) -> None:
        names = all_names(TABLES[name], [frame.column_names])
        frame = frame.select(names)
        self.frames[name] = frame
        for path in self.folder.glob(f"{name}.*"):
            path.unlink()
        is_own = not is_canonical(data, frame, names)
        if is_own:
            data = csv_bytes(TABLES[name], frame)
            write_new(self.folder / f"{name}.csv", data)
        if frame.num_rows:
            write_new(self.folder / f"{name}.parquet", parquet_bytes(frame))
        first = len(csv_header(names))
        self.tables[name] = TablePart(names, frame.num_rows, first, len(data) - first, is_own)
