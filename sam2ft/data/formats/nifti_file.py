"""Reading NIfTI-1 and NIfTI-2 files: contents checked to the last byte, scaled values, units, and their affine."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import as_array, decompressing, most_bytes, read_voxels, refusing_damage
from sam2ft.data.formats.description import Description, Placement, chosen_channel, described
from sam2ft.data.formats.nifti_affine import MM_PER_UNIT, AffineFields, believed_affine
from sam2ft.data.images.grids import FileImage

ENDINGS = (".nii", ".nii.gz")
_HEADER_BYTES = {348: 1, 540: 2}
"""sizeof_hdr -> version of NIfTI."""
_GZIP = b"\x1f\x8b"
# The size of the header (348 in version 1, 540 in version 2), in either byte order, with which every file begins.
_PLAIN = {size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")}


@dataclass(frozen=True)
class NiftiHeader:
    """A parsed header and the place of the voxels."""

    fields: Any
    """As nibabel mends it."""
    pixdim: npt.NDArray[np.float64]
    """Edges of the three axes of space as they are in the file, in the unit of the header."""
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int
    """Byte of the first voxel."""

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_nifti(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The image in a .nii or .nii.gz file: integers as they are, or scaled by slope and intercept of the header.

    Scaled integers of 1 or 2 bytes, and scaled float32, are float32; others float64.

    Args:
        reading: `believe` says which of sform, qform and pixdim is right where they contradict each other.

    Raises:
        DataError: naming the file, when header or contents are damaged, it ends too early or too late, its fields
            contradict each other, or it has several volumes and none is chosen.
    """
    with refusing_damage(path, "NIfTI", HeaderDataError, ImageFileError), _opened(path) as (stream, encoding):
        header = nifti_header(stream)
        return nifti_image(header, stream, most_bytes(path, encoding), reading)


def nifti_image(header: NiftiHeader, stream: IO[bytes], most: int | None, reading: Reading) -> FileImage:
    """The image of a header whose voxels begin where `stream` is, which can hold `most` bytes."""
    if header.dtype.kind not in "iuf":
        raise DataError(f"holds {header.fields.get_value_label('datatype')}; expected one number per voxel")
    shape, channel = _shape_3d(header), chosen_channel(_channels(header.shape), reading, header.shape)
    voxels = read_voxels(stream, header.num_bytes, most)
    array = _scaled(one_channel(as_array(voxels, header.dtype, (*shape, -1)), channel), header.fields)
    affine, notes = believed_affine(_affine_fields(header), reading.believe)
    if len(header.shape) == 2:
        depth = np.linalg.norm(affine[:3, 2])
        notes = (*notes, f"a single 2-D image: read as one slice of {depth:.6g} mm, as its header says; check it")
    code = header.fields["qform_code"].item() or header.fields["sform_code"].item()
    slices = header.fields.get_dim_info()[2]
    return FileImage(array, affine, "xyzt_units", notes, slices, oriented=code > 0)


def one_channel(array: npt.NDArray[Any], channel: int) -> npt.NDArray[Any]:
    """A volume of an array whose last axis counts volumes; the memory of the others is given back."""
    return array[..., channel] if array.shape[-1] == 1 else array[..., channel].copy(order="F")


def describe_nifti(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of a .nii or .nii.gz file says; DataError when it cannot be read."""
    with refusing_damage(path, "NIfTI", HeaderDataError, ImageFileError), _opened(path) as (stream, _):
        return header_description(nifti_header(stream), reading)


def header_description(header: NiftiHeader, reading: Reading) -> Description:
    def place() -> Placement:
        _shape_3d(header)
        return believed_affine(_affine_fields(header), reading.believe)

    return described(header.shape, _channels(header.shape), header.num_bytes, place, reading)


def _shape_3d(header: NiftiHeader) -> tuple[int, ...]:
    shape = header.shape
    if len(shape) == 2 and header.pixdim[2] > 0:
        return (*shape, 1)
    if len(shape) == 2:
        raise DataError(
            f"is a 2-D image of shape {shape} without the depth of its slice (pixdim[3] is {header.pixdim[2]:g}); "
            "allowed: above 0; write it, e.g. in Python with SimpleITK: JoinSeries(image, 0, depth_in_mm)"
        )
    if len(shape) < 3 or sum(length > 1 for length in shape[3:]) > 1:
        raise DataError(f"has shape {shape}; expected one 3-D volume")
    return shape[:3]


def _channels(shape: tuple[int, ...]) -> int:
    return prod(shape[3:])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """(the decompressed file, its encoding)."""
    with path.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        compressed = start[:2] == _GZIP
        if not compressed and start not in _PLAIN:
            what = "it is empty" if not start else "it does not begin as one"
            raise DataError(f"{path}: not a readable NIfTI file: {what}; export or download it again")
        if compressed != path.name.lower().endswith(".gz"):
            what, suffix = ("is gzip-compressed", ".nii.gz") if compressed else ("is not gzip-compressed", ".nii")
            raise DataError(f"{path}: not a readable NIfTI file: its contents show that it {what}; name it {suffix}")
        encoding = "gzip" if compressed else "raw"
        yield decompressing(raw, encoding), encoding


@contextmanager
def gzip_or_plain(path: Path) -> Iterator[tuple[IO[bytes], str]]:
    """(the decompressed file, its encoding), by its first bytes, whatever its name is."""
    with path.open("rb") as raw:
        encoding = "gzip" if raw.read(2) == _GZIP else "raw"
        raw.seek(0)
        yield decompressing(raw, encoding), encoding


def nifti_header(stream: IO[bytes], *, pair: bool = False) -> NiftiHeader:
    """The header at the start of a stream, which is left at the first voxel.

    Args:
        pair: the header of a pair (.hdr, .img), whose voxels are in the other file.
    """
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    start = stream.read(4)
    sizes = [int.from_bytes(start, order) for order in ("little", "big")]
    size = next((one for one in sizes if one in _HEADER_BYTES), None)
    if size is None:
        raise DataError("not a readable NIfTI file: it does not start with the header of NIfTI-1 or NIfTI-2")
    kind = Nifti1Header if _HEADER_BYTES[size] == 1 else Nifti2Header
    block = start + stream.read(size - 4)
    if len(block) < size:
        raise EOFError
    fields = kind(block, check=True)
    # What nibabel mends silently says that the size is unknown: a pixdim of 0 would be 1 mm.
    pixdim = np.asarray(kind(block, check=False)["pixdim"][1:4], dtype=np.float64)
    fields["pixdim"][1:4] = np.where(np.isfinite(pixdim) & (pixdim > 0), pixdim, 1)  # a qform then has directions
    magic, first = (kind.pair_magic, 0) if pair else (kind.single_magic, fields.single_vox_offset)
    if fields["magic"].item().rstrip(b"\0\r\n\x1a") != magic.rstrip(b"\0\r\n\x1a"):
        raise DataError(
            "not a readable NIfTI file: it is the header of a file (.nii), not of a pair (.hdr, .img); name it .nii"
            if pair
            else "not a readable NIfTI file: it is the header of a pair (.hdr, .img); name it .hdr beside its .img "
            "file, or save it as one .nii file"
        )
    shape = tuple(int(length) for length in fields.get_data_shape())
    if not 1 <= len(shape) <= 7 or min(shape) < 1:
        raise DataError(f"has shape {shape}; every length must be 1 or more")
    offset = int(fields["vox_offset"].item()) or first
    if offset < first:
        raise DataError(f"not a readable NIfTI file: vox_offset {offset} lies inside of its header")
    between = 0 if pair else offset - size
    skip_bytes(stream, between)
    return NiftiHeader(fields, pixdim, shape, np.dtype(fields.get_data_dtype()), offset)


def skip_bytes(stream: IO[bytes], count: int) -> None:
    """Read `count` bytes of a stream; EOFError when it ends before."""
    while count > 0 and (skipped := stream.read(min(count, 1 << 20))):
        count -= len(skipped)
    if count > 0:
        raise EOFError


def _scaled(stored: npt.NDArray[Any], fields: Any) -> npt.NDArray[Any]:
    slope, intercept = fields.get_slope_inter()
    if slope is None or (slope, intercept) == (1, 0):
        return stored
    small = stored.dtype.itemsize <= 2 or stored.dtype == np.float32
    values = np.empty(stored.shape, dtype=np.float32 if small else np.float64, order="F")
    for index in range(stored.shape[-1]):  # a float64 copy of the whole volume needs much memory
        values[..., index] = stored[..., index].astype(np.float64) * slope + intercept
    return values


def _affine_fields(header: NiftiHeader) -> AffineFields:
    fields = header.fields
    code = int(fields["xyzt_units"].item()) & 7
    if code not in MM_PER_UNIT:
        raise DataError(f"its xyzt_units have the unknown code {code} for lengths; allowed: 1 m, 2 mm, 3 micrometre, 0")
    factor = np.array([MM_PER_UNIT[code]] * 3 + [1.0])[:, None]
    try:
        qform = fields.get_qform(coded=True)[0]
    except ValueError:  # the quaternion is longer than 1
        qform = None
    sform = fields.get_sform(coded=True)[0]
    return AffineFields(
        None if sform is None else factor * np.asarray(sform, dtype=np.float64),
        None if qform is None else factor * np.asarray(qform, dtype=np.float64),
        header.pixdim * MM_PER_UNIT[code],
        factor * _base_affine(header),
        int(fields["qform_code"].item()),
    )


def _base_affine(header: NiftiHeader) -> npt.NDArray[np.float64]:
    """Edges of pixdim along the directions that nibabel assumes, the centre of the volume at the origin."""
    edges = header.pixdim * (-1, 1, 1)
    shape = np.array((*header.shape, 1)[:3])
    affine = np.diag([*edges, 1.0])
    affine[:3, 3] = -edges * (shape - 1) / 2
    return affine
