"""Rows from a datalist of MONAI or of the Medical Segmentation Decathlon: lists of images and labels in JSON."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sam2ft.config.layout_labels import described_in, table_of
from sam2ft.config.schema.sources import ALL_FOLDS, SourceLayout
from sam2ft.core.errors import DataError, listed
from sam2ft.data.formats.readers import stem_of
from sam2ft.data.sources.nnunet import channel_number
from sam2ft.data.sources.row import VolumeFiles, key_of

LISTS: Mapping[str, str] = {"training": "train", "validation": "val", "testing": "test", "test": "test"}
"""List of a datalist -> split."""
_SHOWN = 5
_OWN = ("image", "label", "mask", "fold", "subject", "volume", "site", "labelled")


def find_datalist(dataset: str, layout: SourceLayout, base: Path) -> list[VolumeFiles]:
    """One row per item with a label. A subject is `subject` of its item, else the name of its image without ending.

    With sources.layout.fold the items of training with this `fold` are the validation set, the others are trained on;
    with `all` that holds for each of the folds 0 to the highest.
    Without it, items keep the split of their list if there is a list validation; else those of training are drawn.

    Raises:
        DataError: naming the file, the list and the item with the problem.
    """
    path = described_in(layout, base) or base
    content = table_of(path)
    if "training" not in content:
        other = "; a dataset of nnU-Net v2 is read by sources.layout: {nnunet: FOLDER}" if (
            "channel_names" in content) else ""  # fmt: skip
        raise DataError(f"{path}: has no list training; allowed: {', '.join(LISTS)}{other}")
    rows, count = [], _num_folds(path, content) if layout.fold == ALL_FOLDS else 0
    for name, split in LISTS.items():
        for number, item in enumerate(_items(path, name, content.get(name, []))):
            where = f"{path}: {name}[{number}]"
            if not _has_label(item):
                if split == "test":
                    continue
                raise DataError(f"{where}: has no label; allowed: image and label in each item")
            numbers = range(count) if layout.fold == ALL_FOLDS else [layout.fold]
            splits = [_split(where, name, split, item, number, "validation" in content) for number in numbers]
            row = _row(dataset, where, item, splits[0], (path, content, layout.channel))
            rows.append(replace(row, folds=tuple(map(str, splits))) if count else row)
    if not rows:
        raise DataError(f"{path}: none of its items has a label; allowed: image and label in each")
    if layout.fold is not None and not any(row.split == "val" for row in rows):
        folds = sorted({str(item["fold"]) for item in content["training"] if isinstance(item, dict) and "fold" in item})
        raise DataError(f"{path}: no item has fold {layout.fold}; allowed: {listed(folds, _SHOWN)}")
    return rows


def _num_folds(path: Path, content: Mapping[str, Any]) -> int:
    """Number of the folds of the items of training: each from 0 to the highest has one.

    Raises:
        DataError: an item has none, or a number in between is missing.
    """
    items = _items(path, "training", content["training"])
    given = [item.get("fold") if isinstance(item, dict) else None for item in items]
    if without := [number for number, fold in enumerate(given) if type(fold) is not int]:
        raise DataError(
            f"{path}: training[{without[0]}]: has no fold; sources.layout.fold needs a whole number in each item"
        )
    found = sorted({int(fold) for fold in given if fold is not None})
    if found != list(range(len(found))) or len(found) < 2:
        shown = listed([*map(str, found)], _SHOWN) or "none"
        raise DataError(
            f"{path}: the folds of training are {shown}; allowed with sources.layout.fold: all: 0, 1 and so on"
        )
    return len(found)


def unlabelled_items(layout: SourceLayout, base: Path) -> list[str]:
    """Items of the test lists that are left out because they have no label."""
    path = described_in(layout, base) or base
    content = table_of(path)
    lists = [name for name, split in LISTS.items() if split == "test"]
    items = [
        (f"{name}[{n}]", item) for name in lists for n, item in enumerate(_items(path, name, content.get(name, [])))
    ]
    return [f"{path}: {where}" for where, item in items if not _has_label(item)]


def _has_label(item: Any) -> bool:
    return isinstance(item, dict) and bool(item.get("label") or item.get("mask"))


def _items(path: Path, name: str, items: Any) -> list[Any]:
    if not isinstance(items, list) or not all(isinstance(item, dict | str) for item in items):
        raise DataError(f"{path}: {name}: expected a list of items with image and label")
    return items


def _split(
    where: str, name: str, split: str, item: Mapping[str, Any], fold: int | None, has_validation: bool
) -> str | None:
    if fold is None:
        return split if has_validation or split != "train" else None
    if name == "validation":
        raise DataError(f"{where}: the list validation is there, and sources.layout.fold too; allowed: one of them")
    if name != "training":
        return split
    if type(item.get("fold")) is not int:
        raise DataError(f"{where}: has no fold; sources.layout.fold needs a whole number in each item")
    return "val" if item["fold"] == fold else "train"


def _row(
    dataset: str,
    where: str,
    item: Mapping[str, Any],
    split: str | None,
    source: tuple[Path, Mapping[str, Any], int | str | None],
) -> VolumeFiles:
    path, content, channel = source
    image, label = item.get("image"), item.get("label") or item.get("mask")
    if isinstance(image, list) and image:
        modality = content.get("modality", {})
        names = {number: str(modality.get(str(number), number)) for number in range(len(image))}
        image = image[channel_number(path, names, channel)]
    elif channel is not None:
        raise DataError(f"{where}: has one image file; sources.layout.channel chooses from a list of files")
    label = label[0] if isinstance(label, list) and len(label) == 1 else label
    if not isinstance(image, str) or not isinstance(label, str) or not image:
        raise DataError(f"{where}: allowed: image and label, each a path")
    subject = str(item.get("subject") or stem_of(Path(image).name, [".dcm"]))
    return VolumeFiles(
        key_of(image, dataset, subject, str(item.get("volume") or "")),
        path.parent / image,
        path.parent / label,
        split=split,
        site=str(item["site"]) if item.get("site") else None,
        labelled=_labelled(where, item.get("labelled")),
        covariates={
            str(key): str(value)
            for key, value in item.items()
            if key not in _OWN and isinstance(value, str | int | float) and str(value)
        },
    )


def _labelled(where: str, value: Any) -> tuple[int | str, ...] | None:
    """Labels that were drawn, as an item lists them; None where it does not: all."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(type(one) in (int, str) and one for one in value):
        raise DataError(f"{where}: labelled: allowed: a list of ids or names of labels; leave it out for all labels")
    return tuple(value)
