"""Reading FreeSurfer's .mgh and .mgz files: header by nibabel, voxels checked to the last byte and checksum."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.spatialimages import HeaderDataError

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import (
    as_array,
    most_bytes,
    not_readable,
    read_voxels,
    refusing_damage,
)
from sam2ft.data.formats.description import Description, Placement, chosen_channel, described, steps_mm
from sam2ft.data.formats.nifti_file import gzip_or_plain, one_channel
from sam2ft.data.images.grids import FileImage

ENDINGS = (".mgh", ".mgz", ".mgh.gz")
_FIRST_VOXEL = 284
# What may follow the voxels: times of the sequence, and tags with the commands that made the file.
_MOST_TAGS = 1 << 26
# TR, flip angle, TE, TI and, later, the field of view; the tags of FreeSurfer's tags.h that have no length, or a short.
_SEQUENCE = 20
_TAGS_WITHOUT_LENGTH, _TAG_OLD_XFORM = (1, 2, 20), 30


@dataclass(frozen=True)
class _Header:
    fields: Any
    shape: tuple[int, ...]
    """x, y, z, frames."""
    dtype: np.dtype
    directed: bool
    """Whether the header gives voxel edges and directions (goodRASFlag)."""

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def is_mgh(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_mgh(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The image in a .mgh or .mgz file.

    Raises:
        DataError: naming the file, when header or contents are damaged, it ends too early, its header gives no
            directions, or it has several frames and none is chosen.
    """
    with refusing_damage(path, "MGH", HeaderDataError), gzip_or_plain(path) as (stream, encoding):
        header = _read_header(stream)
        channel = chosen_channel(header.shape[3], reading, header.shape)
        affine, notes = _placement(header, reading)
        if encoding == "raw":
            _refuse_other_end(path, _FIRST_VOXEL + header.num_bytes)
        voxels = read_voxels(stream, header.num_bytes, most_bytes(path, encoding), most_after=_MOST_TAGS)
        array = one_channel(as_array(voxels, header.dtype, header.shape), channel)
        return FileImage(array, affine, "delta", notes)


def _refuse_other_end(path: Path, end: int) -> None:
    """DataError when what follows the voxels of a file without a checksum is not what FreeSurfer writes there.

    That is nothing, or numbers of the sequence, alone or with tags. A tag has a number, a length and a value; the first
    tags had no length, and what follows one of these cannot be judged.
    """
    with path.open("rb") as stream:
        stream.seek(end)
        rest = stream.read(_MOST_TAGS)
    at = min(len(rest), _SEQUENCE)
    while at < len(rest):
        tag = int.from_bytes(rest[at : at + 4], "big")
        if tag in _TAGS_WITHOUT_LENGTH:
            return
        width = 4 if tag == _TAG_OLD_XFORM else 8
        at += 4 + width + int.from_bytes(rest[at + 4 : at + 4 + width], "big")
    numbers = np.frombuffer(rest[: len(rest[:_SEQUENCE]) // 4 * 4], dtype=">f4")
    if at != len(rest) or len(rest[:_SEQUENCE]) % 4 or not (np.isfinite(numbers) & (numbers >= 0)).all():
        raise not_readable("MGH", "what follows its voxels is none of its kind; bytes were added or are missing")


def describe_mgh(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of a .mgh or .mgz file says; DataError when it cannot be read."""
    with refusing_damage(path, "MGH", HeaderDataError), gzip_or_plain(path) as (stream, _):
        header = _read_header(stream)
        shape = header.shape if header.shape[3] > 1 else header.shape[:3]
        return described(shape, header.shape[3], header.num_bytes, lambda: _placement(header, reading), reading)


def _read_header(stream: IO[bytes]) -> _Header:
    """The header at the start of a stream, which is left at the first voxel."""
    from nibabel.freesurfer.mghformat import MGHHeader

    block = stream.read(_FIRST_VOXEL)
    if len(block) < _FIRST_VOXEL:
        raise EOFError
    # What follows the fields of the header is padding there; nibabel would take it for what follows the voxels.
    fields = MGHHeader(block[:90], check=True)
    shape = tuple(int(size) for size in fields["dims"])
    if min(shape) < 1:
        raise DataError(f"has dims {shape}; every size must be 1 or more")
    known = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
    code = int(fields["type"])
    if code not in known:
        raise DataError(f"has the type {code}; allowed: {', '.join(str(one) for one in known)} (numbers)")
    # nibabel fills in 1 mm and directions of its own where the header gives none.
    directed = int.from_bytes(block[28:30], "big") == 1
    return _Header(fields, shape, np.dtype(known[code]), directed)


def _placement(header: _Header, reading: Reading) -> Placement:
    fields = header.fields
    if not header.directed:
        raise DataError(
            "its header gives no voxel sizes and directions (goodRASFlag is not 1); write them, e.g. in Python with "
            "nibabel: save(MGHImage(array, affine), FILE)"
        )
    # In float64: nibabel's own product is one of float32.
    directions = np.asarray(fields["Mdc"], dtype=np.float64).T
    edges = np.asarray(fields["delta"], dtype=np.float64)
    centre = np.asarray(fields["Pxyz_c"], dtype=np.float64)
    if not np.isfinite(centre).all():
        raise not_readable("MGH", "Pxyz_c of its header is no place")
    columns, notes = steps_mm(directions, edges, ("Mdc", "delta"), reading)
    affine = np.eye(4)
    affine[:3, :3] = columns
    # Pxyz_c is the place of voxel dims / 2, which is the centre of none.
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(header.shape[:3]) / 2)
    return affine, notes
