"""The label table that a layout of sources brings with it: `labels` of dataset.json of nnU-Net and of a datalist."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.config.schema.base import ReadOnlyDict
from sam2ft.config.schema.dataset import DatasetFile, LabelEntry, changes_of, interface_problems, merge_problems
from sam2ft.config.schema.sources import SourceLayout
from sam2ft.core.errors import ConfigError, DataError, listed
from sam2ft.core.files import read_json

DATASET_JSON = "dataset.json"
_SHOWN = 5
_OWN = "give labels: in the dataset file"


def described_in(layout: SourceLayout, base: Path) -> Path | None:
    """The file that holds the label table of a layout; None for a layout without one."""
    if layout.nnunet is not None:
        return base / layout.nnunet / DATASET_JSON
    if layout.datalist is None:
        return None
    path = base / layout.datalist
    return path / DATASET_JSON if path.is_dir() else path


def with_labels(file: DatasetFile, bases: Sequence[Path]) -> DatasetFile:
    """`file` with the label table of its layout where it has none of its own; else both must agree.

    Args:
        bases: folders that the paths of the dataset file may be relative to; the first with the layout counts.

    Raises:
        ConfigError: no file has a table, or the two tables differ.
    """
    layout = file.sources.layout
    if layout is None or not bases or described_in(layout, bases[0]) is None:
        return file
    paths = [path for base in bases if (path := described_in(layout, base)) is not None]
    path = next((one for one in paths if one.is_file()), None)
    if path is None:
        if file.labels is None:
            raise ConfigError(f"{paths[0]}: no such file; sources.layout.{layout.kind} names what holds the labels")
        return file
    content = read_json(path)
    entries = content.get("labels") if isinstance(content, dict) else None
    if file.labels is not None:
        _refuse_other_labels(file, path, _plain_table(entries))
        return file
    names = _label_table(path, entries)
    labels = ReadOnlyDict({str(number): LabelEntry(name=name) for number, name in sorted(names.items())})
    found = interface_problems(labels) | merge_problems(labels, file.labels_dropped)
    if found:
        key, message = next(iter(found.items()))
        raise ConfigError(f"{path}: labels: {key}: {message}; {_OWN}")
    return file.model_copy(update={"labels": labels})


def _label_table(path: Path, entries: Any) -> dict[int, str]:
    """Integer -> name, without the background."""
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{path}: has no labels (a mapping of names to integers); {_OWN}")
    if regions := [name for name, value in entries.items() if isinstance(value, list) and len(value) != 1]:
        raise ConfigError(
            f"{path}: labels: {listed(regions, _SHOWN)} are regions (several integers in one label, which overlap); "
            f"{_OWN}, with a label for each integer, or merge: [1, 2] for integers that become one"
        )
    names = _plain_table(entries)
    if len(names) < len(entries) - 1 or not names:
        raise ConfigError(f"{path}: labels: allowed: names and whole numbers of 0 to 65535; {_OWN}")
    if ignored := [number for number, name in names.items() if name == "ignore"]:
        raise ConfigError(
            f"{path}: labels: ignore ({ignored[0]}) marks voxels that nobody labelled, which is no label; {_OWN}, and "
            f"labels_dropped: [{ignored[0]}] if they may count as background"
        )
    return names


def _plain_table(entries: Any) -> dict[int, str]:
    """Integer -> name from {name: integer} (nnU-Net v2) or {integer: name} (Decathlon), of labels that are plain."""
    found: dict[int, str] = {}
    for key, value in entries.items() if isinstance(entries, Mapping) else ():
        one = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(one, str) and key.isdecimal():
            number, name = int(key), one
        elif isinstance(one, str) and one.isdecimal():
            number, name = int(one), key
        elif type(one) is int:
            number, name = one, key
        else:
            continue
        if 0 < number <= 65535:
            found[number] = name
    return found


def _refuse_other_labels(file: DatasetFile, path: Path, names: Mapping[int, str]) -> None:
    changes, labels = changes_of(file), file.labels or {}
    if lost := [f"{number} ({name})" for number, name in sorted(names.items()) if number not in changes]:
        raise ConfigError(
            f"{path}: its labels {listed(lost, _SHOWN)} are not in labels: of the dataset file; list them there, in "
            "labels_dropped, or leave labels: out"
        )
    for number, name in sorted(names.items()):
        entry = labels.get(str(number))
        if entry is not None and entry.merge is None and _folded(entry.name) != _folded(name):
            raise ConfigError(
                f"{path}: label {number} is {name}, labels: of the dataset file calls it {entry.name}; use one name, "
                "or leave labels: out"
            )


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " _-")


def table_of(path: Path) -> Any:
    """The content of a JSON file that must be a mapping.

    Raises:
        DataError: it is missing, no JSON, or another kind of value.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a mapping, found a {type(content).__name__}")
    return content
