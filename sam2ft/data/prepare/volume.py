"""Preparation of one volume: image, mask and maps from their files to the grid of the image."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.config.load_experiment import plain_values
from sam2ft.core.errors import DataError, naming
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import PreparedMap, read_map
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.masks.layers import Meaning
from sam2ft.data.masks.read_masks import read_masks_of_labels, read_placed_mask
from sam2ft.data.prepare.pseudonyms import AS_GIVEN, Pseudonyms
from sam2ft.data.prepare.relabel import given_ids, relabelled_volume
from sam2ft.data.sources.row import VolumeFiles
from sam2ft.data.store.intensity import intensity_window, missing_values, to_uint16
from sam2ft.data.store.writer import PreparedVolume

_ADD_LABEL = (
    "add each to labels, to the merge of a label, or to labels_dropped of the dataset file (labels_dropped: others "
    "drops all that are not named)"
)


def prepare_volume(
    source: VolumeFiles, config: DatasetConfig, names: Pseudonyms = AS_GIVEN, *, version_1: bool = False
) -> PreparedVolume:
    """Image, mask and maps of one volume on the grid of the image.

    Args:
        names: how UIDs enter the record, and whether the path of the image does.
        version_1: by the rules of stores of version 1 (see `read_volume`).

    Raises:
        DataError: naming the file and the reason.
    """
    image = read_volume(source.image, config.keep, config.reading, version_1=version_1)
    with naming(source.image):
        window = intensity_window(image.array_zyx, config.intensity)
    missing = missing_values(image.array_zyx)
    levels = to_uint16(image.array_zyx, window, in_place=True)
    image = replace(image, array_zyx=levels)  # before the mask is read: signals need twice as much memory
    given, changes = _given_mask(source, image, config)
    with naming(source.mask):
        found, mask_notes = relabelled_volume(given, config.labels, changes, _ADD_LABEL)
        drawn = None if source.labelled is None else config.labels.ids_meant(source.labelled)
        _refuse_undrawn(found, drawn, config.labels)
        as_given = config.given_instances.source == "as_given"
        instances = given_ids(given.array_zyx, found, changes) if as_given else None
    maps = _maps(source, image, found, config)
    intensity = {"intensity": plain_values(config.intensity.chosen)}
    notes = [*image.notes, *missing, *given.notes, *mask_notes]
    notes += [note for one in maps.values() for note in one.notes]
    notes += [f"has no map {name} (optional)" for name in sorted({*config.sources.maps} - {*maps})]
    return PreparedVolume(
        key=source.key,
        geometry=image.geometry,
        image_zyx=levels,
        mask_zyx=found,
        maps=maps,
        window=window,
        notes=tuple(dict.fromkeys(notes)),
        facts={**image.facts, **image.nearest_facts, **_grid_facts(given), **intensity},
        slices=names.slices(image.slices),
        subject_fields=image.subject_fields,
        source_image=str(source.image.resolve()) if names.with_paths else None,
        instances_zyx=instances,
        instances_min_mm3=config.given_instances.min_mm3,
        labelled=drawn,
    )


def _refuse_undrawn(mask_zyx: npt.NDArray[Any], drawn: Collection[int] | None, labels: LabelTable) -> None:
    """DataError when a mask holds a label that was not drawn in it: one of both is wrong."""
    for label in [] if drawn is None else [one for one in labels if one.id not in drawn]:
        if count := int(np.count_nonzero(mask_zyx == label.id)):
            of_list = ", ".join(f"{one.id} {one.name}" for one in labels.drawn(drawn))
            raise DataError(
                f"holds label {label.id} {label.name} in {count} voxels, which labelled leaves out (it lists "
                f"{of_list}); add it to labelled, or remove it from the mask"
            )


def _given_mask(source: VolumeFiles, image: Volume, config: DatasetConfig) -> tuple[Volume, Mapping[int, int]]:
    """(the mask of a volume on the grid of its image, value -> label id)."""
    if source.masks:
        mask = read_masks_of_labels(source.masks, image, config.reading, config.labels)
        return mask, {label: label for label in config.labels.ids}
    meaning = Meaning(config.labels, config.changes, config.given_instances.source == "as_given")
    return read_placed_mask(source.mask, image, config.reading, meaning), config.changes


def _maps(
    source: VolumeFiles, image: Volume, mask_zyx: npt.NDArray[Any], config: DatasetConfig
) -> dict[str, PreparedMap]:
    """Name -> map of a volume on the grid of its image, whose mask is `mask_zyx`."""
    found = {}
    for name, path in sorted(source.maps.items()):
        settings = config.sources.map_source(name)
        axis = image.file_axis
        found[name] = read_map(path, name, settings, image.geometry, mask_zyx, config.reading, image_axis=axis)
    return found


def _grid_facts(mask: Volume) -> dict[str, Any]:
    """What `grid` of the dataset file changed of a mask; empty where it lies on the grid of its image."""
    return {"mask_grid": mask.facts["grid"]} if "grid" in mask.facts else {}
