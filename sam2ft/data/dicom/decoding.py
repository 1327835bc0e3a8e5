"""Decoding the pixel data of a DICOM file to the integers that are stored in it, whatever the transfer syntax.

pydicom decodes what is not compressed, RLE, deflated data sets, JPEG baseline and JPEG 2000 (Pillow) and JPEG-LS
(pyjpegls). JPEG Lossless and 12-bit JPEG are decoded by GDCM (SimpleITK), because the decoder of these that pydicom
knows is GPL. High-throughput JPEG 2000 (PS3.5 A.4.11, ISO 15444-15) differs from JPEG 2000 in the coding of its blocks
alone, which the OpenJPEG in Pillow reads; pydicom asks Pillow only when the transfer syntax is JPEG 2000.
"""

import struct
import tempfile
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from sam2ft.core.quiet import refusing_complaints
from sam2ft.data.dicom.file import Part

_BY_GDCM = (JPEGLossless, JPEGLosslessSV1, JPEGExtended12Bit)
_AS_JPEG_2000 = (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
# What describes the integers of a frame; slopes are left out, so that a reader returns what is stored.
_DESCRIBE_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_BYTE = 8
_AS_IN_MEMORY = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)
# Pixel data of any length in items, and their delimiter (PS3.5 A.4).
_PIXELS_BEGIN = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
_PIXELS_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
# GDCM finds the precision of a JPEG by trying one library after the other.
_OF_THE_SEARCH = (b"Unsupported JPEG data precision", b"Invalid SOS parameters for sequential JPEG")


def stored_integers(header: Dataset, part: Part | None = None) -> npt.NDArray[Any]:
    """The stored values of one image, yx.

    Args:
        header: the header of a file of one image, with its pixel data.
        part: place of the image in a file of several.

    Raises:
        Exception: whatever a decoder raises on damaged data, or NotImplementedError (see `header.DAMAGE`).
    """
    whole = header if part is None else part.whole
    frame = part.index if part is not None and part.tiles is None else None
    syntax = whole.file_meta.TransferSyntaxUID
    if syntax in _BY_GDCM and not (syntax == JPEGExtended12Bit and whole.BitsStored == _BYTE):
        stored = _by_gdcm(whole, syntax, frame or 0)
    elif syntax in _AS_JPEG_2000:
        stored = pixel_array(_named(whole, JPEG2000), index=frame)
    elif (plain := _plain_frame(whole, syntax, frame)) is not None:
        stored = plain
    else:
        stored = pixel_array(whole, index=frame)  # the attribute would keep a copy in the header
    return stored if part is None or part.tiles is None else _tile(stored, part.index, part.tiles)


def _plain_frame(whole: Dataset, syntax: UID, frame: int | None) -> npt.NDArray[Any] | None:
    """One frame of pixel data that lie in the file as they do in memory, and that were not read with the header.

    None: they do not, or their length is not the expected one: pydicom reads them, or says what is wrong. It parses the
    element again and checks all of the header for each frame, which takes as long as reading the pixels.
    """
    element = whole.get_item("PixelData", keep_deferred=True)
    if syntax not in _AS_IN_MEMORY or not isinstance(element, RawDataElement) or element.value is not None:
        return None
    named = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
    rows, columns, samples, bits, used, signed = (whole.get(keyword) for keyword in named)
    if not all(isinstance(value, int) for value in (rows, columns, samples, bits, used, signed)):
        return None
    grey = whole.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if not grey or samples != 1 or bits not in (8, 16) or not 1 <= used <= bits or signed not in (0, 1):
        return None
    size, frames = rows * columns * bits // _BYTE, int(whole.get("NumberOfFrames") or 1)
    if (frame is None and frames != 1) or element.length not in (size * frames, size * frames + size * frames % 2):
        return None
    with Path(str(whole.filename)).open("rb") as stream:
        stream.seek(element.value_tell + (frame or 0) * size)
        stored = np.fromfile(stream, np.dtype(f"<{'i' if signed else 'u'}{bits // _BYTE}"), rows * columns)
    if len(stored) != rows * columns:
        return None
    if used < bits:  # what the bits above hold is not said: as pydicom, the sign comes from the highest used one
        np.left_shift(stored, bits - used, out=stored)
        np.right_shift(stored, bits - used, out=stored)
    return stored.reshape(rows, columns)


def _tile(mosaic: npt.NDArray[Any], index: int, tiles: int) -> npt.NDArray[Any]:
    rows, columns = mosaic.shape[0] // tiles, mosaic.shape[1] // tiles
    down, across = divmod(index, tiles)
    return mosaic[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns]


def _named(whole: Dataset, syntax: UID) -> Dataset:
    """The pixel data with what describes them, without anything else."""
    named = Dataset()
    for keyword in (*_DESCRIBE_PIXELS, "NumberOfFrames"):
        if keyword in whole:
            named[keyword] = whole[keyword]
    named["PixelData"] = whole["PixelData"]
    named.file_meta = FileMetaDataset()
    named.file_meta.TransferSyntaxUID = syntax
    return named


# The frames of a series have one description, whose writing takes half as long as the decoding.
@lru_cache(maxsize=8)
def _before_pixels(syntax: UID, described: tuple[tuple[str, Any], ...]) -> bytes:
    """A DICOM file of one frame up to its pixel data."""
    one, meta = Dataset(), FileMetaDataset()
    for keyword, value in described:
        setattr(one, keyword, value)
    one.SOPClassUID, one.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    one.file_meta = meta
    written = BytesIO()
    pydicom.dcmwrite(written, one, enforce_file_format=True)
    return written.getvalue()


def _by_gdcm(whole: Dataset, syntax: UID, frame: int) -> npt.NDArray[Any]:
    """One frame, decoded from a file that holds it and the description of its integers alone.

    SimpleITK reads files only, and would apply the slopes of the whole file itself.
    """
    import SimpleITK

    frames = int(whole.get("NumberOfFrames") or 1)
    described = tuple((keyword, whole.get(keyword)) for keyword in _DESCRIBE_PIXELS if keyword in whole)
    fragments = encapsulate([get_frame(whole.PixelData, frame, number_of_frames=frames)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        path.write_bytes(b"".join((_before_pixels(syntax, described), _PIXELS_BEGIN, fragments, _PIXELS_END)))
        process: Any = SimpleITK.ProcessObject
        process.GlobalWarningDisplayOff()  # they go to stderr, and may quote the header
        with refusing_complaints(_OF_THE_SEARCH):
            image = SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")
    stored = SimpleITK.GetArrayFromImage(image)
    if not np.issubdtype(stored.dtype, np.integer):
        raise ValueError("decoded to other values than integers")
    return np.asarray(stored.reshape(stored.shape[-2:]))
