"""Which mask belongs to which image: by reference, folder and name, always on its grid."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sam2ft.data.scan.found import FoundImage, FoundMask, same_place
from sam2ft.data.scan.subjects import Subjects, stem_of

BY = {
    "reference": "the series that the mask names",
    "folder": "its folder",
    "name": "its name",
    "grid": "its grid alone",
}
"""How the subject of a mask was found, in words."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A mask with the images that it may have been drawn on."""

    mask: FoundMask
    subject: str
    by: str
    images: tuple[FoundImage, ...]
    """Images of the subject on its grid; those of the series that it names where it names one."""


@dataclass
class Pairing:
    """All masks with their subjects and images."""

    pairs: list[Pair] = field(default_factory=list)
    lonely: list[tuple[FoundMask, str]] = field(default_factory=list)
    """(mask, why it belongs to no image)."""

    def of(self, subject: str) -> list[Pair]:
        return [pair for pair in self.pairs if pair.subject == subject]


def paired_masks(images: Sequence[FoundImage], masks: Sequence[FoundMask], subjects: Subjects) -> Pairing:
    """The subject and the possible images of every mask."""
    by_subject: dict[str, list[FoundImage]] = defaultdict(list)
    for image in images:
        by_subject[subjects.of_place[image.place]].append(image)
    names = _Names(list(by_subject), images, subjects)
    found = Pairing()
    for mask in masks:
        if mask.references and (named := [image for image in images if image.uids[0] in mask.references]):
            subject, by = subjects.of_place[named[0].place], "reference"
            candidates = [image for image in named if subjects.of_place[image.place] == subject]
        elif (found_by := names.of(mask)) is not None:
            subject, by = found_by
            candidates = by_subject[subject]
        else:
            everywhere = _fitting(mask, images)
            homes = {subjects.of_place[image.place] for image in everywhere}
            if len(homes) != 1 or mask.grid is None or mask.grid.oriented is False:
                found.lonely.append((mask, _loneliness(len(images), len(homes))))
                continue
            subject, by, candidates = homes.pop(), "grid", everywhere
        fitting = _fitting(mask, candidates)
        if fitting:
            found.pairs.append(Pair(mask, subject, by, tuple(fitting)))
        else:
            found.lonely.append((mask, f"on the grid of none of the {len(candidates)} images of {subject}"))
    return found


def _loneliness(images: int, subjects: int) -> str:
    """Why a mask without the name of a subject belongs to no image."""
    if not images:
        return "no image was found"
    return (
        f"no name of a subject; on the grid of images of {subjects} subjects"
        if subjects
        else ("no name of a subject, and on the grid of no image")
    )


def _fitting(mask: FoundMask, images: Sequence[FoundImage]) -> list[FoundImage]:
    """The images on whose grid a mask lies; all without a localizer where it has none."""
    if mask.grid is None:
        return [image for image in images if not image.localizer]
    return [
        image
        for image in images
        if image.grid is not None and same_place(mask.grid, image.grid, cropped=mask.may_be_cropped)
    ]


class _Names:
    """Finds the subject of a mask by the folders and the name of its path."""

    def __init__(self, names: Sequence[str], images: Sequence[FoundImage], subjects: Subjects) -> None:
        self._folders: dict[tuple[object, ...], str] = {}
        if subjects.level is not None:
            for image in images:
                prefix = image.parts[: subjects.level]
                self._folders[(image.root, *prefix)] = subjects.of_place[image.place]
        self._level = subjects.level
        self._words = {name: re.compile(rf"(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])") for name in names}
        self._names = {name.lower(): name for name in names}

    def of(self, mask: FoundMask) -> tuple[str, str] | None:
        """(subject, folder or name); None: nothing in the path names exactly one."""
        if self._level is not None and len(mask.parts) > self._level:
            here = (mask.root, *mask.parts[: self._level])
            if here in self._folders:
                return self._folders[here], "folder"
        *folders, name = mask.parts
        for folder in reversed(folders):
            if folder.lower() in self._names:
                return self._names[folder.lower()], "folder"
        stem = stem_of(name).lower()
        if stem in self._names:
            return self._names[stem], "name"
        for text, by in ((stem, "name"), ("/".join(folders).lower(), "folder")):
            hits = [name for name, pattern in self._words.items() if pattern.search(text)]
            longest = [name for name in hits if not any(name != other and name in other for other in hits)]
            if len(longest) == 1:
                return longest[0], by
        return None
