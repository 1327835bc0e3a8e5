"""Masks as COCO annotations: polygons and run lengths of the slices of an image."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.data.dicom.read_segmentation import slices_of_image
from sam2ft.data.dicom.series import slices_by_file
from sam2ft.data.images.grids import Segment, Volume
from sam2ft.data.masks.layers import Layer
from sam2ft.data.masks.pictures import first_number, last_number
from sam2ft.data.masks.polygons import filled_polygon

# COCO counts from the corner of the first pixel, whose centre is therefore (0.5, 0.5).
_CENTRE = 0.5
# Outlines that programs draw along the border of a picture reach some tenths of a pixel beyond it.
_BEYOND = 1.0
_FIRST_CHARACTER, _MOST_BITS = 48, 60
_MOST_SHOWN = 3


def read_polygons(path: Path, image: Volume) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """(a layer per category, notes) of a file of COCO annotations of the slices of one image.

    A pixel belongs to a polygon when its centre lies inside or on it; the centre of the first pixel is (0.5, 0.5).
    Polygons of one annotation, and annotations of one category, are put together. The slice of an entry of `images` is
    the one whose file has its name (DICOM series), else the last number in its file_name, from 0 or 1 on for all.

    Raises:
        DataError: naming the file and the annotation; for polygons outside of a slice, other sizes and unknown slices.
    """
    with naming(path):
        found = _annotations(path, image, apart=False)
        layers = [Layer(segment, found.draw(number)) for number, segment in enumerate(found.segments)]
        return tuple(sorted(layers, key=lambda layer: layer.segment.value)), found.notes


def polygons_apart(path: Path, image: Volume) -> "Annotations":
    """The instances of a file of COCO annotations: each annotation, or those of one category and `track_id`.

    Raises:
        DataError: as `read_polygons`.
    """
    with naming(path):
        return _annotations(path, image, apart=True)


@dataclass(frozen=True)
class Annotations:
    """Annotations of a file by category or instance, none of them drawn yet."""

    segments: tuple[Segment, ...]
    """The category of each: id and name."""
    parts: tuple[tuple[tuple[int, int, Mapping[str, Any]], ...], ...]
    """Of each its annotations: (number in the file, slice, annotation)."""
    shape_zyx: tuple[int, int, int]
    notes: tuple[str, ...]

    def draw(self, number: int) -> npt.NDArray[np.bool_]:
        """The voxels of a category or instance; DataError naming the annotation."""
        mask = np.zeros(self.shape_zyx, dtype=bool)
        for place, index, annotation in self.parts[number]:
            mask[index] |= _drawn(annotation, f"annotations[{place}]", self.shape_zyx[1:])
        return mask


def _annotations(path: Path, image: Volume, *, apart: bool) -> Annotations:
    content = _content(path)
    slices, notes = _slices(content["images"], image)
    names = {_whole(one, "id", "category"): str(one.get("name", "")) for one in content["categories"]}
    parts: dict[tuple[int, int | str], list[tuple[int, int, Mapping[str, Any]]]] = {}
    for number, annotation in enumerate(content["annotations"]):
        where = f"annotations[{number}]"
        category = _whole(annotation, "category_id", where)
        if category not in names:
            raise DataError(f"{where}: category_id {category} is in no entry of categories")
        of_image = _whole(annotation, "image_id", where)
        if of_image not in slices:
            raise DataError(f"{where}: image_id {of_image} is in no entry of images")
        if apart and annotation.get("iscrowd"):
            raise DataError(
                f"{where}: is a crowd (iscrowd), which is no single instance; allowed with instances: {{source: "
                "as_given}: an annotation for each instance"
            )
        instance = annotation.get("track_id", f"annotation {number}") if apart else 0
        if not isinstance(instance, int | str) or isinstance(instance, bool):
            raise DataError(f"{where}: track_id is no whole number and no text")
        parts.setdefault((category, instance), []).append((number, slices[of_image], annotation))
    segments = tuple(Segment(category, names[category]) for category, _ in parts)
    shape = image.geometry.shape_zyx
    notes = (*notes, *_lost(content["annotations"], shape[1:]))
    return Annotations(segments, tuple(map(tuple, parts.values())), shape, notes)


def _lost(annotations: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> Iterator[str]:
    """Notes on what polygons hold and the mask does not; DataError when one lies outside of its picture."""
    from skimage.measure import points_in_poly

    beyond = nested = 0
    for number, annotation in enumerate(annotations):
        where = f"annotations[{number}]"
        every = _polygons(annotation, where) if isinstance(annotation.get("segmentation"), list) else []
        for y_x in every:
            low, high = y_x.min(axis=0), y_x.max(axis=0)
            if (high < -_CENTRE).any() or (low > np.array(shape) - _CENTRE).any():
                raise DataError(f"{where}: a polygon lies outside of the {shape[0]} x {shape[1]} pixels of its slice")
            beyond += bool((low < -_CENTRE - _BEYOND).any() or (high > np.array(shape) - _CENTRE + _BEYOND).any())
        for inner, outer in permutations(every, 2):
            nested += bool(points_in_poly(inner, outer).all())
    if beyond:
        yield f"{beyond} polygons reach over a pixel beyond their slice; what lies outside is left out"
    if nested:
        yield (
            f"{nested} polygons lie in another one of their annotation; COCO's polygons have no holes, so they are "
            "filled (holes are written as run lengths)"
        )


def _content(path: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"not a readable JSON file ({type(error).__name__})") from None
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise DataError(f"is no file of COCO annotations: it needs the lists {', '.join(keys)}")
    for key in keys:
        if not all(isinstance(one, dict) for one in content[key]):
            raise DataError(f"is no file of COCO annotations: {key} holds something else than mappings")
    return content


def _whole(entry: Mapping[str, Any], key: str, where: str) -> int:
    value = entry.get(key)
    if type(value) is not int or value < 0:
        raise DataError(f"{where}: {key} is missing or no whole number from 0 on")
    return value


def _slices(images: Sequence[Mapping[str, Any]], image: Volume) -> tuple[dict[int, int], tuple[str, ...]]:
    """(id of an entry -> its slice, a note on the rule)."""
    depth, height, width = image.geometry.shape_zyx
    files: dict[int, str] = {}
    for number, entry in enumerate(images):
        where, name = f"images[{number}]", entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise DataError(f"{where}: file_name is missing")
        size = (_whole(entry, "height", where), _whole(entry, "width", where))
        if size != (height, width):
            raise DataError(f"{where}: is {size[0]} x {size[1]} (height x width), but slices are {height} x {width}")
        if (known := _whole(entry, "id", where)) in files:
            raise DataError(f"{where}: id {known} is given twice")
        files[known] = name
    stems = {known: Path(name.replace("\\", "/")).stem for known, name in files.items()}
    series = slices_of_image(image)
    if series and image.file_axis == 2:
        of_series = slices_by_file(series)
        if set(stems.values()) <= of_series.keys():
            return {known: of_series[stem] for known, stem in stems.items()}, ()
        raise DataError(
            f"file_name of its images are not those of the files of the series "
            f"({listed(sorted(files.values()), _MOST_SHOWN)}); write them as the DICOM files are called"
        )
    numbers = {known: last_number(stem) for known, stem in stems.items()}
    found = {known: number for known, number in numbers.items() if number is not None}
    if len(found) < len(files):
        raise DataError(f"file_name without a number: {next(files[known] for known in files if known not in found)}")
    if (given := image.slices.get("instanceNumber")) is not None and image.nearest_slices is None:
        # Slices of a series that is away (of a store): their numbers are known, and need not run as the slices do.
        of_number = {value: index for index, value in enumerate(given) if value is not None}
        if len(set(found.values())) < len(found) or not set(found.values()) <= of_number.keys():
            raise DataError(
                "the last numbers in file_name of its images are not InstanceNumbers of the series, each once; write "
                "them as the DICOM files are called, or with these numbers"
            )
        return {known: of_number[value] for known, value in found.items()}, ()
    return _from_first(found, depth)


def _from_first(found: Mapping[int, int], depth: int) -> tuple[dict[int, int], tuple[str, ...]]:
    """Slices by numbers that begin at 0 or at 1; only all numbers of a whole image say which."""
    values = sorted(found.values())
    if len(set(values)) < len(values):
        raise DataError("two entries of images have one number in their file_name; allowed: one per slice")
    if (first := first_number(values, depth)) is not None:
        return {known: value - first for known, value in found.items()}, (f"slices are numbered from {first}",)
    raise DataError(
        f"images has {len(values)} entries, whose numbers in file_name ({listed([*map(str, values)], _MOST_SHOWN)}) "
        f"are not 0 to {depth - 1} or 1 to {depth}: it is not known which slices these are; list every slice in images"
    )


def _drawn(annotation: Mapping[str, Any], where: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    shapes = annotation.get("segmentation")
    if isinstance(shapes, dict):
        return _run_lengths(shapes, where, shape)
    drawn = np.zeros(shape, dtype=bool)
    for y_x in _polygons(annotation, where):
        drawn |= filled_polygon(y_x, shape).whole
    return drawn


def _polygons(annotation: Mapping[str, Any], where: str) -> list[npt.NDArray[np.float64]]:
    """The polygons of an annotation: (n, 2) of y and x, in indices of pixels."""
    shapes = annotation.get("segmentation")
    if not isinstance(shapes, list) or not shapes:
        raise DataError(f"{where}: segmentation is no polygon (a list of lists of numbers)")
    found = []
    for one in shapes:
        try:
            flat = np.array(one, dtype=np.float64)
        except (TypeError, ValueError):
            flat = np.array([])
        if flat.ndim != 1 or len(flat) < 6 or len(flat) % 2 or not np.isfinite(flat).all():
            raise DataError(f"{where}: a polygon is a list of x and y of three or more points")
        x_y = flat.reshape(-1, 2) - _CENTRE
        found.append(np.round(x_y[:, ::-1], 6))
    return found


def _run_lengths(shapes: Mapping[str, Any], where: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Run lengths down the columns, the first of background."""
    counts = shapes.get("counts")
    if isinstance(counts, str):
        counts = _decompressed(counts)
    if (
        shapes.get("size") != list(shape)
        or not isinstance(counts, list)
        or not all(type(count) is int and count >= 0 for count in counts)
        or sum(counts) != shape[0] * shape[1]
    ):
        raise DataError(f"{where}: run lengths do not cover the {shape[0]} x {shape[1]} pixels of a slice")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return values.reshape(shape, order="F")


def _decompressed(text: str) -> list[int] | None:
    """Run lengths from COCO's text of them (rleFrString of cocoapi); None: it is no such text.

    A number is written from its lowest 5 bits on, each in a character from 48 on whose bit 32 says that more follow and
    whose bit 16, in the last one, is its sign. From the fourth number on it is the difference to the one before the
    last.
    """
    found: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        if not 0 <= bits < 1 << 6 or shift > _MOST_BITS:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        value -= (1 << shift) if bits & 16 else 0
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    return None if shift else found
