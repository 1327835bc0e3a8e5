"""Reading MetaImage files (.mha, .mhd with its voxels in a file beside it): header by SimpleITK, voxels to the end."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.compressed import (
    as_array,
    decompressing,
    most_bytes,
    not_readable,
    read_voxels,
    refusing_damage,
)
from sam2ft.data.formats.description import Description, Placement, chosen_channel, described, header_text, steps_mm
from sam2ft.data.images.grids import LPS_TO_RAS, FileImage

ENDINGS = (".mha", ".mhd")
_TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    # MetaIO writes a LONG as 4 bytes on every machine (metaTypes.h).
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
# Names that MetaIO takes for one field.
_SPACING, _ORIGIN = ("ElementSpacing",), ("Offset", "Position", "Origin")
_MATRIX, _MSB = ("TransformMatrix", "Rotation", "Orientation"), ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "cm": 10.0, "?": 1.0, "": 1.0}
_LONGEST_HEADER = 1 << 20


@dataclass(frozen=True)
class _Header:
    fields: Mapping[str, str]
    shape: tuple[int, ...]
    """Axes of the file, that of the channels left out."""
    channels: int
    interleaved: bool
    """The channels of a voxel follow each other."""
    dtype: np.dtype
    end: int
    """Byte of the file after the header."""

    @property
    def all_axes(self) -> tuple[int, ...]:
        """The shape with the channels, if there are several, as its last axis."""
        return self.shape if self.channels == 1 else (*self.shape, self.channels)

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.channels * self.dtype.itemsize


def is_mha(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def read_mha(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The image in a .mha or .mhd file.

    Raises:
        DataError: naming the file, when header or contents are damaged, it ends too early or too late, its voxels lie
            elsewhere than beside it, fields contradict each other, or it has several channels and none is chosen.
    """
    with refusing_damage(path, "MetaImage"):
        header = _read_header(path)
        channel = chosen_channel(header.channels, reading, header.all_axes)
        affine, notes = _placement(path, header, reading)
        with _voxel_stream(path, header) as (stream, most):
            voxels = read_voxels(stream, header.num_bytes, most)
        if header.interleaved:
            array = as_array(voxels, header.dtype, (header.channels, *header.shape))[channel]
        else:
            array = as_array(voxels, header.dtype, (*header.shape, header.channels))[..., channel]
        array = array if header.channels == 1 else array.copy(order="F")
        return FileImage(array, affine, "ElementSpacing", notes, oriented=_first(header.fields, _MATRIX) is not None)


def describe_mha(path: Path, reading: Reading = AS_IS) -> Description:
    """What the header of a .mha or .mhd file says; DataError when it cannot be read."""
    with refusing_damage(path, "MetaImage"):
        header = _read_header(path)
        return described(
            header.all_axes, header.channels, header.num_bytes, lambda: _placement(path, header, reading), reading
        )


def voxel_file(path: Path) -> Path | None:
    """The file beside a .mhd file that holds its voxels; None: its own, or a header that cannot be read."""
    try:
        with refusing_damage(path, "MetaImage"):
            return _beside(path, _read_header(path))
    except DataError:
        return None


def _read_header(path: Path) -> _Header:
    with path.open("rb") as stream:
        fields = _read_fields(stream)
        end = stream.tell()
    missing = [name for name in ("NDims", "DimSize", "ElementType") if name not in fields]
    if missing or "ElementDataFile" not in fields:
        raise not_readable("MetaImage", f"its header lacks {', '.join(missing) or 'ElementDataFile'}")
    num_axes = int(fields["NDims"])
    if num_axes == 2:
        raise DataError(
            "is a 2-D image without the depth of its slice; allowed: 3-D; write it, e.g. in Python with SimpleITK: "
            "JoinSeries(image, 0, depth_in_mm)"
        )
    if num_axes not in (3, 4):
        raise DataError(f"has {num_axes} axes (NDims); allowed: 3, or 4 with a channel chosen")
    sizes = tuple(int(size) for size in _numbers(fields["DimSize"], "DimSize", num_axes))
    inner = int(fields.get("ElementNumberOfChannels", "1"))
    if min(*sizes, inner) < 1:
        raise DataError(f"has DimSize {sizes} and {inner} channels; every size must be 1 or more")
    if inner > 1 and prod(sizes[3:]) > 1:
        raise DataError(f"has {inner} channels at each of {sizes[3]} times; expected one 3-D volume")
    return _Header(fields, sizes[:3], inner * prod(sizes[3:]), inner > 1, _dtype(fields), end)


def _read_fields(stream: IO[bytes]) -> Mapping[str, str]:
    """Name -> value of the lines of a header, which ends with ElementDataFile."""
    fields: dict[str, str] = {}
    left = _LONGEST_HEADER
    while left > 0 and (line := stream.readline(left)):
        left -= len(line)
        match = re.match(r"\s*(\w+)\s*[=:]\s*(.*?)\s*$", header_text(line))
        if match is None:
            if line.strip():
                raise not_readable("MetaImage", "a line of its header is none")
            continue
        if match[1] in fields:
            raise not_readable("MetaImage", "its header has a field twice")
        fields[match[1]] = match[2]
        if match[1] == "ElementDataFile":
            return fields
    raise not_readable("MetaImage", "its header does not end (ElementDataFile)")


def _numbers(text: str, name: str, count: int) -> list[float]:
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        found = []
    if len(found) != count or not np.isfinite(found).all():
        raise not_readable("MetaImage", f"its {name} is not {count} numbers")
    return found


def _dtype(fields: Mapping[str, str]) -> np.dtype:
    name = fields["ElementType"].removesuffix("_ARRAY")
    if name not in _TYPES:
        raise DataError(f"has an ElementType that is no number; allowed: {', '.join(_TYPES)}")
    if not _is_true(fields, ("BinaryData",), default=True):
        raise DataError(
            "holds its voxels as text (BinaryData = False); allowed: binary; save it again, e.g. in Python with "
            "SimpleITK: WriteImage(ReadImage(...), ...)"
        )
    for name_, plain in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if name_ in fields and _numbers(fields[name_], name_, 1) != [plain]:
            raise DataError(
                f"has {name_}, which programs read differently; allowed: {plain}; apply it to the voxels and save them"
            )
    order = ">" if _is_true(fields, _MSB, default=False) else "<"
    return np.dtype(order + _TYPES[name])


def _is_true(fields: Mapping[str, str], names: tuple[str, ...], *, default: bool) -> bool:
    value = _first(fields, names)
    if value is None:
        return default
    if value[:1] not in tuple("TtYy1FfNn0"):
        raise not_readable("MetaImage", f"its {names[0]} is neither True nor False")
    return value[:1] in tuple("TtYy1")


def _first(fields: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((fields[name] for name in names if name in fields), None)


def _placement(path: Path, header: _Header, reading: Reading) -> Placement:
    import SimpleITK

    fields = header.fields
    num_axes = int(fields["NDims"])
    for names, count in ((_SPACING, num_axes), (_ORIGIN, num_axes), (_MATRIX, num_axes**2)):
        if (given := _first(fields, names)) is not None:
            _numbers(given, names[0], count)
        elif names is _SPACING:
            raise DataError(
                "its header has no ElementSpacing; voxel sizes are unknown; write them, e.g. in Python with SimpleITK: "
                "image.SetSpacing(...)"
            )
    if min(_numbers(fields["ElementSpacing"], "ElementSpacing", num_axes)) <= 0:
        raise DataError("its ElementSpacing has a length that is not above 0; write it to its header")
    factor = _factor(fields.get("DistanceUnits", ""))
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    directions = np.array(reader.GetDirection()).reshape(num_axes, num_axes)
    if num_axes == 4 and np.any(directions[:3, 3:]) | np.any(directions[3:, :3]):
        raise DataError(
            "its fourth axis is not that of times or channels alone (TransformMatrix); expected one 3-D volume"
        )
    edges_mm = np.array(reader.GetSpacing()[:3]) * factor
    columns, found = steps_mm(directions[:3, :3], edges_mm, ("TransformMatrix", "ElementSpacing"), reading)
    notes = [*found]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, np.array(reader.GetOrigin()[:3]) * factor
    if _first(fields, _MATRIX) is None:
        notes.append(
            "its header has no TransformMatrix: its orientation is unknown, so that heights of discs are not measured"
        )
    return LPS_TO_RAS @ affine, tuple(notes)


def _factor(unit: str) -> float:
    if unit.lower() not in _MM_PER_UNIT:
        raise DataError("its DistanceUnits are unknown; allowed: mm, um, cm (write them to the header)")
    return _MM_PER_UNIT[unit.lower()]


@contextmanager
def _voxel_stream(path: Path, header: _Header) -> Iterator[tuple[IO[bytes], int | None]]:
    """(stream of the decompressed voxels, the number of bytes that it can hold at most)."""
    beside = _beside(path, header)
    encoding = "zlib" if _is_true(header.fields, ("CompressedData",), default=False) else "raw"
    with (beside or path).open("rb") as stream:
        skip = int(header.fields.get("HeaderSize", "0"))
        if beside is None:
            if skip not in (0, -1, header.end):
                raise not_readable("MetaImage", f"its HeaderSize is {skip}, but its header ends at {header.end}")
            skip = header.end
        if skip < -1 or (skip == -1 and encoding != "raw"):
            raise not_readable("MetaImage", f"its HeaderSize is {skip}")
        size = (beside or path).stat().st_size
        stream.seek(max(0, size - header.num_bytes) if skip == -1 else skip)
        yield decompressing(stream, encoding), most_bytes(beside or path, encoding)


def _beside(path: Path, header: _Header) -> Path | None:
    """The file of the voxels, which lies beside the header; None: they follow the header."""
    name = header.fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise DataError("its voxels lie in several files (ElementDataFile); save it as one .mha file")
    name = name.removeprefix("./")
    if not name or "/" in name or "\\" in name or name in (".", "..") or ":" in name:
        raise DataError(
            "its ElementDataFile is a path; allowed: the name of a file beside it; move the voxels there and write the "
            "name to the header, or save it as one .mha file"
        )
    if not (path.parent / name).is_file():
        raise DataError("the file of its voxels (ElementDataFile) is not beside it; copy it there")
    return path.parent / name
