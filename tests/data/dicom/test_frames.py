"""Files of several images: enhanced multi-frame MR and CT and Siemens mosaics, like files per slice and libraries."""

import copy
import gzip
import struct
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.relaxometry_series import read_echoes
from sam2ft.data.dicom.series import read_series, read_source_images
from sam2ft.data.images.volumes import read_volume
from tests.fixtures.dicom_files import NORMAL, OBLIQUE, per_frame, write_enhanced

Writer = Callable[..., Path]


@pytest.fixture
def one(tmp_path: Path, write_series: Writer) -> FileDataset:
    return pydicom.dcmread(write_series(tmp_path / "one", count=1) / "001.dcm")


@pytest.fixture
def twin(tmp_path: Path, write_series: Writer) -> Path:
    """The slices of the first echo of `write_enhanced` as a file each."""

    def change(header: FileDataset, z: int) -> None:
        groups = per_frame(z, 10.0, slope=1 + z)
        header.ImagePositionPatient = groups.PlanePositionSequence[0].ImagePositionPatient
        header.ImageOrientationPatient = OBLIQUE
        header.SliceThickness, header.SpacingBetweenSlices = 2.0, 2.5
        header.RescaleSlope, header.RescaleIntercept = 1 + z, -5

    return write_series(tmp_path / "twin", count=4, change=change)


@pytest.mark.parametrize("kind", ["MR", "CT"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("place", ["file", "folder"])
def test_frames_are_read_as_the_same_slices_in_a_file_each(
    tmp_path: Path, one: FileDataset, twin: Path, kind: str, shared: bool, place: str
) -> None:
    path = write_enhanced(tmp_path / "e" / "1.dcm", one, shared=shared, kind=kind)
    found, expected = read_volume(path if place == "file" else path.parent), read_volume(twin)
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert found.array_zyx[2, 1, 3] == 3 * 213 - 5  # slope 3 of the third slice
    assert found.geometry == expected.geometry
    assert found.geometry.spacing_zyx_mm == pytest.approx((2.5, 0.5, 0.75))
    same = ("TE", "TR", "flip_angle", "slice_thickness", "image_position_patient", "pixel_spacing", "rows")
    assert {name: found.slices[name] for name in same} == {name: expected.slices[name] for name in same}


@pytest.mark.parametrize("kind", ["MR", "CT"])
def test_the_grid_of_frames_is_that_of_highdicom(tmp_path: Path, one: FileDataset, kind: str) -> None:
    highdicom = pytest.importorskip("highdicom")
    path = write_enhanced(tmp_path / "e" / "1.dcm", one, kind=kind)
    expected = highdicom.imread(path).get_volume(apply_modality_transform=True)
    found = read_volume(path)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    for voxel in np.ndindex(expected.array.shape):
        world = to_ras @ expected.affine @ [*voxel, 1]
        x, y, z = np.linalg.solve(found.geometry.affine, world)[:3]
        assert np.abs([x, y, z] - np.rint([x, y, z])).max() < 1e-6
        assert found.array_zyx[round(z), round(y), round(x)] == expected.array[voxel]


@pytest.mark.parametrize("syntax", [RLELossless, DeflatedExplicitVRLittleEndian])
def test_compressed_frames_have_the_values_of_uncompressed_ones(tmp_path: Path, one: FileDataset, syntax: str) -> None:
    path = write_enhanced(tmp_path / "e" / "1.dcm", one)
    expected = read_volume(path)
    header = pydicom.dcmread(path)
    if syntax == RLELossless:
        header.compress(syntax)
    else:
        header.file_meta.TransferSyntaxUID = syntax
    header.save_as(path)
    assert path.read_bytes()[:2000].count(syntax.encode())
    found = read_volume(path)
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert found.geometry == expected.geometry


@pytest.mark.parametrize("filled", [False, True])
def test_sums_of_gzip_behind_deflated_elements_are_taken_and_wrong_ones_refused(
    tmp_path: Path, one: FileDataset, filled: bool
) -> None:
    """As in pydicom's image_dfl.dcm; an odd number of bytes is filled up."""
    path = write_enhanced(tmp_path / "e" / "1.dcm", one)
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.save_as(path)
    expected, content = read_volume(path), path.read_bytes()
    start = 132 + 12 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflating.decompress(content[start:])
    deflated = content[: len(content) - len(inflating.unused_data)]
    fill = b"\0" if filled else b""
    path.write_bytes(deflated + struct.pack("<II", zlib.crc32(inflated), len(inflated)) + fill)
    assert np.array_equal(read_volume(path).array_zyx, expected.array_zyx)
    path.write_bytes(deflated + struct.pack("<II", zlib.crc32(inflated) ^ 1, len(inflated)) + fill)
    with pytest.raises(DataError, match="bytes follow its last element"):
        read_volume(path)


def test_an_echo_of_a_file_is_chosen_and_all_of_them_are_a_decay(tmp_path: Path, one: FileDataset, twin: Path) -> None:
    path = write_enhanced(tmp_path / "e" / "1.dcm", one, (10.0, 20.0, 40.0))
    with pytest.raises(DataError, match=r"holds 3 stacks of images.*series: \{echo_ms: 10\}"):
        read_series(path)
    found = read_series(path, reading=Reading(series=SeriesChoice(echo_ms=10.0)))
    assert np.array_equal(found.array_zyx, read_series(twin).array_zyx)
    series = read_echoes(path)
    assert series.times_ms == (10, 20, 40)
    assert series.images_tzyx[:, 2, 1, 3].tolist() == [3 * 213 - 5, 4 * 1213 - 5, 5 * 2213 - 5]


def no_position(header: Dataset) -> None:
    del header.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def too_few_items(header: Dataset) -> None:
    del header.PerFrameFunctionalGroupsSequence[2]


def no_measures(header: Dataset) -> None:
    del header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def one_place_twice(header: Dataset) -> None:
    groups = header.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[2].PlanePositionSequence


BROKEN = {
    "no position": (no_position, r"has no ImagePositionPatient.*\(frame 3 of 4\)"),
    "too few items": (too_few_items, r"NumberOfFrames is 4, but PerFrameFunctionalGroupsSequence has 3 items"),
    "no measures": (no_measures, r"has no PixelSpacing.*\(frame 1 of 4\)"),
    "one place twice": (one_place_twice, r"4 images at 3 positions; 1\.dcm \(frame 2\) and 1\.dcm \(frame 3\)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_frames_without_their_place_are_refused_by_number(tmp_path: Path, one: FileDataset, case: str) -> None:
    spoil, message = BROKEN[case]
    path = write_enhanced(tmp_path / "e" / "1.dcm", one)
    whole = path.read_bytes()
    header = pydicom.dcmread(path)
    spoil(header)
    header.save_as(path)
    with pytest.raises(DataError, match=r"1\.dcm.*" + message):
        read_volume(path)
    path.write_bytes(whole)  # exported again
    assert read_volume(path).array_zyx.shape == (4, 6, 8)


@pytest.mark.parametrize("cut", [0.3, 0.7, 0.95])
def test_a_cut_file_of_frames_is_refused(tmp_path: Path, one: FileDataset, cut: float) -> None:
    path = write_enhanced(tmp_path / "e" / "1.dcm", one)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content))])
    with pytest.raises(DataError, match=r"1\.dcm"):
        read_volume(path)


def test_frames_with_one_position_are_placed_only_when_their_spacing_is_believed(
    tmp_path: Path, one: FileDataset
) -> None:
    one.NumberOfFrames, one.SpacingBetweenSlices = 3, 1.5
    one.PixelData = np.arange(3 * 48, dtype="<u2").tobytes()
    one.save_as(tmp_path / "3.dcm")
    with pytest.raises(DataError, match=r"3\.dcm: holds 3 frames.*believe: spacing.*dcm2niix"):
        read_volume(tmp_path / "3.dcm")
    volume = read_volume(tmp_path / "3.dcm", reading=Reading(believe="spacing"))
    assert np.array_equal(volume.array_zyx, np.arange(3 * 48).reshape(3, 6, 8))
    assert volume.geometry.spacing_zyx_mm == (1.5, 0.5, 0.75)


def test_frames_of_one_file_are_referred_to_by_their_numbers(tmp_path: Path, one: FileDataset) -> None:
    path = write_enhanced(tmp_path / "e" / "1.dcm", one, (10.0, 20.0))
    source = read_source_images(path.parent, Reading(series=SeriesChoice(echo_ms=20.0)))
    assert len(source.headers) == 1
    groups = source.headers[0].PerFrameFunctionalGroupsSequence
    for number, image in zip(source.frames or (), source.images, strict=True):
        group = groups[number - 1]
        assert list(group.PlanePositionSequence[0].ImagePositionPatient) == pytest.approx(image.position_mm)
        assert group.MREchoSequence[0].EffectiveEchoTime == 20


def in_two_files(path: Path, one: FileDataset) -> Reading:
    """Slices 0 and 1 in one file, 2 and 3 in another, of one series."""
    whole = pydicom.dcmread(write_enhanced(path / "1.dcm", one))
    place = [group.FrameContentSequence[0].InStackPositionNumber for group in whole.PerFrameFunctionalGroupsSequence]
    for name, wanted in (("1.dcm", (1, 2)), ("2.dcm", (3, 4))):
        part = copy.deepcopy(whole)
        taken = [index for index, number in enumerate(place) if number in wanted]
        part.PerFrameFunctionalGroupsSequence = [whole.PerFrameFunctionalGroupsSequence[index] for index in taken]
        part.NumberOfFrames, part.SOPInstanceUID = 2, f"1.2.3.{name[0]}"
        part.PixelData = b"".join(whole.PixelData[96 * index : 96 * (index + 1)] for index in taken)
        part.save_as(path / f"part-{name}", enforce_file_format=True)
    (path / "1.dcm").unlink()
    return Reading()


def without_positions(path: Path, one: FileDataset) -> Reading:
    path.mkdir()
    one.NumberOfFrames, one.SpacingBetweenSlices = 3, 1.5
    one.PixelData = np.arange(3 * 48, dtype="<u2").tobytes()
    one.save_as(path / "3.dcm")
    return Reading(believe="spacing")


def at_uneven_distances(path: Path, one: FileDataset) -> Reading:
    file = write_enhanced(path / "1.dcm", one)
    header = pydicom.dcmread(file)
    for group in header.PerFrameFunctionalGroupsSequence:
        if group.FrameContentSequence[0].InStackPositionNumber == 4:
            place = group.PlanePositionSequence[0]
            place.ImagePositionPatient = list(np.array(place.ImagePositionPatient) + NORMAL)
    del header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices
    header.save_as(file)
    return Reading(irregular="resample")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (in_two_files, "its slices are frames of several files"),
        (without_positions, "its frames have no positions of their own"),
        (at_uneven_distances, "its slices were resampled to even distances"),
    ],
)
def test_what_a_segmentation_cannot_refer_to_is_refused_with_the_reason(
    tmp_path: Path, one: FileDataset, make: Callable[[Path, FileDataset], Reading], reason: str
) -> None:
    reading = make(tmp_path / "e", one)
    assert read_series(tmp_path / "e", reading=reading).array_zyx.shape[1:] == (6, 8)
    with pytest.raises(DataError, match=rf"e: {reason}.*; a DICOM segmentation needs .*; set eval\.dicom_seg: false$"):
        read_source_images(tmp_path / "e", reading)


@pytest.fixture(params=["siemens_dwi_0.dcm.gz", "siemens_dwi_1000.dcm.gz"])
def mosaic(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A real mosaic of nibabel's own tests, whose pixels are 0 there, with random ones."""
    content = files("nibabel") / "nicom" / "tests" / "data" / request.param
    if not content.is_file():
        pytest.skip("nibabel is installed without its test files")
    path = tmp_path / "m" / "1.dcm"
    path.parent.mkdir()
    path.write_bytes(gzip.decompress(content.read_bytes()))
    header = pydicom.dcmread(path)
    header.PixelData = np.random.default_rng(1).integers(0, 60_000, (896, 896)).astype("<u2").tobytes()
    header.save_as(path)
    return path


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_real_mosaic_lies_where_nibabel_places_it(mosaic: Path, place: str) -> None:
    from nibabel.nicom.dicomwrappers import wrapper_from_file

    wrapper: Any = wrapper_from_file(str(mosaic))
    expected, to_ras = wrapper.get_data(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ wrapper.affine
    volume = read_volume(mosaic if place == "file" else mosaic.parent)
    assert volume.array_zyx.shape == (48, 128, 128)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((3.0, 1.796875, 1.796875))
    for voxel in np.random.default_rng(2).integers(0, expected.shape, (500, 3)):
        xyz = np.linalg.solve(volume.geometry.affine, to_ras @ [*voxel, 1])[:3]
        x, y, z = np.rint(xyz).astype(int)
        assert np.abs(xyz - [x, y, z]).max() < 1e-3
        assert volume.array_zyx[z, y, x] == expected[tuple(voxel)]


def test_a_mosaic_without_its_private_header_is_refused_with_a_way_out(mosaic: Path) -> None:
    whole, header = mosaic.read_bytes(), pydicom.dcmread(mosaic)
    header.remove_private_tags()
    header.save_as(mosaic)
    with pytest.raises(DataError, match=r"mosaic without the private header \(0029,1010\).*dcm2niix"):
        read_volume(mosaic)
    mosaic.write_bytes(whole)  # exported with its private attributes
    assert read_volume(mosaic).array_zyx.shape == (48, 128, 128)


@pytest.mark.parametrize("rows", [895, 890, 450])
def test_a_mosaic_that_cannot_be_divided_is_refused(mosaic: Path, rows: int) -> None:
    header = pydicom.dcmread(mosaic)
    header.Rows, header.PixelData = rows, header.PixelData[: 2 * 896 * rows]
    header.save_as(mosaic)
    with pytest.raises(DataError, match="mosaic of 48 slices in 7 x 7 tiles"):
        read_volume(mosaic)


def test_a_real_enhanced_image_of_philips_is_isotropic() -> None:
    content = files("nibabel") / "nicom" / "tests" / "data" / "philips_mprage.dcm.gz"
    if not content.is_file():
        pytest.skip("nibabel is installed without its test files")
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(gzip.decompress(content.read_bytes()))
        file.flush()
        geometry = read_volume(Path(file.name)).geometry
    assert geometry.shape_zyx == (176, 256, 256)
    assert geometry.spacing_zyx_mm == pytest.approx((1, 1, 1), abs=1e-5)
