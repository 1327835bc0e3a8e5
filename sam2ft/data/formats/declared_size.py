"""The size of an image when decoded, from its header alone, for a limit that applies before anything is decoded."""

import io
import zlib
from pathlib import Path
from typing import Any

import pydicom
from pydicom.filereader import read_dataset

from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import refusing_damage
from sam2ft.data.formats.nifti_file import nifti_size
from sam2ft.data.formats.nrrd_file import nrrd_size

_DEFLATED = "1.2.840.10008.1.2.1.99"
_PIXEL_GROUP = 0x7FE0
# Enough for the attributes before the pixels, also of an enhanced multi-frame image.
_MOST_HEADER = 1 << 24
# Per voxel, besides its own bytes: signal, stored intensity and mask.
BYTES_BESIDES = 6


def declared_size(path: Path) -> tuple[int, int] | None:
    """(number of voxels, their bytes when decoded) of a NIfTI, NRRD or DICOM file, or of all files of a folder.

    DICOM: Rows * Columns * NumberOfFrames * SamplesPerPixel * BitsAllocated / 8. Nothing is decoded.

    Returns:
        None when a header cannot be read or is of another kind of file: reading the file says why.
    """
    if not path.is_dir():
        return _file_size(path)
    files = [_file_size(file) for file in sorted(path.iterdir()) if file.is_file() and file.name[0] != "."]
    known = [size for size in files if size is not None]
    return (sum(voxels for voxels, _ in known), sum(size for _, size in known)) if known else None


def needed_bytes(path: Path) -> int:
    """Memory that `prepare` needs for the voxels of a file or folder: their own bytes and 6 more each.

    0 when a header cannot be read.
    """
    voxels, size = declared_size(path) or (0, 0)
    return size + BYTES_BESIDES * voxels


def _file_size(path: Path) -> tuple[int, int] | None:
    try:
        name = path.name.lower()
        if name.endswith((".nii", ".nii.gz")):
            return nifti_size(path)
        if name.endswith((".nrrd", ".nhdr")):
            return nrrd_size(path)
        with refusing_damage(path, "DICOM"):
            return _dicom_size(path)
    except DataError:
        return None


def _dicom_size(path: Path) -> tuple[int, int]:
    header = _dicom_header(path)
    voxels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
    return voxels, voxels * int(header.BitsAllocated) * int(header.get("SamplesPerPixel") or 1) // 8


def _dicom_header(path: Path) -> Any:
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
