"""Rows from an nnU-Net v2 raw dataset: imagesTr, labelsTr, imagesTs, labelsTs, dataset.json, splits_final.json."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2ft.config.layout_labels import DATASET_JSON, table_of
from sam2ft.config.schema.sources import ALL_FOLDS, SourceLayout
from sam2ft.core.errors import DataError, listed
from sam2ft.core.files import read_json
from sam2ft.data.sources.paths import Folders, in_known_form
from sam2ft.data.sources.row import VolumeFiles, key_of

SPLITS_FINAL = "splits_final.json"
_TRAIN, _TEST = ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs")
_SHOWN = 5


def find_nnunet(dataset: str, layout: SourceLayout, base: Path) -> list[VolumeFiles]:
    """One row per case with a mask: with a fold its split, without one only test cases (labelsTs) have a split.

    Raises:
        DataError: naming the file with the problem.
    """
    folder = base / (layout.nnunet or "")
    path = folder / DATASET_JSON
    if not path.is_file():
        state = "is no nnU-Net v2 raw dataset" if folder.is_dir() else "no such folder"
        raise DataError(f"{folder}: {state} (no {DATASET_JSON}); sources.layout.nnunet names a DatasetNNN_ folder")
    content = table_of(path)
    if "channel_names" not in content:
        other = "; a Decathlon dataset is read by sources.layout: {datalist: .../dataset.json}" if (
            "training" in content) else ""  # fmt: skip
        raise DataError(f"{path}: has no channel_names, which nnU-Net v2 needs{other}")
    ending = content.get("file_ending")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise DataError(f"{path}: file_ending is {ending!r}; allowed: an ending such as .nii.gz")
    channel = _channel(path, content["channel_names"], layout.channel)
    cases = _listed_cases(path, content["dataset"], channel) if "dataset" in content else {}
    cases = cases or _cases(folder, _TRAIN, f"_{channel:04d}{ending}", ending)
    if not cases:
        raise DataError(f"{folder / _TRAIN[0]}: no image that ends with _{channel:04d}{ending}")
    test = _cases(folder, _TEST, f"_{channel:04d}{ending}", ending)
    test = {case: files for case, files in test.items() if files[1].exists()}
    if twice := sorted(cases.keys() & test.keys()):
        raise DataError(f"{folder}: {listed(twice, _SHOWN)} in imagesTr and in imagesTs; a case must be in one of them")
    in_folds = [dict.fromkeys(test, "test")]
    if layout.fold is not None:
        path = _splits_file(folder, layout, base)
        numbers = range(len(_folds(path))) if layout.fold == ALL_FOLDS else [layout.fold]
        in_folds = [in_folds[0] | _fold(path, number, cases) for number in numbers]
    rows = []
    for case, (image, mask) in {**cases, **test}.items():
        folds = tuple(split_of[case] for split_of in in_folds) if layout.fold == ALL_FOLDS else ()
        split = in_folds[0].get(case)
        rows.append(VolumeFiles(key_of(image, dataset, case), image, mask, split=split, folds=folds))
    return rows


def unlabelled_cases(layout: SourceLayout, base: Path) -> list[str]:
    """Images of imagesTs that are left out because labelsTs has no mask of them; of several channels the first."""
    folder = base / (layout.nnunet or "")
    ending = table_of(folder / DATASET_JSON)["file_ending"]
    masks = {name.removesuffix(ending) for name in Folders().names(folder / _TEST[1])}
    images = [name for name in Folders().names(folder / _TEST[0]) if name.endswith(f"_0000{ending}")]
    return [str(folder / _TEST[0] / name) for name in images if name.removesuffix(f"_0000{ending}") not in masks]


def _channel(path: Path, names: Any, wanted: int | str | None) -> int:
    """Number of the channel that `sources.layout.channel` names."""
    if not isinstance(names, Mapping) or not names or not all(key.isdecimal() for key in names):
        raise DataError(f"{path}: channel_names is not a mapping of numbers to names")
    return channel_number(path, {int(key): str(name) for key, name in names.items()}, wanted)


def channel_number(path: Path, known: Mapping[int, str], wanted: int | str | None) -> int:
    """Number of a channel, by its number or its name; the only one where none is wanted.

    Raises:
        DataError: it is not there, or there are several and none is chosen.
    """
    shown = ", ".join(f"{number} ({name})" for number, name in sorted(known.items()))
    if wanted is None:
        if len(known) == 1:
            return next(iter(known))
        raise DataError(f"{path}: has {len(known)} channels: {shown}; choose one with sources.layout.channel")
    hits = [number for number, name in known.items() if wanted in (number, name)]
    hits = hits or [number for number, name in known.items() if str(wanted).casefold() == name.casefold()]
    if len(hits) != 1:
        raise DataError(f"{path}: sources.layout.channel is {wanted}; allowed: {shown}")
    return hits[0]


def _cases(folder: Path, names: tuple[str, str], image_end: str, mask_end: str) -> dict[str, tuple[Path, Path]]:
    images, masks = (folder / name for name in names)
    return {
        name.removesuffix(image_end): (images / name, masks / f"{name.removesuffix(image_end)}{mask_end}")
        for name in Folders().names(images)
        if name.endswith(image_end) and name != image_end
    }


def _listed_cases(path: Path, entries: Any, channel: int) -> dict[str, tuple[Path, Path]]:
    """The cases that dataset.json lists itself ("dataset": {case: {"images": [...], "label": ...}})."""
    found = {}
    if not isinstance(entries, Mapping):
        raise DataError(f"{path}: dataset is not a mapping of cases to images and label")
    for case, entry in entries.items():
        images, label = (entry.get("images"), entry.get("label")) if isinstance(entry, Mapping) else (None, None)
        if not isinstance(images, list) or not isinstance(label, str) or channel >= len(images):
            raise DataError(f"{path}: dataset: {case}: allowed: images (a list, one per channel) and label")
        found[case] = (path.parent / str(images[channel]), path.parent / label)
    return found


def _splits_file(folder: Path, layout: SourceLayout, base: Path) -> Path:
    if layout.splits is not None:
        return base / layout.splits
    beside = folder.resolve().parent.parent / "nnUNet_preprocessed" / folder.resolve().name / SPLITS_FINAL
    for path in (folder / SPLITS_FINAL, beside):
        if path.is_file():
            return path
    raise DataError(
        f"{folder / SPLITS_FINAL}: no such file, nor {beside}; name it with sources.layout.splits, or leave out "
        "sources.layout.fold: then subjects are drawn"
    )


def _fold(path: Path, fold: int, cases: Mapping[str, Any]) -> dict[str, str]:
    """case -> train or val, of one fold.

    Raises:
        DataError: the file has another form or fold, or its cases are not those of imagesTr.
    """
    folds = _folds(path)
    if fold >= len(folds):
        raise DataError(f"{path}: sources.layout.fold is {fold}; allowed: 0 to {len(folds) - 1}")
    split_of: dict[str, str] = {}
    for split in ("train", "val"):
        for given in folds[fold][split]:
            case = in_known_form(re.sub(r"^.*/", "", str(given)), cases.keys())
            if split_of.setdefault(case, split) != split:
                raise DataError(f"{path}: fold {fold}: {case} is in train and in val")
    if missing := sorted(cases.keys() - split_of.keys()):
        raise DataError(f"{path}: fold {fold} has no place for {listed(missing, _SHOWN)} of imagesTr")
    if absent := sorted(split_of.keys() - cases.keys()):
        raise DataError(f"{path}: fold {fold} names {listed(absent, _SHOWN)}, for which imagesTr has no image")
    return split_of


def _folds(path: Path) -> list[Mapping[str, Any]]:
    """The folds of splits_final.json."""
    folds = read_json(path)
    if not isinstance(folds, list) or not folds or not all(_is_fold(one) for one in folds):
        raise DataError(f"{path}: expected a list of folds, each with train and val")
    return folds


def _is_fold(one: Any) -> bool:
    return isinstance(one, dict) and all(isinstance(one.get(split), list) for split in ("train", "val"))
