"""DICOM segmentations beside the predictions of an evaluation."""

import shutil
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
from sam2ft.phantom.dicom import DicomSeries, write_series

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
