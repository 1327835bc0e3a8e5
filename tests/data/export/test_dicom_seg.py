"""Predictions beside their DICOM series: as NIfTI at the same place, and as a DICOM segmentation of it."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.dataset import Reading
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.data.export import dicom_seg
from sam2ft.data.export.dicom_seg import refuse_without_highdicom
from sam2ft.data.export.source_series import source_series, write_segmentation
from sam2ft.data.images.grids import Volume, on_grid
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import read_placed_mask
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.prepare.relabel import relabelled_volume
from sam2ft.data.store.index import record_path
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.phantom.dicom import DicomSeries, write_series

SHAPE = (5, 12, 10)
DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {3: {name: cartilage, interface: bone}, 7: {name: bone}}
split: {train: 0.5, val: 0.25, test: 0.25, seed: 1}
"""


def oblique() -> Geometry:
    """Turned about two axes; voxels of 0.6 x 0.4 mm, 2.5 mm apart."""
    a, b = np.deg2rad([25.0, -40.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([0.4, 0.6, 2.5])
    affine[:3, 3] = (-31.2, 14.7, 88.05)
    return Geometry.from_affine(SHAPE, affine)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One subject with an oblique series, whose instances are numbered in an order unlike position."""
    geometry = oblique()
    image = np.random.default_rng(0).integers(0, 900, size=(1, *SHAPE)).astype(np.float32)
    write_series(tmp_path / "dicom" / "a", image, geometry, DicomSeries("a", 4, "PD", seed=11))
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[2, 3:6, 3:6] = 3
    write_nifti(tmp_path / "masks" / "a.nii.gz", mask, geometry)
    (tmp_path / "dataset.yaml").write_text(DATASET)
    prepare_dataset(load_dataset(tmp_path / "dataset.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    return Store.open(tmp_path / "store")


def prediction() -> Any:
    """(5, 12, 10), nothing in slices 0 and 4; unlike itself when turned or mirrored."""
    mask = np.zeros(SHAPE, dtype=np.uint16)
    mask[1, 2:5, 1:7] = 3
    mask[2, 6:11, 5:7] = 7
    mask[3, 0:2, 8:10], mask[3, 11, 0] = 7, 3
    return mask


def headers(folder: Path) -> dict[str, pydicom.Dataset]:
    return {str(one.SOPInstanceUID): one for one in map(pydicom.dcmread, folder.iterdir())}


def centre_lps(header: Any, x: int, y: int) -> Any:
    """PS3.3 C.7.6.2.1.1, by hand: where the centre of column x and row y lies."""
    along_x, along_y = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    row_distance, column_distance = (float(value) for value in header.PixelSpacing)
    position = np.array(header.ImagePositionPatient, dtype=float)
    return position + along_x * column_distance * x + along_y * row_distance * y


def test_voxels_of_a_nifti_prediction_lie_where_the_pixels_of_the_series_do(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    write_nifti(tmp_path / "p.nii.gz", prediction(), record.geometry)
    image = nibabel.load(tmp_path / "p.nii.gz")
    values = np.asarray(image.dataobj)
    by_place = sorted(headers(tmp_path / "dicom" / "a").values(), key=lambda one: centre_lps(one, 0, 0) @ normal(one))
    for affine in (image.affine, image.get_qform()):
        for z, header in enumerate(by_place):
            for x, y in ((0, 0), (9, 0), (0, 11), (6, 4)):
                right, anterior, superior = (affine @ [x, y, z, 1])[:3]
                assert np.abs(np.array([-right, -anterior, superior]) - centre_lps(header, x, y)).max() < 1e-3
                assert values[x, y, z] == prediction()[z, y, x]


def test_what_is_written_is_read_back_as_a_mask_of_the_series_to_the_same_voxels(store: Store, tmp_path: Path) -> None:
    """Also where the slices of the store lie across another axis than those of the series."""
    (record,) = store.volumes
    write_segmentation(tmp_path / "a.seg.dcm", prediction(), store.labels, record, "run x, box")
    changes = {label: label for label in store.labels.ids}
    for axis in ("auto", "0", "1"):
        image = read_volume(tmp_path / "dicom" / "a", reading=Reading(slice_axis=axis))
        mask = read_placed_mask(tmp_path / "a.seg.dcm", image, meaning=Meaning(store.labels))
        found = relabelled_volume(mask, store.labels, changes)[0]
        back = on_grid(Volume(found, image.geometry), record.geometry)
        assert np.array_equal(back.array_zyx, prediction())


def normal(header: Any) -> Any:
    along_x, along_y = np.array(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return np.cross(along_x, along_y)


def test_a_segmentation_has_the_labels_the_pixels_and_the_places_of_the_prediction(
    store: Store, tmp_path: Path
) -> None:
    import highdicom

    (record,) = store.volumes
    path = tmp_path / "out" / "a.seg.dcm"
    assert write_segmentation(path, prediction(), store.labels, record, "run x, box")
    found = highdicom.seg.segread(path)
    assert [(one.SegmentNumber, one.SegmentLabel, one.SegmentDescription) for one in found.SegmentSequence] == [
        (1, "cartilage", "label 3: cartilage"), (2, "bone", "label 7: bone"),
    ]  # fmt: skip
    series = headers(tmp_path / "dicom" / "a")
    first = next(iter(series.values()))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert found[keyword].value == first[keyword].value
    assert found.SeriesInstanceUID != first.SeriesInstanceUID
    assert found.ContentDescription == "run x, box"
    # One frame per slice and label that is there; each says which image it belongs to, and where it lies.
    expected = {(z, label): prediction()[z] == label for z, label in ((1, 3), (2, 7), (3, 3), (3, 7))}
    seen = {}
    for frame, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
        of_image = series[frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID]
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        assert np.abs(position - centre_lps(of_image, 0, 0)).max() < 1e-3
        index = round(float((position - origin_lps(record)) @ normal(of_image) / 2.5))
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen[index, store.labels.ids[number - 1]] = pixels.astype(bool)
    assert seen.keys() == expected.keys()
    assert all((seen[key] == expected[key]).all() for key in expected)
    shared = found.SharedFunctionalGroupsSequence[0]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(first.PixelSpacing)
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == list(first.ImageOrientationPatient)


def origin_lps(record: VolumeRecord) -> Any:
    return record.geometry.affine[:3, 3] * [-1, -1, 1]


def test_what_is_written_already_is_left_alone_and_another_prediction_is_not(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    path = tmp_path / "a.seg.dcm"
    assert write_segmentation(path, prediction(), store.labels, record, "x")
    before = path.read_bytes()
    assert not write_segmentation(path, prediction(), store.labels, record, "x")
    assert path.read_bytes() == before
    assert write_segmentation(path, np.flip(prediction()), store.labels, record, "x")


def test_an_empty_prediction_is_a_segmentation_without_a_pixel(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    assert write_segmentation(tmp_path / "a.dcm", np.zeros(SHAPE, dtype=np.uint16), store.labels, record, "x")
    assert not pydicom.dcmread(tmp_path / "a.dcm").pixel_array.any()


def test_a_series_that_lacks_attributes_of_the_person_can_be_segmented(store: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "dicom" / "a").iterdir():
        header = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyDate"):
            delattr(header, keyword)
        header.save_as(path)
    (record,) = store.volumes
    assert write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")


def test_the_series_is_found_where_it_was_prepared_from(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    assert source_series(record) == tmp_path / "dicom" / "a"
    shutil.rmtree(tmp_path / "dicom" / "a")
    with pytest.raises(
        DataError,
        match=r"store: its original images are not where .* says \(sources.images: no file matches .*dicom",
    ):
        source_series(record)


def test_another_series_in_its_place_is_refused(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    shutil.rmtree(tmp_path / "dicom" / "a")
    image = np.ones((1, *SHAPE), dtype=np.float32)
    write_series(tmp_path / "dicom" / "a", image, oblique(), DicomSeries("a", 5, "PD", seed=11))
    with pytest.raises(DataError, match="another series than the one that toy/a/image was prepared from"):
        write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")
    shutil.rmtree(tmp_path / "dicom" / "a")
    write_series(tmp_path / "dicom" / "a", image[:, :4], Geometry.from_affine((4, 12, 10), oblique().affine), same())
    with pytest.raises(DataError, match=r"no longer what toy/a/image was prepared from: .*shape"):
        write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")


def same() -> DicomSeries:
    return DicomSeries("a", 4, "PD", seed=11)


def test_a_volume_that_was_no_series_is_refused(six_subjects: Path) -> None:
    record = Store.open(six_subjects).volumes[0]
    with pytest.raises(
        DataError, match="comes from no file of a DICOM series; a DICOM segmentation needs a DICOM series"
    ):
        source_series(record)


def test_a_store_that_does_not_know_its_images_says_so_and_is_prepared_again(store: Store, tmp_path: Path) -> None:
    (record,) = store.volumes
    path = record_path(store.path, record.stem)
    content = json.loads(path.read_text())
    del content["source_image"], content["content_sha256"]  # as early versions wrote it
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="does not record the source image"):
        source_series(record)
    prepare_dataset(load_dataset(tmp_path / "dataset.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    assert source_series(Store.open(store.path).volumes[0]) == tmp_path / "dicom" / "a"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_without_highdicom()
    monkeypatch.setattr(dicom_seg, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"eval\.dicom_seg: needs the package highdicom"):
        refuse_without_highdicom()


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_a_store_with_other_slices_than_the_series_gives_the_same_segmentation(
    store: Store, tmp_path: Path, axes
) -> None:
    (record,) = store.volumes
    write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")
    # The same voxels, cut into slices across another axis (slice_axis of the dataset file).
    columns = [2 - axis for axis in axes[::-1]]
    affine = record.geometry.affine[:, [*columns, 3]]
    shape = tuple(record.geometry.shape_zyx[axis] for axis in axes)
    turned = dataclasses.replace(record, geometry=Geometry.from_affine(shape, affine))
    path = record_path(store.path, record.stem)
    content = read_json(path) | {"geometry": turned.geometry.to_json()}
    write_sealed_json(path, content)
    write_segmentation(tmp_path / "b.dcm", prediction().transpose(axes), store.labels, turned, "x")
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert first.PixelData == second.PixelData
    assert first.SOPInstanceUID == second.SOPInstanceUID


def drop(*keywords: str) -> Any:
    def change(header: pydicom.Dataset) -> None:
        for keyword in keywords:
            delattr(header, keyword)

    return change


def empty(keyword: str) -> Any:
    return lambda header: setattr(header, keyword, "")


def one_identity(header: pydicom.Dataset) -> None:
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"


def private_class(header: pydicom.Dataset) -> None:
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.3.46.670589.11.0.0.12.1"


LACKING = [
    (drop("FrameOfReferenceUID"), "without FrameOfReferenceUID in its DICOM series"),
    (drop("StudyInstanceUID"), "without StudyInstanceUID in its DICOM series"),
    (empty("StudyInstanceUID"), "without StudyInstanceUID in its DICOM series"),
    (drop("FrameOfReferenceUID", "StudyInstanceUID"), "without FrameOfReferenceUID and StudyInstanceUID in its"),
    (one_identity, "with one SOPInstanceUID for several images of its DICOM series"),
    (private_class, "with a private SOPClassUID in its DICOM series"),
]


@pytest.mark.parametrize(("change", "message"), LACKING)
def test_a_series_without_what_a_study_needs_is_refused_by_the_name_of_its_volume(
    store: Store, tmp_path: Path, change: Any, message: str
) -> None:
    (record,) = store.volumes
    for path in source_series(record).iterdir():
        header = pydicom.dcmread(path)
        change(header)
        header.save_as(path, enforce_file_format=True)
    with pytest.raises(DataError, match=rf"^toy/a/image: {message}.* no segmentation can be added to the study$"):
        write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")


@pytest.mark.parametrize("emptied", [("SOPClassUID",), ("SOPInstanceUID",), ("SOPClassUID", "SOPInstanceUID")])
def test_identities_that_only_the_meta_information_of_a_file_has_are_taken_from_there(
    store: Store, tmp_path: Path, emptied: tuple[str, ...]
) -> None:
    (record,) = store.volumes
    write_segmentation(tmp_path / "a.dcm", prediction(), store.labels, record, "x")
    for path in source_series(record).iterdir():
        header = pydicom.dcmread(path)
        for keyword in emptied:
            setattr(header, keyword, "")
        header.save_as(path)
    write_segmentation(tmp_path / "b.dcm", prediction(), store.labels, record, "x")
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert first.PixelData == second.PixelData
    for one, other in zip(first.PerFrameFunctionalGroupsSequence, second.PerFrameFunctionalGroupsSequence, strict=True):
        assert one.DerivationImageSequence == other.DerivationImageSequence
