"""Rows from a table, one line each, and a table from rows."""

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.config.schema.maps import MapName
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.files import write_text
from sam2ft.core.keys import VolumeKey
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.row import DEFAULT_VOLUME, VolumeFiles, checked_rows
from sam2ft.data.sources.table_lines import Line, table_lines
from sam2ft.data.store.split import SPLITS

NEEDED = ("subject", "image", "mask")
OPTIONAL = ("volume", "split", "site", "labelled")
MAP, MASK, SERIES = "map_", "mask_", "series."
_MAPS = tuple(f"{MAP}{name}" for name in get_args(MapName))
_SERIES = tuple(f"{SERIES}{name}" for name in SeriesChoice.model_fields if name != "tags")
_KNOWN = (*NEEDED, *OPTIONAL, *_MAPS, *_SERIES)
_MAY_BE_EMPTY = ("site", "labelled", *_SERIES)
_SHOWN = 8
_NEARLY = 0.8
"""Likeness of spilt and split; side and site have 0.75."""
_SPLIT_WORDS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"} | {
    name: name for name in SPLITS
}


def find_by_table(dataset: str, table: Path, base: Path, optional_maps: Collection[str] = ()) -> list[VolumeFiles]:
    """One row per line of a table with the columns subject, image, mask, and optionally those of `OPTIONAL` and maps.

    In place of mask a table may have a column mask_<label> for each label, and series.<key> chooses the images of a
    DICOM folder as `series` of a dataset file does. Paths are relative to `base`. The cell of a map in `optional_maps`
    may be empty. Every other column is a covariate.

    Raises:
        DataError: naming the file and the line with the problem.
    """
    header, lines = table_lines(table, NEEDED)
    columns = _columns(table, header)
    folders = Folders()
    rows = [_row(dataset, table, dict(zip(columns, line.cells, strict=True)), line, optional_maps) for line in lines]
    if not rows:
        raise DataError(f"{table}: no line below the header")
    if never := [name for name in columns if _is_of_label(name) and not any(_has(row, name) for row in rows)]:
        raise DataError(f"{table}: {never[0]} is empty in every line; remove the column")
    placed = [_placed(row, base, folders) for row in rows]
    return checked_rows(placed, str(table), "a column volume tells the images of one subject apart")


def _columns(table: Path, header: Sequence[str]) -> list[str]:
    """Names of the columns; known ones in small letters.

    Raises:
        DataError: one is missing, has no name, is there twice, or is nearly a known one.
    """
    known = {name.casefold(): name for name in _KNOWN}
    columns = [known.get(name.casefold(), name) for name in header]
    shown = listed(header, _SHOWN)
    allowed = "volume, split, site, labelled, map_<name>, series.<key> and covariates of any name"
    of_labels = [name for name in columns if _is_of_label(name)]
    needed = [name for name in NEEDED if name != "mask" or not of_labels]
    if of_labels and "mask" in columns:
        raise DataError(
            f"{table}: columns mask and {of_labels[0]}; allowed: mask (one file for all labels), or mask_<label> for "
            "each label"
        )
    if missing := [name for name in needed if name not in columns]:
        raise DataError(
            f"{table}: columns {shown}; needed: {', '.join(NEEDED)} (no {', '.join(missing)}); allowed: {allowed}; "
            "separated by commas, semicolons or tabs"
        )
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise DataError(f"{table}: columns {shown}; {twice[0] or 'an empty name'} is there twice; allowed: each once")
    if not all(columns):
        raise DataError(f"{table}: columns {shown}; number {columns.index('') + 1} has no name; allowed: {allowed}")
    for name in columns:
        start = next((start for start in (MAP, SERIES) if name.startswith(start)), "")
        if name not in _KNOWN and (start or (not _is_of_label(name) and _is_nearly(name, columns))):
            others = {MAP: _MAPS, SERIES: _SERIES, "": OPTIONAL}[start]
            raise DataError(
                f"{table}: column {name}{did_you_mean(name, others)}; allowed: {', '.join(others)}; a covariate needs "
                "a name that is less like these"
            )
    return columns


def _is_of_label(name: str) -> bool:
    """Whether a column lists the masks of one label."""
    return name.startswith(MASK) and name != MASK


def _is_nearly(name: str, columns: Collection[str]) -> bool:
    """Whether a column looks like a wrongly written one: as a covariate it would silently do nothing."""
    absent = [known for known in OPTIONAL if known not in columns]
    return bool(get_close_matches(name.casefold(), absent, n=1, cutoff=_NEARLY))


def _row(
    dataset: str, table: Path, cells: Mapping[str, str], line: Line, optional_maps: Collection[str]
) -> VolumeFiles:
    where = f"{table}:{line.number}"
    masks = {name.removeprefix(MASK): Path(cells[name]) for name in cells if _is_of_label(name) and cells[name]}
    # Which label is left out is known where the labels are (`with_labelled`); without masks nothing is.
    of_labels = [name for name in cells if _is_of_label(name) and (not cells.get("labelled") or not masks)]
    needed = [name for name in cells if (name in _KNOWN and name not in _MAY_BE_EMPTY) or name in of_labels]
    if empty := [name for name in needed if not cells[name] and name.removeprefix(MAP) not in optional_maps]:
        maps_too = any(name.startswith(MAP) for name in empty)
        hint = f"; sources.maps.{empty[-1][4:]}.optional: true allows it" if maps_too else ""
        if "split" in empty:
            hint = f"; allowed: {', '.join(SPLITS)} in every line, or no such column"
        if _is_of_label(empty[-1]):
            hint = "; where a label was not drawn, labelled lists the others, by id or name"
        raise DataError(f"{where}: {', '.join(empty)} is empty{hint}")
    with naming(Path(where)):
        key = VolumeKey(dataset, cells["subject"], cells.get("volume", DEFAULT_VOLUME))
    split = cells.get("split")
    if split is not None and split.casefold() not in _SPLIT_WORDS:
        raise DataError(f"{where}: split is {split}; allowed: {', '.join(SPLITS)}")
    return VolumeFiles(
        key,
        Path(cells["image"]),
        next(iter(masks.values())) if masks else Path(cells["mask"]),
        {name[len(MAP) :]: Path(cells[name]) for name in cells if name in _MAPS and cells[name]},
        masks,
        split=None if split is None else _SPLIT_WORDS[split.casefold()],
        site=cells.get("site") or None,
        covariates={name: cells[name] for name in cells if _is_covariate(name) and cells[name]},
        labelled=_labelled(where, cells.get("labelled", "")),
        series=_series(where, {name: cells[name] for name in cells if name in _SERIES and cells[name]}),
    )


def _has(row: VolumeFiles, column: str) -> bool:
    return column.removeprefix(MASK) in row.masks


def _is_covariate(name: str) -> bool:
    return name not in _KNOWN and not _is_of_label(name)


def _series(where: str, cells: Mapping[str, str]) -> SeriesChoice:
    """The choice that the columns series.<key> make.

    Raises:
        DataError: naming the line and the column, when a value is not allowed.
    """
    try:
        return SeriesChoice.model_validate_strings({name.removeprefix(SERIES): text for name, text in cells.items()})
    except ValidationError as error:
        column = f"{SERIES}{error.errors()[0]['loc'][0]}"
        raise DataError(
            f"{where}: {column} is {cells[column]}; allowed: what {column} of a dataset file may be; empty: any"
        ) from None


def _labelled(where: str, text: str) -> tuple[int | str, ...] | None:
    """Labels of a cell such as `1 2`, `1;2` or `femur, medial meniscus`; None for an empty one: all.

    Names may hold blanks, so that what stands between two other signs is taken apart where the labels are known.
    """
    if not text:
        return None
    parts = [part.strip() for part in re.split(r"[,;|\[\]]+", text) if part.strip()]
    if not parts:
        raise DataError(f"{where}: labelled is {text}; allowed: ids or names of labels; empty for all labels")
    words = [word for part in parts for word in part.split()]
    if all(word.isdecimal() and word.isascii() for word in words):
        return tuple(sorted({int(word) for word in words}))
    return tuple(parts)


def _placed(row: VolumeFiles, base: Path, folders: Folders) -> VolumeFiles:
    """`row` with paths below `base`."""
    maps = {name: folders.found(base / path) for name, path in row.maps.items()}
    masks = {label: folders.found(base / path) for label, path in row.masks.items()}
    mask = folders.found(base / row.mask)
    return replace(row, image=folders.found(base / row.image), mask=mask, masks=masks, maps=maps)


def write_table(path: Path, rows: Iterable[VolumeFiles], base: Path) -> None:
    """Write rows as a table that `find_by_table` reads to the same rows.

    Args:
        base: folder that paths below it are written relative to; others are absolute.

    Raises:
        DataError: rows that no table can hold: masks or a split of some only, or tags that choose a series.
    """
    given = list(rows)
    if len({tuple(row.masks) for row in given}) > 1:
        raise DataError(f"{path}: volumes have mask files of different labels; allowed: the same for all")
    if tagged := [row for row in given if row.series.tags]:
        raise DataError(f"{path}: {tagged[0].key} is chosen by tags of DICOM; a table chooses by {', '.join(_SERIES)}")
    if len({row.split is None for row in given}) > 1:
        raise DataError(f"{path}: some subjects have a split and some have none; allowed: all, or none")
    cells = [_cells(row, base) for row in given]
    columns = list(dict.fromkeys(name for line in cells for name in line))
    columns.sort(key=lambda name: _KNOWN.index(name) if name in _KNOWN else len(_KNOWN))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    write_text(path, text.getvalue())


def _cells(row: VolumeFiles, base: Path) -> dict[str, str]:
    def shown(path: Path) -> str:
        absolute, below = path.absolute(), base.absolute()
        return (absolute.relative_to(below) if absolute.is_relative_to(below) else absolute).as_posix()

    return {
        "subject": row.key.subject,
        "volume": row.key.volume,
        "image": shown(row.image),
        **({f"{MASK}{label}": shown(one) for label, one in row.masks.items()} or {"mask": shown(row.mask)}),
        **{f"{MAP}{name}": shown(path) for name, path in row.maps.items()},
        **({} if row.split is None else {"split": row.split}),
        **({} if row.site is None else {"site": row.site}),
        **({} if row.labelled is None else {"labelled": " ".join(map(str, row.labelled))}),
        **{f"{SERIES}{name}": str(value) for name, value in row.series.chosen.items()},
        **row.covariates,
    }
