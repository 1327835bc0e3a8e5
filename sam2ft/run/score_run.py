"""Scoring masks made elsewhere: the same tables as an evaluation, without a model, an experiment or torch."""

import csv
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.dataset import load_label_table
from sam2ft.core.errors import DataError
from sam2ft.core.files import canonical_json, sha256_file, sha256_text, write_json
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.core.layout import RUNS, EvalLayout, scored
from sam2ft.core.rows import SCHEMA_VERSION, TABLES, Row, stamped, write_csv
from sam2ft.data.labels import relabel
from sam2ft.data.store import Store, VolumeRecord
from sam2ft.data.volumes import read_on_grid, read_volume
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.factory import metrics_with_met_needs
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene, score_volume
from sam2ft.metrics.summary import biomarker_global_rows, global_rows

PROTOCOL = "masks"
"""Column `protocol` of masks that no prompt of ours made."""
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr")


@dataclass(frozen=True)
class Scored:
    """What a scoring wrote."""

    evaluation: EvalLayout
    run: str
    tables: Mapping[str, Sequence[Row]]
    """Table name -> its rows; biomarker tables only where there is a biomarker."""


@dataclass(frozen=True)
class _Case:
    """One volume to be scored; its arrays are read when its turn comes."""

    key: VolumeKey
    split: str
    prediction: Path
    reference_digest: str
    read: Callable[[], tuple[LabelMap, LabelMap, Scene]]
    """(prediction, reference, scene)."""


def score_pair(
    reference: Path,
    prediction: Path,
    *,
    labels: Path | None = None,
    out: Path | None = None,
    settings: ScoreSettings | None = None,
) -> Scored:
    """Score one label-map file against another on the same grid.

    `labels`: a YAML file with the one key `labels:`; without it every non-zero integer in either mask is a label.
    Errors: DataError for unreadable files, other grids, and labels that the table lacks.
    """
    table = None if labels is None else load_label_table(labels)
    key = VolumeKey("files", _stem(reference), _stem(prediction))

    def read() -> tuple[LabelMap, LabelMap, Scene]:
        volume = read_volume(reference)
        predicted = read_on_grid(prediction, volume.geometry, what="prediction")
        known = table or _unnamed(volume.array_zyx, predicted, f"{reference} and {prediction}")
        scene = Scene(volume.geometry, known, dicom=volume.slices)
        return _relabelled(prediction, predicted, known), _relabelled(reference, volume.array_zyx, known), scene

    case = _Case(key, "", prediction, _digest(reference), read)
    return _score([case], table, out, settings or ScoreSettings())


def score_store(
    predictions: Path,
    data: Path,
    *,
    split: str = "test",
    out: Path | None = None,
    settings: ScoreSettings | None = None,
) -> Scored:
    """Score label-map files against the masks of a split of the store `data`.

    `predictions`: a folder with one file per volume, `<subject>__<volume>.nii.gz` (or .nii, .nrrd; also within a
    folder named like the dataset, as our own evaluations write them), or a CSV with columns subject, volume, path
    (relative to the CSV). Errors: DataError naming the volumes that have no prediction; nothing is written then.
    """
    store = Store.open(data)
    records = store.split_volumes(split)
    found = {record.key: _find(predictions, record.key) for record in records}
    if lacking := [str(key) for key, path in found.items() if path is None]:
        raise DataError(
            f"{predictions}: no prediction of {len(lacking)} of {len(records)} volumes: {', '.join(lacking[:5])}; "
            f"expected files such as {records[0].key.file_stem}.nii.gz, or a table with columns subject, volume, path"
        )
    cases = [_case_of(store, record, path) for record in records if (path := found[record.key]) is not None]
    return _score(cases, store.labels, out, settings or ScoreSettings())


def _case_of(store: Store, record: VolumeRecord, prediction: Path) -> _Case:
    def read() -> tuple[LabelMap, LabelMap, Scene]:
        maps = {name: store.map(record.key, name) for name in record.maps}
        predicted = read_on_grid(prediction, record.geometry, what="prediction")
        scene = Scene(record.geometry, store.labels, maps, record.dicom)
        return _relabelled(prediction, predicted, store.labels), store.mask(record.key), scene

    return _Case(record.key, record.split, prediction, record.digest, read)


def _find(predictions: Path, key: VolumeKey) -> Path | None:
    """The file that holds the prediction of a volume, or None. Errors: DataError when there are two."""
    if predictions.suffix == ".csv":
        return _of_table(predictions).get((key.subject, key.volume))
    folders = (predictions, predictions / key.dataset)
    names = (folder / f"{key.file_stem}{suffix}" for folder in folders for suffix in SUFFIXES)
    found = [path for path in names if path.is_file()]
    if len(found) > 1:
        raise DataError(f"{key}: {len(found)} predictions, {' and '.join(str(path) for path in found)}; keep one")
    return found[0] if found else None


def _of_table(path: Path) -> dict[tuple[str, str], Path]:
    """(subject, volume) -> file. Errors: DataError for a table without these columns."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open(encoding="utf-8", newline="") as stream:
        lines = csv.DictReader(stream)
        if missing := {"subject", "volume", "path"} - set(lines.fieldnames or ()):
            raise DataError(f"{path}: no column {', '.join(sorted(missing))}; expected subject, volume, path")
        return {(line["subject"], line["volume"]): path.parent / line["path"] for line in lines}


def _stem(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return path.name


def _digest(path: Path) -> str:
    """sha256 of a file, or of the files of a DICOM folder in the order of their names."""
    if path.is_dir():
        return sha256_text(canonical_json([sha256_file(one) for one in sorted(path.iterdir()) if one.is_file()]))
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    return sha256_file(path)


def _unnamed(reference: npt.NDArray[Any], prediction: npt.NDArray[Any], where: str) -> LabelTable:
    """A label per non-zero value of either mask. Errors: DataError when there is none."""
    values = np.union1d(np.unique(reference), np.unique(prediction))
    whole = [int(value) for value in values if np.isfinite(value) and value == int(value) and value > 0]
    if not whole:
        raise DataError(f"{where}: neither mask holds a label (a whole number above 0)")
    return LabelTable.unnamed(whole)


def _relabelled(path: Path, mask: npt.NDArray[Any], labels: LabelTable) -> LabelMap:
    try:
        return relabel(mask, labels, {label: label for label in labels.ids})
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _score(cases: Sequence[_Case], labels: LabelTable | None, out: Path | None, settings: ScoreSettings) -> Scored:
    references = [[str(case.key), case.reference_digest] for case in cases]
    against = {
        "rows": SCHEMA_VERSION,
        "references": references,
        "labels": None if labels is None else labels.to_json(),
        "settings": asdict(settings),
    }
    digests = [_digest(case.prediction) for case in cases]
    evaluation_id = sha256_text(canonical_json(against))[:12]
    run = f"scored-{sha256_text(canonical_json({**against, 'predictions': digests}))[:12]}"
    rows: dict[str, list[Row]] = {}
    for number, case in enumerate(cases, start=1):
        for name, found in _rows_of(case, settings).items():
            stamp = {"run": run, "eval": evaluation_id, "split": case.split, "protocol": PROTOCOL}
            rows.setdefault(name, []).extend(stamped(found, **stamp))
        print(f"scored {case.key} ({number}/{len(cases)})", file=sys.stderr)
    evaluation = scored(run, RUNS) if out is None else EvalLayout(out)
    tables = _with_global(rows)
    _write(evaluation, tables, {"run": run, "eval": evaluation_id, "num_volumes": len(cases)})
    return Scored(evaluation, run, tables)


def _rows_of(case: _Case, settings: ScoreSettings) -> Mapping[str, Iterable[Row]]:
    prediction, reference, scene = case.read()
    metrics = metrics_with_met_needs(scene.labels, settings.tissues, maps=scene.maps, dicom_fields=scene.dicom)
    return score_volume(case.key, prediction, reference, scene, (), metrics, settings)


def _with_global(rows: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    tables = {**rows, "global": global_rows(rows["volume"])}
    if rows["biomarker_volume"]:
        tables["biomarker_global"] = biomarker_global_rows(rows["biomarker_volume"])
    return {name: found for name, found in tables.items() if found or not name.startswith("biomarker")}


def _write(evaluation: EvalLayout, tables: Mapping[str, list[Row]], about: Mapping[str, Any]) -> None:
    """Every table, then `_SUCCESS` with their digests."""
    evaluation.success.unlink(missing_ok=True)
    for name, rows in tables.items():
        write_csv(evaluation.table(name), TABLES[name], rows)
    write_json(evaluation.success, {**about, "tables": {name: sha256_file(evaluation.table(name)) for name in tables}})


def summary_lines(result: Scored) -> list[str]:
    """`lines_of` the scored masks."""
    return lines_of(result.tables["global"])


def lines_of(global_rows: Sequence[Row]) -> list[str]:
    """Mean of each measure per label (and dataset, when there are several) as lines of text: a table for a terminal."""
    several = len({row["dataset"] for row in global_rows}) > 1
    means: dict[str, dict[str, Any]] = {}
    for row in global_rows:
        name = f"{row['dataset']} {row['label_name']}" if several else str(row["label_name"])
        means.setdefault(name, {})[str(row["measure"])] = row["mean"]
    measures = list(dict.fromkeys(str(row["measure"]) for row in global_rows))
    cells = [["label", *measures]]
    for name, of_label in means.items():
        cells.append([name, *(_shown(of_label.get(measure)) for measure in measures)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
