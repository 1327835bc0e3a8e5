"""Reading pairs of a header and its voxels (.hdr, .img): NIfTI pairs, and ANALYZE 7.5 with the scale factor of SPM."""

from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
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
from sam2ft.data.formats.description import (
    Description,
    Placement,
    chosen_channel,
    described,
    without_place,
)
from sam2ft.data.formats.nifti_file import (
    gzip_or_plain,
    header_description,
    nifti_header,
    nifti_image,
    one_channel,
    skip_bytes,
)
from sam2ft.data.images.grids import FileImage

ENDINGS = (".hdr", ".img", ".hdr.gz", ".img.gz")
_KIND = "NIfTI or ANALYZE pair"
_HEADER = 348
# What may follow the fields of a header in its file.
_MOST_EXTENSIONS = 1 << 24
_PAIR_MAGIC = (b"ni1", b"n+1", b"ni2", b"n+2")


def is_pair(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_pair(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The image in a pair of files; `path` is that of either.

    Raises:
        DataError: naming the file, when one of both is missing or damaged, or as `read_nifti` does.
    """
    with refusing_damage(path, _KIND, HeaderDataError, ImageFileError):
        header_file, image_file = both_files(path)
        header, is_nifti = _header(header_file)
        with gzip_or_plain(image_file) as (stream, encoding):
            most = most_bytes(image_file, encoding)
            if is_nifti:
                skip_bytes(stream, header.offset)
                return nifti_image(header, stream, most, reading)
            return _analyze_image(header, stream, most, reading)


def describe_pair(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of a pair of files says; DataError when it cannot be read."""
    with refusing_damage(path, _KIND, HeaderDataError, ImageFileError):
        header, is_nifti = _header(both_files(path)[0])
        if is_nifti:
            return header_description(header, reading)
        shape = _shape(header)
        size = prod(shape) * header.get_data_dtype().itemsize
        return described(shape, prod(shape[3:]), size, lambda: _placement(header, shape), reading)


def both_files(path: Path) -> tuple[Path, Path]:
    """(header, voxels) of the pair that has `path`; DataError when one is missing."""
    candidates = _others(path)
    found = next((one for one in candidates if one.is_file()), None)
    if found is None:
        raise DataError(f"is one of a pair (.hdr, .img), but {candidates[0].name} is not beside it; copy it there")
    return (path, found) if _ending(path).lower() == ".hdr" else (found, path)


def other_file(path: Path) -> Path | None:
    """The other file of the pair that has `path`; None: it is not there."""
    return next((one for one in _others(path) if one.is_file()), None)


def _ending(path: Path) -> str:
    return path.name[: len(path.name) - len(_zipped(path))][-4:]


def _zipped(path: Path) -> str:
    return path.name[-3:] if path.name.lower().endswith(".gz") else ""


def _others(path: Path) -> list[Path]:
    """Names of the other file of a pair: compressed like this one, or else."""
    zipped, ending = _zipped(path), _ending(path)
    stem = path.name[: len(path.name) - len(zipped) - len(ending)]
    other = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}.get(ending, ".img")
    return [path.parent / f"{stem}{other}{end}" for end in dict.fromkeys((zipped, "", ".gz"))]


def _header(path: Path) -> tuple[Any, bool]:
    """(header of NIfTI, or of ANALYZE as nibabel has it; whether it is NIfTI)."""
    from nibabel.spm99analyze import Spm99AnalyzeHeader

    with gzip_or_plain(path) as (stream, encoding):
        start = stream.read(_HEADER)
        if encoding == "gzip" and len(stream.read(_MOST_EXTENSIONS)) == _MOST_EXTENSIONS:  # to the checksum
            raise not_readable(_KIND, "its header is longer than any")
    if len(start) < _HEADER:
        raise EOFError
    sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
    if 540 in sizes or start[344:347] in _PAIR_MAGIC:
        with gzip_or_plain(path) as (stream, _):
            return nifti_header(stream, pair=True), True
    if _HEADER not in sizes:
        raise not_readable("ANALYZE", "its header does not begin with its length of 348")
    Spm99AnalyzeHeader(start, check=True)  # raises; what it mends silently (edges of 0) is seen in the other
    return Spm99AnalyzeHeader(start, check=False), False


def _shape(header: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in header.get_data_shape())
    if not 3 <= len(shape) <= 7 or min(shape) < 1 or sum(size > 1 for size in shape[3:]) > 1:
        raise DataError(f"has shape {shape}; expected one 3-D volume")
    return shape


def _placement(header: Any, shape: tuple[int, ...]) -> Placement:
    edges = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not (np.isfinite(edges).all() and edges.min() > 0):
        raise DataError(
            "its pixdim gives no voxel edges above 0; its voxel size is unknown; save it as NIfTI with its sizes, e.g. "
            "in Python with SimpleITK: image.SetSpacing(...)"
        )
    # As in a NIfTI header without directions, the centre of the volume at the origin.
    steps = edges * (-1, 1, 1)
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = -steps * (np.array(shape[:3]) - 1) / 2
    return affine, (without_place("its header is one of ANALYZE, which"),)


def _analyze_image(header: Any, stream: IO[bytes], most: int | None, reading: Reading) -> FileImage:
    shape, dtype = _shape(header), header.get_data_dtype()
    if dtype.kind not in "iuf":
        raise DataError(f"holds {header.get_value_label('datatype')}; expected one number per voxel")
    channel = chosen_channel(prod(shape[3:]), reading, shape)
    affine, notes = _placement(header, shape)
    offset = float(header["vox_offset"])
    if not 0 <= offset < 1 << 31:
        raise not_readable("ANALYZE", "its vox_offset is no place in the file of its voxels")
    skip_bytes(stream, int(offset))
    size = prod(shape) * dtype.itemsize
    array = one_channel(as_array(read_voxels(stream, size, most), dtype, (*shape[:3], prod(shape[3:]))), channel)
    slope = header.get_slope_inter()[0]
    if slope is not None and slope != 1:
        small = array.dtype.itemsize <= 2 or array.dtype == np.float32
        array = (array.astype(np.float64) * float(slope)).astype(np.float32 if small else np.float64)
        notes = (*notes, f"its voxels are multiplied by SPM's scale factor {float(slope):.6g}")
    return FileImage(array, affine, "pixdim", notes, oriented=False)
