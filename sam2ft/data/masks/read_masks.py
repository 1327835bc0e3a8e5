"""Reading a mask of any kind: what a file or folder holds, and its label map on the grid of the image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.quiet import quiet_readers
from sam2ft.data.dicom.file import is_dicom
from sam2ft.data.dicom.read_segmentation import dicom_kind, read_dicom_segmentation
from sam2ft.data.formats.nrrd_file import num_layers, read_layers
from sam2ft.data.formats.readers import READERS, Reader, reader_of
from sam2ft.data.images.grid_policy import Place, placed_by_policy
from sam2ft.data.images.grids import FileImage, Segment, Volume
from sam2ft.data.images.volumes import cut_file, read_volume
from sam2ft.data.masks.coco import polygons_apart, read_polygons
from sam2ft.data.masks.layers import ANY, Layer, Meaning, binary, composed, composed_instances, stacked
from sam2ft.data.masks.one_hot import of_channels
from sam2ft.data.masks.pictures import is_picture, read_pictures, refuse_lossy
from sam2ft.data.masks.rtstruct import read_structures


@dataclass(frozen=True)
class MaskReader:
    """Reads the masks of one image."""

    image: Volume | None = None
    """None: a mask that has no grid of its own cannot be read."""
    reading: Reading = AS_IS
    meaning: Meaning = ANY

    @quiet_readers()
    def read(self, path: Path) -> Volume:
        """The mask in `path` on its own grid, or on that of the image where it has none; its values as in the file.

        Raises:
            DataError: naming the file, when it cannot be read exactly.
        """
        with naming(path):
            return replace(self._way(path)(path), name=str(path))

    def _way(self, path: Path) -> Callable[[Path], Volume]:
        refuse_lossy(path)
        if self.image is not None and is_picture(path):
            return self._of_pictures
        if path.is_file() and path.suffix.lower() == ".json":
            return self._of_polygons
        if (file := _single_dicom(path)) is not None and (kind := dicom_kind(file)) is not None:
            return {"segmentation": self._of_segmentation, "structures": self._of_structures}[kind]
        reader = reader_of(path) if path.exists() and self.reading.channel is None else None
        if reader is READERS["nrrd"] and num_layers(path) > 1:
            return self._of_layers
        if reader is not None and reader.describe(path, self.reading).channels > 1:
            return partial(self._of_channels, reader)
        return self._plain

    def _plain(self, path: Path) -> Volume:
        # The integers of a mask are no signals: nothing is rescaled or left out.
        return read_volume(path, reading=self.reading, labels=True)

    def _of_layers(self, path: Path) -> Volume:
        """A segmentation of 3D Slicer whose segments are in layers."""
        images = read_layers(path, self.reading)
        layers = [
            Layer(segment, np.asarray(images[segment.layer].array == segment.value)) for segment in images[0].segments
        ]
        _refuse_nameless(images)
        made = composed(layers, images[0].array.shape, self.meaning, self.reading.overlaps)
        notes = (*images[0].notes, *made.notes)
        whole = replace(images[0], array=made.array, segments=made.segments, notes=notes)
        return cut_file(whole, self.reading)

    def _of_channels(self, reader: Reader, path: Path) -> Volume:
        count = reader.describe(path, self.reading).channels
        images = (reader.read(path, self.reading.model_copy(update={"channel": index})) for index in range(count))
        first = next(images)
        made = of_channels((image.array for image in chain([first], images)), self.meaning, self.reading.overlaps)
        return cut_file(replace(first, array=made.array, notes=(*first.notes, *made.notes)), self.reading)

    def _of_segmentation(self, path: Path) -> Volume:
        file = _single_dicom(path) or path
        found = read_dicom_segmentation(file, self.image, self.reading)
        made = composed(found.layers, found.geometry.shape_zyx, self.meaning, self.reading.overlaps)
        return Volume(made.array, found.geometry, notes=(*found.notes, *made.notes), segments=made.segments)

    def _of_structures(self, path: Path) -> Volume:
        image = self._needed_image("contours")
        found = read_structures(_single_dicom(path) or path, image)
        return self._on_image(found.layers, found.notes, image, by_names=True)

    def _of_polygons(self, path: Path) -> Volume:
        image = self._needed_image("polygons")
        if not self.meaning.as_given:
            return self._on_image(*read_polygons(path, image), image)
        found = polygons_apart(path, image)
        shape = image.geometry.shape_zyx
        made = composed_instances(found.segments, found.draw, shape, self.meaning, self.reading.overlaps)
        notes = (*found.notes, *made.notes)
        return replace(_like(image), array_zyx=made.array, notes=notes, segments=made.segments)

    def _of_pictures(self, path: Path) -> Volume:
        image = self._needed_image("pictures of slices")
        array, notes = read_pictures(path, image)
        return replace(_like(image), array_zyx=array, notes=notes)

    def _on_image(
        self, layers: tuple[Layer, ...], notes: tuple[str, ...], image: Volume, *, by_names: bool = False
    ) -> Volume:
        shape = image.geometry.shape_zyx
        made = composed(layers, shape, self.meaning, self.reading.overlaps, by_names=by_names)
        return replace(_like(image), array_zyx=made.array, notes=(*notes, *made.notes), segments=made.segments)

    def _needed_image(self, what: str) -> Volume:
        if self.image is None:
            raise DataError(
                f"holds {what}, which have no grid of voxels of their own, and there is no image to draw them on; give "
                "a mask with a grid (a NIfTI file) here, or prepare it with its image (sources.masks)"
            )
        return self.image


def _refuse_nameless(images: Sequence[FileImage]) -> None:
    """Refuse layers with values of no segment: nothing would read them."""
    for number, image in enumerate(images):
        values = {segment.value for segment in image.segments if segment.layer == number}
        if unknown := sorted({*np.unique(image.array).tolist()} - values - {0}):
            shown, count = listed([f"{value:g}" for value in unknown], 5), int(np.isin(image.array, unknown).sum())
            raise DataError(
                f"layer {number} (from 0) holds {shown} in {count} voxels, and no segment has this value there; save "
                "the segmentation again"
            )


def _like(image: Volume) -> Volume:
    """A volume on the grid of an image, cut as it is."""
    return Volume(np.zeros((0, 0, 0), np.uint16), image.geometry, file_axis=image.file_axis)


def _single_dicom(path: Path) -> Path | None:
    """The DICOM file that is given, alone or as the only one of a folder."""
    if path.is_file():
        return path if is_dicom(path) else None
    visible = (one for one in sorted(path.iterdir() if path.is_dir() else ()) if not one.name.startswith("."))
    found = list(islice((one for one in visible if one.is_file() and is_dicom(one)), 2))
    return found[0] if len(found) == 1 else None


def read_placed_mask(path: Path, image: Volume, reading: Reading = AS_IS, meaning: Meaning = ANY) -> Volume:
    """The mask in `path` in the voxel order of `image`, whose slices it follows where these were resampled.

    Raises:
        DataError: naming the file, when it cannot be read or is on another grid.
    """
    with naming(path):
        volume = MaskReader(image, reading.of_masks, meaning).read(path)
        volume = replace(volume, notes=tuple(f"mask: {note}" for note in volume.notes))
        place = Place(image.geometry, reading.grid, "mask", image.name or "its image", image.file_axis)
        mask = placed_by_policy(volume, place)
    return replace(mask, array_zyx=image.followed_by(mask.array_zyx))


def read_masks_of_labels(paths: Mapping[str, Path], image: Volume, reading: Reading, labels: LabelTable) -> Volume:
    """One label map, with the ids of `labels`, from one file per label; see `read_placed_mask`.

    Args:
        paths: name or number of a label -> its file, in the order that decides overlaps.

    Raises:
        DataError: naming the file; when it cannot be read, holds several values, or overlaps with another one.
    """
    _refuse_one_file(paths)
    notes: dict[str, None] = {}
    facts: dict[str, Any] = {}

    def layers() -> Iterator[Layer]:
        for name, path in paths.items():
            placed = read_placed_mask(path, image, reading)
            notes.update(dict.fromkeys(placed.notes))
            facts.update({name: placed.facts["grid"]} if "grid" in placed.facts else {})
            with naming(path):
                mask = binary(placed.array_zyx, "the mask")
            label = label_of_key(name, labels)
            yield Layer(Segment(label.id, label.name), mask)

    same = {label: label for label in labels.ids}
    array, clashes = stacked(layers(), image.geometry.shape_zyx, same, reading.overlaps)
    grid = {"grid": facts} if facts else {}
    return Volume(array, image.geometry, notes=(*notes, *clashes), facts=grid, file_axis=image.file_axis)


def _refuse_one_file(paths: Mapping[str, Path]) -> None:
    first: dict[Path, str] = {}
    for name, path in paths.items():
        other = first.setdefault(path.resolve(), name)
        if other != name:
            raise DataError(
                f"{path}: is the mask of {other} and of {name}; allowed: a file for each label, or one file of all of "
                "them (sources.masks: PATTERN)"
            )


def label_of_key(key: str, labels: LabelTable) -> Label:
    """The label whose name or id a key of `sources.masks` is; DataError when there is none."""
    return next((label for label in labels if str(label.id) == key), None) or labels.named(key)
