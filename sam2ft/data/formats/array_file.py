"""Reading arrays saved by numpy (.npy, .npz): never by pickle, and only with the spacing that a dataset file gives."""

import ast
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import not_readable, read_voxels, refusing_damage
from sam2ft.data.formats.description import (
    Description,
    Placement,
    chosen_channel,
    described,
    spacing_zyx_mm,
    unplaced_affine,
    without_place,
)
from sam2ft.data.images.grids import FileImage

ENDINGS = (".npy", ".npz")
_KIND = "numpy"
_LONGEST_HEADER = 1 << 16
_MAGIC = b"\x93NUMPY"
_SHOWN_ORDERS = "axes: zyx (slices, rows, columns) or axes: xyz (columns, rows, slices)"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def is_array(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_array(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The array in a .npy or .npz file, with the axes x, y, z.

    Raises:
        DataError: naming the file, when it is damaged or needs pickle, the dataset file lacks spacing or order of axes,
            or there are several arrays or volumes and none is chosen.
    """
    with refusing_damage(path, _KIND, zipfile.BadZipFile), _opened(path, reading) as stream:
        header = _read_header(stream)
        order = _order(header.shape, reading)
        channel = chosen_channel(_channels(header.shape), reading, header.shape)
        affine, notes = _placement(reading)
        voxels = read_voxels(stream, header.num_bytes)
        array = voxels.view(header.dtype).reshape(header.shape, order="F" if header.fortran else "C")
        array = array.reshape(array.shape[:3]) if _channels(header.shape) == 1 else array[..., channel].copy()
        if array.dtype == bool:
            array = array.view(np.uint8)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        return FileImage(array.transpose(order), affine, "spacing_mm", notes, 2, oriented=False, slices_known=True)


def describe_array(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of an array says; DataError when it cannot be read or none of several is chosen."""
    with refusing_damage(path, _KIND, zipfile.BadZipFile), _opened(path, reading) as stream:
        header = _read_header(stream)

        def place() -> Placement:
            _order(header.shape, reading)
            return _placement(reading)

        return described(header.shape, _channels(header.shape), header.num_bytes, place, reading)


def _placement(reading: Reading) -> Placement:
    return unplaced_affine(spacing_zyx_mm(reading, "an array")), (without_place("an array"),)


def _channels(shape: tuple[int, ...]) -> int:
    return shape[3] if len(shape) == 4 else 1


def _order(shape: tuple[int, ...], reading: Reading) -> tuple[int, int, int]:
    """The axes of the array that are x, y and z."""
    if len(shape) not in (3, 4):
        raise DataError(f"has shape {shape}; expected one 3-D volume (a fourth axis, the last, counts channels)")
    if reading.axes is None:
        raise DataError(
            f"has shape {shape}, and nothing says which of its axes counts slices; give the order, in the dataset "
            f"file or with eval --axes: "
            f"{_SHOWN_ORDERS}"
        )
    x, y, z = (reading.axes.index(name) for name in "xyz")
    return x, y, z


@contextmanager
def _opened(path: Path, reading: Reading) -> Iterator[IO[bytes]]:
    """A stream with the contents of one .npy file."""
    with path.open("rb") as start:
        zipped = start.read(4)[:2] == b"PK"
    if not zipped:
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        member = _member(archive, reading)
        _refuse_large(path, member)
        with archive.open(member) as stream:
            yield stream


def _member(archive: zipfile.ZipFile, reading: Reading) -> zipfile.ZipInfo:
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if reading.array is not None:
        if reading.array not in members:
            raise DataError(f"has no array of the name {reading.array!r} among its {len(members)}; {_names()}")
        return members[reading.array]
    if len(members) != 1:
        raise DataError(
            f"holds {len(members)} arrays; name one in the dataset file with array: (images) and mask_array: (masks), "
            f"or save one alone; {_names()}"
        )
    return next(iter(members.values()))


def _names() -> str:
    return 'python -c "import numpy; print(numpy.load(FILE).files)" shows the names'


def _refuse_large(path: Path, member: zipfile.ZipInfo) -> None:
    """A member that deflate cannot have made: its directory is damaged."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise not_readable("numpy", "it is compressed in another way than numpy does")
    if member.file_size > 1032 * path.stat().st_size:
        raise zlib.error("its directory declares more bytes than it can hold")


def _read_header(stream: IO[bytes]) -> _Header:
    """The header of a .npy file (numpy.lib.format), whose stream is left at the first voxel."""
    start = stream.read(8)
    if start[:6] != _MAGIC:
        raise not_readable("numpy", "it does not begin as one")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if not 0 < length <= _LONGEST_HEADER:
        raise not_readable("numpy", "its header has no possible length")
    text = stream.read(length)
    if len(text) < length:
        raise EOFError
    try:
        fields = ast.literal_eval(text.decode("latin-1" if start[6] < 3 else "utf-8").strip())
        descr, shape, fortran = fields["descr"], tuple(fields["shape"]), bool(fields["fortran_order"])
        dtype = np.dtype(descr)
    except (SyntaxError, ValueError, KeyError, TypeError, RecursionError, MemoryError):
        raise not_readable("numpy", "its header is none") from None
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        raise DataError(
            "holds no plain numbers (objects would need pickle, which is never used); allowed: an array of whole or "
            "decimal numbers; save it with numpy.save"
        )
    if not all(type(size) is int and size > 0 for size in shape) or not shape:
        raise DataError(f"has a shape of {len(shape)} axes that is none; every size must be 1 or more")
    return _Header(shape, dtype, fortran)
