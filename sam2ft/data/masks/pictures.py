"""Masks drawn as pictures: a folder with one PNG per slice whose palette indices or grey values are the integers."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.data.dicom.header import number
from sam2ft.data.dicom.read_segmentation import headers_of_image
from sam2ft.data.images.grids import Volume

_LOSSY = (".jpg", ".jpeg", ".jpe", ".webp")
_MOST_SHOWN = 3
_NUMBER = re.compile(r"\d+")
# Modes of Pillow whose pixels are one integer each.
_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B")


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
    its name; of an image in one file the slices in their order along its axis, numbered from 0 or 1 without a gap.

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
    headers = headers_of_image(image)
    if headers:
        _refuse_other_cut(path, image)
        names = {Path(str(header.filename)).stem: index for index, header in enumerate(headers)}
        numbers_of = {number(header, "InstanceNumber"): index for index, header in enumerate(headers)}
        by_name = [names.get(file.stem) for file in files]
        by_number = [numbers_of.get(_last_number(file)) for file in files]
        for found in (by_name, by_number):
            if sorted(index for index in found if index is not None) == list(range(depth)):
                return [index for index in found if index is not None]
        raise DataError(
            f"{path}: neither the names of the PNG files are those of the files of the series nor their numbers its "
            f"InstanceNumbers ({listed([file.name for file in files], _MOST_SHOWN)}); rename them so"
        )
    numbers = [_last_number(file) for file in files]
    if None not in numbers:
        first = min(value for value in numbers if value is not None)
        if first in (0, 1) and sorted(value for value in numbers if value is not None) == list(
            range(first, first + depth)
        ):
            return [value - first for value in numbers if value is not None]
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


def _last_number(file: Path) -> int | None:
    found = _NUMBER.findall(file.stem)
    return int(found[-1]) if found else None


def _pixels(file: Path, shape: tuple[int, int]) -> npt.NDArray[Any]:
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.mode not in _MODES:
                raise DataError(
                    f"is a PNG with colours ({picture.mode}), whose labels are not known; allowed: a palette, or one "
                    "channel of grey values, whose integers are the labels"
                )
            if picture.size[::-1] != shape:  # before anything is decoded
                raise DataError(
                    f"has {picture.size[1]} x {picture.size[0]} pixels (rows x columns), but slices of the image have "
                    f"{shape[0]} x {shape[1]}; export it in the size of the image"
                )
            pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"not a readable PNG file ({type(error).__name__}); export it again") from None
    if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
        raise DataError(f"has values from {pixels.min()} to {pixels.max()}; allowed: 0 to 65535")
    return pixels.astype(np.uint16)
