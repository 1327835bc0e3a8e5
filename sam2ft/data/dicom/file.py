"""Reading one DICOM file: its header, and the header values that give position and orientation of its image."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import IO

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.header import DAMAGE, guarded, number, reason_of, required, required_whole, text

# Direction vectors are unit and orthogonal within this: headers round their components.
ORIENTATION_TOLERANCE = 1e-3
# A file without preamble begins with an element of one of these groups (file meta information, identification), also
# in big endian.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
# What patients' data are stored as (PS3.4 B.5).
_STORAGE = "1.2.840.10008.5.1.4."
# Storage of segmentations (PS3.4): segments in frames, and label maps.
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# Images of a patient in space (PS3.4): CT, MR, PET, each also enhanced. Without pixels they are damaged.
_IMAGES = tuple(
    f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130")
)
_SCREENS = "1.2.840.10008.5.1.4.1.1.7"
_DIRECTORY, _DOSE = "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.481.2"
# Projections and ultrasound (PS3.4): CR, DX and the like, US, XA, RF. Unless a header says more, they have no position.
_PROJECTIONS = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1", "3.1", "6.1", "12.1", "12.2"))
_PLACES = ("ImagePositionPatient", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
# Values of more bytes are read when they are asked for; the transfer syntax stands within the first ones of a file.
_DEFERRED_ABOVE, _MOST_META = 1024, 1024
_KEPT: ContextVar[dict[Path, pydicom.FileDataset] | None] = ContextVar("kept headers", default=None)
# The length of an element of items, their tags, and how much is looked at beyond the last element.
_UNDEFINED, _MOST_REST = 0xFFFFFFFF, 1 << 20
_ITEM, _LAST_ITEM = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
TO_NIFTI = "convert it to NIfTI with dcm2niix and give the .nii.gz file instead"
NO_IMAGE = (
    "is a DICOM segmentation (SEG), a mask and no image; give it as sources.masks, and the series that it was drawn on "
    "as sources.images"
)


class NoImageError(DataError):
    """A DICOM object that is no image of a series, such as a report, a segmentation or a picture of the screen."""

    def __init__(self, message: str, series: str = ""):
        super().__init__(message)
        self.series = series
        """Its SeriesInstanceUID."""


@dataclass(frozen=True)
class Part:
    """Place of an image in a file that holds several."""

    whole: pydicom.Dataset
    """The header of the file, with the pixel data of all its images."""
    index: int
    """0-based number of the frame, or of the tile of a mosaic in the order of reading."""
    tiles: int | None = None
    """Tiles along each side of a mosaic; None: the images are frames."""


@dataclass(frozen=True)
class DicomImage:
    """One image of a series with the header values that give its position and orientation."""

    path: Path
    header: pydicom.Dataset
    position_mm: npt.NDArray[np.float64]
    """ImagePositionPatient: centre of the first voxel, LPS."""
    cosines: npt.NDArray[np.float64]
    """ImageOrientationPatient: direction of increasing column index, then of increasing row index, LPS."""
    spacing: tuple[float, float]
    """PixelSpacing: distance between rows, distance between columns, mm."""
    size: tuple[int, int]
    """Rows, Columns."""
    part: Part | None = None
    """None: the file holds this image alone."""

    @property
    def key(self) -> tuple[Path, int]:
        """What tells images apart: the file, and the number in it."""
        return self.path, self.part.index if self.part else 0

    @property
    def name(self) -> str:
        """Name of the file, and number (from 1) of the image in a file of several, for messages."""
        if self.part is None:
            return self.path.name
        return f"{self.path.name} ({'frame' if self.part.tiles is None else 'tile'} {self.part.index + 1})"

    @cached_property
    def normal(self) -> npt.NDArray[np.float64]:
        return np.cross(self.cosines[:3], self.cosines[3:])


def is_dicom(path: Path) -> bool:
    """Whether the file is DICOM: it has the preamble, or without it parses as an object that DICOM stores."""
    with guarded(path), path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM":
        return True
    if start[:2] not in _FIRST_GROUPS:
        return False
    try:
        with guarded(path):
            header = pydicom.dcmread(path, force=True, stop_before_pixels=True)
            return text(header, "SOPClassUID").startswith(_STORAGE)
    except DataError:
        return False


def header_of_any(path: Path) -> pydicom.Dataset:
    """The header of any DICOM object, without its pixels; DataError when it cannot be read."""
    with guarded(path):
        try:
            return pydicom.dcmread(path, force=True, stop_before_pixels=True)
        except DAMAGE as error:
            raise DataError(f"{path}: not a readable DICOM file ({reason_of(error)})") from None


@contextmanager
def headers_kept() -> Iterator[None]:
    """Inside the block a header that `header_ahead` parsed is not parsed again by the next `read_header`, but by the
    one after it: readers change the headers that they get."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def header_ahead(path: Path) -> pydicom.Dataset | None:
    """The header of a file, for those who look before `read_header` does; None outside of `headers_kept`, and of a file
    whose header cannot be read without its pixels (deflated).

    Raises:
        Exception: whatever pydicom raises on a damaged file.
    """
    kept = _KEPT.get()
    if kept is None or (above := _deferred_above(path)) is None:
        return None
    if path not in kept:
        kept[path] = pydicom.dcmread(path, force=True, defer_size=above)
    return kept[path]


def read_header(path: Path) -> pydicom.Dataset:
    """The header of a DICOM file; pixel data and other long values are read when they are asked for.

    Raises:
        NoImageError: the file holds no image of a series, but may lie in its folder.
        DataError: the file cannot be read.
    """
    with guarded(path):
        header = read_complete(path, _deferred_above(path), (_KEPT.get() or {}).pop(path, None))
        _name_transfer_syntax(header)
        _refuse_other_content(path, header)
        return header


def read_complete(path: Path, defer_size: int | None = None, parsed: pydicom.Dataset | None = None) -> pydicom.Dataset:
    """All elements of a DICOM file, whose last one ends where the file ends; zeros may fill it up.

    pydicom itself takes what is left of a file that was cut, and leaves out what follows the last element.

    Args:
        defer_size: values of more bytes are read when they are asked for.
        parsed: the elements, as far as they were parsed before; they are not parsed again.

    Raises:
        DataError: naming the file.
    """
    try:
        header = pydicom.dcmread(path, force=True, defer_size=defer_size) if parsed is None else parsed
        if (problem := _of_its_end(path, header)) is not None:
            raise DataError(f"{path}: not a readable DICOM file ({problem}); copy it again")
        return header
    except DAMAGE as error:
        raise DataError(f"{path}: not a readable DICOM file ({reason_of(error)})") from None


def _of_its_end(path: Path, header: pydicom.Dataset) -> str | None:
    """Why the elements of a file do not end with it; None: they do, or it is not known."""
    # Iterating over the header itself would decode every value.
    elements = [header.get_item(tag, keep_deferred=True) for tag in header.keys()]  # noqa: SIM118
    known = [one for one in elements if isinstance(one, RawDataElement)]
    if len(known) < len(elements) and isinstance(elements[-1], pydicom.DataElement):
        return None  # a sequence without a length, read to its delimiter
    last = max(known, key=lambda one: one.value_tell, default=None)
    if last is None:
        return None
    with path.open("rb") as stream:
        deflated = text(getattr(header, "file_meta", pydicom.Dataset()), "TransferSyntaxUID")
        if deflated == DeflatedExplicitVRLittleEndian:
            rest = _rest_of_deflated(stream, header, last.value_tell + last.length)
        else:
            stream.seek(last.value_tell)
            end = _end_of_items(stream) if last.length == _UNDEFINED else last.value_tell + last.length
            if end is None:
                return "the parts of its pixel data do not end with it"
            if end > stream.seek(0, os.SEEK_END):
                return "it ends too early"
            stream.seek(end)
            rest = stream.read(_MOST_REST)
    # Files have an even number of bytes.
    return "bytes follow its last element" if len(rest) % 2 or rest.strip(b"\0") else None


def _end_of_items(stream: IO[bytes]) -> int | None:
    """Where the fragments of compressed pixel data end; None: their lengths do not lead to the delimiter."""
    while len(start := stream.read(8)) == 8:
        if start[:4] != _ITEM:
            return stream.tell() if start[:4] == _LAST_ITEM else None
        stream.seek(int.from_bytes(start[4:], "little"), os.SEEK_CUR)
    return None


def _rest_of_deflated(stream: IO[bytes], header: pydicom.Dataset, end: int) -> bytes:
    """What follows the last element in the inflated contents, or the compressed ones in the file."""
    stream.seek(132 + 12 + int(header.file_meta.FileMetaInformationGroupLength))
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflating.decompress(stream.read(), end + _MOST_REST)
    # The sums that gzip ends with, which some writers leave there; an odd number of compressed bytes is filled up.
    sums = struct.pack("<II", zlib.crc32(inflated), len(inflated))
    ending = inflating.unused_data.removeprefix(sums)
    return inflated[end:] + (ending if ending != b"\0" else b"")


def _deferred_above(path: Path) -> int | None:
    """Bytes above which a value is not read with the header; None where pydicom cannot go back for it (deflated)."""
    with path.open("rb") as stream:
        start = stream.read(_MOST_META)
    return None if DeflatedExplicitVRLittleEndian.encode() in start else _DEFERRED_ABOVE


def image_of(path: Path, header: pydicom.Dataset, reading: Reading = AS_IS, part: Part | None = None) -> DicomImage:
    """The image with the header values that give its position and orientation.

    Raises:
        DataError: naming the file, when a value is missing or wrong.
    """
    unknown = "the position of the image is unknown"
    position = required(path, header, "ImagePositionPatient", 3, unknown)
    cosines = _directions(path, required(path, header, "ImageOrientationPatient", 6, unknown), reading)
    rows, columns = required(path, header, "PixelSpacing", 2, unknown)
    if min(rows, columns) <= 0:
        raise DataError(f"{path}: PixelSpacing is {joined_values((rows, columns))}; allowed: two lengths above 0")
    size = required_whole(path, header, "Rows"), required_whole(path, header, "Columns")
    return DicomImage(path, header, np.array(position), cosines, (rows, columns), size, part)


def _name_transfer_syntax(header: pydicom.Dataset) -> None:
    """Files without preamble may lack the name of their encoding, which pydicom found out while reading."""
    meta = getattr(header, "file_meta", None)
    if meta is None:
        header.file_meta = meta = pydicom.dataset.FileMetaDataset()
    if not text(meta, "TransferSyntaxUID"):
        implicit, little = header.original_encoding
        meta.TransferSyntaxUID = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )


def _refuse_other_content(path: Path, header: pydicom.Dataset) -> None:
    kind = text(header, "SOPClassUID") or text(header.file_meta, "MediaStorageSOPClassUID")
    series = text(header, "SeriesInstanceUID")
    if kind in _SEGMENTATIONS:
        raise NoImageError(f"{path}: {NO_IMAGE}", series)
    if text(header.file_meta, "MediaStorageSOPClassUID") == _DIRECTORY:
        raise NoImageError(
            f"{path}: is a DICOMDIR, the table of contents of a disc or folder, and no image; give the folders of its "
            f"series (sources.images: FOLDER/{{subject}}); list them with: sam2ft scan {quote(str(path.parent))}"
        )
    if kind == _DOSE:
        raise NoImageError(f"{path}: holds the doses of a radiation plan (RT Dose) and no image", series)
    if "PixelData" not in header or "Rows" not in header:
        name = uid_name(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID"))
        message = f"{path}: holds no image ({name}); a folder holds the images of one series and no others"
        raise DataError(message) if kind in ("", *_IMAGES) else NoImageError(message, series)
    try:
        samples = number(header, "SamplesPerPixel")
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if samples not in (None, 1):
        raise NoImageError(f"{path}: is a colour image; expected one sample per pixel", series)
    if kind.startswith(_SCREENS) and not any(one in header for one in _PLACES):
        raise NoImageError(f"{path}: is a picture of a screen without a position (Secondary Capture)", series)
    if _is_projection(kind) and not any(one in header for one in _PLACES):
        name = uid_name(header.get("SOPClassUID"))
        raise NoImageError(f"{path}: is an image without a position in space ({name}), and no slice", series)


def _is_projection(kind: str) -> bool:
    return kind in _PROJECTIONS or kind.startswith(f"{_PROJECTIONS[0]}.")


def uid_name(uid: object) -> str:
    """The registered name of a UID (PS3.6); a private one is not shown, because it may belong to a person."""
    name = str(getattr(uid, "name", ""))
    return name if name and name != str(uid) else "not registered"


def frames_of(path: Path, header: pydicom.Dataset) -> int:
    """NumberOfFrames; 1 where it is absent.

    Raises:
        DataError: naming the file, when it is no number.
    """
    try:
        return int(number(header, "NumberOfFrames") or 1)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _directions(path: Path, cosines: tuple[float, ...], reading: Reading) -> npt.NDArray[np.float64]:
    """The direction vectors, unit and orthogonal; with `believe: orientation` their lengths do not matter."""
    both = np.array(cosines).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    shown = f"{path}: ImageOrientationPatient is {joined_values(cosines)}:"
    if lengths.min() < ORIENTATION_TOLERANCE:
        raise DataError(f"{shown} a vector without a direction; allowed: two orthogonal unit vectors")
    cosine = float(abs(both[0] @ both[1]) / lengths.prod())
    if cosine > ORIENTATION_TOLERANCE:
        raise DataError(
            f"{shown} rows and columns are not at right angles (cosine {cosine:.3g}); allowed: orthogonal within "
            f"{ORIENTATION_TOLERANCE:g}; {TO_NIFTI} once its header is mended"
        )
    if np.abs(lengths - 1).max() > ORIENTATION_TOLERANCE:
        if reading.believe != "orientation":
            raise DataError(
                f"{shown} vectors of length {lengths[0]:.6g} and {lengths[1]:.6g}, which PixelSpacing contradicts; "
                f"allowed: 1 within {ORIENTATION_TOLERANCE:g}, or believe: orientation (the directions count, "
                "distances are those of PixelSpacing)"
            )
        both = both / lengths[:, None]
    return both.ravel()


def joined_values(values: Sequence[float] | npt.NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
