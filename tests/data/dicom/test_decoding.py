"""Pixel data of every transfer syntax that is read have the values of an uncompressed twin."""

import warnings
from base64 import b85decode
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
)

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.decoding import stored_integers
from sam2ft.data.dicom.file import Part, read_header
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


HIGH_THROUGHPUT = {
    "8 bit": (
        "u1",
        8,
        (11, 7, 251, 0),
        "|4;u>04YEK0000O0000K00000000000000O0000K0000000000009R90sl|{2mk^A00092QUDA90ssL31q1{@0smY86Cg-XP*6}%"
        "P*6}%P*6}vNJ#%=02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001GynnrlfWhV07rBHz!Ja`z!L!U0Ect{)By){04M$e2Xp|y"
        "6F?I{5`aOb0Sj~hN$>zdGyweohjakI6_5o?0an8CM9%;*KmR25SO5pm2k-$&yj1`L1N6Z001yGZRsg^jv;k~D7QnzW+y_b9$Rz+h"
        "H0s5t^G*OzlmJ=)lCxl8)u2VgGM6f#f%(9;^!UPtC`uXt#3``;b%ovDPYyW45Wo|9d;@`q@pD@Mz%Hr*b&v~mB<Xc;XE6NZeShca"
        "c?{$8;q>u#o{s$UxM{%>cL;kh)=!HB63eGTa{(S)u8U0%{=uu!wdp~L%Exz&lT8W_g+ft8{?VS*w2W~jmX-udiZKC9vH^T~JU+h9"
        "ojzW_pRdpN{?h?M9)uGH3Q92me7^wy*#",
    ),
    "12 bit": (
        "<u2",
        12,
        (211, 97, 4096, 0),
        "|4;u>04YEK0000O0000K00000000000000O0000K0000000000009pH0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
        "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001y8r?IlfVEbJMRStbO68r6F>kHKmZc}iu?kHbO7@E0|#^f"
        "v*iQ_bO68r6Tko!5C8<Agn<463v>XnL4N)K;xqtW0f%$|zyKDc00CV909Swj-BdJ$UZSVSb^ZWR7yLm0{<#1GXq^aT-K72i0sz03"
        "00d|{D{xW<3Hkt10l$_2zyKFT003Pi00DF$2D0U>oLez!;+DBbt-jC!reAx<I*I<lYT2TOFdi&mTL6aJmFHGqB){=?MnAfL?M7!Z"
        "Hsc74bhP`+ZJ0ugKt3!ZTL2z^uYB$mUwh(@e(ZIB{3m|t7ySN%#I2Y|22egMLt6mA053s+0A7gz0J@++AQ0%^fB$@6&wKvwKmT#R"
        "{`>!5{`nvO00uDr=Rf}GKmU2(fBg3!An^0F0-Tl_3%#*ZK-psj0RZ^AaRPP${^4K$cpv`hAO8L0fBZN9cpv|3fBQ$4@gK5G|41eO"
        "O*H<4G)RLqq#-3GCH?-$0gMlR)zTp!sbCxf^2Q2t0Zg_5{`Y_XWB+{rfA{}?|3Cis|9}5~|9k&`{>cP1FZ7|=i~w@V3UdHlvH}0u",
    ),
    "signed 16": (
        "<i2",
        16,
        (2111, 1971, 60000, -30000),
        "|4;u>04YEK0000O0000K00000000000000O0000K000000000000EBy0sl|{2mk^A000XAQUDA90ssL31q1{@0smY86Cj9?kdTm&"
        "kdTm&kdTmwh=~7W02crOPjF>!N>E53R%LP^FfKASE;BCwkN^q*00001!vF#QlfVEbrv3tlbO68r6F>kHKmZc}G^+&%bO55e1qXBh"
        "zo7+(bO68r6%YUgL;wLW?NNHH1q*Zlt4iXO0YWqY(~SiObO68r7Q6rfUjP7F060(sq82op2Ur;3)7%IC6eZ?@fxK7%F=PWs1hxpD"
        "`v7wRyjB3>KpUVe<u!3$;{c<9yjB3f02f6709`Bq0dzpz2C2yD<Tl)fRd3bvV72U}r=`9v?AVd{_t3M6%ncw|0NjRsxed30)noMy"
        "*20b*X_OizaoQA@JjW&a)9WGg=&TImS^#z%NG0qx>^4YYmco=X!IRuqK$YN=+}F?y6Mv!r4P#mWzyL1#00DY500QcOWGDMlNA^fA"
        "FLg^Dm%2+mekGS=&r-M4ajCo1$FJiT*+cd$b>f#xef&Cpk)7=G^y4ST^F0G%u<$bie*jAz@oTAD>bTTh>f_h(YpGl6xYS+h<Ja+v"
        "5Ap#Y@BtsR)Wwo6bu2l4@j-kLAH)ZI@cm>1k7}`8CpaF<lh8I#4Ir}tFLi#YU+P}!Jbr!rdZ~M<^Z51g>!t3O`tj@ia0P@;I>9sz"
        "VG|8tzX1Q)",
    ),
}
"""Kind -> (type, bits, (step of a row, step of a column, modulus, lowest), codestream in base 85)."""


def _high_throughput(kind: str) -> tuple[np.ndarray, bytes]:
    """(pixels, their codestream of ISO 15444-15, as OpenJPH encoded it without loss)."""
    dtype, _, (row, column, modulus, lowest), code = HIGH_THROUGHPUT[kind]
    y, x = np.indices((20, 24))
    return ((y * row + x * column) % modulus + lowest).astype(dtype), b85decode(code)


@pytest.mark.parametrize("syntax", [HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL])
@pytest.mark.parametrize("kind", HIGH_THROUGHPUT)
def test_high_throughput_jpeg_2000_has_the_values_that_were_encoded(
    tmp_path: Path, write_series: Writer, kind: str, syntax: str
) -> None:
    pixels, code = _high_throughput(kind)

    def change(header: pydicom.FileDataset, z: int) -> None:
        described(header, pixels, HIGH_THROUGHPUT[kind][1])
        header.BitsAllocated = pixels.itemsize * 8

    folder = write_series(tmp_path / "s", count=2, change=change)
    expected = read_series(folder)
    assert np.array_equal(expected.array_zyx[1], pixels)
    for path in folder.iterdir():
        header = pydicom.dcmread(path)
        header.file_meta.TransferSyntaxUID = syntax
        header.PixelData = encapsulate([code])
        header["PixelData"].VR, header["PixelData"].is_undefined_length = "OB", True
        header.save_as(path)
    assert np.array_equal(read_series(folder).array_zyx, expected.array_zyx)


def test_frames_of_high_throughput_jpeg_2000_are_read_one_by_one() -> None:
    pixels, code = _high_throughput("12 bit")
    header = pydicom.Dataset()
    header.SamplesPerPixel, header.PhotometricInterpretation, header.BitsAllocated = 1, "MONOCHROME2", 16
    described(header, pixels, 12)
    header.NumberOfFrames, header.PixelData = 3, encapsulate([code, code, code])
    header["PixelData"].VR = "OB"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    for index in range(3):
        assert np.array_equal(stored_integers(pydicom.Dataset(), Part(header, index)), pixels)


@pytest.mark.parametrize("code", [b"not a picture", _high_throughput("12 bit")[1][:90]])
def test_damaged_high_throughput_jpeg_2000_is_refused(tmp_path: Path, write_series: Writer, code: bytes) -> None:
    path = write_series(tmp_path / "s", count=1) / "001.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    header.PixelData = encapsulate([code])
    header.save_as(path)
    with pytest.raises(DataError, match=r"001\.dcm: pixel data \(High-Throughput.*cannot be decoded.*dcm2niix"):
        read_series(path.parent)


def written(path: Path, stored: np.ndarray, bits: int, *, implicit: bool) -> Path:
    """A file whose unused bits hold anything."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    header = pydicom.dataset.FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.Rows, header.Columns = stored.shape[-2:]
    if stored.ndim == 3:
        header.NumberOfFrames = len(stored)
    header.BitsAllocated, header.BitsStored, header.HighBit = 8 * stored.itemsize, bits, bits - 1
    header.PixelRepresentation = int(stored.dtype.kind == "i")
    data = stored.tobytes()
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OW" if stored.itemsize == 2 else "OB"
    header.save_as(path, enforce_file_format=True)
    return path


PLAIN = [("<u2", 16), ("<i2", 16), ("<u2", 12), ("<i2", 12), ("<u2", 1), ("u1", 8), ("i1", 8), ("u1", 5)]


@pytest.mark.parametrize("frames", [None, 3])
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), PLAIN)
def test_plain_pixels_are_those_of_pydicom(
    tmp_path: Path, dtype: str, bits: int, implicit: bool, frames: int | None
) -> None:
    shape = (41, 33) if frames is None else (frames, 41, 33)
    stored = np.frombuffer(np.random.default_rng(bits).bytes(np.prod(shape) * np.dtype(dtype).itemsize), dtype)
    path = written(tmp_path / "a.dcm", stored.reshape(shape), bits, implicit=implicit)
    expected = pydicom.dcmread(path).pixel_array
    header = read_header(path)
    for index in [None] if frames is None else range(frames):
        found = stored_integers(header, None if index is None else Part(header, index))
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected if index is None else expected[index])
    assert header.get_item("PixelData", keep_deferred=True).value is None  # they were not read by pydicom


@pytest.mark.parametrize("change", [{"Rows": 40}, {"Rows": 42}, {"NumberOfFrames": 2}, {"BitsAllocated": 32}])
def test_plain_pixels_of_another_length_are_left_to_pydicom(tmp_path: Path, change: dict[str, int]) -> None:
    stored = np.arange(41 * 33, dtype="<u2").reshape(41, 33)
    path = written(tmp_path / "a.dcm", stored, 16, implicit=False)
    header = pydicom.dcmread(path)
    for keyword, value in change.items():
        setattr(header, keyword, value)
    header.save_as(path)
    results = []
    for read in (lambda: pydicom.dcmread(path).pixel_array, lambda: stored_integers(read_header(path))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                results.append(read().tolist())
            except Exception as error:  # noqa: BLE001  # whatever pydicom raises
                results.append(str(error))
    assert results[0] == results[1]
