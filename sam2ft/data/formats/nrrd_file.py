"""Reading NRRD files (.nrrd, .nhdr, .seg.nrrd): contents checked to the last byte, units, affine, names of segments."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from nrrd import NRRDError

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import as_array, decompressing, most_bytes, read_voxels, refusing_damage
from sam2ft.data.formats.description import Description, Placement, chosen_channel, described, header_text
from sam2ft.data.formats.nifti_file import skip_bytes
from sam2ft.data.formats.nrrd_affine import affine_of
from sam2ft.data.images.grids import FileImage, Segment

ENDINGS = (".nrrd", ".nhdr")
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
_TEXT = ("ascii", "text", "txt")
_LONGEST_HEADER = 1 << 20
# A number of one digit and a space are two bytes of text.
_TEXT_BYTES_PER_NUMBER = 2


def is_nrrd(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_nrrd(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The image or segmentation in a NRRD file; the header may lie in another file than the voxels.

    Args:
        reading: `believe` is orientation (space directions) or spacing (spacings), where both contradict each other.

    Raises:
        DataError: naming the file, when header or contents are damaged, it ends too early or too late, its fields
            contradict each other, or it has several volumes and none is chosen.
    """
    with refusing_damage(path, "NRRD", NRRDError), _opened(path) as (header, stream, voxel_path):
        dtype, shape = _type(header), _shape(header)
        kept = _domain_axes(header, shape)
        channel = chosen_channel(_channels(shape, kept), reading, shape)
        if dtype.kind not in "iuf":
            raise DataError(f"holds {header['type']}; expected one number per voxel")
        affine, notes = affine_of(header, kept, reading.believe)
        array = _one_channel(_voxels(header, stream, voxel_path, dtype, shape), kept, channel)
        oriented = "space directions" in header
        return FileImage(array, affine, "space units", notes, oriented=oriented, segments=_segments(header))


def describe_nrrd(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of a NRRD file says; DataError when it cannot be read."""
    with refusing_damage(path, "NRRD", NRRDError):
        with path.open("rb") as stream:
            header = _read_header(stream)
        shape, size = _shape(header), prod(_shape(header)) * _type(header).itemsize

        def place() -> Placement:
            return affine_of(header, _domain_axes(header, shape), reading.believe)

        try:
            channels = _channels(shape, _domain_axes(header, shape))
        except DataError:
            channels = 1  # `place` says why
        return described(shape, channels, size, place, reading)


def _channels(shape: tuple[int, ...], kept: list[int]) -> int:
    return prod(shape) // prod(shape[axis] for axis in kept)


def _one_channel(array: npt.NDArray[Any], kept: list[int], channel: int) -> npt.NDArray[Any]:
    """The volume `channel` of an array with the axes `kept`, of the others at most one longer than 1."""
    if _channels(array.shape, kept) == 1:
        return array.reshape([array.shape[axis] for axis in kept], order="F")
    spans = [slice(None) if axis in kept else min(channel, size - 1) for axis, size in enumerate(array.shape)]
    return array[tuple(spans)].copy(order="F")


def num_layers(path: Path) -> int:
    """Number of layers of segments in a file of 3D Slicer, from the header alone; 1 for any other NRRD file.

    Raises:
        DataError: the header cannot be read.
    """
    with refusing_damage(path, "NRRD", NRRDError), path.open("rb") as stream:
        header = _read_header(stream)
        shape = _shape(header)
        if not any(name.startswith("Segment0") for name in header):
            return 1
        return prod(shape) // prod(shape[axis] for axis in _domain_axes(header, shape, layered=True))


def read_layers(path: Path, reading: Reading = AS_IS) -> tuple[FileImage, ...]:
    """The layers of a segmentation of 3D Slicer, as `read_nrrd` reads one; all have all segments.

    Raises:
        DataError: as `read_nrrd`; or a segment names a layer that is not there.
    """
    with refusing_damage(path, "NRRD", NRRDError), _opened(path) as (header, stream, voxel_path):
        dtype, shape = _type(header), _shape(header)
        kept = _domain_axes(header, shape, layered=True)
        if dtype.kind not in "iuf" or len(kept) != 3:
            raise DataError(f"holds {header['type']} of shape {shape}; expected layers of one number per voxel")
        others = [axis for axis in range(len(shape)) if axis not in kept]
        array = _voxels(header, stream, voxel_path, dtype, shape).transpose(*others, *kept)
        layers = array.reshape(-1, *(shape[axis] for axis in kept))
        affine, notes = affine_of(header, kept, reading.believe)
        segments, oriented = _segments(header), "space directions" in header
        if segments and max(segment.layer for segment in segments) >= len(layers):
            raise DataError(
                f"a segment is in layer {max(segment.layer for segment in segments)} (counted from 0), but there are "
                f"{len(layers)} layers; save the segmentation again"
            )
        return tuple(
            FileImage(layer, affine, "space units", notes, oriented=oriented, segments=segments) for layer in layers
        )


def detached_voxels(path: Path) -> Path | None:
    """The file that holds the voxels of a header, wherever it lies; None: its own, or a header that cannot be read."""
    try:
        with refusing_damage(path, "NRRD", NRRDError), path.open("rb") as stream:
            name = _data_file(_read_header(stream))
    except DataError:
        return None
    return path.parent / name if name is not None and (path.parent / name).is_file() else None


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Mapping[str, Any], IO[bytes], Path]]:
    """(header, stream at the first byte after it or of the file of the voxels, that file)."""
    with path.open("rb") as stream:
        header = _read_header(stream)
        name = _data_file(header)
        if name is None:
            yield header, stream, path
            return
    with (path.parent / name).open("rb") as stream:
        yield header, stream, path.parent / name


def _data_file(header: Mapping[str, Any]) -> str | None:
    """The file of the voxels, relative to that of the header; None: they follow the header."""
    name: str | None = header.get("datafile", header.get("data file"))
    if name is not None and (name.upper().startswith("LIST") or "%" in name):
        raise DataError("its voxels lie in several files (data file); save it as one .nrrd file")
    return name


def _read_header(stream: IO[bytes]) -> Mapping[str, Any]:
    import nrrd

    lines: list[str] = []
    length = 0
    while (line := stream.readline(_LONGEST_HEADER)).strip():
        length += len(line)
        if length > _LONGEST_HEADER:
            raise DataError("not a readable NRRD file: its header does not end within a megabyte")
        lines.append(header_text(line))
        if not lines[0].startswith("NRRD"):
            raise DataError("not a readable NRRD file: it does not start with NRRD")
    if not lines:
        raise DataError("not a readable NRRD file: it is empty")
    # Decoded here: nrrd drops what is not ASCII, and the unit µm would become m.
    header: Mapping[str, Any] = nrrd.read_header(lines)
    if missing := [field for field in ("dimension", "type", "encoding", "sizes") if field not in header]:
        raise DataError(f"not a readable NRRD file: its header lacks {', '.join(missing)}")
    return header


def _type(header: Mapping[str, Any]) -> np.dtype:
    from nrrd.reader import _TYPEMAP_NRRD2NUMPY

    dtype: np.dtype = np.dtype(_TYPEMAP_NRRD2NUMPY[header["type"]])
    if dtype.itemsize == 1 or header["encoding"].lower() in _TEXT or dtype.kind == "V":
        return dtype
    endian = header.get("endian", "none")
    if endian not in ("little", "big"):
        raise DataError(f"has endian {endian!r}; allowed: little, big")
    ordered: np.dtype = dtype.newbyteorder("<" if endian == "little" else ">")
    return ordered


def _shape(header: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in header["sizes"])
    if len(shape) != header["dimension"] or min(shape) < 1:
        raise DataError(f"has dimension {header['dimension']} and sizes {shape}; every size must be 1 or more")
    return shape


def _domain_axes(header: Mapping[str, Any], shape: tuple[int, ...], *, layered: bool = False) -> list[int]:
    """The three axes of space; DataError when the header does not say which these are.

    An axis of times or channels is one without a direction, or of another kind than space, or of length 1.
    """
    axes = list(range(len(shape)))
    if len(shape) > 3:
        directions = header.get("space directions")
        ones = [axis for axis in axes if shape[axis] == 1]
        lists = [axis for axis in axes if directions is not None and not np.isfinite(directions[axis]).all()]
        dropped = (lists or _other_kinds(header) or ones[::-1])[: len(shape) - 3]
        axes = [axis for axis in axes if axis not in dropped]
        layers = prod(shape[axis] for axis in dropped)
        if layered:
            return axes
        if layers > 1 and any(name.startswith("Segment0") for name in header):
            raise DataError(
                f"has {layers} layers of segments that overlap; expected one: export it as a labelmap (3D Slicer: "
                "Segmentations, Export to labelmap, then save the labelmap)"
            )
        if sum(shape[axis] > 1 for axis in dropped) > 1:
            axes = list(range(len(shape)))
    if len(axes) != 3:
        raise DataError(f"has shape {shape}; expected one 3-D volume (export one layer, without colours)")
    _refuse_other_kinds(header, shape, axes)
    return axes


def _refuse_other_kinds(header: Mapping[str, Any], shape: tuple[int, ...], axes: list[int]) -> None:
    """DataError when one of the axes of a volume is that of colours or times: it is no volume, but a 2-D image."""
    wrong = [axis for axis in _other_kinds(header) if axis in axes and shape[axis] > 1]
    if wrong:
        raise DataError(
            f"has shape {shape}, and by its kinds axis {wrong[0]} (counted from 0) is none of space; expected one 3-D "
            "volume with three axes of the kind domain or space; if it is one, mend the kinds of its header"
        )


def _other_kinds(header: Mapping[str, Any]) -> list[int]:
    """The axes whose `kinds` say that they are none of space."""
    kinds = [str(kind).lower() for kind in header.get("kinds", ())]
    return [axis for axis, kind in enumerate(kinds) if kind not in ("domain", "space", "???", "none", "")]


def _voxels(
    header: Mapping[str, Any], stream: IO[bytes], path: Path, dtype: np.dtype, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    size = prod(shape) * dtype.itemsize
    lines = int(header.get("lineskip", header.get("line skip", 0)))
    skip = int(header.get("byteskip", header.get("byte skip", 0)))
    for _ in range(min(lines, _LONGEST_HEADER)):
        stream.readline(_LONGEST_HEADER)
    name = header["encoding"].lower()
    if name in _TEXT:
        return _numbers(stream, dtype, shape)
    if name not in _ENCODINGS:
        raise DataError(f"has encoding {header['encoding']}; allowed: {', '.join((*_ENCODINGS, *_TEXT))}")
    encoding = _ENCODINGS[name]
    if skip < -1 or lines < 0 or (skip == -1 and encoding != "raw"):
        raise DataError(f"has byte skip {skip} and line skip {lines} with encoding {name}; save it without them")
    if skip == -1:
        stream.seek(-size, io.SEEK_END)
    contents = decompressing(stream, encoding)
    if skip > 0:
        skip_bytes(contents, skip)
    return as_array(read_voxels(contents, size, most_bytes(path, encoding)), dtype, shape)


def _numbers(stream: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    text = stream.read(prod(shape) * 64)
    if prod(shape) * _TEXT_BYTES_PER_NUMBER > len(text) + 1:
        raise DataError(f"its header declares {prod(shape)} voxels, but it ends too early for them")
    words = text.split()
    if len(words) != prod(shape) or stream.read(1):
        raise DataError(f"holds {len(words)} numbers, but its header declares {prod(shape)} voxels")
    return np.array(words).astype(dtype).reshape(shape, order="F")


def _segments(header: Mapping[str, Any]) -> tuple[Segment, ...]:
    """The segments of a .seg.nrrd file (3D Slicer, "Segmentation file format"), in the order of their values."""
    numbers = dict.fromkeys(match[1] for name in header if (match := re.fullmatch(r"Segment(\d+)_\w+", name)))
    found = []
    for number in numbers:
        identity = str(header.get(f"Segment{number}_ID", ""))
        name = str(header.get(f"Segment{number}_Name", identity))
        layer = int(header.get(f"Segment{number}_Layer", 0))
        found.append(Segment(int(header.get(f"Segment{number}_LabelValue", 1)), name, identity, layer))
    return tuple(sorted(found, key=lambda segment: segment.value))
