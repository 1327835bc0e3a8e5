"""What mask files hold: their integers, the names of their segments and regions, and names in label files."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from sam2ft.core.errors import DataError
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.header import DAMAGE
from sam2ft.data.formats.nrrd_file import num_layers, read_layers
from sam2ft.data.formats.readers import READERS
from sam2ft.data.masks.read_masks import MaskReader
from sam2ft.data.scan.dicom_folder import references_of
from sam2ft.data.scan.found import FoundMask, Grid

MOST_VALUES = 256
"""Integers that a mask may hold; more are an image."""
_CONTENT_VALUES = 64
"""Integers of a file that is a mask by its content alone."""
_LABEL_LINE = re.compile(r'\s*(\d+)((?:\s+[\d.]+){6})\s+"(.*)"\s*')
_MOST_LABEL_BYTES = 1 << 20
_LABEL_FILES = (".txt", ".label", ".lbl")


def mask_in(path: Path, root: Path, kind: str, known_as: str) -> FoundMask:
    """A mask of any kind that has a grid of its own, read whole.

    Raises:
        DataError: it cannot be read as a mask, or holds an image.
    """
    try:
        if kind == READERS["nrrd"].kind and num_layers(path) > 1:
            return _layered(path, root, kind)
        volume = MaskReader().read(path)
    except DAMAGE as error:
        raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
    values = np.unique(volume.array_zyx)
    whole = np.isfinite(values).all() and (np.abs(values - np.round(values)) <= 1e-3).all()
    if not whole or (values < 0).any() or len(values) > MOST_VALUES:
        raise DataError(f"{path}: holds {'fractions' if not whole else f'{len(values)} values'}, and is no mask")
    geometry = volume.geometry
    grid = Grid(geometry.shape_zyx[::-1], geometry.affine, geometry.oriented)
    ids = tuple(int(value) for value in np.round(values) if round(float(value)) != 0)
    names = {segment.value: segment.name for segment in volume.segments if segment.value in ids}
    return FoundMask(path, root, kind, grid, ids, names, known_as=known_as)


def _layered(path: Path, root: Path, kind: str) -> FoundMask:
    """A segmentation of 3D Slicer whose layers use the same numbers."""
    images = read_layers(path)
    names = dict(enumerate((segment.name for segment in images[0].segments), start=1))
    grid = Grid(images[0].array.shape, images[0].affine, images[0].oriented)
    return FoundMask(path, root, kind, grid, tuple(names), names, by_names=True)


@quiet_readers()
def are_versions(masks: Sequence[FoundMask]) -> bool:
    """Whether masks of one label each are of one structure, drawn twice, rather than of several structures.

    Two of them have more voxels in common than not (Dice above 0.5); structures beside or inside of each other do not.
    """
    arrays = [MaskReader().read(mask.path).array_zyx != 0 for mask in masks]
    for first, second in combinations(arrays, 2):
        both = int(first.sum()) + int(second.sum())
        if first.shape == second.shape and both and 4 * int((first & second).sum()) > both:
            return True
    return False


def is_mask_by_content(mask: FoundMask) -> bool:
    """Whether a file that is not named as a mask holds what only a mask does: some integers beside 0, few of them."""
    return 1 <= len(mask.values) <= _CONTENT_VALUES


def dicom_mask(path: Path, root: Path, kind: str) -> FoundMask:
    """A segmentation (with its grid) or structure set (without) in DICOM.

    Raises:
        DataError: naming the file, when it is damaged.
    """
    references, names = references_of(path)
    if kind == "structures":
        return FoundMask(path, root, "RTSTRUCT", None, tuple(sorted(names)), names, references, True, "header")
    found = mask_in(path, root, "DICOM-SEG", "header")
    of_values = {value: names[value] for value in found.values if value in names}
    return FoundMask(path, root, "DICOM-SEG", found.grid, found.values, of_values, references, known_as="header")


def label_names(files: Iterable[Path]) -> tuple[Mapping[int, str], list[Path], list[str]]:
    """(integer -> name of label descriptions of ITK-SNAP, the files, integers and names on which they disagree)."""
    names: dict[int, str] = {}
    used, clashes = [], []
    for path in files:
        found = _described_labels(path)
        if not found:
            continue
        used.append(path)
        clashes += [str(value) for value, name in found.items() if names.get(value, name) != name]
        names |= {value: name for value, name in found.items() if value not in names}
    return {value: name for value, name in names.items() if str(value) not in clashes}, used, sorted(set(clashes))


def _described_labels(path: Path) -> Mapping[int, str]:
    """The labels of a label description file of ITK-SNAP; empty: it is none."""
    try:
        if path.suffix.lower() not in _LABEL_FILES or path.stat().st_size > _MOST_LABEL_BYTES:
            return {}
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        return {}
    content = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    matches = [_LABEL_LINE.fullmatch(line) for line in content]
    if not matches or not all(matches):
        return {}
    named = {int(match[1]): match[3].strip() for match in matches if match}
    return {value: name for value, name in named.items() if value and name}
