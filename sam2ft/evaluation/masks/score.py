"""Scoring of masks made elsewhere (by another program): the same tables as an evaluation. No model, no torch."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from sam2ft.config.load_dataset import load_label_table
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import listed
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import LabelTable
from sam2ft.core.parallel import parallel_map
from sam2ft.core.tables.rows import SCHEMA_VERSION, TABLES, Row, sort_key, stamped
from sam2ft.data.formats.readers import stem_of
from sam2ft.data.images.grids import Volume
from sam2ft.data.store.metadata import GRID_FIELDS
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.evaluation.masks.exported import NO_NAMES, NnunetNames, names_beside
from sam2ft.evaluation.masks.inputs import DICOM_SUFFIXES, SHOWN, digest, find_predictions
from sam2ft.evaluation.masks.naming import relabelled, unnamed, without_names
from sam2ft.evaluation.masks.placing import PlacedMask, placed_pair, read_labels, read_stored_prediction
from sam2ft.evaluation.masks.settings import Scoring
from sam2ft.evaluation.outputs.pictures import draw_pictures
from sam2ft.evaluation.outputs.tables import with_cohort, write_cohort_tables
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.factory import VERSIONS, load_metrics, metric_versions, metrics_with_met_needs
from sam2ft.metrics.measurement import Metric
from sam2ft.metrics.scoring import Scene, score_volume
from sam2ft.runs.layout import RUNS, EvalLayout, scored_evaluation
from sam2ft.runs.stores import open_fold

PROTOCOL = "masks"
"""Column `protocol` of masks that were not predicted from prompts of sam2ft."""


@dataclass(frozen=True)
class Scored:
    """Output of a scoring: folder, run and tables."""

    evaluation: EvalLayout
    run: str
    tables: Mapping[str, Sequence[Row]]
    """Table name -> its rows; biomarker tables only if a biomarker was computed."""


@dataclass(frozen=True)
class _Masks:
    """Both label maps of a volume on its grid, and its scene (geometry, labels, maps)."""

    prediction_zyx: LabelMap
    reference_zyx: LabelMap
    scene: Scene
    placed: PlacedMask
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """One volume to be scored; its arrays are read only when it is scored."""

    key: VolumeKey
    split: str
    prediction: Path
    reference_digest: str
    read: Callable[[], _Masks]
    names: NnunetNames = NO_NAMES

    @property
    def prediction_digest(self) -> str:
        """Of the prediction and of what its integers mean, if that is not the store alone."""
        about, found = self.names.identity(), digest(self.prediction)
        return found if about is None else sha256_text(canonical_json([found, about]))


def score_pair(
    reference: Path,
    prediction: Path,
    *,
    labels: Path | None = None,
    out: Path | None = None,
    scoring: Scoring | None = None,
) -> Scored:
    """Score one label-map file against another on the same grid.

    Args:
        labels: a YAML file with the single key `labels:`; without it every non-zero integer in either mask is a label.

    Raises:
        DataError: a file is unreadable, the grids differ, or the label table lacks a label.
    """
    table = None if labels is None else load_label_table(labels)
    chosen = scoring or Scoring()
    key = VolumeKey("files", *(stem_of(path.name, DICOM_SUFFIXES) for path in (reference, prediction)))

    def read() -> _Masks:
        volume = read_labels(reference, chosen.reading, table)
        other = read_labels(prediction, chosen.reading.of_masks, table, volume)
        volume, mask = placed_pair(reference, volume, prediction, other, resample=chosen.resample)
        predicted, referred, known, notes = _pair_labels((reference, volume), (prediction, mask.volume), table)
        return _Masks(predicted, referred, Scene(volume.geometry, known, dicom=volume.slices), mask, notes)

    return _score([_Case(key, "", prediction, digest(reference), read)], table, chosen, out)


def _pair_labels(
    reference: tuple[Path, Volume], prediction: tuple[Path, Volume], table: LabelTable | None
) -> tuple[LabelMap, LabelMap, LabelTable, tuple[str, ...]]:
    """(prediction, reference, their labels, notes) of a pair; without a table every integer is a label."""
    every: list[str] = []
    maps: list[LabelMap] = []
    known, of_names = (table, ()) if table is not None else unnamed(reference, prediction)
    for path, mask in (prediction, reference):
        found, notes = relabelled(path, mask if table is not None else without_names(mask), known)
        maps.append(found)
        every = [*(f"{path.name}: {note}" for note in (*mask.notes, *notes)), *every]
    return maps[0], maps[1], known, tuple(dict.fromkeys((*every, *of_names)))


def score_store(
    predictions: Path,
    data: Path,
    *,
    split: str = "test",
    fold: int | None = None,
    out: Path | None = None,
    scoring: Scoring | None = None,
    workers: int = 1,
) -> Scored:
    """Score the files found by `find_predictions` against the masks of a split of the store `data`.

    Args:
        fold: whose split it is, in a store with folds; None: of fold 0.
        workers: number of processes; the tables do not depend on it.

    Raises:
        DataError: volumes have no prediction, or their prediction cannot be scored; the message names them. Nothing is
            written.
    """
    store, chosen = open_fold(data, fold), scoring or Scoring()
    records = store.split_volumes(split)
    found = find_predictions(predictions, records)
    if found.others:
        print(f"not scored, of no volume of split {split}: {listed(found.others, SHOWN)}", file=sys.stderr)

    cases, names = [], names_beside(predictions, store.name, store.labels)
    for record in records:
        path = found.paths[record.key]
        read = partial(_masks_of_store, store, record, path, chosen, names)
        cases.append(_Case(record.key, record.split, path, record.digest, read, names))

    def predicted(key: VolumeKey) -> LabelMap:
        return _prediction_of(store, store.record(key), found.paths[key], chosen, names)[0]

    def draw(scored: Scored) -> None:
        if num_pictures := chosen.evaluation.qc_slices:
            draw_pictures(scored.evaluation, scored.tables["slice"], {store.name: store}, num_pictures, predicted)

    return _score(cases, store.labels, chosen, out, workers, draw)


def _masks_of_store(
    store: Store, record: VolumeRecord, prediction: Path, scoring: Scoring, names: NnunetNames
) -> _Masks:
    store.verify([record])
    maps = {name: store.map(record.key, name) for name in record.maps}
    file, representative = scoring.datamodule.stats_metadata_file, scoring.datamodule.metric.representative_slice
    every = record.dicom if file is None else GRID_FIELDS
    fields = every if scoring.dicom_fields is None else scoring.dicom_fields
    described = MetadataSource.of(fields, representative, file).describe(record)
    reference: LabelMap = np.asarray(store.mask(record.key))
    slices = None if scoring.evaluation.include_empty_slices else [i for i, mask in enumerate(reference) if mask.any()]
    predicted, mask, notes = _prediction_of(store, record, prediction, scoring, names)
    scene = Scene(
        described.geometry,
        store.labels,
        maps,
        described.dicom,
        slices,
        reference_instances_zyx=store.instances(record.key),
        instances_min_mm3=record.instances_min_mm3,
        labelled=record.labelled,
    )
    return _Masks(predicted, reference, scene, mask, notes)


def _prediction_of(
    store: Store, record: VolumeRecord, path: Path, scoring: Scoring, names: NnunetNames
) -> tuple[LabelMap, PlacedMask, tuple[str, ...]]:
    """(the prediction of a volume in the labels of the store, how it was placed, notes)."""
    reference = Volume(np.asarray(store.mask(record.key)), record.geometry, record.dicom)
    mask = read_stored_prediction(
        path,
        record,
        reference,
        resample=scoring.resample,
        reading=scoring.reading,
        table=store.labels,
        on_slices_of_store=names.exported,
    )
    volume = mask.volume if mask.volume.segments else replace(mask.volume, segments=names.segments)
    as_given = "instances" in record.arrays and not names.segments
    predicted, notes = relabelled(path, volume, store.labels, as_given=as_given)
    return predicted, mask, (*mask.volume.notes, *notes)


def _score(
    cases: Sequence[_Case],
    labels: LabelTable | None,
    scoring: Scoring,
    out: Path | None,
    workers: int = 1,
    draw: Callable[[Scored], None] = lambda _: None,
) -> Scored:
    """Score all cases; then write every table, the wide views and pictures, then `_SUCCESS`."""
    against = {
        "rows": SCHEMA_VERSION,
        "references": [[str(case.key), case.reference_digest] for case in cases],
        "labels": None if labels is None else labels.to_json(),
        "settings": scoring.settings.identity(),
        **scoring.identity(),
    }
    digests = [case.prediction_digest for case in cases]
    evaluation_id = sha256_text(canonical_json(against))[:12]
    run = f"scored-{sha256_text(canonical_json({**against, 'predictions': digests}))[:12]}"
    protocol = PROTOCOL if scoring.evaluation.include_empty_slices else f"{PROTOCOL}+nonempty"
    rows: dict[str, list[Row]] = {}
    shares: dict[str, float] = {}
    covered: dict[str, float] = {}
    notes: list[str] = []
    all_found = parallel_map(partial(_rows_of, scoring), cases, workers)
    for number, (case, (found, masks)) in enumerate(zip(cases, all_found, strict=True), start=1):
        stamp = {"run": run, "eval": evaluation_id, "split": case.split, "protocol": protocol}
        for name, of_table in found.items():
            rows.setdefault(name, []).extend(stamped(of_table, **stamp))
        note = ""
        if masks.inside is not None:
            shares[str(case.key)] = masks.inside
            note = f", resampled from another grid, {masks.inside:.1%} of its labelled voxels lie inside"
        if masks.covered is not None:
            covered[str(case.key)] = masks.covered
            note += f", and {masks.covered:.1%} of those of the reference inside its grid"
        notes += [f"{case.key}: {one}" for one in masks.notes]
        print(f"scored {case.key} ({number}/{len(cases)}){note}", file=sys.stderr)
        print("".join(f"note: {case.key}: {one}\n" for one in masks.notes), end="", file=sys.stderr)
    ordered = {name: sorted(found, key=partial(sort_key, TABLES[name])) for name, found in rows.items()}
    evaluation = scored_evaluation(run, RUNS) if out is None else EvalLayout(out)
    scored = Scored(evaluation, run, {name: list(found) for name, found in with_cohort(ordered).items()})
    evaluation.success.unlink(missing_ok=True)
    tables = write_cohort_tables(evaluation, scored.tables, scoring.evaluation.plain_cells)
    draw(scored)
    about = {"run": run, "eval": evaluation_id, "num_volumes": len(cases), "resampled": list(shares), "tables": tables}
    about |= {"share_inside": shares, "share_covered": covered, "notes": notes}
    about[VERSIONS] = metric_versions(str(row["biomarker"]) for row in scored.tables.get("biomarker_volume", ()))
    write_sealed_json(evaluation.success, about)
    return scored


@dataclass(frozen=True)
class _Read:
    """How the mask of a case was read; without the arrays, which stay in their process."""

    inside: float | None
    covered: float | None
    notes: tuple[str, ...]


def _rows_of(scoring: Scoring, case: _Case) -> tuple[dict[str, list[Row]], _Read]:
    """(rows of a case by table, how its mask was read)."""
    masks = case.read()
    scene = masks.scene
    metrics: Sequence[Metric]
    if scoring.func is not None:
        metrics = load_metrics(scoring.func)
    else:
        tissues = scoring.settings.tissues
        metrics = metrics_with_met_needs(scene.labels, tissues, maps=scene.maps, dicom_fields=scene.dicom)
    rows = score_volume(case.key, masks.prediction_zyx, masks.reference_zyx, scene, (), metrics, scoring.settings)
    return rows, _Read(masks.placed.inside, masks.placed.covered, masks.notes)
