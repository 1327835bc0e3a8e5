"""The size of an image when decoded, from its header alone, for a limit that applies before anything is decoded."""

import io
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.file import header_ahead
from sam2ft.data.formats.compressed import refusing_damage
from sam2ft.data.formats.picture_stack import is_stack
from sam2ft.data.formats.readers import reader_of

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_GROUP = 0x7FE0
# Enough for the attributes before the pixels, also of an enhanced multi-frame image.
_MOST_HEADER = 1 << 24
# Per voxel, besides its own bytes: signal, stored intensity and mask.
BYTES_BESIDES = 6


def declared_size(path: Path, reading: Reading = AS_IS) -> tuple[int, int] | None:
    """(number of voxels, their bytes when decoded) of an image file, or of all DICOM files of a folder.

    DICOM: Rows * Columns * NumberOfFrames * SamplesPerPixel * BitsAllocated / 8. Nothing is decoded.

    Returns:
        None when a header cannot be read or is of another kind of file: reading the file says why.
    """
    if not path.is_dir() or is_stack(path):
        return _file_size(path, reading)
    # Subfolders count when a folder has no file of its own.
    known = _sizes(path.iterdir(), reading) or _sizes(path.rglob("*"), reading)
    return (sum(voxels for voxels, _ in known), sum(size for _, size in known)) if known else None


def needed_bytes(path: Path, reading: Reading = AS_IS) -> int:
    """Memory that `prepare` needs for the voxels of a file or folder: their own bytes and 6 more each.

    0 when a header cannot be read.
    """
    voxels, size = declared_size(path, reading) or (0, 0)
    return size + BYTES_BESIDES * voxels


def _sizes(files: Iterable[Path], reading: Reading) -> list[tuple[int, int]]:
    sizes = [_file_size(file, reading) for file in files if file.is_file() and file.name[0] != "."]
    return [size for size in sizes if size is not None]


def _file_size(path: Path, reading: Reading) -> tuple[int, int] | None:
    try:
        if (reader := reader_of(path)) is not None:
            found = reader.describe(path, reading)
            return found.num_voxels, found.num_bytes
        with refusing_damage(path, "DICOM", BytesLengthException, InvalidDicomError):
            return _dicom_size(path)
    except DataError:
        return None


def _dicom_size(path: Path) -> tuple[int, int]:
    header = _dicom_header(path)
    voxels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    return voxels, voxels * int(header.BitsAllocated) * int(header.get("SamplesPerPixel") or 1) // 8


def _dicom_header(path: Path) -> Any:
    if (ahead := header_ahead(path)) is not None:
        return ahead
    with path.open("rb") as stream:
        head = stream.read(132)
        meta = None
        if head[128:] == b"DICM":
            stream.seek(0)
            meta = pydicom.filereader.read_partial(stream, stop_when=lambda tag, _vr, _length: tag.group > 2).file_meta
    if meta is None or meta.get("TransferSyntaxUID") != _DEFLATED:
        return pydicom.dcmread(path, stop_before_pixels=True, force=True)
    # pydicom would inflate the whole file, whatever its size; the attributes before the pixels are enough.
    start = 132 + 12 + int(meta.FileMetaInformationGroupLength)
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(path.read_bytes()[start:], _MOST_HEADER)
    return read_dataset(
        io.BytesIO(inflated),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group >= _PIXEL_GROUP,
    )
