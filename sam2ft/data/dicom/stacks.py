"""The images of a DICOM folder in stacks, by their headers alone: one stack has one image at each position.

Images of one series and grid are one stack unless positions repeat. Then they are split by what differs at one
position: the part (magnitude, phase, water, fat), the echo, and then the attributes below. What cannot be told apart so
stays in one stack, which no reader takes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pydicom

from sam2ft.config.schema.series import SeriesPart
from sam2ft.core.errors import number_of
from sam2ft.core.geometry import PLANES
from sam2ft.data.dicom.file import DicomImage
from sam2ft.data.dicom.header import image_kinds, optional, text
from sam2ft.data.dicom.placement import COSINE_TOLERANCE, SAME_POSITION_MM, offsets_of, positions_of

# Times of one echo differ between slices by the rounding of the scanner: by less than both of these.
SAME_ECHO_MS, SAME_ECHO = 0.1, 0.01
# Attributes whose values tell images at one position apart, in this order.
_DIFFERENCES = ("EchoNumbers", "DiffusionBValue", "FlipAngle", "InversionTime")
# Attributes by whose order images at one position are phases.
_PHASES = ("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "AcquisitionTime")
# Values of ImageType (from the third on) and ComplexImageComponent, by the part that they name; the first one counts.
_PARTS: Mapping[SeriesPart, tuple[str, ...]] = {
    "fat_fraction": ("FAT_FRACTION", "FF", "PDFF", "FAT FRACTION"),
    "water": ("WATER", "W", "W_FFE", "W_TSE", "W_SE"),
    "fat": ("FAT", "F", "F_FFE", "F_TSE", "F_SE"),
    "in_phase": ("IN_PHASE", "IN PHASE", "IP", "IP_FFE", "IP_TSE"),
    "out_phase": ("OUT_PHASE", "OUT PHASE", "OPP_PHASE", "OPPOSED_PHASE", "OP", "OP_FFE", "OP_TSE"),
    "phase": ("PHASE", "P", "PHASE MAP", "P_FFE", "P_SE", "P_TSE", "P_IR"),
    "real": ("REAL", "R", "R_FFE", "R_SE", "R_TSE", "R_IR"),
    "imaginary": ("IMAGINARY", "I", "I_FFE", "I_SE", "I_TSE", "I_IR"),
    "map": ("ADC",),
    "magnitude": ("MAGNITUDE", "M", "M_FFE", "M_SE", "M_TSE", "M_IR"),
}
_LOCALIZERS = ("LOCALIZER", "SCOUT")
# Normals with a smaller cosine belong to two planes; a series of several planes is a localizer.
_ONE_PLANE = 0.9


@dataclass(frozen=True)
class StackDescription:
    """One stack of images, by its headers."""

    images: tuple[DicomImage, ...]
    number: int | None
    """SeriesNumber."""
    description: str
    """SeriesDescription: free text, not for messages (docs/privacy.md)."""
    plane: str
    part: SeriesPart | None
    echo_ms: float | None
    """EchoTime of most images."""
    localizer: bool
    phase: int | None = None
    """Number from 1 among the phases of one series; None: it has one."""
    tags: Mapping[str, float] = field(default_factory=dict)
    """Further attributes that tell it apart from other stacks of its series."""

    @property
    def shown(self) -> str:
        """What may stand in a message: numbers and kinds, no text of a header."""
        first = self.images[0]
        facts = [
            f"{number_of(len(self.images), f'{self.plane} image')} of {first.size[0]} x {first.size[1]} pixels "
            f"({first.spacing[0]:.4g} x {first.spacing[1]:.4g} mm)",
            "" if self.number is None else f"SeriesNumber {self.number}",
            "" if self.echo_ms is None else f"echo {self.echo_ms:g} ms",
            self.part or "",
            "" if self.phase is None else f"phase {self.phase}",
            *(f"{name} {value:g}" for name, value in self.tags.items()),
            "localizer" if self.localizer else "",
            f"as {first.name}",
        ]
        return ", ".join(fact for fact in facts if fact)


def split_in_stacks(images: Sequence[DicomImage]) -> list[StackDescription]:
    """The images in stacks (see above), sorted by series, part, echo and phase."""
    found = [stack for of_series in by_series(images) for stack in _of_series(of_series)]
    return sorted(found, key=_order)


def by_series(images: Sequence[DicomImage]) -> list[list[DicomImage]]:
    """The images of each SeriesInstanceUID."""
    found: dict[str, list[DicomImage]] = {}
    for image in images:
        found.setdefault(text(image.header, "SeriesInstanceUID"), []).append(image)
    return list(found.values())


def is_localizer(series: Sequence[DicomImage]) -> bool:
    """Whether the images of a series are a localizer: ImageType says so, or they lie in several planes."""
    if any(word in image_kinds(series[0].header) for word in _LOCALIZERS):
        return True
    return in_several_planes(series)


def in_several_planes(images: Sequence[DicomImage]) -> bool:
    """Whether the normals of images differ by more than the slices of a stack do."""
    return any(abs(float(image.normal @ images[0].normal)) < _ONE_PLANE for image in images)


def nearest_plane(image: DicomImage) -> str:
    """The anatomical plane that is nearest to an image."""
    return PLANES[int(np.abs(image.normal).argmax())]


def series_part(header: pydicom.Dataset) -> SeriesPart | None:
    """The part of a complex or Dixon image, or `map` for values that were computed; None: the header does not say."""
    kinds = [*image_kinds(header)[2:], text(header, "ComplexImageComponent").upper()]
    if any("MAP" in kind and kind != "PHASE MAP" for kind in kinds):
        return "map"
    return next((part for part, words in _PARTS.items() if any(kind in words for kind in kinds)), None)


def joined_echoes(echoes: Mapping[float, list[DicomImage]]) -> dict[float, list[DicomImage]]:
    """Times of one echo that scanners round differently, as one: the one of the most images, of equally many the lower.

    They are one echo when they lie close together and no position has images of both.
    """
    groups: list[list[float]] = []
    for time in sorted(echoes):
        if groups and same_echo(groups[-1][0], time):
            groups[-1].append(time)
        else:
            groups.append([time])
    found: dict[float, list[DicomImage]] = {}
    for times in groups:
        together = [image for time in times for image in echoes[time]]
        if len(positions_of(offsets_of(together))) < len(together):
            found |= {time: echoes[time] for time in times}
        else:
            found[max(times, key=lambda time: len(echoes[time]))] = together
    return found


def same_echo(first_ms: float, second_ms: float) -> bool:
    """Whether two times, in any order, are those of one echo but for rounding."""
    apart = abs(second_ms - first_ms)
    return apart == 0 or apart < min(SAME_ECHO_MS, SAME_ECHO * min(first_ms, second_ms))


def _of_series(images: Sequence[DicomImage]) -> Iterator[StackDescription]:
    localizer = is_localizer(images)
    for grid in _by_grid(images):
        yield from _split(_described(grid, localizer=localizer))


def _described(images: Sequence[DicomImage], *, localizer: bool) -> StackDescription:
    first = images[0]
    (number,), _ = optional([first], "SeriesNumber", whole=True)
    return StackDescription(
        images=tuple(images),
        number=None if number is None else int(number),
        description=text(first.header, "SeriesDescription"),
        plane=nearest_plane(first),
        part=series_part(first.header),
        echo_ms=_usual_echo(images),
        localizer=localizer,
    )


def _usual_echo(images: Sequence[DicomImage]) -> float | None:
    times = Counter(time for time in optional(images, "EchoTime")[0] if time is not None)
    return times.most_common(1)[0][0] if times else None


def _by_grid(images: Sequence[DicomImage]) -> list[list[DicomImage]]:
    groups: list[list[DicomImage]] = []
    for image in images:
        home = next((group for group in groups if _one_grid(group[0], image)), None)
        if home is None:
            groups.append([image])
        else:
            home.append(image)
    return groups


def _one_grid(first: DicomImage, second: DicomImage) -> bool:
    """Whether two images have one orientation, size and pixel spacing, as `placement.refuse_mixed_planes` asks."""
    if (first.size, first.spacing) == (second.size, second.spacing) and np.array_equal(first.cosines, second.cosines):
        return True
    return (
        first.size == second.size
        and bool(np.abs(first.cosines - second.cosines).max() <= COSINE_TOLERANCE)
        and bool(np.allclose(second.spacing, first.spacing, rtol=1e-3))
    )


def _split(stack: StackDescription) -> list[StackDescription]:
    """The stack split until no position repeats, or nothing tells its images apart."""
    most = _most_at_one(stack.images)
    if most == 1:
        return [stack]
    for split in _SPLITS:
        found = split(stack)
        # Groups that have as many images at one position as before are told apart by their slices, not by their kind.
        if 1 < len(found) <= most and all(_most_at_one(one.images) < most for one in found):
            return [one for part in found for one in _split(part)]
    return [stack]


def _most_at_one(images: Sequence[DicomImage]) -> int:
    """The largest number of images at one position."""
    offsets = np.sort(offsets_of(images))
    positions = np.array(positions_of(offsets.tolist()))
    return int(np.bincount(np.searchsorted(positions, offsets, side="right")).max())


def _by_part(stack: StackDescription) -> list[StackDescription]:
    groups: dict[SeriesPart | None, list[DicomImage]] = {}
    for image in stack.images:
        groups.setdefault(series_part(image.header), []).append(image)
    return [_narrowed(stack, images, part=part) for part, images in groups.items()]


def _by_echo(stack: StackDescription) -> list[StackDescription]:
    times, _ = optional(stack.images, "EchoTime")
    groups: dict[float, list[DicomImage]] = {}
    for image, time in zip(stack.images, times, strict=True):
        groups.setdefault(-1.0 if time is None else time, []).append(image)
    return [_narrowed(stack, images) for images in joined_echoes(groups).values()]


def _by_value(attribute: str) -> Callable[[StackDescription], list[StackDescription]]:
    def split(stack: StackDescription) -> list[StackDescription]:
        groups: dict[float | None, list[DicomImage]] = {}
        for image, value in zip(stack.images, optional(stack.images, attribute)[0], strict=True):
            groups.setdefault(value, []).append(image)
        return [
            _narrowed(stack, images, tags={**stack.tags} | ({} if value is None else {attribute: value}))
            for value, images in groups.items()
        ]

    return split


def _by_phase(attribute: str) -> Callable[[StackDescription], list[StackDescription]]:
    def split(stack: StackDescription) -> list[StackDescription]:
        values, _ = optional(stack.images, attribute)
        if None in values:
            return [stack]
        known = [value for value in values if value is not None]
        distinct = sorted(set(known))
        places = np.searchsorted(distinct, known).tolist()
        if len(distinct) > _most_at_one(stack.images):
            places = _ranks(stack.images, known)
        groups: dict[int, list[DicomImage]] = {}
        for image, place in zip(stack.images, places, strict=True):
            groups.setdefault(place, []).append(image)
        return [_narrowed(stack, images, phase=place + 1) for place, images in groups.items()]

    return split


def _ranks(images: Sequence[DicomImage], values: Sequence[float]) -> list[int]:
    """Place of each value among those at its position; 0 for all where positions have unlike numbers of images."""
    offsets = np.array(offsets_of(images))
    ranks = np.zeros(len(images), dtype=int)
    counts = set()
    for position in positions_of(offsets.tolist()):
        (here,) = np.nonzero(np.abs(offsets - position) < SAME_POSITION_MM)
        counts.add(len(here))
        ranks[here] = np.searchsorted(np.unique(np.array(values)[here]), np.array(values)[here])
    return ranks.tolist() if len(counts) == 1 else [0] * len(images)


def _narrowed(stack: StackDescription, images: Sequence[DicomImage], **changes: Any) -> StackDescription:
    return replace(stack, images=tuple(images), **{"echo_ms": _usual_echo(images), **changes})


_SPLITS: tuple[Callable[[StackDescription], list[StackDescription]], ...] = (
    _by_part,
    _by_echo,
    *(_by_value(attribute) for attribute in _DIFFERENCES),
    *(_by_phase(attribute) for attribute in _PHASES),
)


def _order(stack: StackDescription) -> tuple[Any, ...]:
    return (
        *(stack.localizer, -1 if stack.number is None else stack.number, stack.part or ""),
        *(stack.echo_ms or 0.0, sorted(stack.tags.items()), stack.phase or 0),
        *(-len(stack.images), stack.images[0].key),
    )
