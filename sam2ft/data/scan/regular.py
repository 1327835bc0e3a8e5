"""Patterns for a regular tree: they are used only where they find exactly the volumes that a scan lists."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from sam2ft.config.schema.sources import Sources
from sam2ft.core.errors import DataError, UserError
from sam2ft.data.sources.patterns import find_by_patterns
from sam2ft.data.sources.row import VolumeFiles

_SPECIAL = "*?[]{}"
_SUBJECT = "{subject}"


def patterns_for(rows: Sequence[VolumeFiles]) -> tuple[str, str | dict[str, str]] | None:
    """(pattern of the images, of the masks or of the mask of each label) that find these rows and nothing else.

    None: there are none, and a table has to list the files.
    """
    if len({row.key.subject for row in rows}) < max(2, len(rows)) or any(row.series.chosen for row in rows):
        return None
    subjects = [row.key.subject for row in rows]
    images = _pattern([row.image for row in rows], subjects)
    masks = _mask_patterns(rows, subjects)
    if images is None or masks is None:
        return None
    return (images, masks) if _find_the_same(images, masks, rows) else None


def _mask_patterns(rows: Sequence[VolumeFiles], subjects: Sequence[str]) -> str | dict[str, str] | None:
    """The pattern of the masks, or that of each label where each has a file."""
    labels = list(rows[0].masks)
    if not labels:
        return _pattern([row.mask for row in rows], subjects)
    found = {label: _pattern([row.masks[label] for row in rows], subjects) for label in labels}
    known = {label: pattern for label, pattern in found.items() if pattern is not None}
    return known if len(known) == len(labels) else None


def _find_the_same(images: str, masks: str | dict[str, str], rows: Sequence[VolumeFiles]) -> bool:
    """Whether patterns find the rows and no other files."""
    try:
        sources = Sources.model_validate({"images": images, "masks": masks})
        found = find_by_patterns(rows[0].key.dataset, sources, Path())
    except (ValidationError, DataError, UserError):
        return False
    return {_facts(row) for row in found} == {_facts(row) for row in rows}


def _facts(row: VolumeFiles) -> tuple[object, ...]:
    masks = tuple(sorted((label, path.resolve()) for label, path in row.masks.items()))
    return row.key.subject, row.key.volume, row.image.resolve(), row.mask.resolve(), masks


def _pattern(paths: Sequence[Path], subjects: Sequence[str]) -> str | None:
    """The paths with the subject as a placeholder; parts that differ otherwise are wildcards."""
    if len({len(path.parts) for path in paths}) > 1 or any(set(subject) & set(_SPECIAL) for subject in subjects):
        return None
    parts = []
    for column in zip(*(path.parts for path in paths), strict=True):
        filled = {part.replace(subject, _SUBJECT) for part, subject in zip(column, subjects, strict=True)}
        if len(filled) == 1:
            part = filled.pop()
            if set(part.replace(_SUBJECT, "")) & set(_SPECIAL):
                return None
            parts.append(part)
        else:
            parts.append(_common(filled))
    text = Path(*parts).as_posix()
    return text if _SUBJECT in text else None


def _common(names: set[str]) -> str:
    """A wildcard that keeps the ending and a placeholder that all names have."""
    endings = {Path(name).suffix for name in names}
    ending = endings.pop() if len(endings) == 1 else ""
    ending = "" if set(ending) & set(_SPECIAL) else ending
    if all(name.startswith(_SUBJECT) for name in names):
        return f"{_SUBJECT}*{ending}"
    if all(_SUBJECT in name for name in names):
        return f"*{_SUBJECT}*{ending}"
    return f"*{ending}"
