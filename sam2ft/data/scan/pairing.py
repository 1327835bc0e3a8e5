"""Which mask belongs to which image: by reference, folder and name, always on its grid."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from sam2ft.data.formats.readers import stem_of
from sam2ft.data.scan.found import FoundImage, FoundMask, same_place
from sam2ft.data.scan.subjects import Subjects

_RUN = re.compile(r"\d+")
_WORDS, _JOINED_WORDS = re.compile(r"[^_\-. /]+"), re.compile(r"[^_. /]+")

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
    names = _Names(list(by_subject), images, subjects, NumberNames(list(by_subject), masks))
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
        f"no name of one subject alone; on the grid of images of {subjects} subjects"
        if subjects
        else ("no name of one subject alone, and on the grid of no image")
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

    def __init__(
        self, names: Sequence[str], images: Sequence[FoundImage], subjects: Subjects, numbers: "NumberNames"
    ) -> None:
        self._folders: dict[tuple[object, ...], str] = {}
        if subjects.level is not None:
            for image in images:
                prefix = image.parts[: subjects.level]
                self._folders[(image.root, *prefix)] = subjects.of_place[image.place]
        self._level = subjects.level
        self._words = {name: re.compile(rf"(?<![a-z0-9]){re.escape(name.lower())}(?![a-z0-9])") for name in names}
        self._names = {name.lower(): name for name in names}
        self._numbers = numbers

    def of(self, mask: FoundMask) -> tuple[str, str] | None:
        """(subject, folder or name); None: nothing in the path names exactly one."""
        if self._level is not None and len(mask.parts) > self._level:
            here = (mask.root, *mask.parts[: self._level])
            if here in self._folders:
                return self._folders[here], "folder"
        *folders, name = mask.parts
        stem = stem_of(name).lower()
        whole = {stem: "name"} | {folder.lower(): "folder" for folder in folders}
        named = {part: by for part, by in whole.items() if part in self._names}
        if len(named) > 1:  # such as a folder for label 1 with the mask of subject 2
            return None
        if named:
            part, by = named.popitem()
            return self._names[part], by
        for text, by in ((stem, "name"), ("/".join(folders).lower(), "folder")):
            hits = [name for name, pattern in self._words.items() if pattern.search(text)]
            hits = [name for name in hits if not self._numbers.is_doubtful(stem, name)]
            longest = [name for name in hits if not any(name != other and name in other for other in hits)]
            if len(longest) == 1:
                return longest[0], by
        return None


class NumberNames:
    """Masks of subjects that are called by a number, which other numbers of a name (labels, visits) may equal too.

    Of names that are alike but for their numbers, each number has a place, such as two in `patient2_label_1`.
    """

    def __init__(self, subjects: Collection[str], found: Sequence[FoundMask]) -> None:
        self._subjects = set(subjects)
        self._values: dict[str, list[list[str]]] = defaultdict(list)
        for mask in found:
            stem = stem_of(mask.path.name).lower()
            self._values[_RUN.sub("#", stem)].append(_RUN.findall(stem))

    def is_doubtful(self, stem: str, subject: str) -> bool:
        """Whether a number of the name that equals `subject` may as well mean something else.

        It is trusted where it is the only number, or where the numbers at its place are the names of more subjects than
        those at any other place.
        """
        runs = _RUN.findall(stem)
        if not subject.isdigit() or len(runs) < 2:
            return False
        places = [set(column) for column in zip(*self._values[_RUN.sub("#", stem)], strict=True)]
        alone = [bool(match) for match in self._alone(stem, subject)]
        own = max((self._covers(place) for place, one in zip(places, alone, strict=True) if one), default=0)
        others = [self._covers(place) for place, one in zip(places, alone, strict=True) if not one]
        return own < 2 or own <= max(others, default=0)

    def _covers(self, values: set[str]) -> int:
        """Number of subjects that the values at a place name; 0 where they are all the same."""
        return len(values & self._subjects) if len(values) > 1 else 0

    def _alone(self, stem: str, subject: str) -> list[bool]:
        """For each number of a name, whether it is the subject and no part of a word such as T2."""
        return [
            match.group() == subject
            and not stem[match.start() - 1 : match.start()].isalpha()
            and not stem[match.end() : match.end() + 1].isalpha()
            for match in _RUN.finditer(stem)
        ]


def nearness(mask: FoundMask, subject: str, image: FoundImage, others: Sequence[FoundImage]) -> tuple[int, int]:
    """How much the path of a mask has in common with that of an image and not with those of the others.

    (letters of the words that tell the image from the others and that the mask has, folders that both lie in).
    """
    shared = set.intersection(*(_words(one.parts, subject) for one in (image, *others)))
    own = (_words(image.parts, subject) - shared) & _words(mask.parts, subject)
    pairs = zip(mask.path.parts[:-1], image.place.parts, strict=False)
    return sum(map(len, own)), len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _words(parts: Sequence[str], subject: str) -> set[str]:
    """The words of a path without the subject.

    A number alone may count anything, such as labels in `seg_1`; it is a word in a folder or name that has no other,
    such as `12` or `P7_12` of the subject P7.
    """
    found: set[str] = set()
    for part in map(stem_of, parts):
        rest = re.sub(rf"(?<![^\W_]){re.escape(subject)}(?![^\W_])", "_", part, flags=re.IGNORECASE).lower()
        words = {*_WORDS.findall(rest), *_JOINED_WORDS.findall(rest)}
        named = {word for word in words if not word.isdigit()}
        found |= named or words
    return found


def same_study(images: Sequence[FoundImage]) -> bool:
    """Whether images are DICOM images of one study, of which a rule chooses: a series that was repeated."""
    return len({image.uids[1] for image in images}) == 1 and bool(images[0].uids[1])


def shown_place(path: Path, root: Path, subject: str) -> str:
    """A path below the scanned folder without its subject."""
    parts = path.relative_to(root).parts
    if not subject:
        return "/".join(parts)
    name = re.compile(rf"(?<![^\W_]){re.escape(subject)}(?![^\W_])", re.IGNORECASE)
    return "/".join(name.sub("*", part) for part in parts)
