"""What is handed out lies where its image lies, and comes back with the same voxels: NIfTI and DICOM-SEG."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.dicom.series import read_source_images
from sam2ft.data.export.dicom_seg import MAY_BE_EMPTY, SegmentationKind, write_dicom_seg
from sam2ft.data.export.nifti import write_nifti
from sam2ft.data.export.prediction import PredictedMask, write_nifti_prediction
from sam2ft.data.images.grids import Volume, on_grid
from sam2ft.data.images.volumes import read_reordered, read_volume
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import read_placed_mask
from sam2ft.data.prepare.relabel import relabelled_volume
from sam2ft.phantom.dicom import DicomSeries, write_series
from tests.data.dicom.test_frames import write_enhanced

LABELS = LabelTable((Label(3, "cartilage", interface="bone"), Label(7, "bone"), Label(300, "tendon")))
KINDS: tuple[SegmentationKind, ...] = ("binary", "labelmap")
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
REAL = Path(os.environ.get("SAM2FT_REAL_DATA", Path(__file__).parents[4] / "shared" / "data"))


def orientations() -> Iterator[tuple[str, Any]]:
    """The 48 signed permutations of three axes as matrices."""
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[list(order), range(3)] = signs
            yield "".join("xyz"[axis] + "+-"[sign < 0] for axis, sign in zip(order, signs, strict=True)), matrix


def oriented(matrix: Any, shape: tuple[int, int, int] = (4, 6, 5)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = matrix @ np.diag([0.5, 0.75, 2.5])
    affine[:3, 3] = (-31.25, 14.75, 88.0625)
    return Geometry.from_affine(shape, affine)


def labelled(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Random labels, none in the first and the last slice: unlike itself when turned, mirrored or moved."""
    mask = np.random.default_rng(seed).choice([0, 3, 7, 300], size=shape, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint16)
    mask[0] = mask[-1] = 0
    return mask


def world_of(geometry: Geometry, mask: Any) -> set[tuple[float, ...]]:
    """(x, y, z in RAS mm, label) of every labelled voxel."""
    zyx = np.argwhere(mask)
    places = np.c_[zyx[:, ::-1], np.ones(len(zyx))] @ geometry.affine.T
    return {(*np.round(place[:3], 3), int(mask[tuple(at)])) for place, at in zip(places, zyx, strict=True)}


def world_of_array(array_xyz: Any, affine: Any) -> set[tuple[float, ...]]:
    """The same of an array whose axes are x, y, z."""
    return world_of(Geometry.from_affine(array_xyz.shape[::-1], affine), np.asarray(array_xyz).transpose(2, 1, 0))


def by_simpleitk(path: Path) -> set[tuple[float, ...]]:
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    return world_of_array(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0), LPS @ affine)


@pytest.mark.parametrize(("name", "matrix"), list(orientations()))
def test_a_nifti_prediction_lies_in_the_world_as_its_image_for_every_library(
    tmp_path: Path, name: str, matrix: Any
) -> None:
    geometry, path = oriented(matrix), tmp_path / "p.nii.gz"
    mask = labelled(geometry.shape_zyx)
    write_nifti_prediction(path, PredictedMask(mask, geometry, LABELS))
    expected = world_of(geometry, mask)
    image: Any = nibabel.load(path)
    assert world_of_array(image.dataobj, image.affine) == expected
    assert by_simpleitk(path) == expected
    assert np.array_equal(image.affine, geometry.affine)
    assert np.array_equal(read_reordered(path, geometry), mask)


@pytest.mark.parametrize("degrees", [(10.0, -23.4, 5.5), (44.0, 44.0, -44.0), (1e-4, 0.0, 90.0)])
def test_an_oblique_nifti_prediction_keeps_its_places_to_a_millionth_of_its_coordinates(
    tmp_path: Path, degrees: tuple[float, float, float]
) -> None:
    geometry = oriented(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag([1, -1, 1]))
    mask, path = labelled(geometry.shape_zyx), tmp_path / "p.nii.gz"
    write_nifti_prediction(path, PredictedMask(mask, geometry, LABELS))
    found = read_volume(path, reading=Reading(slice_axis="2"))
    assert np.array_equal(found.array_zyx, mask)
    assert found.geometry.corner_distance_mm(geometry) < 1e-4
    image = SimpleITK.ReadImage(str(path))
    for x, y, z in ((0, 0, 0), (4, 5, 3), (2, 1, 3)):
        lps = np.array(image.TransformIndexToPhysicalPoint((x, y, z)))
        assert np.abs(lps * [-1, -1, 1] - (geometry.affine @ [x, y, z, 1])[:3]).max() < 1e-4


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_file_that_names_its_slices_is_cut_along_them(tmp_path: Path, axis: int) -> None:
    """For images that do not say how they lie too, whose axes are written in the order of their file."""
    order = [one for one in range(3) if one != axis] + [axis]
    affine = np.eye(4)[:, [*order, 3]] @ np.diag([2.0, 2.0, 2.0, 1.0])
    for known in (True, False):
        geometry = Geometry.from_affine((4, 6, 5), affine, oriented=known)
        mask = labelled(geometry.shape_zyx)
        write_nifti(tmp_path / "p.nii.gz", mask, geometry, name_slices=True)
        assert np.array_equal(read_volume(tmp_path / "p.nii.gz").array_zyx, mask)


@pytest.mark.parametrize("value", [1, 2, 299, 65535])
def test_a_value_that_is_no_label_is_never_written(value: int) -> None:
    mask = labelled((4, 6, 5))
    mask[1, 2, 3] = value
    with pytest.raises(DataError, match=rf"values that are no label: {value}; the label table has 3 cartilage, 7 bone"):
        PredictedMask(mask, oriented(np.eye(3)), LABELS)


# --- DICOM segmentations ----------------------------------------------------------------------------------------------


def series(folder: Path) -> tuple[Path, Reading]:
    """A file per slice, oblique."""
    geometry = oriented(Rotation.from_euler("zx", (-40.0, 25.0), degrees=True).as_matrix())
    image = np.random.default_rng(0).integers(0, 900, size=(1, *geometry.shape_zyx)).astype(np.float32)
    write_series(folder / "s", image, geometry, DicomSeries("a", 4, "PD", seed=11))
    return folder / "s", Reading()


def enhanced(folder: Path, kind: str = "MR", echoes: tuple[float, ...] = (10.0,), shared: bool = True) -> Path:
    (first, *_) = (series(folder)[0]).iterdir()
    one = pydicom.dcmread(first)
    return write_enhanced(folder / "e" / "1.dcm", one, echoes, shared=shared, kind=kind)


def one_enhanced_mr(folder: Path) -> tuple[Path, Reading]:
    return enhanced(folder).parent, Reading()


def one_enhanced_ct(folder: Path) -> tuple[Path, Reading]:
    return enhanced(folder, "CT", shared=False), Reading()


def an_echo_of_three(folder: Path) -> tuple[Path, Reading]:
    return enhanced(folder, echoes=(10.0, 20.0, 40.0)).parent, Reading(series=SeriesChoice(echo_ms=20.0))


def uneven(folder: Path, factor: float, reading: Reading) -> tuple[Path, Reading]:
    """Distances grow by a factor from the third slice on, so that slices lie beside an even grid."""
    path, _ = series(folder)
    headers = sorted(((pydicom.dcmread(one), one) for one in path.iterdir()), key=lambda pair: pair[0].InstanceNumber)
    first = np.array(headers[0][0].ImagePositionPatient, dtype=float)
    step = np.array(headers[1][0].ImagePositionPatient, dtype=float) - first
    for number, (header, file) in enumerate(headers):
        header.ImagePositionPatient = list(first + step * (number + (factor - 1) * max(0, number - 1)))
        del header.SpacingBetweenSlices
        header.save_as(file)
    return path, reading


SOURCES = [series, one_enhanced_mr, one_enhanced_ct, an_echo_of_three]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("factor", [1.02, 1.06, 1.095])
def test_slightly_uneven_slices_come_back_to_the_same_voxels(tmp_path: Path, factor: float, kind: Any) -> None:
    """Distances that differ by up to 10 % are one distance for a store, though slices lie beside its grid."""
    folder, reading = uneven(tmp_path, factor, Reading())
    images, image = read_source_images(folder, reading), read_volume(folder, reading=reading)
    mask = labelled(images.geometry.shape_zyx)
    write_dicom_seg(tmp_path / "p.dcm", PredictedMask(mask, images.geometry, LABELS), images, kind)
    found = read_placed_mask(tmp_path / "p.dcm", image, meaning=Meaning(LABELS))
    assert np.array_equal(relabelled_volume(found, LABELS, {label: label for label in LABELS.ids})[0], mask)


def test_a_segmentation_of_uneven_slices_follows_them_where_they_were_resampled(tmp_path: Path) -> None:
    """Another program draws on the slices of the series: each slice of the store takes that of the nearest one."""
    folder, reading = uneven(tmp_path, 1.5, Reading(irregular="resample"))
    with pytest.raises(DataError, match="resampled to even distances"):
        read_source_images(folder, reading)
    image = read_volume(folder, reading=reading)
    headers = sorted(map(pydicom.dcmread, folder.iterdir()), key=lambda one: one.InstanceNumber)
    along = image.geometry.affine[:3, 2] @ (LPS[:3, :3] @ np.array(headers[-1].ImagePositionPatient, dtype=float))
    headers = headers if along > image.geometry.affine[:3, 2] @ image.geometry.affine[:3, 3] else headers[::-1]
    mask = labelled(image.geometry.shape_zyx)
    mask[0] = mask[-1] = 3
    for header, keyword in itertools.product(headers, MAY_BE_EMPTY):
        header.setdefault(keyword, None)
    pixels = (mask == 3).astype(np.uint8)
    texts = ("1.2.3", 1, "1.2.4", 1, "maker", "model", "version", "number")
    made = highdicom.seg.Segmentation(headers, pixels, "BINARY", [described_segment()], *texts)
    made.save_as(tmp_path / "p.dcm")
    found = read_placed_mask(tmp_path / "p.dcm", image, meaning=Meaning(LABELS))
    assert image.nearest_slices is not None
    assert np.array_equal(found.array_zyx != 0, (mask == 3)[list(image.nearest_slices)])


def described_segment() -> Any:
    code = pydicom.sr.codedict.codes.SCT.AnatomicalStructure
    return highdicom.seg.SegmentDescription(1, "cartilage", code, code, "MANUAL")


def by_highdicom(path: Path) -> set[tuple[float, ...]]:
    found = highdicom.seg.segread(path)
    ids = {one.SegmentNumber: int(one.SegmentDescription.split()[1].rstrip(":")) for one in found.SegmentSequence[-3:]}
    volume = found.get_volume(combine_segments=True)
    table = np.zeros(max(ids) + 1, dtype=np.uint16)
    table[list(ids)] = list(ids.values())
    return world_of_array(table[volume.array], LPS @ volume.affine)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_a_dicom_segmentation_lies_in_the_world_as_its_images(tmp_path: Path, source: Any, kind: Any) -> None:
    folder, reading = source(tmp_path)
    images = read_source_images(folder, reading)
    geometry, path = images.geometry, tmp_path / "p.seg.dcm"
    mask = labelled(geometry.shape_zyx)
    assert write_dicom_seg(path, PredictedMask(mask, geometry, LABELS, "run x"), images, kind)
    assert by_highdicom(path) == world_of(geometry, mask)
    image = read_volume(folder, reading=reading)
    found = read_placed_mask(path, image, meaning=Meaning(LABELS))
    back, _ = relabelled_volume(found, LABELS, {label: label for label in LABELS.ids})
    assert np.array_equal(back, mask)
    assert not write_dicom_seg(path, PredictedMask(mask, geometry, LABELS, "run x"), images, kind)
    other = next(one for one in KINDS if one != kind)
    assert write_dicom_seg(path, PredictedMask(mask, geometry, LABELS, "run x"), images, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_frame_refers_to_the_image_at_its_place(tmp_path: Path, source: Any, kind: Any) -> None:
    folder, reading = source(tmp_path)
    images = read_source_images(folder, reading)
    mask = labelled(images.geometry.shape_zyx)
    write_dicom_seg(tmp_path / "p.dcm", PredictedMask(mask, images.geometry, LABELS), images, kind)
    found = pydicom.dcmread(tmp_path / "p.dcm")
    at = {str(one.header.SOPInstanceUID): one.position_mm for one in images.images if one.part is None}
    for group in found.PerFrameFunctionalGroupsSequence:
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        item = group.DerivationImageSequence[0].SourceImageSequence[0]
        if images.frames is None:
            assert np.abs(at[item.ReferencedSOPInstanceUID] - place).max() < 1e-3
            continue
        (whole,) = images.headers
        assert item.ReferencedSOPInstanceUID == whole.SOPInstanceUID
        assert item.ReferencedFrameNumber in images.frames
        of_frame = whole.PerFrameFunctionalGroupsSequence[item.ReferencedFrameNumber - 1]
        assert np.abs(np.array(of_frame.PlanePositionSequence[0].ImagePositionPatient) - place).max() < 1e-3
        if reading.series.echo_ms is not None:
            assert of_frame.MREchoSequence[0].EffectiveEchoTime == reading.series.echo_ms
    assert [one.SegmentLabel for one in found.SegmentSequence][-3:] == ["cartilage", "bone", "tendon"]
    numbers = [one.SegmentNumber for one in found.SegmentSequence][-3:]
    assert numbers == ([3, 7, 300] if kind == "labelmap" else [1, 2, 3])
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == (
        images.headers[0].StudyInstanceUID,
        images.headers[0].FrameOfReferenceUID,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_prediction_of_frames_is_a_segmentation_without_a_pixel(tmp_path: Path, kind: Any) -> None:
    images = read_source_images(enhanced(tmp_path))
    mask = np.zeros(images.geometry.shape_zyx, dtype=np.uint8)
    assert write_dicom_seg(tmp_path / "p.dcm", PredictedMask(mask, images.geometry, LABELS), images, kind)
    assert not pydicom.dcmread(tmp_path / "p.dcm").pixel_array.any()


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["ct_dicom", "knee_mese_dicom"])
def test_real_series_get_segmentations_and_nifti_files_at_their_places(tmp_path: Path, name: str, kind: Any) -> None:
    folder = REAL / name
    if not folder.is_dir():
        pytest.skip(f"needs the real images of SAM2FT_REAL_DATA ({folder})")
    reading = Reading(series=SeriesChoice(echo_ms=6.312)) if name == "knee_mese_dicom" else Reading()
    image = read_volume(folder, reading=reading)
    images = read_source_images(folder, reading)
    labels = LabelTable((Label(2, "bright"), Label(9, "dark")))
    low, high = np.nanpercentile(image.array_zyx, (20, 90))
    mask = np.where(image.array_zyx > high, 2, np.where(image.array_zyx < low, 9, 0)).astype(np.uint8)
    prediction = PredictedMask(mask, image.geometry, labels)
    if name == "ct_dicom":  # anonymised: its StudyInstanceUID is empty
        with pytest.raises(DataError, match="without StudyInstanceUID in its DICOM series no segmentation can be"):
            write_dicom_seg(tmp_path / "p.dcm", prediction, images, kind)
        for header in images.headers:
            header.StudyInstanceUID = "1.2.3.4"
    write_dicom_seg(tmp_path / "p.dcm", prediction, images, kind)
    write_nifti_prediction(tmp_path / "p.nii.gz", prediction)
    found = read_placed_mask(tmp_path / "p.dcm", image, meaning=Meaning(labels))
    assert np.array_equal(relabelled_volume(found, labels, {2: 2, 9: 9})[0], mask)
    assert np.array_equal(read_reordered(tmp_path / "p.nii.gz", image.geometry), mask)
    volume = highdicom.seg.segread(tmp_path / "p.dcm").get_volume(combine_segments=True)
    of_segments = Geometry.from_affine(volume.array.shape[::-1], LPS @ volume.affine)
    placed = on_grid(Volume(volume.array.transpose(2, 1, 0), of_segments), image.geometry, pad=True)
    assert np.array_equal(placed.array_zyx != 0, mask != 0)
