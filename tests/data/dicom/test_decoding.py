"""Pixel data of every transfer syntax that is read have the values of an uncompressed twin."""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2KLossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
)

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.decoding import stored_integers
from sam2ft.data.dicom.series import read_series
from tests.fixtures.dicom_files import COMPRESSIONS

Writer = Callable[..., Path]
KINDS = {"signed 16": ("<i2", 16), "unsigned 16": ("<u2", 16), "12 bit": ("<u2", 12)}


def described(header: pydicom.Dataset, pixels: np.ndarray, bits: int) -> None:
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.BitsStored, header.HighBit = bits, bits - 1
    header.Rows, header.Columns = pixels.shape
    header.PixelData = pixels.tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", COMPRESSIONS)
def test_a_compressed_series_has_the_values_of_its_twin(
    tmp_path: Path, write_series: Writer, way: str, kind: str
) -> None:
    dtype, bits = KINDS[kind]
    low, high = (-2000, 2000) if dtype == "<i2" else (0, 2**bits)

    def change(header: pydicom.FileDataset, z: int) -> None:
        described(header, np.random.default_rng(z).integers(low, high, (20, 30)).astype(dtype), bits)
        header.RescaleSlope, header.RescaleIntercept = 2, -7

    folder = write_series(tmp_path / "s", count=3, change=change)
    expected = read_series(folder)
    for path in folder.iterdir():
        before = path.read_bytes()
        COMPRESSIONS[way](path)
        assert path.read_bytes() != before
    found = read_series(folder)
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert found.geometry == expected.geometry


def test_a_series_may_be_jpeg_lossless_and_says_so(tmp_path: Path, write_series: Writer) -> None:
    path = write_series(tmp_path / "s", count=1, shape=(20, 30)) / "001.dcm"
    COMPRESSIONS["JPEG Lossless"](path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == JPEGLosslessSV1


@pytest.mark.parametrize("name", ["JPEG-lossy.dcm", "JPGExtended.dcm"])
def test_12_bit_jpeg_is_like_another_picture_of_the_same_scan(name: str) -> None:
    folder = files("pydicom") / "data" / "test_files"
    if not (folder / name).is_file():
        pytest.skip("pydicom is installed without its test files")
    header = pydicom.dcmread(str(folder / name))
    assert header.file_meta.TransferSyntaxUID == JPEGExtended12Bit
    twin = stored_integers(pydicom.dcmread(str(folder / "JPEG2000.dcm"))).astype(float)
    found = stored_integers(header).astype(float)
    # Both are lossy pictures of few counts.
    assert np.corrcoef(found.ravel(), twin.ravel())[0, 1] > 0.95
    assert found.mean() == pytest.approx(twin.mean(), rel=0.1)
    assert found.max() == pytest.approx(twin.max(), rel=0.1)


@pytest.mark.parametrize("cut", [0, 20, 60])
def test_damaged_jpeg_lossless_is_refused(tmp_path: Path, write_series: Writer, cut: int) -> None:
    path = write_series(tmp_path / "s", count=1, shape=(20, 30)) / "001.dcm"
    COMPRESSIONS["JPEG Lossless"](path)
    header = pydicom.dcmread(path)
    frame = next(pydicom.encaps.generate_frames(header.PixelData, number_of_frames=1))
    header.PixelData = encapsulate([frame[:cut] or b"not a picture"])
    header.save_as(path)
    with pytest.raises(DataError, match=r"001\.dcm: pixel data \(JPEG Lossless.*cannot be decoded"):
        read_series(path.parent)


def test_high_throughput_jpeg_2000_is_refused_with_what_reads_it(tmp_path: Path, write_series: Writer) -> None:
    path = write_series(tmp_path / "s", count=1) / "001.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    header.PixelData = encapsulate([b"not a picture"])
    header.save_as(path)
    with pytest.raises(DataError, match=r"pip install pylibjpeg pylibjpeg-openjpeg.*dcm2niix"):
        read_series(path.parent)
