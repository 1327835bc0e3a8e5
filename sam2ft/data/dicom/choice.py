"""Choosing the images of a DICOM folder: those that the keys of a choice mean, and by default the only stack there is.

Where a choice is needed, the refusal lists the stacks by numbers and kinds alone, and names keys that tell them apart.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import translate
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError, number_of
from sam2ft.data.dicom.contents import Contents, images_in
from sam2ft.data.dicom.file import DicomImage
from sam2ft.data.dicom.header import DAMAGE, optional, raw_value
from sam2ft.data.dicom.placement import SAME_POSITION_MM, offsets_of, positions_of, refuse_mixed_planes
from sam2ft.data.dicom.stacks import (
    StackDescription,
    by_series,
    in_several_planes,
    is_localizer,
    nearest_plane,
    same_echo,
    series_part,
    split_in_stacks,
)

# Stacks that a message lists.
_MOST_LISTED = 8
# Keys that may tell stacks apart, in the order in which they are proposed.
_KEYS: Mapping[str, Callable[[StackDescription], Any]] = {
    "plane": lambda stack: stack.plane,
    "part": lambda stack: stack.part,
    "echo_ms": lambda stack: stack.echo_ms,
    "phase": lambda stack: stack.phase,
    "number": lambda stack: stack.number,
}


def chosen_stack(path: Path, reading: Reading = AS_IS, key: str = "series") -> Contents:
    """The images of the one stack in a folder or file that is meant, and notes about what was left out.

    Args:
        key: the key of the dataset file that chooses, for messages; empty: there is none.

    Raises:
        DataError: naming the folder and listing its stacks, when none or several are meant.
    """
    found = images_in(path, reading)
    if reading.folders == "strict":
        _refuse_several_series(path, found.images)
        refuse_mixed_planes(path, found.images)
        return found
    stacks = split_in_stacks(meant(path, found.images, reading.series, key))
    matching = [stack for stack in stacks if _is_meant(stack, reading.series)]
    if not matching:
        raise DataError(f"{path}: {key} names none of its stacks: {_listed(stacks)}")
    wanted = [stack for stack in matching if not stack.localizer] or matching
    if len(wanted) > 1:
        raise DataError(f"{path}: {several(wanted, key)}")
    localizers = len(matching) - len(wanted)
    note = f"left out: {number_of(localizers, 'localizer stack')}"
    return Contents(wanted[0].images, (*found.notes, *([note] if localizers else [])))


def chosen_decay(path: Path, reading: Reading, key: str) -> Contents:
    """The images of one decay in a folder or file: of all its times, in one series or several, on one grid.

    Localizers and finished maps are left out where there are other images.

    Raises:
        DataError: naming the folder; images lie in several planes, on several grids, or are several parts (magnitude,
            phase) of the same ones.
    """
    choice = reading.series
    if useless := [name for name in ("echo_ms", "phase") if name in choice.chosen]:
        raise DataError(f"{path}: {key}.{useless[0]} chooses one image of a decay, which needs all; leave the key out")
    found = images_in(path, reading)
    if reading.folders == "strict":
        refuse_mixed_planes(path, found.images)
        return found
    images, notes = meant(path, found.images, choice, key), list(found.notes)
    for what, is_other in (("localizers", is_localizer), ("finished maps", _is_map)):
        others = [series for series in _series_and_parts(images) if is_other(series)]
        rest = [series for series in _series_and_parts(images) if not is_other(series)]
        if others and rest:
            notes.append(f"left out: {sum(map(len, others))} images of {what}")
            images = [image for series in rest for image in series]
    if in_several_planes(images):
        raise DataError(f"{path}: {several(_without_times(split_in_stacks(images)), key)}")
    refuse_mixed_planes(path, images)
    _refuse_parts(path, images, key)
    return Contents(tuple(images), tuple(notes))


def _without_times(stacks: Sequence[StackDescription]) -> list[StackDescription]:
    """One stack for each series, plane and part, without its times, which a choice among decays does not name."""
    kinds = {(stack.number, stack.plane, stack.part): stack for stack in reversed(stacks)}
    return [replace(stack, echo_ms=None, phase=None, tags={}) for stack in reversed(kinds.values())]


def _series_and_parts(images: Sequence[DicomImage]) -> list[list[DicomImage]]:
    """The images of each series, those of a map apart."""
    found = []
    for series in by_series(images):
        maps = [image for image in series if _is_map([image])]
        found += [part for part in (maps, [image for image in series if not _is_map([image])]) if part]
    return found


def _is_map(images: Sequence[DicomImage]) -> bool:
    return series_part(images[0].header) == "map"


def _refuse_parts(path: Path, images: Sequence[DicomImage], key: str) -> None:
    """DataError when images at one position are several parts of a complex or Dixon image."""
    offsets = np.array(offsets_of(images))
    parts = np.array([series_part(image.header) or "" for image in images])
    for position in positions_of(offsets.tolist()):
        here = set(parts[np.abs(offsets - position) < SAME_POSITION_MM].tolist()) - {""}
        if len(here) > 1:
            raise DataError(
                f"{path}: holds {' and '.join(sorted(here))} of the same positions; allowed: one of them; choose it in "
                f"the dataset file, such as {key}: {{part: {'magnitude' if 'magnitude' in here else min(here)}}}"
            )


def several(stacks: Sequence[StackDescription], key: str) -> str:
    """What to say of several stacks of which one is meant."""
    way_out = "give the folder of one of them alone"
    if key:
        keys = _telling_apart(stacks)
        values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in keys.items()}
        shown = ", ".join(f"{name}: {value}" for name, value in values.items())
        way_out = f"choose one in the dataset file, such as {key}: {{{shown}}}" if keys else way_out
    return f"holds {len(stacks)} stacks of images: {_listed(stacks)}; {way_out}"


def meant(path: Path, images: Sequence[DicomImage], choice: SeriesChoice, key: str) -> list[DicomImage]:
    """The images that fit what a choice says of single images: description, number, plane, part and tags.

    Raises:
        DataError: no image fits, or a tag is no attribute.
    """
    for keyword in choice.tags:
        if tag_for_keyword(keyword) is None:
            raise DataError(
                f"{path}: {key}.tags names {keyword}, which is no attribute of DICOM (PS3.6); allowed: a keyword such "
                "as EchoNumbers or SequenceName"
            )
    tests = _tests(choice)
    found = [image for image in images if all(test(image) for test in tests)]
    if not found:
        named = ", ".join(name for name in choice.chosen if name not in ("echo_ms", "phase"))
        raise DataError(f"{path}: {key}.{named} fits none of its images: {_listed(split_in_stacks(images))}")
    return found


def _tests(choice: SeriesChoice) -> list[Callable[[DicomImage], bool]]:
    tests: list[Callable[[DicomImage], bool]] = []
    attributes = {"SeriesDescription": choice.description, "SeriesNumber": choice.number, **choice.tags}
    for keyword, wanted in attributes.items():
        if wanted is not None:
            tests.append(partial(_has, keyword=keyword, wanted=wanted))
    if choice.plane is not None:
        tests.append(lambda image: nearest_plane(image) == choice.plane)
    if choice.part is not None:
        tests.append(lambda image: series_part(image.header) == choice.part)
    return tests


def _has(image: DicomImage, *, keyword: str, wanted: Any) -> bool:
    return _fits(raw_value(image.header, keyword), wanted)


def _fits(value: Any, wanted: Any) -> bool:
    """Whether a value is a number, or like a text with wildcards; of several values one is enough."""
    values = [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
    if isinstance(wanted, str):
        whole = "\\".join(str(one) for one in values)
        return any(fits_text(str(one), wanted) for one in (*values, whole) if one is not None)
    for one in values:
        try:
            if abs(float(one) - wanted) <= 1e-6 * max(1.0, abs(wanted)):
                return True
        except DAMAGE:
            continue
    return False


def fits_text(text: str, wanted: str) -> bool:
    """Whether a text is like one with the wildcards *, ? and [...]; blanks around and between words, and capitals, do
    not count."""
    return re.match(translate(wanted.strip()), " ".join(text.split()), re.IGNORECASE) is not None


def _is_meant(stack: StackDescription, choice: SeriesChoice) -> bool:
    if choice.phase is not None and (stack.phase or 1) != choice.phase:
        return False
    if choice.echo_ms is None:
        return True
    times, wanted = optional(stack.images, "EchoTime")[0], choice.echo_ms
    return all(time is not None and same_echo(time, wanted) for time in times)


def _listed(stacks: Sequence[StackDescription]) -> str:
    shown = "; ".join(f"({index}) {stack.shown}" for index, stack in enumerate(stacks[:_MOST_LISTED], start=1))
    rest = len(stacks) - _MOST_LISTED
    return f"{shown}; and {rest} more" if rest > 0 else shown


def _telling_apart(stacks: Sequence[StackDescription]) -> dict[str, Any]:
    """Keys of a choice, with their values for the first stack, that fit no other one; empty: there are none."""
    first = stacks[0]
    differing = {name: of(first) for name, of in _KEYS.items() if len({of(stack) for stack in stacks}) > 1}
    given = {name: value for name, value in differing.items() if value is not None}
    single = next((name for name in given if _alone(first, stacks, (name,))), None)
    if single is not None:
        return {single: given[single]}
    if _alone(first, stacks, tuple(given)):
        return given
    if first.tags and all(other.tags != first.tags for other in stacks[1:] if _like(first, other, tuple(given))):
        inner = ", ".join(f"{name}: {value:g}" for name, value in first.tags.items())
        return {**given, "tags": f"{{{inner}}}"}
    return {}


def _alone(first: StackDescription, stacks: Sequence[StackDescription], names: tuple[str, ...]) -> bool:
    return bool(names) and not any(_like(first, other, names) for other in stacks[1:])


def _like(first: StackDescription, other: StackDescription, names: tuple[str, ...]) -> bool:
    return all(_KEYS[name](first) == _KEYS[name](other) for name in names)


def _refuse_several_series(folder: Path, images: Sequence[DicomImage]) -> None:
    series = by_series(images)
    if len(series) > 1:
        counts = ", ".join(f"{number_of(len(of), 'file')} as {of[0].name}" for of in series)
        raise DataError(f"{folder}: holds {len(series)} series, expected one (SeriesInstanceUID: {counts})")
