"""Masks drawn as pictures: a folder with one PNG per slice whose palette indices or grey values are the integers."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.data.dicom.header import number
from sam2ft.data.dicom.read_segmentation import slices_of_image
from sam2ft.data.dicom.series import slices_by_file
from sam2ft.data.formats.picture_stack import is_stack, stack_files
from sam2ft.data.formats.png_file import png_header, read_png
from sam2ft.data.images.grids import Volume

_LOSSY = (".jpg", ".jpeg", ".jpe", ".webp")
_MOST_SHOWN = 3
_NUMBER = re.compile(r"\d+")


def is_picture(path: Path) -> bool:
    """Whether a mask is a PNG, or a folder of them and nothing else."""
    files = _visible(path)
    return bool(files) and all(file.suffix.lower() == ".png" for file in files)


def refuse_lossy(path: Path) -> None:
    """Refuse pictures whose compression changes the integers of labels."""
    lossy = [file.name for file in _visible(path) if file.suffix.lower() in _LOSSY]
    if lossy:
        raise DataError(
            f"{path}: {lossy[0]} is compressed with loss, which changes the integers of labels at every border; "
            "allowed: PNG; export the masks again (a conversion of these files does not bring the labels back)"
        )


def _visible(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = path.iterdir() if path.is_dir() else ()
    return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


def read_pictures(path: Path, image: Volume) -> tuple[npt.NDArray[np.uint16], tuple[str, ...]]:
    """(the label map on the grid of the image, notes): row i of a PNG is row i of its slice, column j its column j.

    Which slice a PNG is: of a DICOM series that whose file has its name, or whose InstanceNumber is the last number in
    its name; of an image made of pictures that with its name or last number; of another one the slices in their order
    along its axis, numbered from 0 or 1 without a gap.

    Raises:
        DataError: naming the file; when there is not one picture per slice, its size is another one, or it has colours.
    """
    files = _visible(path)
    depth, height, width = image.geometry.shape_zyx
    order = _order(path, files, image)
    array = np.zeros((depth, height, width), dtype=np.uint16)
    for index, file in zip(order, files, strict=True):
        with naming(file):
            array[index] = _pixels(file, (height, width))
    return array, (f"{len(files)} PNG files; slice {order[0]} (from 0) is {files[0].name}",)


def _order(path: Path, files: Sequence[Path], image: Volume) -> list[int]:
    """The slice of each file."""
    depth = image.geometry.shape_zyx[0]
    if len(files) != depth:
        raise DataError(
            f"{path}: holds {len(files)} PNG files, but the image has {depth} slices; allowed: one per slice (an empty "
            "one where nothing is drawn)"
        )
    series, known = slices_of_image(image), image.slices.get("instanceNumber")
    if series:
        _refuse_other_cut(path, image)
        names = slices_by_file(series)
        given = [number(one.header, "InstanceNumber") for one in series]
        ways = [[names.get(file.stem) for file in files], _by_numbers(files, given)]
    elif known is not None and image.nearest_slices is None:
        # Slices of a series that is away (of a store): their numbers are known, and need not run as the slices do.
        ways = [_by_numbers(files, known)]
    else:
        ways = _as_pages(files, image)
    for found in ways:
        if sorted(index for index in found if index is not None) == list(range(depth)):
            return [index for index in found if index is not None]
    if not series and known is None:
        return _numbered(path, files, depth)
    raise DataError(
        f"{path}: neither the names of the PNG files are those of the files of the series nor their numbers its "
        f"InstanceNumbers ({listed([file.name for file in files], _MOST_SHOWN)}); rename them so"
    )


def _as_pages(files: Sequence[Path], image: Volume) -> list[list[int | None]]:
    """The slice of each file by the names, and by the numbers, of the pictures that an image is; none for another."""
    folder = Path(image.name)
    if not image.name or image.file_axis != 2 or not folder.is_dir() or not is_stack(folder):
        return []
    pages = stack_files(folder)
    names = {page.stem: index for index, page in enumerate(pages)}
    return [[names.get(file.stem) for file in files], _by_numbers(files, [last_number(page.stem) for page in pages])]


def _by_numbers(files: Sequence[Path], given: Sequence[float | None]) -> list[int | None]:
    """The slice whose number, in `given`, is the last one in the name of each file."""
    slices = {value: index for index, value in enumerate(given) if value is not None}
    numbers = [last_number(file.stem) for file in files]
    return [None if value is None else slices.get(value) for value in numbers]


def _numbered(path: Path, files: Sequence[Path], depth: int) -> list[int]:
    """The slice of each file by the last number in its name, from 0 or 1 on."""
    numbers = [value for file in files if (value := last_number(file.stem)) is not None]
    first = first_number(numbers, depth)
    if first is not None:
        return [value - first for value in numbers]
    if depth == 1:
        return [0]
    raise DataError(
        f"{path}: the last numbers in the names of its {depth} PNG files are not 0 to {depth - 1} or 1 to {depth} "
        f"({listed([file.name for file in files], _MOST_SHOWN)}); rename them so"
    )


def _refuse_other_cut(path: Path, image: Volume) -> None:
    if image.file_axis != 2:
        raise DataError(
            f"{path}: pictures are slices of the series, but slice_axis of the dataset file cuts it along another "
            "axis; leave slice_axis out, or give the masks as NIfTI"
        )


def last_number(stem: str) -> int | None:
    """The last whole number in a name; None: it has none."""
    found = _NUMBER.findall(stem)
    return int(found[-1]) if found else None


def first_number(numbers: Collection[int], depth: int) -> int | None:
    """0 or 1, where numbers count all `depth` slices from there on; None: which slices they are is not known."""
    return next((first for first in (0, 1) if sorted(numbers) == list(range(first, first + depth))), None)


def _pixels(file: Path, shape: tuple[int, int]) -> npt.NDArray[np.uint16]:
    header = png_header(file, palette=True)
    if (header.rows, header.columns) != shape:  # before anything is decoded
        raise DataError(
            f"has {header.rows} x {header.columns} pixels (rows x columns), but slices of the image have "
            f"{shape[0]} x {shape[1]}; export it in the size of the image"
        )
    return read_png(file, palette=True).astype(np.uint16)
