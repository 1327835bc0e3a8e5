"""The originals of a store: found by its dataset file and key, and what is said when one of them is away."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.export.source_series import source_series, write_segmentation
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare.originals import originals
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.key_file import write_key
from sam2ft.data.store.store import Store
from sam2ft.phantom.dicom import DicomSeries, write_series

SHAPE = (3, 8, 10)
DATASET = """\
dataset: {name: toy}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: disc}}
split: {train: 1, val: 0, test: 0}
"""


def make(folder: Path, more: str = "", base: Path | None = None) -> Store:
    """Subjects Mia and Noah below `folder`, with the dataset file there too."""
    for number, subject in enumerate(("Mia", "Noah")):
        geometry = Geometry.axis_aligned(SHAPE, (3.0, 0.5, 0.5))
        image = np.random.default_rng(number).integers(0, 900, size=(1, *SHAPE)).astype(np.float32)
        write_series(folder / "dicom" / subject, image, geometry, DicomSeries(subject, 1, "PD", seed=number))
        write_nifti(folder / "masks" / f"{subject}.nii.gz", np.ones(SHAPE, np.uint8), geometry)
    (folder / "dataset.yaml").write_text(DATASET + more)
    out = (base or folder) / "stores" / "toy"
    prepare_dataset(load_dataset(folder / "dataset.yaml"), folder, out, lambda *_: None)
    return Store.open(out)


def recorded(store: Store) -> dict[str, str]:
    return dict(json.loads((store.path / "store.json").read_text())["names"])


@pytest.mark.parametrize("subject_id", ["hash", "table"])
def test_a_segmentation_of_a_subject_without_its_name_needs_the_dataset_file(tmp_path: Path, subject_id: str) -> None:
    (tmp_path / "names.csv").write_text("given,subject\nMia,P1\nNoah,P2\n")
    table = "subject_table: names.csv\n" if subject_id == "table" else ""
    store = make(tmp_path, f"subject_id: {subject_id}\n{table}")
    record = store.volumes[0]
    assert not {"dataset_file", "base"} & recorded(store).keys()
    with pytest.raises(DataError, match=r"does not say where its original images are; name .* eval\.dicom_sources"):
        source_series(record)
    found = originals(store.path, [tmp_path / "dataset.yaml"])
    names = {path.name for path in found.images.values()}
    assert names == {"Mia", "Noah"}
    mask = np.zeros(SHAPE, np.uint16)
    mask[1, 2:4, 2:5] = 1
    assert write_segmentation(tmp_path / "a.dcm", mask, store.labels, record, "x", found)
    written = pydicom.dcmread(tmp_path / "a.dcm")
    original = pydicom.dcmread(next(found.images[record.key].iterdir()))
    assert written.PatientName == original.PatientName
    assert written.pixel_array.sum() == 6
    # The series of another subject in its place is not taken for it.
    swapped = dict(zip(found.images, reversed(found.images.values()), strict=True))
    with pytest.raises(
        DataError,
        match=r"^toy/s-\w+/image: its DICOM series is not the one|^toy/P1/image: its DICOM series is not the one",
    ):
        write_segmentation(tmp_path / "b.dcm", mask, store.labels, record, "x", type(found)(swapped, found.names))


def test_what_is_away_is_said_in_one_line(tmp_path: Path) -> None:
    store = make(tmp_path, "subject_id: hash\n")
    files = [tmp_path / "dataset.yaml"]
    record = store.volumes[0]
    series = source_series(record, originals(store.path, files))
    shutil.move(series, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"^toy/s-\w+/image: its series is no longer where the dataset file says"):
        source_series(record, originals(store.path, files))
    shutil.move(tmp_path / "elsewhere", series)
    (tmp_path / "toy.key").rename(tmp_path / "away.key")
    with pytest.raises(DataError, match=r"^[^\n]*toy\.key: no such key file; bring it back[^\n]*$"):
        originals(store.path, files)
    write_key(tmp_path / "toy.key")
    with pytest.raises(DataError, match=r"^[^\n]*toy\.key: is not the key of [^\n]*$"):
        originals(store.path, files)
    (tmp_path / "away.key").rename(tmp_path / "toy.key")
    shutil.rmtree(tmp_path / "dicom")
    with pytest.raises(DataError, match=r"^[^\n]*original images are not where [^\n]*eval\.dicom_seg: false$"):
        originals(store.path, files)


def test_with_names_as_given_the_store_leads_to_its_dataset_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path)
    assert recorded(store)["dataset_file"] == "../../dataset.yaml"
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    os.rename(tmp_path, moved)  # all together: nothing absolute is recorded
    monkeypatch.chdir("/")
    (record, _) = Store.open(moved / "stores" / "toy").volumes
    assert source_series(record) == moved / "dicom" / "Mia"
    (moved / "dataset.yaml").rename(moved / "other.yaml")
    with pytest.raises(DataError, match=r"its dataset file is no longer in .*eval\.dicom_sources"):
        source_series(record)
    assert source_series(record, originals(record.folder, [moved / "other.yaml"])) == moved / "dicom" / "Mia"
    other = (moved / "other.yaml").read_text().replace("name: toy", "name: tay")
    (moved / "dataset.yaml").write_text(other)
    with pytest.raises(DataError, match="is no longer the dataset file of 'toy'"):
        source_series(record)


def test_a_dataset_file_outside_of_what_the_store_is_part_of_is_not_named(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    store = make(tmp_path, base=elsewhere)
    assert recorded(store).keys() == {"subject_id", "key_id"}
    assert tmp_path.name not in (store.path / "store.json").read_text()


@pytest.mark.parametrize("chosen", ["by line", "for all"])
def test_the_series_that_was_chosen_is_the_one_that_a_segmentation_belongs_to(tmp_path: Path, chosen: str) -> None:
    geometry = Geometry.axis_aligned(SHAPE, (3.0, 0.5, 0.5))
    for number in (4, 5):
        image = np.random.default_rng(number).integers(0, 900, size=(1, *SHAPE)).astype(np.float32)
        write_series(tmp_path / "one", image, geometry, DicomSeries("Mia", number, "PD", seed=number))
        for path in (tmp_path / "one").glob("IM*.dcm"):
            path.rename(tmp_path / "one" / f"{number} {path.name}")
    write_nifti(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8), geometry)
    by_line = chosen == "by line"
    header, line = ("subject,image,mask", "Mia,one,m.nii.gz")
    (tmp_path / "t.csv").write_text(f"{header},series.number\n{line},5\n" if by_line else f"{header}\n{line}\n")
    text = DATASET.replace('{images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}', "{images: t.csv}")
    (tmp_path / "dataset.yaml").write_text(text + ("" if by_line else "series: {number: 5}\n"))
    prepare_dataset(load_dataset(tmp_path / "dataset.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    (record,) = Store.open(tmp_path / "store").volumes
    labels, found = Store.open(tmp_path / "store").labels, originals(tmp_path / "store", [tmp_path / "dataset.yaml"])
    assert write_segmentation(tmp_path / "a.dcm", np.ones(SHAPE, np.uint16), labels, record, "x", found)
    written = pydicom.dcmread(tmp_path / "a.dcm")
    sources = {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "one").glob("5 *.dcm")}
    named = written.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert {one.ReferencedSOPInstanceUID for one in named} == sources
