"""Cohorts in which a label was not drawn in every volume: all other numbers stay, to the bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.box_filler import BoxFiller

from sam2ft.config.schema.evaluation import Evaluation, PromptNoise
from sam2ft.core.errors import DataError
from sam2ft.core.prompts import Box
from sam2ft.core.tables.rows import TABLES, Row, read_csv, stamped
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.samples.detections import DetectedBox
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.score import score_store
from sam2ft.evaluation.masks.settings import Scoring
from sam2ft.evaluation.outputs.tables import with_cohort, write_cohort_tables
from sam2ft.evaluation.prediction.tester import StoreVolume, Tester
from sam2ft.evaluation.protocols.boxes_file import DetectedBoxes
from sam2ft.evaluation.protocols.propagate import objects_of
from sam2ft.evaluation.protocols.protocol import protocol_class
from sam2ft.evaluation.volume_parts import EvaluationParts, check_complete, merge
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.runs.layout import EvalLayout

Cohorts = tuple[Store, Store]
METRICS = ("dice", "assd", "detection", "tissuevolume", "t2", "cartilagethickness")
STAMP = {"run": "r", "eval": "e", "split": "test", "protocol": "box"}
TABLE_NAMES = ("slice", "instance", "volume", "biomarker_slice", "biomarker_volume")
PARTLY = {"b": (1,), "d": (5,)}
"""Subject -> the labels that were drawn; a, c and e have both."""


@pytest.fixture
def cohorts(tmp_path: Path, write_store: Callable[..., Store], prepared: Callable[..., Any]) -> Cohorts:
    """Five subjects in test, with both labels, and with those of PARTLY alone where it names some."""
    split = dict.fromkeys("abcde", "test")
    whole = [prepared(name) for name in split]
    partly = []
    for one in whole:
        drawn = PARTLY.get(one.key.subject)
        mask = one.mask_zyx if drawn is None else np.where(np.isin(one.mask_zyx, drawn), one.mask_zyx, 0)
        partly.append(prepared(one.key.subject, mask_zyx=mask.astype(np.uint8), labelled=drawn))
    return write_store(tmp_path / "whole", whole, split), write_store(tmp_path / "partly", partly, split)


def evaluator(detections: Any = None, **section: Any) -> Tester:
    metrics, model = load_metrics(dict.fromkeys(METRICS, True)), BoxFiller(64)
    if detections is not None:
        chosen = Evaluation(protocol="boxes_file", boxes_file=Path("boxes.csv"), precision="fp32", **section)
        return Tester(model, DetectedBoxes(chosen, detections), metrics, ScoreSettings())
    chosen = Evaluation(precision="fp32", **section)
    return Tester(model, protocol_class(chosen.protocol)(chosen), metrics, ScoreSettings())


def rows_of(store: Store, evaluated: Tester) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {name: [] for name in TABLE_NAMES}
    for result in evaluated.evaluate(StoreVolume.of(store, record) for record in store.volumes):
        for name in TABLE_NAMES:
            found[name] += stamped(result.rows[name], **STAMP)
    return found


def is_drawn(row: Row) -> bool:
    return row["label"] in PARTLY.get(str(row["subject"]), (1, 5))


def measured_from_the_bone(row: Row) -> bool:
    """Values of b, in which the bone (5) was not drawn, that are measured from it."""
    from_bone = row.get("biomarker") == "cartilagethickness" or str(row.get("definition")).endswith(
        ("deep", "superficial")
    )
    return row["subject"] == "b" and from_bone


@pytest.mark.parametrize(
    "section",
    [
        {},
        {"instances": "per_label"},
        {"protocol": "point"},
        {"bbox_shift": 3},
        {"include_empty_slices": False},
        {"detections": "whole"},
    ],
)
def test_what_was_drawn_keeps_its_rows_and_what_was_not_has_none(cohorts: Cohorts, section: dict[str, Any]) -> None:
    whole, partly = cohorts
    if section.pop("detections", None):
        section["detections"] = detections_of(whole)
    before, after = (rows_of(store, evaluator(**section)) for store in (whole, partly))
    for name in TABLE_NAMES:
        wanted = [row for row in before[name] if is_drawn(row) and not measured_from_the_bone(row)]
        assert repr(after[name]) == repr(wanted), name
        assert wanted
        assert len(wanted) < len(before[name])
    assert {str(row["status"]) for row in after["volume"]} <= {"ok", "missed"}


def test_a_study_of_prompt_noise_leaves_out_what_was_not_drawn(cohorts: Cohorts) -> None:
    noisy = evaluator(prompt_noise=PromptNoise(shifts=(0, 2), seeds=(0, 1)))
    found = []
    for store in cohorts:
        results = noisy.evaluate(StoreVolume.of(store, record) for record in store.volumes)
        found.append([row for result in results for row in result.rows["prompt_noise"]])
    assert repr(found[1]) == repr([row for row in found[0] if is_drawn(row)])
    assert len(found[1]) == 8 * 3  # (volume, label) that were drawn; no shift, and two seeds of one


def detections_of(store: Store) -> dict[Any, tuple[DetectedBox, ...]]:
    """Boxes of both labels in every slice of every volume, also in the empty one: as a detector gives them."""
    boxes = (DetectedBox(1, Box(3, 2, 8, 5)), DetectedBox(5, Box(4, 18, 6, 20)))
    return {record.key.slice(index): boxes for record in store.volumes for index in range(4)}


@pytest.mark.parametrize("instances", ["per_instance", "per_label"])
def test_a_box_of_a_label_that_was_not_drawn_is_predicted_and_not_scored(cohorts: Cohorts, instances: str) -> None:
    partly = cohorts[1]
    evaluated = evaluator(detections_of(partly), instances=instances)
    for result in evaluated.evaluate(StoreVolume.of(partly, record) for record in partly.volumes):
        drawn = PARTLY.get(result.key.subject, (1, 5))
        assert set(np.unique(result.label_map_zyx)) == {0, 1, 5}
        statuses = {(row["label"], row["status"]) for row in result.rows["instance"]}
        # Slice 0 is empty: a box there is spurious, of a label that was drawn.
        assert statuses >= {(label, "spurious") for label in drawn}
        assert {label for label, _ in statuses} == set(drawn)


def test_an_object_that_was_not_drawn_is_not_propagated(cohorts: Cohorts) -> None:
    for record in cohorts[1].volumes:
        found = objects_of(np.asarray(cohorts[1].mask(record.key)), (1, 5), "per_instance", "largest")
        assert {one.label for one in found.listed} == set(PARTLY.get(record.key.subject, (1, 5)))


@pytest.mark.parametrize("include_empty", [True, False])
def test_an_evaluation_is_complete_without_what_was_not_drawn(
    cohorts: Cohorts, tmp_path: Path, include_empty: bool
) -> None:
    store = cohorts[1]
    parts = EvaluationParts(EvalLayout(tmp_path / "eval"), "e", "0" * 64)
    evaluated = evaluator(include_empty_slices=include_empty)
    volumes = [StoreVolume.of(store, record) for record in store.volumes]
    for record, result in zip(store.volumes, evaluated.evaluate(volumes), strict=True):
        parts.write(record, result, STAMP)
    tables = merge(parts, store.volumes)
    check_complete(tables, store.volumes, {"toy": store}, include_empty=include_empty)
    whole = cohorts[0]
    with pytest.raises(DataError, match=r"slice rows: [0-9]+ missing, 0 not expected"):
        check_complete(tables, whole.volumes, {"toy": whole}, include_empty=include_empty)
    write_cohort_tables(parts.evaluation, with_cohort(tables))
    volume = read_csv(parts.evaluation.table("volume"), TABLES["volume"])
    assert [(row["subject"], row["label"]) for row in volume] == [
        (name, label) for name in "abcde" for label in PARTLY.get(name, (1, 5))
    ]
    wide = (parts.evaluation.wide / "volume_dice.csv").read_text().splitlines()
    assert [line.rsplit(",", 2)[1:] for line in wide] == [
        ["cartilage", "bone"], ["1.0", "1.0"], ["1.0", ""], ["1.0", "1.0"], ["", "1.0"], ["1.0", "1.0"],
    ]  # fmt: skip


def cohort_rows(store: Store) -> dict[tuple[Any, ...], Row]:
    rows = dict(with_cohort(rows_of(store, evaluator(bbox_shift=2))))
    return {(row["label_name"], row["measure"]): row for row in rows["global"]}


def test_the_cohort_counts_each_label_over_the_subjects_in_which_it_was_drawn(cohorts: Cohorts) -> None:
    before, after = map(cohort_rows, cohorts)
    assert before.keys() == after.keys()
    for (label, measure), row in after.items():
        assert row["n"] == (4 if label in ("cartilage", "bone") else 5), (label, measure)
        assert (row["n_absent"], row["n_missed"], row["n_spurious"]) == (0, 0, 0)
    volumes = rows_of(cohorts[0], evaluator(bbox_shift=2))["volume"]
    dice = {(row["subject"], row["label"]): float(row["dice"] or 0) for row in volumes}
    means = [np.mean([dice[name, label] for label in PARTLY.get(name, (1, 5))]) for name in "abcde"]
    assert after["mean_of_labels", "dice"]["mean"] == pytest.approx(np.mean(means))
    assert after["cartilage", "dice"]["mean"] == pytest.approx(np.mean([dice[name, 1] for name in "abce"]))


def predictions(store: Store, folder: Path) -> Path:
    """Masks of both labels for every volume, in one more slice than the reference has them."""
    folder.mkdir()
    for record in store.volumes:
        mask = np.array(store.mask(record.key))
        mask[0] = mask[1]
        write_nifti(folder / f"{record.key.file_stem}.nii.gz", mask, record.geometry)
    return folder


@pytest.mark.parametrize("include_empty", [True, False])
def test_masks_made_elsewhere_are_scored_alike(cohorts: Cohorts, tmp_path: Path, include_empty: bool) -> None:
    masks = predictions(cohorts[0], tmp_path / "masks")
    scoring = Scoring(Evaluation(qc_slices=4, include_empty_slices=include_empty))
    before, after = (
        score_store(masks, store.path, scoring=scoring, out=tmp_path / f"scored-{store.path.name}") for store in cohorts
    )
    for name in ("slice", "volume", "biomarker_volume"):
        wanted = [row for row in before.tables[name] if is_drawn(row) and not measured_from_the_bone(row)]
        changed = ("run", "eval")  # another content of the store
        found = [{key: value for key, value in row.items() if key not in changed} for row in after.tables[name]]
        assert repr(found) == repr([{key: row[key] for key in row if key not in changed} for row in wanted])
    assert {row["eval"] for row in after.tables["volume"]} != {row["eval"] for row in before.tables["volume"]}
    # Pictures show as an error what is scored as one: of b and d nothing of the label that was not drawn.
    entries = json.loads((after.evaluation.qc / "index.json").read_text())
    named = {(entry["subject"], label["label"]) for entry in entries for label in entry.get("labels", ())}
    assert named
    assert not {("b", 5), ("d", 1)} & named
    # The files of the masks are as they were.
    assert set(np.unique(read_volume(masks / "b__image.nii.gz").array_zyx)) == {0, 1, 5}


def test_pictures_show_no_error_of_a_label_that_was_not_drawn(cohorts: Cohorts, tmp_path: Path) -> None:
    """They are those of masks that do not hold it at all."""
    masks = predictions(cohorts[0], tmp_path / "masks")
    without = predictions(cohorts[1], tmp_path / "without")
    pictures = []
    for folder in (masks, without):
        out = tmp_path / f"{folder.name}-scored"
        scored = score_store(folder, cohorts[1].path, scoring=Scoring(Evaluation(qc_slices=6)), out=out)
        pictures.append({path.name: path.read_bytes() for path in sorted(scored.evaluation.qc.rglob("*.*"))})
    assert pictures[0] == pictures[1]
    assert any(name.endswith(".svg") for name in pictures[0])
