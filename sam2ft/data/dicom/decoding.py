"""Decoding the pixel data of a DICOM file to the integers that are stored in it, whatever the transfer syntax.

pydicom decodes what is not compressed, RLE, deflated data sets, JPEG baseline and JPEG 2000 (Pillow) and JPEG-LS
(pyjpegls). JPEG Lossless and 12-bit JPEG are decoded by GDCM (SimpleITK), because the decoder of these that pydicom
knows is GPL. High-throughput JPEG 2000 needs a
package that pydicom finds when it is installed (pylibjpeg-openjpeg, MIT).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import pixel_array
from pydicom.uid import (
    UID,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from sam2ft.core.quiet import refusing_complaints
from sam2ft.data.dicom.file import Part

_BY_GDCM = (JPEGLossless, JPEGLosslessSV1, JPEGExtended12Bit)
# What describes the integers of a frame; slopes are left out, so that a reader returns what is stored.
_DESCRIBE_PIXELS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_BYTE = 8
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
    else:
        stored = pixel_array(whole, index=frame)  # the attribute would keep a copy in the header
    return stored if part is None or part.tiles is None else _tile(stored, part.index, part.tiles)


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


def _by_gdcm(whole: Dataset, syntax: UID, frame: int) -> npt.NDArray[Any]:
    """One frame, decoded from a file that holds it and the description of its integers alone.

    SimpleITK reads files only, and would apply the slopes of the whole file itself.
    """
    import SimpleITK

    frames = int(whole.get("NumberOfFrames") or 1)
    one = _named(whole, syntax)
    one.PixelData = encapsulate([get_frame(whole.PixelData, frame, number_of_frames=frames)])
    one["PixelData"].is_undefined_length = True
    if "NumberOfFrames" in one:
        del one.NumberOfFrames
    one.SOPClassUID, one.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        pydicom.dcmwrite(path, one, enforce_file_format=True)
        process: Any = SimpleITK.ProcessObject
        process.GlobalWarningDisplayOff()  # they go to stderr, and may quote the header
        with refusing_complaints(_OF_THE_SEARCH):
            image = SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO")
    stored = SimpleITK.GetArrayFromImage(image)
    if not np.issubdtype(stored.dtype, np.integer):
        raise ValueError("decoded to other values than integers")
    return np.asarray(stored.reshape(stored.shape[-2:]))
