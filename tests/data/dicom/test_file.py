"""Which files are DICOM, and what is said of DICOM that is not read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ImplicitVRLittleEndian,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    UltrasoundImageStorage,
)

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.file import header_ahead, headers_kept, is_dicom, read_header
from sam2ft.data.dicom.series import read_series
from sam2ft.data.formats.declared_size import declared_size
from sam2ft.data.images.volumes import read_volume

Writer = Callable[..., Path]
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def without_preamble(path: Path) -> None:
    path.write_bytes(path.read_bytes()[132:])


def without_meta(path: Path) -> None:
    header = pydicom.dcmread(path)
    pydicom.dcmwrite(path, Dataset(header), implicit_vr=False, little_endian=True)


def implicit_without_meta(path: Path) -> None:
    header = pydicom.dcmread(path)
    pydicom.dcmwrite(path, Dataset(header), implicit_vr=True, little_endian=True)


def implicit(path: Path) -> None:
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    header.save_as(path)
    without_preamble(path)


@pytest.mark.parametrize("change", [without_preamble, without_meta, implicit_without_meta, implicit])
def test_files_without_preamble_are_read(tmp_path: Path, write_series: Writer, change: Callable[[Path], None]) -> None:
    folder = write_series(tmp_path / "s")
    expected = read_series(folder)
    for path in folder.iterdir():
        change(path)
        assert path.read_bytes()[128:132] != b"DICM"
        assert is_dicom(path)
    found = read_series(folder)
    assert (found.array_zyx == expected.array_zyx).all()
    assert found.geometry == expected.geometry


def big_endian_without_meta(path: Path) -> None:
    header = pydicom.dcmread(path)
    header.PixelData = np.frombuffer(header.PixelData, "<u2").astype(">u2").tobytes()
    pydicom.dcmwrite(path, Dataset(header), implicit_vr=False, little_endian=False)


def test_a_big_endian_series_without_preamble_is_read(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s")
    expected = read_series(folder)
    for path in folder.iterdir():
        big_endian_without_meta(path)
        assert path.read_bytes()[:2] == b"\0\x08"
    assert (read_series(folder).array_zyx == expected.array_zyx).all()


@pytest.mark.parametrize("kind", [RTStructureSetStorage, RTPlanStorage, RTDoseStorage])
@pytest.mark.parametrize("little", [True, False])
def test_objects_without_pixels_are_dicom_without_preamble_too(tmp_path: Path, kind: str, little: bool) -> None:
    header = Dataset()
    header.SpecificCharacterSet, header.SOPClassUID, header.SOPInstanceUID = "ISO_IR 100", kind, "1.2.3"
    pydicom.dcmwrite(tmp_path / "x", header, implicit_vr=False, little_endian=little)
    assert is_dicom(tmp_path / "x")


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x08\0" + b"text" * 50, b"\x02\0\0\0UL\x04\0", b"\x1f\x8b\x08" * 60, b"\0" * 300]
)
def test_other_files_are_not_taken_for_dicom(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert not is_dicom(tmp_path / "x")


def several_frames(header: Dataset) -> None:
    header.NumberOfFrames = 3


def enhanced(header: Dataset) -> None:
    header.PerFrameFunctionalGroupsSequence = Sequence([Dataset()])
    del header.ImagePositionPatient


def segmentation(header: Dataset) -> None:
    header.SOPClassUID, header.NumberOfFrames = SEGMENTATION, 3


def of_kind(kind: str) -> Callable[[Dataset], None]:
    def change(header: Dataset) -> None:
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = kind
        if kind != RTDoseStorage:
            del header.ImagePositionPatient

    return change


OTHER = {
    **{
        kind.name: (of_kind(kind), r"\.dcm: is an image without a position in space \(.*(X-Ray|Radio|Ultra).*\)")
        for kind in (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, UltrasoundImageStorage)
    },
    "dose": (of_kind(RTDoseStorage), r"\.dcm: holds the doses of a radiation plan \(RT Dose\) and no image"),
    "several frames": (
        several_frames,
        r"holds 3 frames, and the position of one.*believe: spacing.*dcm2niix.*\.nii\.gz",
    ),
    "enhanced": (enhanced, r"has no ImagePositionPatient.*frame 1 of 1"),
    "segmentation": (segmentation, r"is a DICOM segmentation \(SEG\), a mask and no image; give it as sources\.masks"),
}


@pytest.mark.parametrize("case", OTHER)
def test_dicom_that_is_not_read_is_refused_with_a_way_out_that_exists(
    tmp_path: Path, write_series: Writer, case: str
) -> None:
    change, message = OTHER[case]
    folder = write_series(tmp_path / "s")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        change(header)
        header.save_as(path)
    with pytest.raises(DataError, match=message) as caught:
        read_series(folder)
    assert "dcmulti2single" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (segmentation, r"001\.dcm: is a DICOM segmentation \(SEG\), a mask and no image; give it as sources\.masks"),
        (several_frames, r"001\.dcm: holds 3 frames, and the position of one.*dcm2niix"),
        (lambda header: None, r"001\.dcm: is a single DICOM file; give the folder"),
    ],
)
def test_a_single_dicom_file_is_no_volume(
    tmp_path: Path, write_series: Writer, change: Callable[[Dataset], None], message: str
) -> None:
    path = write_series(tmp_path / "s") / "001.dcm"
    header = pydicom.dcmread(path)
    change(header)
    header.save_as(path)
    with pytest.raises(DataError, match=message):
        read_volume(path)


def on_a_disc(folder: Path, disc: Path) -> None:
    """Copy a series to a disc with its table of contents."""
    files = FileSet()
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.StudyInstanceUID, header.StudyDate, header.StudyTime, header.StudyID = "1.2.3", "20200101", "1200", "1"
        header.SeriesNumber = 1
        files.add(header)
    files.write(disc)


def test_the_table_of_contents_of_a_disc_is_no_image_and_hides_none(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s")
    on_a_disc(folder, tmp_path / "disc")
    with pytest.raises(DataError, match=r"DICOMDIR: is a DICOMDIR.*; give the folders of its series") as caught:
        read_volume(tmp_path / "disc" / "DICOMDIR")
    assert "\n" not in str(caught.value)
    found, expected = read_volume(tmp_path / "disc"), read_volume(folder)
    assert (found.array_zyx == expected.array_zyx).all()
    assert found.notes == ("left out, because they are no images of a series: DICOMDIR",)
    (series,) = {path.parent for path in (tmp_path / "disc").rglob("*") if path.is_file() and path.name != "DICOMDIR"}
    assert (read_volume(series).array_zyx == expected.array_zyx).all()


def test_a_table_of_contents_alone_is_named(tmp_path: Path, write_series: Writer) -> None:
    on_a_disc(write_series(tmp_path / "s"), tmp_path / "disc")
    (tmp_path / "alone").mkdir()
    (tmp_path / "disc" / "DICOMDIR").rename(tmp_path / "alone" / "DICOMDIR")
    with pytest.raises(DataError, match="is a DICOMDIR, the table of contents of a disc or folder"):
        read_volume(tmp_path / "alone")


def test_a_header_that_was_looked_at_is_parsed_once_and_handed_out_once(
    tmp_path: Path, write_series: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_series(tmp_path / "s", count=1, shape=(30, 40)) / "001.dcm"
    parsed, parse = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **keys: parsed.append(args[0]) or parse(*args, **keys))
    with headers_kept():
        first = header_ahead(path)
        assert header_ahead(path) is first
        assert read_header(path) is first
        assert parsed == [path]
        del first.PixelData  # as readers do, to save memory
        assert "PixelData" in read_header(path)
    assert parsed == [path] * 2
    assert header_ahead(path) is None


def test_a_deflated_header_is_not_read_ahead(tmp_path: Path, write_series: Writer) -> None:
    """Its file would be inflated whole, whatever its size."""
    path = write_series(tmp_path / "s", count=1) / "001.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.save_as(path)
    with headers_kept():
        assert header_ahead(path) is None


def test_a_preparation_parses_each_header_once(
    tmp_path: Path, write_series: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_series(tmp_path / "s", count=4, shape=(30, 40))
    parsed, parse = [], pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **keys: parsed.append(args[0]) or parse(*args, **keys))
    with headers_kept():
        assert declared_size(folder) == (4800, 9600)
        read_series(folder)
    assert sorted(parsed) == sorted(folder.iterdir())
