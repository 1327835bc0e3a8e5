"""DICOM segmentations beside the predictions of an evaluation."""

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
from sam2ft.evaluation.outputs.dicom_seg import refuse_without_dicom
from sam2ft.phantom.dicom import DicomSeries, write_series
from tests.fixtures.damaged_kinds import KINDS

pytestmark = pytest.mark.sam2
DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: disc}, 2: {name: bar}}
split: {file: split.json}
"""


@pytest.fixture
def from_series(toy):
    """The toy with a store prepared from DICOM series of the same images."""
    store = Store.open(toy.store)
    for record in store.volumes:
        image = np.asarray(store.image(record.key), dtype=np.float32)[None]
        series = DicomSeries(record.key.subject, 1, "PD", seed=3)
        write_series(toy.folder / "dicom" / record.key.subject, image, record.geometry, series)
        write_nifti(toy.folder / "masks" / f"{record.key.subject}.nii.gz", store.mask(record.key), record.geometry)
    splits = {name: [r.key.subject for r in store.volumes if r.split == name] for name in ("train", "val", "test")}
    (toy.folder / "split.json").write_text(str(splits).replace("'", '"'))
    (toy.folder / "dataset.yaml").write_text(DATASET)
    shutil.rmtree(toy.store)
    prepare_dataset(load_dataset(toy.folder / "dataset.yaml"), toy.folder, toy.store, lambda *_: None)
    return toy


def test_a_finished_evaluation_gets_its_segmentations_when_they_are_asked_for(from_series, capsys):
    settings = ("module.image_size=64", "eval.precision=fp32", "module.visualize=false")
    request = CheckpointRequest(from_series.weights, (from_series.store,), None, settings)
    plain = evaluate_checkpoint(request)
    assert not list(plain.folder.rglob("*.dcm"))
    tables = {path.name: path.read_bytes() for path in plain.folder.rglob("*.csv")}
    asked = CheckpointRequest(from_series.weights, (from_series.store,), None, (*settings, "eval.dicom_seg=true"))
    capsys.readouterr()
    assert evaluate_checkpoint(asked).folder == plain.folder
    said = capsys.readouterr().err
    assert "evaluated" not in said
    assert "2 of 2 predictions written as DICOM-SEG" in said
    assert {path.name: path.read_bytes() for path in plain.folder.rglob("*.csv")} == tables
    for subject in "ef":
        predicted = np.asarray(nibabel.load(next(plain.folder.rglob(f"{subject}*.nii.gz"))).dataobj)
        found = pydicom.dcmread(next(plain.folder.rglob(f"{subject}*.seg.dcm")))
        assert found.pixel_array.sum() == (predicted > 0).sum() > 0
    evaluate_checkpoint(asked)
    assert "0 of 2 predictions written" in capsys.readouterr().err


def test_a_store_without_series_is_refused_before_anything_is_evaluated(toy, tmp_path: Path):
    settings = ("module.image_size=64", "eval.dicom_seg=true")
    request = CheckpointRequest(toy.weights, (toy.store,), None, settings, tmp_path / "out")
    with pytest.raises(DataError, match="toy/e/image: comes from no file"):
        evaluate_checkpoint(request)
    assert not (tmp_path / "out").exists()


def uneven(folder: Path) -> str:
    text, files = KINDS["series"].write(folder)
    header = pydicom.dcmread(files[1])
    header.ImagePositionPatient = [*header.ImagePositionPatient[:2], float(header.ImagePositionPatient[2]) + 0.9]
    header.save_as(files[1])
    return f"{text}irregular: resample\n"


def of_no_study(folder: Path) -> str:
    text, files = KINDS["series"].write(folder)
    for path in files:
        header = pydicom.dcmread(path)
        header.StudyInstanceUID = ""
        header.save_as(path)
    return text


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda folder: KINDS["mosaic"].write(folder)[0], "its slices are tiles of mosaic images"),
        (uneven, "its slices were resampled to even distances"),
        (of_no_study, "without .*StudyInstanceUID"),
    ],
    ids=["mosaic", "uneven", "no study"],
)
def test_a_series_that_no_segmentation_can_refer_to_is_refused_before_the_prediction(
    tmp_path: Path, write: Callable[[Path], str], reason: str
):
    (tmp_path / "dataset.yaml").write_text(write(tmp_path))
    summary = prepare_dataset(load_dataset(tmp_path / "dataset.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    assert not summary.refused
    with pytest.raises(DataError, match=reason):
        refuse_without_dicom(Store.open(tmp_path / "store").volumes, [tmp_path / "dataset.yaml"])
