"""Parts of an unfinished evaluation: one per finished volume, with digests; merged into the tables at the end."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file
from sam2ft.core.tables.row_files import RowFiles
from sam2ft.core.tables.rows import SCHEMA_VERSION, TABLES, Row, Value, write_csv
from sam2ft.data.export.prediction import PredictedMask, write_nifti_prediction
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.evaluation.prediction.tester import VolumeResult, evaluated_slices
from sam2ft.evaluation.prompt_noise import NOISE
from sam2ft.metrics.factory import VERSIONS
from sam2ft.runs.evaluation_files import prediction_name
from sam2ft.runs.layout import EvalLayout

PART_TABLES = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume")

Tables = Mapping[str, Iterable[Row]]
"""Rows by table name. Tables that may have millions of rows are read from the parts at each iteration (RowFiles)."""


@dataclass(frozen=True)
class EvaluationParts:
    """The parts of one evaluation with one set of weights."""

    evaluation: EvalLayout
    eval_id: str
    checkpoint_sha256: str
    with_noise: bool = False
    """Whether the evaluation has a prompt-noise study."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """`metric_versions` of its metrics: a part measured by an earlier definition is not continued."""

    @property
    def tables(self) -> tuple[str, ...]:
        return (*PART_TABLES, NOISE) if self.with_noise else PART_TABLES

    def write(self, record: VolumeRecord, result: VolumeResult, stamp: Mapping[str, Value]) -> None:
        """Write rows and predicted label map of one volume; the part is valid once its JSON file exists."""
        prediction = self.evaluation.prediction(record.key)
        write_nifti_prediction(prediction, PredictedMask(result.label_map_zyx, record.geometry, result.labels))
        digests = {}
        for name in self.tables:
            path = self.evaluation.part(record.key, name)
            write_csv(path, TABLES[name], [{**stamp, **row} for row in result.rows[name]])
            digests[name] = sha256_file(path)
        content = {**self._identity(record), "prediction": sha256_file(prediction), "tables": digests}
        write_sealed_json(self.evaluation.part_done(record.key), content)

    def is_done(self, record: VolumeRecord) -> bool:
        """Whether this volume was evaluated with these weights, and volume and part are unchanged since."""
        path = self.evaluation.part_done(record.key)
        if not path.is_file():
            return False
        try:
            found = dict(read_json(path))
        except (DataError, TypeError, ValueError) as error:
            print(f"note: {error}; the volume is evaluated again", file=sys.stderr)
            return False
        if {name: found.get(name) for name in self._identity(record)} != self._identity(record):
            return False
        files = {self.evaluation.part(record.key, name): found["tables"][name] for name in self.tables}
        files[self.evaluation.prediction(record.key)] = found["prediction"]
        return all(path.is_file() and sha256_file(path) == digest for path, digest in files.items())

    def predictions(self, records: Sequence[VolumeRecord]) -> dict[str, str]:
        """Name below `predictions/` -> sha256 of every prediction, as its part recorded it."""
        found = {}
        for record in records:
            name = prediction_name(self.evaluation, self.evaluation.prediction(record.key))
            found[name] = str(read_json(self.evaluation.part_done(record.key))["prediction"])
        return found

    def remove(self) -> None:
        """Remove all parts, after their rows were merged into the tables."""
        shutil.rmtree(self.evaluation.parts, ignore_errors=True)

    def _identity(self, record: VolumeRecord) -> dict[str, Value]:
        return {
            "rows": SCHEMA_VERSION,
            "eval": self.eval_id,
            "volume": record.digest,
            "checkpoint_sha256": self.checkpoint_sha256,
            **{f"{VERSIONS}.{name}": version for name, version in self.versions.items()},
        }


def merge(parts: EvaluationParts, records: Sequence[VolumeRecord]) -> Tables:
    """Return all rows of `records`, which must be sorted by key.

    Raises:
        DataError: volumes have no valid part; the message names them.
    """
    if lacking := [str(record.key) for record in records if not parts.is_done(record)]:
        raise DataError(
            f"{parts.evaluation.folder}: {len(lacking)} volumes are not evaluated: {', '.join(lacking[:5])}"
        )
    return {
        name: RowFiles(TABLES[name], tuple(parts.evaluation.part(record.key, name) for record in records))
        for name in parts.tables
    }


def check_complete(
    tables: Tables, records: Sequence[VolumeRecord], stores: Mapping[str, Store], *, include_empty: bool
) -> None:
    """Check that every evaluated slice and label has exactly one row, and that no other slice has a row.

    Raises:
        DataError: rows are missing or not expected.
    """
    of_volume = {
        (record.key.dataset, record.key.subject, record.key.volume): (stores[record.key.dataset], record)
        for record in records
    }
    missing, surplus, examples = 0, 0, []

    def compare(volume: tuple[str, str, str], rows: Iterable[Row]) -> None:
        nonlocal missing, surplus
        found = Counter((int(row["slice"] or 0), int(row["label"] or 0)) for row in rows)
        known = of_volume.pop(volume, None)
        expected = Counter(_expected(*known, include_empty=include_empty) if known else ())
        lacking, extra = expected - found, found - expected
        missing, surplus = missing + lacking.total(), surplus + extra.total()
        if lacking or extra:
            examples.append((*volume, *min(lacking or extra)))

    for volume, rows in groupby(tables["slice"], key=_volume_of):
        compare(volume, rows)
    for volume in list(of_volume):
        compare(volume, ())
    if examples:
        raise DataError(f"slice rows: {missing} missing, {surplus} not expected, for example {examples[0]}")


def _volume_of(row: Row) -> tuple[str, str, str]:
    return str(row["dataset"]), str(row["subject"]), str(row["volume"])


def _expected(store: Store, record: VolumeRecord, *, include_empty: bool) -> set[tuple[int, int]]:
    """(slice, label) of every row that a volume should have."""
    num_slices = record.geometry.shape_zyx[0]
    if not include_empty:
        store.verify([record])
    slices = range(num_slices) if include_empty else evaluated_slices(store.mask(record.key), include_empty=False)
    return {(index, label.id) for index in slices for label in store.labels.drawn(record.labelled)}
