"""What the name of a mask says of its subject and its image, and where it says nothing that can be trusted."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path

from sam2ft.data.scan.found import FoundImage, FoundMask
from sam2ft.data.scan.subjects import stem_of

_RUN = re.compile(r"\d+")
_WORDS, _JOINED_WORDS = re.compile(r"[^_\-. /]+"), re.compile(r"[^_. /]+")


class NumberNames:
    """Masks of subjects that are called by a number, which other numbers of a name (labels, visits) may equal too.

    Of names that are alike but for their numbers, each number has a place, such as two in `patient2_label_1`.
    """

    def __init__(self, subjects: Collection[str], masks: Sequence[FoundMask]) -> None:
        self._subjects = set(subjects)
        self._values: dict[str, list[list[str]]] = defaultdict(list)
        for mask in masks:
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
