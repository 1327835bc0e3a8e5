"""The rows of a dataset file: its patterns, its table or its layout."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.patterns import filled_pattern, find_by_patterns
from sam2ft.data.sources.row import VolumeFiles, without_absent_maps
from sam2ft.data.sources.table import find_by_table


def find_sources(config: DatasetConfig, base: Path) -> list[VolumeFiles]:
    """The files of every volume under its given names, sorted by key.

    Args:
        base: folder to which the paths in `config` are relative.

    Raises:
        DataError: see `the modules of this folder`.
    """
    sources = config.sources
    if sources.is_table:
        found = find_by_table(config.dataset.name, base / sources.images, base, sources.optional_maps)
    else:
        found = find_by_patterns(config.dataset.name, sources.images, sources.mask_pattern, sources.map_patterns, base)
    if patterns := sources.masks_of_labels:
        found = [replace(source, masks=masks_of(source.key, patterns, base)) for source in found]
    return [without_absent_maps(source, sources.optional_maps) for source in found]


def masks_of(key: VolumeKey, patterns: Mapping[str, str], base: Path) -> Mapping[str, Path]:
    """Label -> its mask file of a volume, in the order of the dataset file, which decides overlaps.

    Args:
        patterns: name or id of each label -> pattern with the placeholders of the images.
        base: folder to which patterns are relative.
    """
    return {label: base / filled_pattern(pattern, key) for label, pattern in patterns.items()}
