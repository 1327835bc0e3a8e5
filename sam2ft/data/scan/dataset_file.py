"""The dataset file of a scan: it prepares as it is, and its comments say what was chosen and what else there is."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.sources import Sources
from sam2ft.core.errors import DataError, UserError, listed, printable
from sam2ft.core.files import write_text
from sam2ft.data.scan.found import FoundImage
from sam2ft.data.scan.kinds import RULE, ImageKind
from sam2ft.data.scan.plan import PlannedVolume, ScanPlan
from sam2ft.data.scan.series_choice import description_to_choose
from sam2ft.data.sources.find import find_sources
from sam2ft.data.sources.patterns import find_by_patterns
from sam2ft.data.sources.row import VolumeFiles, key_of
from sam2ft.data.sources.table import write_table

_SPECIAL = "*?[]{}"
_SUBJECT = "{subject}"
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
_MOST_NAME = 64
_PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_RESERVED = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
_WIDTH = 110
_MOST_OTHERS = 12
_MOST_LEFT_OUT = 40


Source = tuple[str, str | dict[str, str]] | Path | None
"""Patterns of images and masks, or the table."""


@dataclass(frozen=True)
class Written:
    """What was written."""

    file: Path
    table: Path | None
    """Table of the volumes; None: patterns find them."""


@dataclass(frozen=True)
class ScanFacts:
    """What the comments of a dataset file tell besides the plan."""

    command: str
    kinds: Sequence[ImageKind]
    labels: Mapping[int, str]
    label_notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hashed: bool = False


def refuse_overwriting(out: Path, *, force: bool) -> None:
    """DataError when a file of this name is there, unless `force`."""
    there = [path for path in (out, table_beside(out)) if path.exists()]
    if there and not force:
        raise DataError(f"{there[0]}: is there already; --force replaces it, or give another name to --out")


def table_beside(out: Path) -> Path:
    return out.with_name(f"{out.stem}.files.csv")


def write_dataset_file(plan: ScanPlan, facts: ScanFacts, out: Path) -> Written:
    """Write the dataset file, and a table beside it where no pattern finds exactly its volumes.

    Raises:
        DataError: there is no volume.
    """
    if not plan.volumes:
        reasons = listed([f"{who}: {why}" for who, why in plan.left_out], 2)
        raise DataError(
            f"{out}: nothing to write: no image with a mask on its grid{f' ({reasons})' if reasons else ''}; name the "
            "folder of the masks too (sam2ft scan IMAGES MASKS)"
        )
    name = _UNFIT.sub("_", out.stem).strip("_-")[:_MOST_NAME] or "dataset"
    rows = [_row(name, volume, plan) for volume in plan.volumes]
    found = patterns_for(rows)
    table = table_beside(out) if found is None else None
    out.parent.mkdir(parents=True, exist_ok=True)
    if table is None:
        table_beside(out).unlink(missing_ok=True)
    else:
        write_table(table, rows, Path())
    text = "\n".join(_lines(name, plan, facts, table if found is None else found)) + "\n"
    write_text(out, text)
    _check(out, rows)
    return Written(out, table)


def _check(out: Path, rows: Sequence[VolumeFiles]) -> None:
    """Read the file as `prepare` does: it must find what was meant."""
    found = find_sources(load_dataset(out), Path())
    if [(row.key, row.image.resolve()) for row in found] != [
        (row.key, row.image.resolve()) for row in sorted(rows, key=lambda row: row.key)
    ]:
        raise AssertionError(f"{out}: does not find the files that it was written for")


def _row(name: str, volume: PlannedVolume, plan: ScanPlan) -> VolumeFiles:
    masks = {label: mask.path for label, mask in volume.masks.items()}
    first = next(iter(masks.values()))
    labels = masks if plan.labels else {}
    row = VolumeFiles(key_of(volume.image.place, name, volume.subject, volume.volume), volume.image.place, first)
    series = type(row.series).model_validate(dict(volume.series))
    return VolumeFiles(row.key, row.image, row.mask, masks=labels, series=series)


def _lines(name: str, plan: ScanPlan, facts: ScanFacts, sources: Source) -> list[str]:
    return [
        *_comment(f"Written by `{facts.command}`. Paths are relative to the folder in which you run the commands."),
        *(line for warning in facts.warnings for line in _comment(f"WARNING: {warning}")),
        *(line for choice in plan.choices for line in _comment(f"Chosen: {choice}")),
        f"dataset: {{name: {_value(name)}}}",
        "",
        *_series_lines(plan, facts.kinds),
        *_source_lines(plan, sources),
        "",
        *_label_lines(facts),
        "",
        *_left_out_lines(plan),
        *(["subject_id: hash        # subjects are stored under keyed hashes of their names"] if facts.hashed else [
            "# subject_id: hash      # stores subjects under keyed hashes of their names (docs/privacy.md)"]),
        "# intensity: {window: [-160, 240]}   # CT: the same window for all; else percentiles of each volume",
        "# split: {train: 0.7, val: 0.15, test: 0.15, seed: 42}   # what is used when nothing is given",
    ]  # fmt: skip


def _series_lines(plan: ScanPlan, kinds: Sequence[ImageKind]) -> list[str]:
    used = {volume.image for volume in plan.volumes}
    lines = []
    others = [kind for kind in kinds if not any(image in used for images in kind.images.values() for image in images)]
    own = [kind for kind in kinds if kind not in others]
    for kind in own:
        lines += _comment(f"Images: {_told(kind)}.")
    lines += _comment(f"Rule: {RULE}.")
    if others:
        lines += _comment("Other images (--series chooses them):")
        groups: dict[tuple[object, ...], list[ImageKind]] = {}
        for kind in others:
            groups.setdefault((kind.name.casefold(), kind.first.plane, kind.first.part), []).append(kind)
        for alike in list(groups.values())[:_MOST_OTHERS]:
            more = f"; and {len(alike) - 1} more echoes or phases" if len(alike) > 1 else ""
            tails = _comment_tails(_told(alike[0]) + more)
            lines += [f"#   {_choice_of(alike[0], kinds)}", *(f"#  {line}" for line in tails)]
        if len(groups) > _MOST_OTHERS:
            lines.append(f"#   and {len(groups) - _MOST_OTHERS} more kinds")
    if plan.series:
        lines.append(f"series: {_flow(plan.series)}")
    return lines


def _source_lines(plan: ScanPlan, sources: Source) -> list[str]:
    if sources is None or isinstance(sources, Path):
        return [
            *_comment(
                "A table lists the volumes, one in each line, because no pattern finds exactly these; you may edit it."
            ),
            f"sources: {{images: {_value(str(sources))}}}",
        ]
    images, masks = sources
    lines = ["sources:", f"  images: {_value(images)}"]
    if isinstance(masks, str):
        return [*lines, f"  masks: {_value(masks)}"]
    return [*lines, "  masks:", *(f"    {_value(label)}: {_value(pattern)}" for label, pattern in masks.items())]


def _label_lines(facts: ScanFacts) -> list[str]:
    return [
        *_comment("Integers that were found in the masks; give each the name of its structure."),
        *(line for note in facts.label_notes for line in _comment(note)),
        "labels:",
        *(f"  {number}: {{name: {_value(name)}}}" for number, name in facts.labels.items()),
    ]


def _left_out_lines(plan: ScanPlan) -> list[str]:
    if not plan.left_out:
        return []
    shown = [f"#   {_one_line(who)}: {_one_line(why)}" for who, why in plan.left_out[:_MOST_LEFT_OUT]]
    rest = len(plan.left_out) - _MOST_LEFT_OUT
    return ["# Left out:", *shown, *([f"#   and {rest} more"] if rest > 0 else []), ""]


def _told(kind: ImageKind) -> str:
    image = kind.first
    size = " x ".join(map(str, image.shape))
    facts = [f'"{_one_line(kind.name)}"' if kind.name else "without description", f"{image.plane} {size}".strip()]
    facts += [] if image.echo_ms is None else [f"echo {image.echo_ms:g} ms"]
    facts += [image.part] if image.part else []
    facts += [f"phase {image.phase}"] if image.phase else []
    facts += ["localizer"] if image.localizer else []
    subjects = "1 subject" if len(kind.images) == 1 else f"{len(kind.images)} subjects"
    return f"{', '.join(facts)}: {subjects}, {len(kind.masked)} with a mask on its grid"


def _choice_of(kind: ImageKind, kinds: Sequence[ImageKind]) -> str:
    """The keys that tell a kind of series apart from the others."""
    image: FoundImage = kind.first
    if not image.is_dicom:
        return f'--series "{_one_line(kind.name)}*"'
    text = description_to_choose(kind.name)
    keys: dict[str, Any] = {} if text is None else {"description": text}
    alike = [other.first for other in kinds if other.name.casefold() == kind.name.casefold()]
    for key in ("plane", "part", "echo_ms", "phase"):
        value = getattr(image, key)
        if value is not None and len({getattr(one, key) for one in alike}) > 1:
            keys[key] = value
    return f"series: {_flow(keys or {'plane': image.plane})}"


def _comment_tails(text: str) -> list[str]:
    return [f"     {line}" for line in textwrap.wrap(text, _WIDTH - 8)]


def _flow(values: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {_value(value)}" for key, value in values.items()) + "}"


def _value(value: Any) -> str:
    """A value as YAML in one line; a text as JSON writes it, which YAML reads too, unless it is a plain word."""
    if isinstance(value, str) and _PLAIN_WORD.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> list[str]:
    """Lines of a comment."""
    lines, line = [], "#"
    for word in _one_line(text).split(" "):
        if len(line) + 1 + len(word) > _WIDTH and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return [*lines, line]


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


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
