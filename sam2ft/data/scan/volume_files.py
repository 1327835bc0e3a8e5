"""Files that hold a volume (NIfTI, NRRD, MetaImage, ...): images and masks told apart by name, and by content."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import nibabel

from sam2ft.config.schema.dataset import AS_IS
from sam2ft.config.schema.series import SeriesPart
from sam2ft.core.errors import DataError
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.header import DAMAGE
from sam2ft.data.formats.description import Description
from sam2ft.data.formats.readers import READERS, Reader, reader_of
from sam2ft.data.scan.dicom_folder import without_path
from sam2ft.data.scan.found import FoundImage, FoundMask, Grid, plane_of_grid
from sam2ft.data.scan.mask_contents import is_mask_by_content, mask_in

_MASK_WORDS = frozenset({
    "mask", "masks", "seg", "segs", "segm", "segmentation", "segmentations", "dseg", "aseg", "label", "labels",
    "labelmap", "labelmaps", "labelstr", "labelsts", "gt", "groundtruth", "roi", "rois", "manual", "annotation",
    "annotations", "contour", "contours",
})  # fmt: skip
_MASK_ENDINGS = (".seg.nrrd", ".seg.mha")
_MAP_WORDS = frozenset({"map", "maps", "t1map", "t2map", "t1rhomap", "adc", "t2maps", "t1rhomaps"})
_PARTS: Mapping[str, SeriesPart] = {
    "water": "water",
    "fat": "fat",
    "inphase": "in_phase",
    "outphase": "out_phase",
    "magnitude": "magnitude",
    "phase": "phase",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_DIGITS = re.compile(r"\d+")


def is_named_as_mask(parts: Sequence[str]) -> bool:
    """Whether a name or a folder of a path says that it is a mask."""
    words = {word.lower() for part in parts for word in _WORD.findall(part)} | {part.lower() for part in parts}
    return not words.isdisjoint(_MASK_WORDS) or parts[-1].lower().endswith(_MASK_ENDINGS)


def _is_named_as_map(parts: Sequence[str]) -> bool:
    return any(word in _MAP_WORDS for part in parts for word in re.split(r"[^a-z0-9]+", part.lower()))


def part_in_name(name: str) -> SeriesPart | None:
    """The part of a complex or Dixon image that the name of a file says it is."""
    words = [word.lower() for word in _WORD.findall(name)]
    return next((_PARTS[word] for word in words if word in _PARTS), None)


def reader_at(path: Path) -> Reader | None:
    """The reader of a file or folder of pictures; None where there is none, or it cannot be looked at."""
    with suppress(DataError, *DAMAGE):
        return reader_of(path)
    return None


class FileSorter:
    """Sorts volume files into images and masks.

    Files that are named alike but for numbers are of one kind: only the first of each such name is read to see whether
    it is a mask.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._is_mask: dict[tuple[str, ...], bool] = {}

    @quiet_readers()
    def sort(self, path: Path, reader: Reader) -> FoundImage | FoundMask:
        """What a file holds.

        Raises:
            DataError: it cannot be read.
        """
        parts = path.relative_to(self.root).parts
        if is_named_as_mask(parts):
            try:
                return mask_in(path, self.root, reader.kind, "name")
            except DataError:
                if parts[-1].lower().endswith(_MASK_ENDINGS):
                    raise
                # An image whose folder has such a name, such as `label study`.
                return self._image(path, reader)
        alike = tuple(_DIGITS.sub("#", part) for part in parts)
        if self._is_mask.get(alike, not _is_named_as_map(parts)):
            try:
                mask = mask_in(path, self.root, reader.kind, "content")
                self._is_mask[alike] = is_mask_by_content(mask)
                if self._is_mask[alike]:
                    return mask
            except DataError:
                self._is_mask[alike] = False
        return self._image(path, reader)

    def _image(self, path: Path, reader: Reader) -> FoundImage:
        try:
            description = reader.describe(path, AS_IS)
            grid = _grid(path, reader, description)
        except DAMAGE as error:
            raise DataError(f"{path}: cannot be read ({type(error).__name__})") from None
        return FoundImage(
            place=path,
            root=self.root,
            kind=reader.kind,
            shape=description.shape,
            grid=grid,
            plane="" if grid is None else plane_of_grid(grid),
            part="map" if _is_named_as_map(path.relative_to(self.root).parts) else part_in_name(path.name),
            problems=tuple(without_path(DataError(problem), path) for problem in description.problems),
        )


def _grid(path: Path, reader: Reader, description: Description) -> Grid | None:
    if description.affine is None or len(description.shape) < 3:
        return None
    sizes = [size for size in description.shape if size > 1][:3]
    shape = description.shape if len(description.shape) == 3 else (*sizes, *[1] * (3 - len(sizes)))
    return Grid(tuple(shape), description.affine, _says_how_it_lies(path, reader))


def _says_how_it_lies(path: Path, reader: Reader) -> bool | None:
    """Whether the header gives place and directions; None: only reading the voxels would tell."""
    if reader is READERS["nifti"]:
        header = nibabel.load(path).header
        return bool(int(header["sform_code"]) or int(header["qform_code"]))
    return False if reader in (READERS["array"], READERS["stack"]) else None
