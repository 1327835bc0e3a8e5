"""An evaluation on disk while it is made: one part per finished volume, merged into tables at the end."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.core.layout import EvalLayout
from sam2ft.core.rows import SCHEMA_VERSION, TABLES, Row, Value, read_csv, write_csv
from sam2ft.data.store import Store, VolumeRecord
from sam2ft.data.volumes import write_nifti
from sam2ft.engine.tester import Tester, VolumeResult, evaluated_slices
from sam2ft.engine.wide_tables import wide_measures
from sam2ft.metrics.summary import biomarker_global_rows, global_rows

PART_TABLES = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume")

Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Parts:
    """The parts of one evaluation with one set of weights."""

    evaluation: EvalLayout
    eval_id: str
    checkpoint_sha256: str

    def write(self, record: VolumeRecord, result: VolumeResult, stamp: Mapping[str, Value]) -> None:
        """Rows and predicted label map of one volume; the part counts once its json is there."""
        prediction = self.evaluation.prediction(record.key)
        write_nifti(prediction, result.label_map_zyx.astype(np.uint16), record.geometry)
        digests = {}
        for name in PART_TABLES:
            path = self.evaluation.part(record.key, name)
            write_csv(path, TABLES[name], [{**stamp, **row} for row in result.rows[name]])
            digests[name] = sha256_file(path)
        content = {**self._identity(record), "prediction": sha256_file(prediction), "tables": digests}
        write_json(self.evaluation.part_done(record.key), content)

    def is_done(self, record: VolumeRecord) -> bool:
        """Whether this volume was evaluated with these weights and is as it was then."""
        path = self.evaluation.part_done(record.key)
        if not path.is_file():
            return False
        found = read_json(path)
        if {name: found.get(name) for name in self._identity(record)} != self._identity(record):
            return False
        files = {self.evaluation.part(record.key, name): found["tables"][name] for name in PART_TABLES}
        files[self.evaluation.prediction(record.key)] = found["prediction"]
        return all(path.is_file() and sha256_file(path) == digest for path, digest in files.items())

    def remove(self) -> None:
        """Once their rows are in the tables."""
        shutil.rmtree(self.evaluation.parts, ignore_errors=True)

    def _identity(self, record: VolumeRecord) -> dict[str, Value]:
        return {
            "rows": SCHEMA_VERSION,
            "eval": self.eval_id,
            "volume": record.digest,
            "checkpoint_sha256": self.checkpoint_sha256,
        }


def merge(parts: Parts, records: Sequence[VolumeRecord]) -> Tables:
    """All rows of `records`. Errors: DataError naming the volumes that have no valid part."""
    if lacking := [str(record.key) for record in records if not parts.is_done(record)]:
        raise DataError(
            f"{parts.evaluation.folder}: {len(lacking)} volumes are not evaluated: {', '.join(lacking[:5])}"
        )
    return {
        name: [row for record in records for row in read_csv(parts.evaluation.part(record.key, name), TABLES[name])]
        for name in PART_TABLES
    }


def expect_complete(
    tables: Tables, records: Sequence[VolumeRecord], stores: Mapping[str, Store], *, include_empty: bool
) -> None:
    """Errors: DataError unless every evaluated slice and label has exactly one row, and no other slice has any."""
    found = sorted((*_volume_of(row), int(row["slice"] or 0), int(row["label"] or 0)) for row in tables["slice"])
    expected = sorted(
        (record.key.dataset, record.key.subject, record.key.volume, index, label)
        for record in records
        for index in _slices(stores[record.key.dataset], record, include_empty=include_empty)
        for label in stores[record.key.dataset].labels.ids
    )
    if found != expected:
        missing, surplus = set(expected) - set(found), set(found) - set(expected)
        example = next(iter(sorted(missing or surplus)), "a row that is there twice")
        raise DataError(f"slice rows: {len(missing)} missing, {len(surplus)} not expected, for example {example}")


def _volume_of(row: Row) -> tuple[str, str, str]:
    return str(row["dataset"]), str(row["subject"]), str(row["volume"])


def _slices(store: Store, record: VolumeRecord, *, include_empty: bool) -> Sequence[int]:
    if include_empty:
        return range(record.geometry.shape_zyx[0])
    return evaluated_slices(store.mask(record.key), include_empty=False)


def write_tables(evaluation: EvalLayout, tables: Tables) -> dict[str, str]:
    """The tidy tables, those of the cohort, and the known wide views. Returns the tidy tables' sha256 by name.

    Biomarker tables are written when a biomarker was asked for.
    """
    tidy: dict[str, list[Row]] = {**tables, "global": global_rows(tables["volume"])}
    if tables["biomarker_volume"]:
        tidy["biomarker_global"] = biomarker_global_rows(tables["biomarker_volume"])
    written = {name: rows for name, rows in tidy.items() if rows or not name.startswith("biomarker")}
    for name, rows in written.items():
        write_csv(evaluation.table(name), TABLES[name], rows)
    for measure in wide_measures(written):
        Tester.save_metric_scores_to_csv(evaluation.folder, measure, written)
    for biomarker in sorted({str(row["biomarker"]) for row in tables["biomarker_volume"]}):
        Tester.save_custom_metric_scores(evaluation.folder, biomarker, written)
    return {name: sha256_file(evaluation.table(name)) for name in written}
