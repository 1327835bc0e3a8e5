"""Volumes whose slices the page can scroll: the files that an evaluation drew (qc/volumes.json). No torch."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from sam2ft.core.digests.verified_files import read_with_digest
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file
from sam2ft.report.request import RunState

Assets = dict[str, bytes | Path]
"""Path beside the page -> content, or the file to copy."""

SUFFIXES = {"image": ".jpg", "overlay": ".svg"}

_VALUE = rb'="[^"<>&]*"'
_PLAIN_SVG = re.compile(
    rb"(?:</?(?:svg|defs|path|use|g)(?: (?:xmlns|viewBox|preserveAspectRatio|y|width|height|id|d|fill|fill-opacity|"
    rb"vector-effect|stroke|stroke-width|stroke-dasharray)" + _VALUE + rb'| href="#[a-z0-9]+"| )*/?>)+\n?'
)


@dataclass(frozen=True)
class ShownLabel:
    """A label of the dataset and its colour in the overlays."""

    label: int
    name: str
    colour: str


@dataclass(frozen=True)
class ShownSlice:
    """One slice: two files beside the page, which lie upon each other."""

    index: int
    """0-based, as in the tables."""
    key: str
    image: str
    """Path relative to the page."""
    overlay: str
    dice: Mapping[str, float | str]
    """Label -> Dice, or missed or spurious; without the labels that are in neither mask."""


@dataclass(frozen=True)
class ShownVolume:
    """Slices of one volume in one evaluation, in increasing order."""

    eval: str
    name: str
    """Dataset, subject and volume."""
    why: tuple[str, ...]
    num_slices: int
    """Of the whole volume."""
    marks: tuple[str, ...]
    """Letters of the directions left, right, top, bottom; empty where the file does not say them."""
    labels: tuple[ShownLabel, ...]
    slices: tuple[ShownSlice, ...]
    size: tuple[int, int] = (1, 1)
    """(width, height) of the images in pixels, so that the page can reserve space."""

    @property
    def start(self) -> int:
        """Position of the slice that is shown first: of the lowest mean over its labels, failures counting as 0."""
        means = [
            sum(value if isinstance(value, float) else 0.0 for value in one.dice.values()) / len(one.dice)
            if one.dice
            else 2.0
            for one in self.slices
        ]
        return means.index(min(means))

    def to_json(self) -> dict[str, Any]:
        """What the script of the page needs."""
        slices = [[one.index, one.image, one.overlay, one.dice] for one in self.slices]
        return {"slices": slices, "start": self.start, "total": self.num_slices}


def shown_volumes(states: Sequence[RunState], shown: str | None, assets: Assets) -> tuple[ShownVolume, ...]:
    """Volumes of the run `shown`, those with most slices first; none of an evaluation of an earlier version.

    The files are added to `assets`, which maps a path beside the page to a file. A slice with a damaged or missing file
    is left out.
    """
    found: list[ShownVolume] = []
    for state in states:
        for eval_id in state.planned.eval_ids if state.planned.run_id == shown else ():
            evaluation = state.layout.evaluation(eval_id)
            if evaluation.qc_volumes.is_file():
                prefix = f"assets/{state.planned.run_id}-{eval_id}-v"
                volumes = _volumes(evaluation.qc_volumes, eval_id, prefix, assets)
                found += sorted((one for one in volumes if one.slices), key=lambda one: -len(one.slices))
    return tuple(found)


def places_of(volumes: Sequence[ShownVolume]) -> dict[tuple[str, str], tuple[int, int]]:
    """(eval, key of a slice) -> (number of its volume, counted from 1, position of the slice in it)."""
    return {
        (volume.eval, one.key): (number, place)
        for number, volume in enumerate(volumes, start=1)
        for place, one in enumerate(volume.slices)
    }


def _volumes(path: Path, eval_id: str, prefix: str, assets: Assets) -> list[ShownVolume]:
    """The volumes of an evaluation; none where the list is damaged. They are no result: the report is made without."""
    try:
        return [_volume(entry, eval_id, path.parent, prefix, assets) for entry in json.loads(read_with_digest(path))]
    except DataError as error:
        leave_out(f"{str(error).partition('; ')[0]}", path.parent)
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        leave_out(f"{path}: not a list of slices as an evaluation writes it", path.parent)
    return []


def _volume(entry: Mapping[str, Any], eval_id: str, folder: Path, prefix: str, assets: Assets) -> ShownVolume:
    slices = tuple(one for one in (_slice(one, folder, prefix, assets) for one in entry["slices"]) if one is not None)
    return ShownVolume(
        eval=eval_id,
        name=str(entry["volume"]),
        why=tuple(entry["why"]),
        num_slices=int(entry["num_slices"]),
        marks=tuple(entry["marks"] or ()),
        labels=tuple(ShownLabel(int(label), name, colour) for label, (name, colour) in entry["labels"].items()),
        slices=slices,
        size=_size_of(assets[slices[0].image]) if slices else (1, 1),
    )


def _slice(entry: Mapping[str, Any], folder: Path, prefix: str, assets: Assets) -> ShownSlice | None:
    names: dict[str, str] = {}
    for kind, suffix in SUFFIXES.items():
        file = folder / "volumes" / Path(entry[kind]).name
        if not file.is_file() or file.suffix != suffix:
            return None
        if sha256_file(file) != entry[f"{kind}_sha256"] or not _is_plain(file):
            leave_out(f"{file}: damaged, or changed after the evaluation wrote it", folder)
            return None
        names[kind] = f"{prefix}{file.name}"
        assets[names[kind]] = file
    dice = {label: value if isinstance(value, str) else float(value) for label, value in entry["dice"].items()}
    return ShownSlice(int(entry["slice"]), str(entry["key"]), names["image"], names["overlay"], dice)


def _size_of(file: bytes | Path) -> tuple[int, int]:
    with Image.open(file if isinstance(file, Path) else BytesIO(file), formats=("JPEG",)) as opened:
        return opened.size


def _is_plain(file: Path) -> bool:
    """Whether a file is a JPEG, or an SVG of shapes alone: opened by itself, nothing in it may run or be fetched."""
    content = file.read_bytes()
    return content.startswith(b"\xff\xd8\xff") if file.suffix == ".jpg" else _PLAIN_SVG.fullmatch(content) is not None


def leave_out(damage: str, folder: Path) -> None:
    """Say that a picture of the evaluation whose `qc` is `folder` is not on the page, and how to get it back."""
    print(
        f"note: {damage}; left out of the page; remove {folder.parent / '_SUCCESS'}, then run launch/sweep.py on the "
        "experiment again, to draw the pictures again",
        file=sys.stderr,
    )
