"""DICOM segmentations are read to the voxels that they were written from, at their place, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.dicom.read_segmentation import dicom_kind
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import MaskReader, read_placed_mask
from sam2ft.data.prepare.relabel import relabelled_volume
from sam2ft.phantom.dicom import DicomSeries, write_series
from tests.fixtures.dicom_files import write_segments

SHAPE = (5, 12, 10)
TABLE = LabelTable((Label(3, "cartilage"), Label(7, "bone")))
MEANING = Meaning(TABLE)


def oblique() -> Geometry:
    a, b = np.deg2rad([25.0, -40.0])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([0.4, 0.6, 2.5])
    affine[:3, 3] = (-31.2, 14.7, 88.05)
    return Geometry.from_affine(SHAPE, affine)


def label_map() -> Any:
    """(5, 12, 10), nothing in slices 0 and 4; unlike itself when turned or mirrored."""
    mask = np.zeros(SHAPE, dtype=np.uint16)
    mask[1, 2:5, 1:7] = 3
    mask[2, 6:11, 5:7] = 7
    mask[3, 0:2, 8:10], mask[3, 11, 0] = 7, 3
    return mask


@pytest.fixture
def series(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 900, size=(1, *SHAPE)).astype(np.float32)
    write_series(tmp_path / "dicom", image, oblique(), DicomSeries("a", 4, "PD", seed=11))
    return tmp_path / "dicom"


@pytest.fixture
def image(series: Path) -> Volume:
    return read_volume(series)


def headers(folder: Path) -> list[pydicom.Dataset]:
    found = [pydicom.dcmread(path) for path in folder.iterdir()]
    for one in found:
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
            if keyword not in one:
                setattr(one, keyword, None)
        if "StudyTime" not in one:
            one.StudyTime = None
    normal = np.cross(*np.array(found[0].ImageOrientationPatient, dtype=float).reshape(2, 3))
    return sorted(found, key=lambda one: float(np.array(one.ImagePositionPatient, dtype=float) @ normal))


def numbers_of_segments() -> Any:
    found = np.zeros(SHAPE, dtype=np.uint8)
    found[label_map() == 3], found[label_map() == 7] = 1, 2
    return found


def labels(mask: Volume) -> Any:
    return relabelled_volume(mask, TABLE, MEANING.known)[0]


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("empty_frames", [True, False])
@pytest.mark.parametrize("turned", [False, True])
def test_every_kind_is_read_to_the_same_voxels(
    tmp_path: Path, series: Path, image: Volume, kind: str, empty_frames: bool, turned: bool
) -> None:
    sources, pixels = headers(series), numbers_of_segments()
    if turned:
        sources, pixels = sources[::-1], pixels[::-1]
    path = write_segments(tmp_path / "seg.dcm", sources, pixels, kind, omit_empty_frames=not empty_frames)
    assert dicom_kind(path) == "segmentation"
    mask = read_placed_mask(path, image, meaning=MEANING)
    assert np.array_equal(labels(mask), label_map())
    assert mask.geometry == image.geometry
    # Without its image too, at the same place.
    alone = MaskReader(None, meaning=MEANING).read(path)
    write_nifti(tmp_path / "alone.nii.gz", labels(alone), alone.geometry)
    again = read_placed_mask(tmp_path / "alone.nii.gz", image, Reading(grid="lattice"))
    assert np.array_equal(again.array_zyx, label_map())


def test_a_folder_with_the_file_alone_is_that_file(tmp_path: Path, series: Path, image: Volume) -> None:
    path = write_segments(tmp_path / "seg" / "any.dcm", headers(series), numbers_of_segments(), "BINARY")
    assert np.array_equal(labels(read_placed_mask(path.parent, image, meaning=MEANING)), label_map())


@pytest.mark.parametrize(("least", "voxels"), [(0.2, 3), (0.5, 2), (0.75, 1)])
def test_fractions_belong_to_a_segment_from_the_stated_one_on(
    tmp_path: Path, series: Path, image: Volume, least: float, voxels: int
) -> None:
    pixels = np.zeros((*SHAPE, 2), dtype=np.float32)
    pixels[1, 2, 3:6, 0] = (0.25, 0.5, 1.0)
    pixels[2, 4, 4, 1] = 1.0
    path = write_segments(tmp_path / "seg.dcm", headers(series), pixels, "FRACTIONAL", max_fractional_value=200)
    mask = read_placed_mask(path, image, Reading(segment_from=least), MEANING)
    assert int((labels(mask) == 3).sum()) == voxels
    assert any(f"voxels of {least:g} and more" in note for note in mask.notes)


@pytest.mark.parametrize(("rule", "label"), [("first", 3), ("last", 7)])
def test_segments_that_overlap_follow_the_rule(
    tmp_path: Path, series: Path, image: Volume, rule: Any, label: int
) -> None:
    pixels = np.zeros((*SHAPE, 2), dtype=np.uint8)
    pixels[1, 2:5, 2:5, 0], pixels[1, 3:6, 2:5, 1] = 1, 1
    path = write_segments(tmp_path / "seg.dcm", headers(series), pixels, "BINARY")
    mask = read_placed_mask(path, image, Reading(overlaps=rule), MEANING)
    assert (labels(mask)[1, 3:5, 2:5] == label).all()
    with pytest.raises(DataError, match=r"6 voxels in both Cartilage and BONE.*overlaps: first"):
        read_placed_mask(path, image, meaning=MEANING)


def test_other_coordinates_and_contradicting_uids_are_refused(tmp_path: Path, series: Path, image: Volume) -> None:
    path = write_segments(tmp_path / "seg.dcm", headers(series), numbers_of_segments(), "BINARY")
    other = pydicom.dcmread(path)
    other.FrameOfReferenceUID = pydicom.uid.generate_uid()
    other.save_as(tmp_path / "other.dcm")
    with pytest.raises(DataError, match=r"other\.dcm: its FrameOfReferenceUID is another one"):
        read_placed_mask(tmp_path / "other.dcm", image, meaning=MEANING)
    shifted = pydicom.dcmread(path)
    step = oblique().affine[:3, 2] * (-1, -1, 1)
    for frame in shifted.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [f"{a + b:.8g}" for a, b in zip(place.ImagePositionPatient, step, strict=True)]
    shifted.save_as(tmp_path / "shifted.dcm")
    with pytest.raises(DataError, match="UIDs and positions contradict each other"):
        read_placed_mask(tmp_path / "shifted.dcm", image, meaning=MEANING)


@pytest.mark.parametrize("damage", ["cut", "position", "segment", "type", "frames"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, series: Path, image: Volume, damage: str) -> None:
    path = write_segments(tmp_path / "seg.dcm", headers(series), numbers_of_segments(), "BINARY")
    header = pydicom.dcmread(path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "position":
        del header.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    elif damage == "segment":
        header.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    elif damage == "type":
        header.SegmentationType = "SOMETHING"
    else:
        header.NumberOfFrames = 2
    if damage != "cut":
        header.save_as(path)
    with pytest.raises(DataError, match=r"seg\.dcm: "):
        read_placed_mask(path, image, meaning=MEANING)


@pytest.mark.parametrize("drawn", [(0, 4), (0, 2, 4), (1, 3), (0, 1, 3)])
def test_without_its_image_slices_without_a_frame_are_not_lost(tmp_path: Path, series: Path, drawn: Any) -> None:
    """The distance of slices is what the file says, not that of the slices where something is drawn."""
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[list(drawn), 2:5, 1:7] = 1
    path = write_segments(tmp_path / "seg.dcm", headers(series), pixels, "BINARY")
    alone = MaskReader().read(path)
    assert alone.geometry.spacing_zyx_mm == pytest.approx(oblique().spacing_zyx_mm)
    assert np.array_equal(np.flatnonzero(alone.array_zyx.any(axis=(1, 2))), np.array(drawn) - drawn[0])


@pytest.mark.parametrize("drawn", [(0, 4), (0, 2, 4), (1, 3)])
def test_without_any_distance_slices_that_may_be_left_out_are_refused(
    tmp_path: Path, series: Path, image: Volume, drawn: Any
) -> None:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[list(drawn), 2:5, 1:7] = 1
    path = write_segments(tmp_path / "seg.dcm", headers(series), pixels, "BINARY")
    header = pydicom.dcmread(path)
    del header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    header.save_as(path)
    with pytest.raises(DataError, match="whether slices without a frame lie between them is not known"):
        MaskReader().read(path)
    assert np.array_equal(read_placed_mask(path, image, meaning=MEANING).array_zyx, pixels)


@pytest.mark.parametrize("kind", ["TILED_FULL", "TILED_SPARSE"])
def test_tiles_of_a_picture_are_no_slices(tmp_path: Path, series: Path, image: Volume, kind: str) -> None:
    pixels = (label_map() > 0).astype(np.uint8)
    path = write_segments(tmp_path / "seg.dcm", headers(series), pixels, "BINARY")
    header = pydicom.dcmread(path)
    header.DimensionOrganizationType = kind
    header.save_as(path)
    with pytest.raises(DataError, match="tiles of one large picture"):
        read_placed_mask(path, image, meaning=MEANING)
