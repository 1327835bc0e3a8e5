"""The rows of a dataset file: its patterns, its table or its layout."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sam2ft.config.load_dataset import DatasetConfig
from sam2ft.config.schema.masks import masks_of_labels_problems
from sam2ft.config.schema.sources import SourceLayout, Sources
from sam2ft.core.errors import DataError, listed
from sam2ft.data.sources.bids import find_bids
from sam2ft.data.sources.bids_labels import label_table_problem
from sam2ft.data.sources.datalist import find_datalist, unlabelled_items
from sam2ft.data.sources.labelled import with_labelled
from sam2ft.data.sources.matching import in_other_letters
from sam2ft.data.sources.nnunet import find_nnunet, unlabelled_cases
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.patterns import find_by_patterns, followers
from sam2ft.data.sources.row import VolumeFiles, checked_rows, without_absent_maps
from sam2ft.data.sources.table import find_by_table

_SHOWN = 8

LAYOUTS: Mapping[str, Callable[[str, SourceLayout, Path], list[VolumeFiles]]] = {
    "nnunet": find_nnunet,
    "datalist": find_datalist,
    "bids": find_bids,
}
"""Kind of layout -> (name of the dataset, its keys, folder of its paths) -> rows without maps."""


_UNLABELLED: Mapping[str, Callable[[SourceLayout, Path], list[str]]] = {
    "nnunet": unlabelled_cases,
    "datalist": unlabelled_items,
}
"""Kind of layout -> (its keys, folder of its paths) -> test cases that it names without a mask."""


def find_sources(config: DatasetConfig, base: Path) -> list[VolumeFiles]:
    """The files of every volume under its given names, sorted by key.

    Args:
        base: folder to which the paths in `config` are relative.

    Raises:
        DataError: see the modules of this folder.
    """
    sources, name = config.sources, config.dataset.name
    if sources.layout is not None:
        found = _with_label_tables(config, base, _of_layout(name, sources, sources.layout, base))
    elif sources.is_table:
        found = find_by_table(name, base / (sources.images or ""), base, sources.optional_maps)
    else:
        found = find_by_patterns(name, sources, base)
    _refuse_unknown_covariates(sources, found)
    _refuse_unknown_masks(config, found)
    found = with_labelled(config, found)
    return [without_absent_maps(source, sources.optional_maps) for source in found]


def left_out(config: DatasetConfig, base: Path) -> list[str]:
    """A sentence about what is left out: test cases without a mask, and files that a pattern would match but for their
    capital letters, such as `b.NII`; empty if there is none.
    """
    sources = config.sources
    if sources.layout is not None and sources.layout.kind in _UNLABELLED:
        cases = _UNLABELLED[sources.layout.kind](sources.layout, base)
        return [f"{listed(cases, _SHOWN)}: left out, because there is no mask"] if cases else []
    if sources.images is None or sources.is_table:
        return []
    found = [str(path) for path in in_other_letters(base, sources.images, Folders())]
    alike = f"{listed(found, _SHOWN)}: left out, because capital letters count in sources.images; rename what belongs"
    return [f"{alike} to the dataset"] if found else []


def _of_layout(dataset: str, sources: Sources, layout: SourceLayout, base: Path) -> list[VolumeFiles]:
    folders, rows = Folders(), []
    for row in LAYOUTS[layout.kind](dataset, layout, base):
        names = {"subject": row.key.subject, "volume": row.key.volume}
        maps, problem = followers(sources.map_patterns, names, base, folders)
        rows.append(replace(row, maps=maps, problem=row.problem or problem))
    return checked_rows(rows, f"sources.layout.{layout.kind}")


def _with_label_tables(config: DatasetConfig, base: Path, rows: list[VolumeFiles]) -> list[VolumeFiles]:
    """The rows of a layout; a BIDS mask whose table of labels says something else than the dataset file is refused."""
    layout = config.sources.layout
    if layout is None or layout.bids is None:
        return rows
    root = base / layout.bids
    told = [row.problem or label_table_problem(row.mask, root, config.labels, config.changes) for row in rows]
    return [replace(row, problem=problem) for row, problem in zip(rows, told, strict=True)]


def _refuse_unknown_masks(config: DatasetConfig, rows: list[VolumeFiles]) -> None:
    """DataError when columns mask_<label> of a table are none of the labels; the schema checks `sources.masks`."""
    of_labels = next((row.masks for row in rows if row.masks), {})
    names = {str(label.id): label.name for label in config.labels}
    as_given = config.given_instances.source == "as_given"
    for key, message in masks_of_labels_problems(dict.fromkeys(of_labels, ""), names, as_given=as_given).items():
        raise DataError(f"{config.sources.images}: {key.replace('sources.masks.', 'column mask_')}: {message}")


def _refuse_unknown_covariates(sources: Sources, rows: list[VolumeFiles]) -> None:
    known = {name for row in rows for name in row.described}
    if unknown := [name for name in sources.keep_covariates if name not in known]:
        raise DataError(
            f"sources.keep_covariates: no volume has {listed(unknown, _SHOWN)}; allowed: "
            f"{listed(sorted(known), _SHOWN) or 'none, because the sources have no such column or placeholder'}"
        )
