"""Kinds of images and masks that repeat from subject to subject, and the kind that a dataset is made of."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam2ft.core.errors import DataError, listed
from sam2ft.data.dicom.choice import fits_text
from sam2ft.data.dicom.stacks import same_echo
from sam2ft.data.formats.readers import stem_of
from sam2ft.data.scan.found import FoundImage, FoundMask
from sam2ft.data.scan.pairing import Pairing
from sam2ft.data.scan.subjects import Subjects

_PARTS = {None: 0, "magnitude": 0, "water": 1, "in_phase": 1, "out_phase": 2, "fat": 2}
_OTHER_PART = 3
KindKey = tuple[Any, ...]


@dataclass(eq=False)
class ImageKind:
    """Images that are alike in all subjects: of one description, plane, part and place in the order of the echoes."""

    name: str
    """Description of a series, or name of a file without its subject."""
    first: FoundImage
    echo: int = 0
    """Place among the echoes of its series, from 0."""
    images: dict[str, list[FoundImage]] = field(default_factory=dict)
    """Subject -> its images of this kind, in their order."""
    masked: set[str] = field(default_factory=set)
    """Subjects with a mask on the grid of such an image."""
    named: set[str] = field(default_factory=set)
    """Those of them whose mask names the series."""

    @property
    def twice(self) -> list[str]:
        """Subjects that have it more than once."""
        return [subject for subject, images in self.images.items() if len(images) > 1]

    @property
    def rank(self) -> tuple[Any, ...]:
        """The rule by which a kind is chosen: the lowest rank. `RULE` says it in words."""
        first = self.first
        return (
            -len(self.named),
            -len(self.masked),
            first.localizer,
            _PARTS.get(first.part, _OTHER_PART),
            -len(self.images),
            self.echo,
            first.phase or 0,
            *(10**9 if first.number is None else first.number, self.name),
        )


RULE = (
    "masks that name their series, then most subjects with a mask on the grid, then no localizer, magnitude or water, "
    "most subjects, first echo, first phase, lowest SeriesNumber"
)
"""How a kind is chosen, in words."""


def image_kinds_of(images: Sequence[FoundImage], subjects: Subjects, pairing: Pairing) -> list[ImageKind]:
    """The kinds of images, the chosen one first."""
    echoes = _echoes(images)
    found: dict[KindKey, ImageKind] = {}
    home: dict[FoundImage, ImageKind] = {}
    for image in images:
        subject = subjects.of_place[image.place]
        name = _name(image, subject)
        key = (
            name.casefold(), image.plane if image.is_dicom else "", image.part, echoes[image], image.phase,
            tuple(sorted(image.tags.items())), image.localizer, image.kind,
        )  # fmt: skip
        kind = found.setdefault(key, ImageKind(name, image, echoes[image]))
        kind.images.setdefault(subject, []).append(image)
        home[image] = kind
    for pair in pairing.pairs:
        for image in pair.images:
            home[image].masked.add(pair.subject)
            if pair.by == "reference":
                home[image].named.add(pair.subject)
    return sorted(found.values(), key=lambda kind: kind.rank)


def _name(image: FoundImage, subject: str) -> str:
    if image.is_dicom:
        return image.description
    stem = stem_of(image.place.name)
    return re.sub(re.escape(subject), "*", stem, flags=re.IGNORECASE) if subject else stem


def _echoes(images: Sequence[FoundImage]) -> Mapping[FoundImage, int]:
    """Place of each image among the echoes of its series, from 0."""
    groups: dict[tuple[Any, ...], list[FoundImage]] = defaultdict(list)
    for image in images:
        groups[(image.place, image.uids[0], image.part, image.phase, tuple(sorted(image.tags.items())))].append(image)
    found: dict[FoundImage, int] = {}
    for group in groups.values():
        times = sorted({image.echo_ms or 0.0 for image in group})
        found |= {image: times.index(image.echo_ms or 0.0) for image in group}
    return found


def chosen_kind(kinds: Sequence[ImageKind], wanted: Mapping[str, Any]) -> ImageKind:
    """The kind that a choice means, or by `RULE` the first one.

    Args:
        wanted: keys of `series` of a dataset file; empty: nothing is said.

    Raises:
        DataError: no kind fits.
    """
    fitting = [kind for kind in kinds if any(fits(image, wanted) for image in _all(kind))]
    if not fitting:
        names = [kind.name or "(no description)" for kind in kinds]
        raise DataError(f"series: none of the images fits; there are {listed(list(dict.fromkeys(names)), 8)}")
    return fitting[0]


def _all(kind: ImageKind) -> list[FoundImage]:
    return [image for images in kind.images.values() for image in images]


def fits(image: FoundImage, wanted: Mapping[str, Any]) -> bool:
    """Whether an image is what keys of a choice mean, as `series` of a dataset file reads them."""
    for key, value in wanted.items():
        own = getattr(image, key)
        if key == "description":
            text = own if image.is_dicom else image.place.name
            if not fits_text(text, str(value)):
                return False
        elif key == "echo_ms":
            if own is None or not same_echo(own, value):
                return False
        elif key == "phase":
            if (own or 1) != value:
                return False
        elif own != value:
            return False
    return True


def mask_kinds(pairing: Pairing) -> Counter[str]:
    """Kind of masks -> number of subjects that have it."""
    seen = {(mask_kind(pair.mask, pair.subject), pair.subject) for pair in pairing.pairs}
    return Counter(name for name, _ in seen)


def mask_kind(mask: FoundMask, subject: str) -> str:
    """The path of a mask below the scanned folder without its subject, and without folders that have numbers."""
    *folders, name = (_named(subject).sub("*", part) for part in mask.parts)
    return "/".join(["*" if any(map(str.isdigit, folder)) else folder for folder in folders] + [name])


def _named(subject: str) -> re.Pattern[str]:
    """Where a name stands by itself: L is no part of "femoral", and 1 none of 12."""
    before, after = (_more_of(end) for end in (subject[0], subject[-1]))
    return re.compile(f"(?<!{before}){re.escape(subject)}(?!{after})", re.IGNORECASE)


def _more_of(end: str) -> str:
    """What would continue a name at this end: digits a number, letters a word."""
    return r"\d" if end.isdigit() else r"[^\W\d_]" if end.isalpha() else r"\Z\A"
