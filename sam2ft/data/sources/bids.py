"""Rows from a BIDS dataset (Brain Imaging Data Structure): raw images, masks below derivatives/, participants.tsv."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.schema.sources import SourceLayout
from sam2ft.core.errors import DataError, listed
from sam2ft.data.sources.paths import Folders
from sam2ft.data.sources.row import VolumeFiles, key_of
from sam2ft.data.sources.table_lines import table_lines

DERIVATIVES, PARTICIPANTS = "derivatives", "participants.tsv"
MASKS = ("dseg", "mask")
"""Suffixes of masks. The first holds all labels and goes first; the second is taken where entities choose it."""
_NAME = re.compile(
    r"(?P<entities>sub-[A-Za-z0-9+]+(_[A-Za-z0-9]+-[A-Za-z0-9+]+)*)_(?P<suffix>[A-Za-z0-9]+)(?P<ending>\..+)"
)
_SIDE_FILES = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec")
_OF_MASKS = frozenset({"desc", "label", "space", "res", "den", "seg", "atlas", "hemi"})
"""Entities that a mask may have and its image not."""
_SHOWN = 3


@dataclass(frozen=True)
class BidsFile:
    """A file whose name follows BIDS."""

    path: Path
    parts: Mapping[str, str]
    """Its entities, such as sub and acq, and their values."""
    kind: str
    """Its suffix, such as T2w or dseg."""


def find_bids(dataset: str, layout: SourceLayout, base: Path) -> list[VolumeFiles]:
    """One row per image with the suffix of the layout: subject `sub-`, the volume is the rest of its entities.

    The mask of an image is the file below derivatives/ with the suffix dseg (or mask) and its entities; it may have
    more of desc, label, space and the like; without space it goes first. Columns of participants.tsv are covariates.

    Raises:
        DataError: naming the folder or file with the problem.
    """
    root = base / (layout.bids or "")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; sources.layout.bids names the folder of a BIDS dataset")
    wanted = {name: value for name, value in layout.entities.items() if name not in _OF_MASKS}
    raw = list(bids_files(root, Folders(), skip=frozenset({DERIVATIVES, "sourcedata", "code"})))
    images = [one for one in raw if one.kind == layout.suffix and wanted.items() <= one.parts.items()]
    if not images:
        suffixes = listed(sorted({one.kind for one in raw}), 12) or "no file that is named as in BIDS"
        chosen = "".join(f"_{name}-{value}" for name, value in wanted.items())
        chosen = f" and {chosen[1:]}" if chosen else ""
        raise DataError(f"{root}: no image with suffix {layout.suffix}{chosen}; it has {suffixes}")
    chosen_masks = {name: value for name, value in layout.entities.items() if name in _OF_MASKS}
    # A mask without a word about it may be that of the brain, which no label table means.
    suffixes_of_masks = MASKS if chosen_masks else MASKS[:1]
    masks: dict[str, list[BidsFile]] = {}
    for one in bids_files(root / DERIVATIVES, Folders()):
        if one.kind in suffixes_of_masks and chosen_masks.items() <= one.parts.items():
            masks.setdefault(one.parts["sub"], []).append(one)
    people = _participants(root)
    return [_row(dataset, root, image, masks.get(image.parts["sub"], []), people) for image in images]


def bids_files(folder: Path, folders: Folders, skip: frozenset[str] = frozenset()) -> Iterator[BidsFile]:
    """The images and masks below a folder whose names follow BIDS, sorted by folder; links to folders are followed."""
    real = {folder.resolve()}

    def below(place: Path) -> Iterator[BidsFile]:
        for name in folders.names(place):
            path = place / name
            if path.is_dir() and name not in skip:
                if (target := path.resolve()) not in real:
                    real.add(target)
                    yield from below(path)
            elif (match := _NAME.fullmatch(name)) and not match["ending"].endswith(_SIDE_FILES):
                pairs = (part.partition("-")[::2] for part in match["entities"].split("_"))
                yield BidsFile(path, dict(pairs), match["suffix"])

    yield from below(folder)


def _row(
    dataset: str, root: Path, image: BidsFile, masks: list[BidsFile], people: Mapping[str, Mapping[str, str]]
) -> VolumeFiles:
    subject = image.parts["sub"]
    others = "_".join(f"{name}-{value}" for name, value in image.parts.items() if name != "sub")
    described = dict(people.get(f"sub-{subject}", {}))
    fitting = [one for one in masks if _fits(one.parts, image.parts)]
    suffix = next((suffix for suffix in MASKS if any(one.kind == suffix for one in fitting)), MASKS[0])
    alike = [one for one in fitting if one.kind == suffix]
    own_space = [one for one in alike if "space" not in one.parts]
    hits = [one.path for one in own_space or alike]
    problem = ""
    if len(hits) > 1:
        problem = (
            f"{image.path}: has {len(hits)} masks below derivatives/ ({listed([str(hit) for hit in hits], _SHOWN)}); "
            "allowed: one; choose with sources.layout.entities, such as {desc: manual}"
        )
    stem = image.path.name.removesuffix("".join(image.path.suffixes)).rpartition("_")[0]
    absent = root / DERIVATIVES / image.path.relative_to(root).with_name(f"{stem}_{MASKS[0]}.nii.gz")
    return VolumeFiles(
        key_of(image.path, dataset, subject, others),
        image.path,
        hits[0] if hits else absent,
        site=described.pop("site", None),
        covariates=described | ({"ses": image.parts["ses"]} if "ses" in image.parts else {}),
        problem=problem,
    )


def _fits(mask: Mapping[str, str], image: Mapping[str, str]) -> bool:
    """Whether a mask is of an image: it has the entities of the image, and others only as masks have them."""
    return image.items() <= mask.items() and mask.keys() - image.keys() <= _OF_MASKS


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """participant_id -> its other columns; n/a is no value. Without the file nobody has any."""
    path = root / PARTICIPANTS
    if not path.is_file():
        return {}
    header, lines = table_lines(path, ["participant_id"])
    if "participant_id" not in header:
        raise DataError(f"{path}: columns {listed(header, 8)}; needed: participant_id")
    place = header.index("participant_id")
    people: dict[str, dict[str, str]] = {}
    for line in lines:
        values = dict(zip(header, line.cells, strict=True))
        if line.cells[place] in people:
            raise DataError(f"{path}:{line.number}: {line.cells[place]} is there twice; allowed: one line for each")
        people[line.cells[place]] = {
            name: value for name, value in values.items() if name != "participant_id" and value not in ("", "n/a")
        }
    return people
