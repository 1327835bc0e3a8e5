"""Reading grey TIFF files of one or several pages by tifffile: voxels, and the spacing of ImageJ and OME headers."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError
from sam2ft.core.quiet import DecoderComplainedError, refusing_complaints
from sam2ft.data.formats.compressed import not_readable, refusing_damage
from sam2ft.data.formats.description import MM_PER_UNIT

Edges = tuple[float | None, float | None, float | None]
_GREY = 1
# Orientation (tag 274), and the functions of ImageJ's Calibration: none of values, and c0 + c1 x.
_TOP_LEFT = 1
_NO_CALIBRATION, _STRAIGHT_LINE = (20, 21), 0
# ImageJ writes a micro sign as an escape sequence. Capitals count: Mm of OME is a megametre.
_MM_PER_UNIT = {**MM_PER_UNIT, "\\u00b5m": 1e-3, "\\u00B5m": 1e-3, "inch": 25.4, "in": 25.4}
# Axes of tifffile: slices (I and Q: pages that no header explains), times and channels.
_SLICES, _CHANNELS = "ZIQ", "TC"
_DECODED = {1, 8, 32773, 32946, 34925}
"""Compressions (Compression tag) of which tifffile's plain install finds damage; SimpleITK decodes the others."""


@dataclass(frozen=True)
class TiffHeader:
    """What a TIFF file holds."""

    shape_zyx: tuple[int, int, int]
    channels: int
    dtype: np.dtype
    axes: str
    """One letter per axis of the array that tifffile gives, as it names them."""
    edges_mm: Edges
    """Distances between slices, rows and columns that the header gives; None: not given."""
    decoded: bool
    """Whether tifffile decodes it."""

    @property
    def num_bytes(self) -> int:
        return prod(self.shape_zyx) * self.channels * self.dtype.itemsize


def tiff_header(path: Path) -> TiffHeader:
    """The header of a grey TIFF file.

    Raises:
        DataError: it cannot be read, has colours, or pages of several sizes.
    """
    with _opened(path) as tiff:
        return _header(path, tiff)


def read_tiff(path: Path) -> npt.NDArray[Any]:
    """The voxels of a grey TIFF file, (channels, slices, rows, columns).

    Raises:
        DataError: naming the file, when it is damaged, has colours, or pages of several sizes.
    """
    with _opened(path) as tiff:
        header = _header(path, tiff)
        series = tiff.series[0]
        array = (series.asarray() if header.decoded else _by_simpleitk(path)).reshape(series.shape)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if _has_bits(tiff):
            array = (array != 0).astype(np.uint8)
        if array.dtype != header.dtype:
            raise not_readable("TIFF", "its voxels are decoded as other numbers than its header says")
        order = sorted(range(array.ndim), key=lambda axis: _rank(header.axes[axis]))
        moved: npt.NDArray[Any] = array.transpose(order).reshape(header.channels, *header.shape_zyx)
        return moved


def _has_bits(tiff: Any) -> bool:
    """Whether pixels have 1 bit, which SimpleITK spreads over 0..255."""
    return bool(np.dtype(tiff.series[0].dtype).kind == "b")


def _rank(axis: str) -> int:
    return 0 if axis in _CHANNELS else 1 if axis in _SLICES else 2 + "YX".index(axis)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import tifffile

    silent = logging.getLogger("tifffile")
    level = silent.level
    silent.setLevel(logging.CRITICAL + 1)
    try:
        with refusing_damage(path, "TIFF", tifffile.TiffFileError, DecoderComplainedError):
            with path.open("rb") as stream:
                _check_pages(stream, path.stat().st_size)
            # OME files may name others, which are not opened.
            with tifffile.TiffFile(path, _multifile=False, _useframes=False) as tiff:
                yield tiff
    finally:
        silent.setLevel(level)


def _check_pages(stream: IO[bytes], size: int) -> None:
    """DataError when the chain of pages leaves the file: tifffile would leave out the pages after that."""
    start = stream.read(16)
    order = {b"II": "little", b"MM": "big"}.get(start[:2])
    version = 0 if order is None else int.from_bytes(start[2:4], order)  # type: ignore[arg-type]
    if order is None or version not in (42, 43):
        raise not_readable("TIFF", "it does not begin as one")
    count_bytes, entry, offset_bytes = (2, 12, 4) if version == 42 else (8, 20, 8)
    at = int.from_bytes(start[4:8] if version == 42 else start[8:16], order)  # type: ignore[arg-type]
    seen: set[int] = set()
    while at:
        if at >= size or at in seen:
            raise not_readable("TIFF", "its pages are not all there")
        seen.add(at)
        stream.seek(at)
        count = int.from_bytes(stream.read(count_bytes), order)  # type: ignore[arg-type]
        stream.seek(at + count_bytes + entry * count)
        following = stream.read(offset_bytes)
        if len(following) < offset_bytes:
            raise EOFError
        at = int.from_bytes(following, order)  # type: ignore[arg-type]


def _header(path: Path, tiff: Any) -> TiffHeader:
    # Before the series are looked at: tifffile then has no compression of the later pages of an OME file.
    pages = [*tiff.pages]
    _check_segments(path, pages)
    if len(tiff.series) != 1:
        raise DataError(
            f"holds {len(tiff.series)} images of different sizes or kinds; expected the slices of one volume alone"
        )
    series, page = tiff.series[0], pages[0]
    if page.photometric != _GREY or page.samplesperpixel != 1:
        raise DataError(
            "is a TIFF with colours, a palette, transparency or inverted grey (MINISWHITE); allowed: grey "
            "(MINISBLACK, one number per pixel); export it as grey"
        )
    _refuse_changed_meaning(tiff, pages)
    dtype = np.dtype(series.dtype).newbyteorder("=")
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype  # pixels of 1 bit
    if dtype.kind not in "iuf":
        raise DataError("holds no whole or decimal numbers; expected one number per voxel")
    sizes = dict(zip(series.axes, series.shape, strict=True))
    slices = [axis for axis in sizes if axis in _SLICES]
    if len(sizes) != len(series.axes) or len(slices) > 1 or not {"Y", "X"} <= set(sizes) <= set("ZIQTCYX"):
        raise DataError(
            f"has axes ({series.shape}) that are no slices, rows, columns, times or channels; expected one 3-D volume"
        )
    if min(sizes.get(axis, 1) for axis in "TC") != 1 and "T" in sizes and "C" in sizes:
        raise DataError(f"has several channels at several times ({series.shape}); expected one 3-D volume")
    shape = (prod(sizes[axis] for axis in slices), sizes["Y"], sizes["X"])
    channels = sizes.get("T", 1) * sizes.get("C", 1)
    _check_end(path, pages)
    decoded = all(int(one.compression) in _DECODED for one in pages)
    return TiffHeader(shape, channels, dtype, series.axes, _edges(tiff), decoded)


def _refuse_changed_meaning(tiff: Any, pages: Sequence[Any]) -> None:
    """DataError when the header says that rows, columns or values are others than those that are stored."""
    if any("Orientation" in page.tags and int(page.tags["Orientation"].value) != _TOP_LEFT for page in pages):
        raise DataError(
            "is a TIFF whose Orientation says that its rows or columns are turned, which programs read differently; "
            "allowed: 1 (rows from the top, columns from the left); save its pixels in that order"
        )
    found: Mapping[str, Any] = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    function, line = found.get("cf"), (found.get("c0"), found.get("c1"))
    if function not in (None, *_NO_CALIBRATION) and (function, *line) != (_STRAIGHT_LINE, 0, 1):
        raise DataError(
            "has a calibration of its values by ImageJ (cf, c0, c1), which other programs do not apply; allowed: "
            "none; apply it to the voxels and save them"
        )


def _check_segments(path: Path, pages: Sequence[Any]) -> None:
    """DataError when strips or tiles are absent, which tifffile would fill with 0, or lie beyond the end."""
    size = path.stat().st_size
    for page in pages:
        counts, offsets = page.databytecounts, page.dataoffsets
        if not counts or len(counts) != len(offsets) or min(counts) <= 0 or min(offsets) <= 0:
            raise not_readable("TIFF", "a part of its voxels is absent")
        if max(offset + count for offset, count in zip(offsets, counts, strict=True)) > size:
            raise EOFError
        if int(page.compression) == 1 and sum(counts) < page.nbytes * page.bitspersample // (8 * page.dtype.itemsize):
            raise not_readable("TIFF", "its voxels are fewer than its header declares")


def _check_end(path: Path, pages: Sequence[Any]) -> None:
    """DataError when bytes follow all that the one page of a file names: they were added, and voxels may have moved.

    Compressed voxels that have moved are found when they are decoded. With several pages, tifffile itself leaves room
    at the end.
    """
    page = pages[0]
    if len(pages) > 1 or page.subifds or int(page.compression) != 1:
        return
    tags = page.tags.values()
    ends = [tag.valueoffset + tag.valuebytecount for tag in tags]
    # Beyond its last tag a page names the next one.
    ends += [max(tag.offset for tag in tags) + (20 + 8 if page.parent.is_bigtiff else 12 + 4)]
    ends += [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if path.stat().st_size > max(ends):
        raise not_readable("TIFF", "bytes follow its end")


def _by_simpleitk(path: Path) -> npt.NDArray[Any]:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("TIFFImageIO")
    reader.SetFileName(str(path))
    with refusing_complaints():
        image = reader.Execute()
    voxels: npt.NDArray[Any] = SimpleITK.GetArrayFromImage(image)
    return voxels if image.GetNumberOfComponentsPerPixel() == 1 else voxels[..., 0]  # pixels of 1 bit as RGBA


def _edges(tiff: Any) -> Edges:
    """Distances of slices, rows and columns that an OME or ImageJ header gives, in mm."""
    if tiff.is_ome and tiff.ome_metadata:
        return _ome_edges(tiff.ome_metadata)
    if tiff.is_imagej and tiff.imagej_metadata:
        found: Mapping[str, Any] = tiff.imagej_metadata
        factor = _MM_PER_UNIT.get(str(found.get("unit", "")))
        if factor is None:
            return (None, None, None)
        tags = tiff.pages[0].tags
        y, x = (_pixels(tags, name) for name in ("YResolution", "XResolution"))
        z = _positive(found.get("spacing"))
        return (None if z is None else z * factor, y and factor / y, x and factor / x)
    return (None, None, None)


def _ome_edges(text: str) -> Edges:
    from tifffile import xml2dict

    image = xml2dict(text)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]

    def edge(axis: str) -> float | None:
        value = _positive(pixels.get(f"PhysicalSize{axis}"))
        # The schema of OME: micrometres, unless a unit is given.
        factor = _MM_PER_UNIT.get(str(pixels.get(f"PhysicalSize{axis}Unit", "µm")))
        return None if value is None or factor is None else value * factor

    return (edge("Z"), edge("Y"), edge("X"))


def _pixels(tags: Any, name: str) -> float | None:
    """Pixels per unit."""
    if name not in tags:
        return None
    above, below = tags[name].value
    return _positive(above / below) if below else None


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) and value > 0 else None
