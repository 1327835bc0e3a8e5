"""Reading stacks of grey pictures: a folder with a PNG or TIFF per slice, a TIFF of several pages, or one picture."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, listed, naming
from sam2ft.data.formats.description import (
    Description,
    Placement,
    chosen_channel,
    described,
    spacing_zyx_mm,
    unplaced_affine,
    without_place,
)
from sam2ft.data.formats.png_file import png_header, read_png
from sam2ft.data.formats.tiff_file import Edges, read_tiff, tiff_header
from sam2ft.data.images.grids import FileImage

ENDINGS = (".png", ".tif", ".tiff")
SPACING_TOLERANCE = 1e-3
"""Relative difference between a header and spacing_mm beyond which they contradict each other."""
_SHOWN = 3
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class _Picture:
    """The header of one file."""

    shape_zyx: tuple[int, int, int]
    channels: int
    dtype: np.dtype
    edges_mm: Edges


def is_stack(path: Path) -> bool:
    """Whether it is a picture, or a folder of whose files more than half are pictures."""
    if not path.is_dir():
        return _is_picture(path)
    names = _visible(path)
    return 2 * sum(_is_picture(one) for one in names) > len(names)


def read_stack(path: Path, reading: Reading = AS_IS) -> FileImage:
    """The volume in a folder of pictures or in one file, with the axes x (columns), y (rows), z (slices).

    Slices are in the order of the numbers in their names.

    Raises:
        DataError: naming the file, when one is damaged or has colours, numbers are missing, sizes differ, spacing_mm is
            missing or contradicts a header, or there are several channels and none is chosen.
    """
    with naming(path):
        files = stack_files(path)
        first = _one_kind(files)
        channel = chosen_channel(first.channels, reading, first.shape_zyx)
        affine, notes = _placement(first, reading)
    slices = np.empty((len(files) * first.shape_zyx[0], *first.shape_zyx[1:]), dtype=first.dtype)
    for index, file in enumerate(files):
        # A file is one slice, unless it is the only one.
        pages = slice(index, index + 1) if len(files) > 1 else slice(None)
        with naming(file):
            slices[pages] = read_png(file) if _is_png(file) else read_tiff(file)[channel]
    return FileImage(slices.transpose(2, 1, 0), affine, "spacing_mm", notes, 2, oriented=False, slices_known=True)


def describe_stack(path: Path, reading: Reading = AS_IS) -> Description:
    """What the headers of a stack say; DataError when one cannot be read."""
    files = stack_files(path)
    first = _one_kind(files)
    z, y, x = (len(files) * first.shape_zyx[0], *first.shape_zyx[1:])
    shape = (x, y, z) if first.channels == 1 else (x, y, z, first.channels)
    size = z * y * x * first.channels * first.dtype.itemsize
    return described(shape, first.channels, size, lambda: _placement(first, reading), reading)


def stack_files(path: Path) -> list[Path]:
    """The file, or the files of a folder in the order of their slices."""
    if not path.is_dir():
        return [path]
    files = _visible(path)
    if foreign := [one.name for one in files if not _is_picture(one)]:
        raise DataError(
            f"{path}: holds pictures, and files of other kinds: {listed(foreign, _SHOWN)}; allowed: one picture per "
            f"slice ({', '.join(ENDINGS)}) and nothing else"
        )
    return _in_order(path, files)


def _visible(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))


def _in_order(folder: Path, files: list[Path]) -> list[Path]:
    """Files by the one number of their names that differs; DataError when numbers are missing or there are more."""
    if len(files) == 1:
        return files
    parts = {file: _NUMBER.split(file.name) for file in files}
    texts = {tuple(part[::2]) for part in parts.values()}
    numbers = np.array([[int(number) for number in part[1::2]] for part in parts.values()]) if len(texts) == 1 else None
    differing = [] if numbers is None else [at for at in range(numbers.shape[1]) if len(set(numbers[:, at])) > 1]
    if numbers is None or len(differing) != 1:
        raise DataError(
            f"{folder}: the names of its {len(files)} pictures do not give their order: "
            f"{listed([file.name for file in files], _SHOWN)}; allowed: names that differ in one number alone, such as "
            "slice_001.png, slice_002.png"
        )
    found = numbers[:, differing[0]].tolist()
    if len(set(found)) < len(found):
        twice = next(number for number in found if found.count(number) > 1)
        raise DataError(f"{folder}: has two pictures of the number {twice}; allowed: one picture per slice")
    missing = sorted(set(range(min(found), max(found) + 1)) - set(found))
    if missing:
        raise DataError(
            f"{folder}: pictures of the numbers {listed([str(one) for one in missing], _SHOWN)} are missing among "
            f"{min(found)} to {max(found)}; allowed: numbers without a gap; add them, or number the slices anew if "
            "they are evenly spaced"
        )
    return [file for _, file in sorted(zip(found, files, strict=True))]


def _one_kind(files: list[Path]) -> _Picture:
    """The header of the first file, of which the others differ in nothing."""
    headers = [_header(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        if len(files) > 1 and (header.shape_zyx[0] > 1 or header.channels > 1):
            raise DataError(f"{file}: has several pages, in a folder of several pictures; allowed: one page per file")
        if header != headers[0]:
            raise DataError(
                f"{file}: is a picture of {_told(header)}, but {files[0].name} is one of {_told(headers[0])}; allowed: "
                "slices of one size, kind of number and spacing"
            )
    return headers[0]


def _header(file: Path) -> _Picture:
    with naming(file):
        if _is_png(file):
            png = png_header(file)
            return _Picture((1, png.rows, png.columns), 1, png.dtype, (None, None, None))
        tiff = tiff_header(file)
        return _Picture(tiff.shape_zyx, tiff.channels, tiff.dtype, tiff.edges_mm)


def _told(picture: _Picture) -> str:
    _, rows, columns = picture.shape_zyx
    return f"{rows} x {columns} pixels, {picture.dtype.name}, {_shown(picture.edges_mm)} mm"


def _shown(edges: tuple[float | None, ...]) -> str:
    return "(" + ", ".join("?" if edge is None else f"{edge:.6g}" for edge in edges) + ")"


def _placement(picture: _Picture, reading: Reading) -> Placement:
    z, y, x = picture.edges_mm
    notes: tuple[str, ...] = (without_place("a picture"),)
    if reading.spacing_mm is None and z is not None and y is not None and x is not None:
        return unplaced_affine((z, y, x)), notes
    spacing = spacing_zyx_mm(reading, "a picture" if picture.edges_mm == (None,) * 3 else _partly(picture.edges_mm))
    pairs = zip(picture.edges_mm, spacing, strict=True)
    if any(edge is not None and abs(edge - given) > SPACING_TOLERANCE * given for edge, given in pairs):
        problem = (
            f"its header and spacing_mm contradict each other: {_shown(picture.edges_mm)} against {_shown(spacing)} mm "
            "(slices, rows, columns)"
        )
        if reading.believe != "spacing":
            raise DataError(
                f"{problem}; say which is right: leave spacing_mm out if the header gives all three, or believe: "
                "spacing (spacing_mm) in the dataset file, or eval --believe"
            )
        notes = (*notes, f"{problem}; spacing_mm is believed")
    return unplaced_affine(spacing), notes


def _partly(edges: Edges) -> str:
    return f"its header gives only {_shown(edges)} mm (slices, rows, columns) and"


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _is_png(path: Path) -> bool:
    return path.name.lower().endswith(".png")
