"""Masks of other kinds are scored as the label map that they are."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.export.source_series import write_segmentation
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.score import score_pair, score_store
from sam2ft.evaluation.masks.settings import scoring_of
from sam2ft.phantom.dicom import DicomSeries, write_series

SHAPE = (5, 12, 10)
DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {3: {name: cartilage}, 7: {name: bone}}
split: {train: 0.0, val: 0.0, test: 1.0}
"""
MASK, SEGMENTATION = "masks/a.nii.gz", "seg/a.seg.dcm"
SCORING = scoring_of(["eval.qc_slices=0"])


def geometry() -> Geometry:
    return Geometry.axis_aligned(SHAPE, (2.5, 0.6, 0.4))


def label_map(wrong: int = 0) -> Any:
    mask = np.zeros(SHAPE, dtype=np.uint16)
    mask[1, 2:5, 1:7], mask[2, 6:11, 5:7] = 3, 7
    mask[2, 0, :wrong] = 3
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of one series, its predictions as NIfTI and as DICOM-SEG in a folder each, and a label table."""
    image = np.random.default_rng(0).integers(0, 900, size=(1, *SHAPE)).astype(np.float32)
    write_series(tmp_path / "dicom" / "a", image, geometry(), DicomSeries("a", 4, "PD", seed=11))
    write_nifti(tmp_path / "masks" / "a.nii.gz", label_map(), geometry())
    (tmp_path / "ds.yaml").write_text(DATASET)
    prepare_dataset(load_dataset(tmp_path / "ds.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    store = Store.open(tmp_path / "store")
    write_nifti(tmp_path / "nifti" / "a.nii.gz", label_map(4), geometry())
    (tmp_path / "seg").mkdir()
    write_segmentation(tmp_path / "seg" / "a.seg.dcm", label_map(4), store.labels, store.volumes[0], "x")
    (tmp_path / "labels.yaml").write_text("labels: {3: {name: cartilage}, 7: {name: bone}}\n")
    return tmp_path


def scores(rows: Any) -> Any:
    return [{name: row[name] for name in ("label", "tp", "fp", "fn")} for row in rows]


def test_a_dicom_segmentation_scores_as_the_nifti_file_of_the_same_voxels(folder: Path) -> None:
    found = [
        score_store(folder / kind, folder / "store", out=folder / "out" / kind, scoring=SCORING)
        for kind in ("nifti", "seg")
    ]
    assert scores(found[0].tables["volume"]) == scores(found[1].tables["volume"])
    assert [row["fp"] for row in found[1].tables["volume"]] == [4, 0]


def test_beside_a_nifti_file_the_segmentation_is_not_used(folder: Path) -> None:
    shutil.copy(folder / "seg" / "a.seg.dcm", folder / "nifti" / "a.seg.dcm")
    found = score_store(folder / "nifti", folder / "store", out=folder / "out", scoring=SCORING)
    assert [row["fp"] for row in found.tables["volume"]] == [4, 0]


PAIRS = [(MASK, SEGMENTATION), (SEGMENTATION, MASK), (SEGMENTATION, SEGMENTATION)]


@pytest.mark.parametrize(("reference", "prediction"), PAIRS)
def test_either_mask_of_a_pair_may_be_a_segmentation(folder: Path, reference: str, prediction: str) -> None:
    found = score_pair(
        folder / reference, folder / prediction, labels=folder / "labels.yaml", out=folder / "out", scoring=SCORING
    )
    wrong = {"seg/a.seg.dcm": 4, "masks/a.nii.gz": 0}
    fp, fn = max(wrong[prediction] - wrong[reference], 0), max(wrong[reference] - wrong[prediction], 0)
    assert scores(found.tables["volume"]) == [
        {"label": 3, "tp": 18 + min(wrong[prediction], wrong[reference]), "fp": fp, "fn": fn},
        {"label": 7, "tp": 10, "fp": 0, "fn": 0},
    ]


def test_pictures_of_slices_are_a_reference_with_a_spacing_alone(folder: Path) -> None:
    from PIL import Image

    (folder / "png").mkdir()
    for index, pixels in enumerate(label_map(4).astype(np.uint8)):
        Image.fromarray(pixels).save(folder / "png" / f"{index}.png")
    with pytest.raises(DataError, match=r"give distances between slices, rows and columns in mm, .* eval --spacing-mm"):
        score_pair(folder / "png", folder / "masks" / "a.nii.gz", out=folder / "out", scoring=SCORING)
    spaced = replace(SCORING, reading=Reading(spacing_mm=(3, 1, 1)))
    rows = score_pair(folder / "png", folder / "png", out=folder / "out", scoring=spaced).tables["volume"]
    assert {row["label"]: row["volume_reference_mm3"] for row in rows} == {
        label: 3 * (label_map(4) == label).sum() for label in (3, 7)
    }


def test_pictures_of_a_volume_of_a_store_go_by_the_numbers_of_its_series(folder: Path) -> None:
    from PIL import Image

    numbers = Store.open(folder / "store").volumes[0].dicom["instanceNumber"]
    assert numbers not in (sorted(numbers), sorted(numbers, reverse=True))
    (folder / "png" / "a").mkdir(parents=True)
    (folder / "png.csv").write_text("subject,volume,path\na,image,png/a\n")
    for number, pixels in zip(numbers, label_map(4).astype(np.uint8), strict=True):
        Image.fromarray(pixels).save(folder / "png" / "a" / f"{number}.png")
    found = score_store(folder / "png.csv", folder / "store", out=folder / "out", scoring=SCORING)
    assert scores(found.tables["volume"])[0] == {"label": 3, "tp": 18, "fp": 4, "fn": 0}
    (folder / "png" / "a" / "1.png").rename(folder / "png" / "a" / "9.png")
    with pytest.raises(DataError, match="nor their numbers its InstanceNumbers"):
        score_store(folder / "png.csv", folder / "store", out=folder / "out", scoring=SCORING)


def test_a_choice_of_reading_is_part_of_the_identity() -> None:
    chosen = scoring_of([], reading=Reading(overlaps="first", segment_from=0.25))
    assert chosen.identity()["reading"] == {"overlaps": "first", "segment_from": 0.25}
    assert "reading" not in scoring_of([]).identity()
