"""A series is read right or refused with a reason that says what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import JPEGLSLossless, generate_uid

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.series import read_series

Writer = Callable[..., Path]
Editor = Callable[..., None]
STRICT = Reading(folders="strict")


def test_slices_are_sorted_by_position_and_not_by_name(tmp_path: Path, write_series: Writer) -> None:
    volume = read_series(write_series(tmp_path / "s"))
    assert volume.array_zyx.shape == (5, 6, 8)
    assert volume.array_zyx[:, 2, 3].tolist() == [23, 123, 223, 323, 423]


def test_dz_is_the_distance_of_positions_and_not_slice_thickness(tmp_path: Path, write_series: Writer) -> None:
    geometry = read_series(write_series(tmp_path / "s", dz=2.0)).geometry
    assert geometry.spacing_zyx_mm == (2.0, 0.5, 0.75)
    assert geometry.dz_source == "positions"


def test_a_voxel_lies_where_the_header_says_in_ras(tmp_path: Path, write_series: Writer) -> None:
    geometry = read_series(write_series(tmp_path / "s")).geometry
    # LPS (-10 + 3 * 0.75, -20 + 2 * 0.5, 5 + 4 * 2) with both horizontal axes turned round.
    assert geometry.affine @ [3, 2, 4, 1] == pytest.approx([7.75, 19.0, 13.0, 1])


def test_slices_stored_from_top_to_bottom_are_turned_round(tmp_path: Path, write_series: Writer) -> None:
    volume = read_series(write_series(tmp_path / "s", dz=-2.0))
    assert volume.array_zyx[:, 0, 0].tolist() == [400, 300, 200, 100, 0]
    assert volume.slices["instanceNumber"] == [5, 4, 3, 2, 1]


def test_rescale_is_applied_slice_by_slice(tmp_path: Path, write_series: Writer) -> None:
    def rescale(header: FileDataset, z: int) -> None:
        header.RescaleSlope, header.RescaleIntercept = 2 if z == 1 else 1, -1000

    values = read_series(write_series(tmp_path / "s", change=rescale)).array_zyx[:, 0, 1]
    assert values.tolist() == [-999, 2 * 101 - 1000, -799, -699, -599]


def test_one_slice_takes_its_depth_from_the_header_and_says_so(tmp_path: Path, write_series: Writer) -> None:
    geometry = read_series(write_series(tmp_path / "s", count=1)).geometry
    assert (geometry.spacing_zyx_mm[0], geometry.dz_source) == (3.0, "slice_thickness")


def test_a_missing_slice_is_named_with_its_neighbours(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s", count=6)
    (folder / "004.dcm").unlink()  # z = 2
    with pytest.raises(DataError, match=r"1 missing slice: between positions 7.00 and 11.00 mm .*2 and 4\) are 4 mm"):
        read_series(folder)


def test_of_three_slices_a_missing_one_is_still_seen(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s", count=4)
    (folder / "003.dcm").unlink()
    with pytest.raises(DataError, match="1 missing slice"):
        read_series(folder)


def test_uneven_distances_are_refused(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    edit(folder / "001.dcm", ImagePositionPatient=[-10.0, -20.0, 13.6])
    with pytest.raises(DataError, match=r"slice distances vary from 2 to 2\.6 mm"):
        read_series(folder)


def test_rounded_positions_are_not_a_gap(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    edit(folder / "001.dcm", ImagePositionPatient=[-10.0, -20.0, 13.01])
    volume = read_series(folder)
    assert volume.geometry.spacing_zyx_mm[0] == pytest.approx(8.01 / 4)
    assert not volume.notes


def test_two_series_in_a_folder_are_listed(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    other = generate_uid()
    edit(folder / "002.dcm", SeriesInstanceUID=other)
    with pytest.raises(
        DataError, match=r"holds 2 series.*SeriesInstanceUID: 4 files as 001\.dcm, 1 file as 002\.dcm"
    ) as caught:
        read_series(folder, reading=STRICT)
    assert other not in str(caught.value)


def test_a_file_that_is_there_twice_is_found(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s")
    shutil.copy(folder / "003.dcm", folder / "copy.dcm")
    with pytest.raises(DataError, match=r"6 images at 5 positions.*003\.dcm and copy\.dcm.*an image is duplicated"):
        read_series(folder, reading=STRICT)


def test_several_echoes_are_recognised(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    header_of_second_echo = write_series(tmp_path / "t")
    for path in header_of_second_echo.iterdir():
        series = _value(folder / "001.dcm", "SeriesInstanceUID")
        edit(path, SeriesInstanceUID=series, EchoTime=20.0)
        shutil.copy(path, folder / f"second-{path.name}")
    with pytest.raises(DataError, match=r"EchoTime takes 2 values \(10, 20\), so these are echoes"):
        read_series(folder, reading=STRICT)


def _value(path: Path, name: str) -> str:
    import pydicom

    return str(pydicom.dcmread(path)[name].value)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("ImageOrientationPatient", [0, 1, 0, 0, 0, -1], "mixed orientations"),
        ("PixelSpacing", [0.6, 0.75], "mixed pixel spacings"),
        ("NumberOfFrames", 3, "holds 3 frames"),
        ("SamplesPerPixel", 3, "colour image"),
    ],
)
def test_images_that_do_not_belong_together_are_refused(
    tmp_path: Path, attribute: str, value: object, message: str, write_series: Writer, edit: Editor
) -> None:
    folder = write_series(tmp_path / "s")
    edit(folder / "002.dcm", **{attribute: value})
    with pytest.raises(DataError, match=message) as caught:
        read_series(folder, reading=STRICT)
    assert "002.dcm" in str(caught.value)
    with pytest.raises(DataError, match=r"002\.dcm"):  # nor does a tolerant folder leave a slice of a series out
        read_series(folder)


def test_mixed_sizes_are_refused(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    edit(folder / "002.dcm", Rows=4, PixelData=b"\0" * 64)
    with pytest.raises(DataError, match=r"mixed sizes, 6 x 8 pixels in 001\.dcm and 4 x 8 in 002\.dcm"):
        read_series(folder, reading=STRICT)


def test_a_tilted_stack_is_refused(tmp_path: Path, write_series: Writer) -> None:
    def tilt(header: FileDataset, z: int) -> None:
        header.ImagePositionPatient = [-10.0, -20.0 + 0.5 * z, 5.0 + 2 * z]

    with pytest.raises(DataError, match=r"shift sideways by 2 mm"):
        read_series(write_series(tmp_path / "s", change=tilt))


def test_an_image_without_a_place_is_refused(tmp_path: Path, write_series: Writer) -> None:
    def forget(header: FileDataset, z: int) -> None:
        del header.ImagePositionPatient

    with pytest.raises(DataError, match=r"\.dcm: has no ImagePositionPatient"):
        read_series(write_series(tmp_path / "s", change=forget))


def test_pixel_data_that_cannot_be_decoded_names_file_and_encoding(tmp_path: Path, write_series: Writer) -> None:
    def garble(header: FileDataset, z: int) -> None:
        header.file_meta.TransferSyntaxUID = JPEGLSLossless
        from pydicom.encaps import encapsulate

        header.PixelData = encapsulate([b"not a picture"])

    with pytest.raises(DataError, match=r"005\.dcm: pixel data \(JPEG-LS Lossless.*cannot be decoded"):
        read_series(write_series(tmp_path / "s", change=garble))


def test_cut_off_pixel_data_is_refused(tmp_path: Path, write_series: Writer, edit: Editor) -> None:
    folder = write_series(tmp_path / "s")
    edit(folder / "002.dcm", PixelData=b"\0" * 20)
    with pytest.raises(DataError, match=r"002\.dcm: pixel data"):
        read_series(folder)


def test_other_files_are_named_and_hidden_ones_are_not_looked_at(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s")
    (folder / ".DS_Store").write_bytes(b"x")
    assert len(read_series(folder).array_zyx) == 5
    (folder / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"not DICOM: notes\.txt"):
        read_series(folder, reading=STRICT)


def test_a_folder_without_dicom_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match="is an empty folder, not an image or mask; give an image file such as NIfTI",
    ):
        read_series(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_series(tmp_path / "nowhere")


def test_only_allowed_fields_leave_the_header(tmp_path: Path, write_series: Writer) -> None:
    volume = read_series(write_series(tmp_path / "s"))
    text = repr(volume.slices) + repr(volume.subject_fields)
    for secret in ("Jane", "PID-12345", "19700101", "Hospital", "Who", "053Y"):
        assert secret not in text
    assert volume.slices["TE"] == [10.0] * 5
    assert volume.slices["slice_spacing"] == [2.0] * 5
    assert volume.slices["slice_thickness"] == [3.0] * 5
    assert len(volume.slices["series_uid_sha256"][0]) == 64
    assert not volume.subject_fields


def test_a_series_description_and_demographics_are_kept_when_asked_for(tmp_path: Path, write_series: Writer) -> None:
    volume = read_series(write_series(tmp_path / "s"), keep=("SeriesDescription", "PatientAge"))
    assert volume.slices["series_desc"] == ["t2 sag Dr. Who"] * 5
    assert volume.subject_fields == {"age": "053Y"}


@pytest.mark.real
def test_a_real_ct_has_slices_every_2_mm_although_they_are_3_mm_thick(real_data: Path) -> None:
    volume = read_series(real_data / "ct_dicom" / "dicom")
    assert volume.geometry.spacing_zyx_mm == (2.0, 0.9765625, 0.9765625)
    assert volume.slices["slice_thickness"][0] == 3.0


@pytest.mark.real
def test_a_real_ct_equals_what_simpleitk_reads(real_data: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(real_data / "ct_dicom" / "dicom")))
    expected = sitk.GetArrayFromImage(reader.Execute())
    assert np.array_equal(read_series(real_data / "ct_dicom" / "dicom").array_zyx, expected)


@pytest.mark.real
def test_a_real_multi_echo_series_needs_a_choice_which_gives_that_echo_alone(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "knee_mese_dicom"
    with pytest.raises(DataError, match=r"40 images at 5 positions.*EchoTime takes 8 values.*echoes"):
        read_series(folder, reading=STRICT)
    with pytest.raises(DataError, match=r"holds 8 stacks.*echo 6\.312 ms.*series: \{echo_ms: 6\.312\}"):
        read_series(folder)
    for echo_ms in (6.312, 25.248, 50.5):
        alone = tmp_path / str(echo_ms)
        alone.mkdir()
        for path in folder.iterdir():
            if abs(float(_value(path, "EchoTime")) - echo_ms) < 0.1:
                shutil.copy(path, alone)
        expected = read_series(alone)
        found = read_series(folder, reading=Reading(series=SeriesChoice(echo_ms=echo_ms)))
        assert np.array_equal(found.array_zyx, expected.array_zyx)
        assert (found.geometry, found.slices) == (expected.geometry, expected.slices)


@pytest.mark.real
def test_one_echo_of_a_real_oblique_knee_has_the_spacing_of_its_positions(real_data: Path, tmp_path: Path) -> None:
    for path in (real_data / "knee_mese_dicom").iterdir():
        if float(_value(path, "EchoTime")) == 6.312:
            shutil.copy(path, tmp_path)
    geometry = read_series(tmp_path).geometry
    assert geometry.shape_zyx == (5, 256, 256)
    assert geometry.spacing_zyx_mm == pytest.approx((4.0, 0.625, 0.625), abs=1e-3)
