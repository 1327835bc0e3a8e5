"""Stored values become signals in one place: rescale, Modality LUT, padding, MONOCHROME1, Philips' private scale."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian

from sam2ft.config.schema.dataset import AS_IS
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.pixels import stacked_signals
from sam2ft.data.dicom.relaxometry_series import read_echoes
from sam2ft.data.dicom.series import read_series, read_slices

Writer = Callable[..., Path]
Change = Callable[[FileDataset, int], None]
SHAPE = (2, 3)
STORED = np.array([[0, 1, 2], [10, 100, 4000]])


def with_pixels(values: np.ndarray = STORED, **attributes: object) -> Change:
    def change(header: FileDataset, _z: int) -> None:
        for name, value in attributes.items():
            setattr(header, name, value)
        header.PixelData = values.astype("<i2" if header.PixelRepresentation else "<u2").tobytes()

    return change


def first_slice(folder: Path) -> np.ndarray:
    return read_series(folder).array_zyx[0]


@pytest.mark.parametrize(
    ("attributes", "slope", "intercept"),
    [
        ({}, 1, 0),
        ({"RescaleSlope": 2, "RescaleIntercept": -1000}, 2, -1000),
        ({"RescaleSlope": 2, "RescaleIntercept": None}, 2, 0),
        ({"RescaleSlope": None, "RescaleIntercept": 5}, 1, 5),
        ({"RescaleSlope": -1, "RescaleIntercept": 0}, -1, 0),
    ],
)
def test_an_empty_slope_is_1_and_an_empty_intercept_0(
    tmp_path: Path, write_series: Writer, attributes: dict[str, object], slope: float, intercept: float
) -> None:
    folder = write_series(tmp_path / "s", shape=SHAPE, change=with_pixels(**attributes))
    assert first_slice(folder).tolist() == (STORED * slope + intercept).tolist()


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0, so that every value is the same"),
        ({"RescaleSlope": [1, 2], "RescaleIntercept": 0}, r"RescaleSlope is '1.*2.*'; allowed: one finite number"),
        ({"PixelPaddingValue": [1, 2]}, "PixelPaddingValue is '1.*2'; allowed: one finite number"),
        ({"PhotometricInterpretation": "MONOCHROME1", "Modality": "CT"}, "MONOCHROME1 with Modality CT"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "PALETTE COLOR: its values are indices of colours"),
    ],
)
def test_values_that_would_be_wrong_are_refused_with_the_file(
    tmp_path: Path, write_series: Writer, attributes: dict[str, object], message: str
) -> None:
    folder = write_series(tmp_path / "s", shape=SHAPE, change=with_pixels(**attributes))
    with pytest.raises(DataError, match=rf"\.dcm: .*{message}"):
        read_series(folder)


@pytest.mark.parametrize(
    ("attributes", "padded"),
    [
        ({"PixelPaddingValue": 0}, {0}),
        ({"PixelPaddingValue": 1, "PixelPaddingRangeLimit": 10}, {1, 2, 10}),
        ({"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 1}, {1, 2, 10}),
        ({"PixelPaddingValue": 0, "RescaleSlope": 1, "RescaleIntercept": -1024}, {0}),
        ({"PixelPaddingValue": 7}, set()),
    ],
)
def test_padding_has_no_value(
    tmp_path: Path, write_series: Writer, attributes: dict[str, object], padded: set[int]
) -> None:
    folder = write_series(tmp_path / "s", shape=SHAPE, change=with_pixels(**attributes))
    assert set(STORED[np.isnan(first_slice(folder))].tolist()) == padded


def test_padding_of_signed_pixels_may_be_written_as_unsigned(tmp_path: Path, write_series: Writer) -> None:
    values = np.array([[-2000, 5, 6], [7, 8, 9]])
    change = with_pixels(values, PixelRepresentation=1, PixelPaddingValue=-2000)
    folder = write_series(tmp_path / "s", shape=SHAPE, change=change)
    for path in folder.iterdir():  # -2000 as SS and 63536 as US are the same bytes
        path.write_bytes(path.read_bytes().replace(b"\x28\0\x20\1SS", b"\x28\0\x20\1US"))
        assert pydicom.dcmread(path).PixelPaddingValue == 63536
    assert np.isnan(first_slice(folder)).tolist() == [[True, False, False], [False] * 3]


@pytest.mark.parametrize(("signed", "padding"), [(0, 0), (0, 65535), (1, -2000), (1, -1)])
def test_padding_is_known_where_the_header_names_no_types(
    tmp_path: Path, write_series: Writer, signed: int, padding: int
) -> None:
    def change(header: FileDataset, z: int) -> None:
        values = np.array([[padding, 5, 6], [7, 8, padding]])
        with_pixels(values, PixelRepresentation=signed, PixelPaddingValue=padding)(header, z)
        implicit(header, z)

    folder = write_series(tmp_path / "s", shape=SHAPE, change=change)
    assert np.isnan(first_slice(folder)).tolist() == [[True, False, False], [False, False, True]]


@pytest.mark.parametrize(("bits", "signed", "highest"), [(12, 0, 4095), (16, 0, 65535), (16, 1, -1)])
def test_monochrome1_is_turned_round_alike_in_all_slices(
    tmp_path: Path, write_series: Writer, bits: int, signed: int, highest: int
) -> None:
    def change(header: FileDataset, z: int) -> None:
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME1", signed
        header.BitsStored, header.HighBit = bits, bits - 1
        header.PixelData = (highest - STORED // (z + 1)).astype("<i2" if signed else "<u2").tobytes()

    values = read_series(write_series(tmp_path / "s", shape=SHAPE, change=change)).array_zyx
    assert values[0].tolist() == STORED.tolist()
    assert values[3].tolist() == (STORED // 4).tolist()


@pytest.mark.parametrize(("bits", "highest"), [(12, 15), (10, 15), (12, 13)])
@pytest.mark.parametrize("signed", [0, 1])
def test_values_that_may_lie_in_the_upper_bits_are_refused(
    tmp_path: Path, write_series: Writer, bits: int, highest: int, signed: int
) -> None:
    def change(header: FileDataset, z: int) -> None:
        header.BitsStored, header.HighBit, header.PixelRepresentation = bits, highest, signed
        header.PixelData = (STORED << (highest - bits + 1)).astype("<u2").tobytes()

    folder = write_series(tmp_path / "s", shape=SHAPE, change=change)
    told = f"HighBit is {highest} and BitsStored {bits}, .*; allowed: HighBit {bits - 1}; convert it to NIfTI"
    with pytest.raises(DataError, match=told):
        read_series(folder)


def test_a_modality_lut_is_applied(tmp_path: Path, write_series: Writer) -> None:
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4, 0, 16], "US"
    table.LUTData = np.array([500, 400, 300, 7], dtype="<u2").tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    change = with_pixels(np.array([[0, 1, 2], [3, 3, 0]]), ModalityLUTSequence=Sequence([table]))
    folder = write_series(tmp_path / "s", shape=SHAPE, change=change)
    assert first_slice(folder).tolist() == [[500, 400, 300], [7, 7, 500]]


@pytest.mark.parametrize("shown", ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"])
def test_the_integers_of_a_mask_are_kept(tmp_path: Path, write_series: Writer, shown: str) -> None:
    change = with_pixels(PixelPaddingValue=0, PhotometricInterpretation=shown)
    folder = write_series(tmp_path / "s", shape=SHAPE, change=change)
    assert read_series(folder, labels=True).array_zyx[0].tolist() == STORED.tolist()


# Echoes of T = 40 ms whose images were scaled to use the range of stored values, each by its own private slope.
TIMES_MS, SLOPES = (10.0, 20.0, 30.0, 40.0), (1.0, 1.5, 2.5, 4.0)


def philips_echoes(folder: Path, write_series: Writer, change: Callable[[FileDataset, int], None]) -> Path:
    folder.mkdir()
    for number, (time, slope) in enumerate(zip(TIMES_MS, SLOPES, strict=True)):

        def write(header: FileDataset, _z: int, number: int = number, time: float = time, slope: float = slope) -> None:
            header.SeriesInstanceUID, header.Manufacturer = "1.2.3", "Philips Medical Systems"
            header.EchoTime, header.EchoNumbers, header.RescaleSlope, header.RescaleIntercept = time, number + 1, 2, 10
            block = header.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
            block.add_new(0x0E, "FL", slope)
            # (stored * 2 + 10) / (2 * slope) is the signal
            stored = (8000 * np.exp(-time / 40) * 2 * slope - 10) / 2
            header.PixelData = np.full((6, 8), round(stored), dtype="<u2").tobytes()
            change(header, number)

        for path in write_series(folder.parent / f"one{number}", count=2, change=write).iterdir():
            path.rename(folder / f"{number}-{path.name}")
    return folder


def implicit(header: FileDataset, _number: int) -> None:
    header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


def unknown_type(header: FileDataset, number: int) -> None:
    del header[0x2005100E]
    header.add_new(0x2005100E, "UN", np.float32(SLOPES[number]).tobytes())


def as_text(header: FileDataset, number: int) -> None:
    del header[0x2005100E]
    header.add_new(0x2005100E, "UN", f"{SLOPES[number]} ".encode())


def without_creator(header: FileDataset, number: int) -> None:
    del header[0x20050010]


def as_written(_header: FileDataset, _number: int) -> None:
    pass


@pytest.mark.parametrize("change", [as_written, implicit, unknown_type, as_text, without_creator])
def test_philips_scale_slopes_of_a_decay_are_undone(
    tmp_path: Path, write_series: Writer, change: Callable[[FileDataset, int], None]
) -> None:
    series = read_echoes(philips_echoes(tmp_path / "e", write_series, change))
    signals = series.images_tzyx[:, 0, 0, 0]
    assert signals == pytest.approx(8000 * np.exp(-np.array(TIMES_MS) / 40), rel=1e-3)
    assert "Philips scale slopes differ between images (divisors 2 to 8)" in series.notes[0]


def drop_in_one(header: FileDataset, number: int) -> None:
    if number == 2:
        del header[0x2005100E]


def zero_in_one(header: FileDataset, number: int) -> None:
    if number == 2:
        header[0x2005100E].value = 0.0


def nan_in_one(header: FileDataset, number: int) -> None:
    if number == 2:
        header[0x2005100E].value = float("nan")


def only_rescale_left(header: FileDataset, number: int) -> None:
    del header[0x2005100E]
    header.RescaleSlope = number + 1


def only_rescale_without_maker(header: FileDataset, number: int) -> None:
    only_rescale_left(header, number)
    del header.Manufacturer


def only_rescale_with_empty_maker(header: FileDataset, number: int) -> None:
    only_rescale_left(header, number)
    header.Manufacturer = ""


def only_rescale_with_maker_in_some(header: FileDataset, number: int) -> None:
    only_rescale_left(header, number)
    header.Manufacturer = "SIEMENS" if number else None


def one_rescale_left(header: FileDataset, _number: int) -> None:
    del header[0x2005100E]


def other_maker(header: FileDataset, number: int) -> None:
    only_rescale_left(header, number)
    header.Manufacturer = "GE MEDICAL SYSTEMS"


def turned_round(header: FileDataset, number: int) -> None:
    header.PhotometricInterpretation = "MONOCHROME1"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_in_one, r"scale slope \(2005,100E\) is missing in 2 of 8 images"),
        (zero_in_one, r"scale slope \(2005,100E\) is 0; allowed: a number above 0"),
        (nan_in_one, r"scale slope \(2005,100E\) is nan; allowed: a number above 0"),
        (only_rescale_left, r"RescaleSlope takes 4 values, and Philips' scale slope .* is in no image"),
        (only_rescale_without_maker, "RescaleSlope, of images without Manufacturer, takes 4 values"),
        (only_rescale_with_empty_maker, "RescaleSlope, of images without Manufacturer, takes 4 values"),
        (only_rescale_with_maker_in_some, "RescaleSlope, of images without Manufacturer, takes 4 values"),
        (turned_round, "MONOCHROME1, so that its signal is not known"),
    ],
)
def test_a_decay_whose_scales_are_unknown_is_refused(
    tmp_path: Path, write_series: Writer, change: Callable[[FileDataset, int], None], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_echoes(philips_echoes(tmp_path / "e", write_series, change))


@pytest.mark.parametrize(("change", "notes"), [(one_rescale_left, 1), (other_maker, 0)])
def test_a_decay_of_philips_without_scale_slopes_is_noted(
    tmp_path: Path, write_series: Writer, change: Callable[[FileDataset, int], None], notes: int
) -> None:
    found = read_echoes(philips_echoes(tmp_path / "e", write_series, change)).notes
    assert ["scale slope (2005,100E) is in no image of the decay" in note for note in found] == [True] * notes


def test_scale_slopes_that_differ_between_slices_of_an_image_are_undone(tmp_path: Path, write_series: Writer) -> None:
    def write(slopes: tuple[float, ...]) -> Change:
        def change(header: FileDataset, z: int) -> None:
            header.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", slopes[z])
            header.PixelData = (STORED * slopes[z]).astype("<u2").tobytes()

        return change

    differing = read_series(write_series(tmp_path / "s", count=3, shape=SHAPE, change=write((1.0, 2.0, 4.0))))
    assert all(values.tolist() == STORED.tolist() for values in differing.array_zyx)
    equal = read_series(write_series(tmp_path / "t", count=3, shape=SHAPE, change=write((2.0, 2.0, 2.0))))
    assert equal.array_zyx[0].tolist() == (2 * STORED).tolist()  # a common factor is left as it is
    assert not equal.notes


def test_pixels_of_another_shape_than_rows_and_columns_are_refused(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s")
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.Rows = 60
        header.save_as(path)
    with pytest.raises(DataError, match=r"\.dcm: pixel data"):
        read_series(folder)


LARGE = (24, 40)  # above 1 KB, so that pixels are not read with the header
KINDS = {
    "plain": {},
    "intercept": {"RescaleSlope": 1, "RescaleIntercept": -1024},
    "padding that no voxel has": {"PixelPaddingValue": 63000},
    "slope": {"RescaleSlope": 2, "RescaleIntercept": 0},
    "part of an intercept": {"RescaleSlope": 1, "RescaleIntercept": 0.5},
    "padding": {"PixelPaddingValue": 7},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "below int16": {"RescaleSlope": 1, "RescaleIntercept": -32769},
    "above int16": {"RescaleSlope": 1, "RescaleIntercept": 32000},
}
WHOLE = ("plain", "intercept", "padding that no voxel has")


@pytest.mark.parametrize("only", [None, 0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_the_same_as_whole_numbers_and_as_floats(
    tmp_path: Path, write_series: Writer, kind: str, only: int | None
) -> None:
    """`only`: the attributes are in one slice alone."""

    def change(header: FileDataset, z: int) -> None:
        values = np.random.default_rng(z).integers(0, 4000, LARGE)
        values[0, :3] = 0, 7, 3999
        with_pixels(values, **(KINDS[kind] if only in (None, z) else {}))(header, z)

    folder = write_series(tmp_path / "s", shape=LARGE, change=change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = stacked_signals(read_slices(folder), {})
    found = read_series(folder).array_zyx
    assert found.dtype == (np.int16 if kind in WHOLE else np.float32)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.isnan(expected).any() == (kind == "padding")


def test_a_series_without_even_distances_is_resampled_as_floats(tmp_path: Path, write_series: Writer) -> None:
    def change(header: FileDataset, z: int) -> None:
        header.ImagePositionPatient = [0, 0, [0.0, 2.0, 4.0, 7.0][z]]

    folder = write_series(tmp_path / "s", count=4, change=change)
    found = read_series(folder, reading=AS_IS.model_copy(update={"irregular": "resample"})).array_zyx
    assert found.dtype == np.float32
    assert found[1, 0, 0] == pytest.approx(100 * 7 / 3 / 2)
