"""Quality control (QC) pictures on the page: slices with their scores, and one sheet per label. No torch."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import filterfalse, islice
from pathlib import Path
from typing import Any

from PIL import Image

from sam2ft.core.digests.verified_files import read_with_digest
from sam2ft.core.errors import DataError
from sam2ft.core.files import sha256_file
from sam2ft.report.page.content import CaseLabel, Picture, SliceCase
from sam2ft.report.page.volumes import Assets, leave_out
from sam2ft.report.request import RunState

MOST_PICTURES = 240
"""Limit over all points: the best point shows all its pictures, the others share the rest, worst slices first."""
MOST_OF_ANOTHER = 6


def cases_of(
    states: Sequence[RunState], shown: str | None, assets: Assets
) -> tuple[tuple[SliceCase, ...], tuple[Picture, ...]]:
    """Slices and sheets of labels: all pictures of the run `shown`, a few of each other run.

    The picture files are added to `assets`, which maps a path beside the page to a file.
    """
    cases: list[SliceCase] = []
    sheets: list[Picture] = []
    others = max(1, len(states) - 1)
    ordered = sorted(states, key=lambda state: (state.planned.run_id != shown, state.planned.index))
    for state in ordered:
        is_shown = state.planned.run_id == shown
        most = None if is_shown else min(MOST_OF_ANOTHER, max(1, (MOST_PICTURES - len(cases)) // others))
        for eval_id in state.planned.eval_ids:
            folder = state.layout.evaluation(eval_id).qc
            if not (folder / "index.json").is_file():
                continue
            entries = _entries(folder / "index.json")
            prefix = f"assets/{state.planned.run_id}-{eval_id}"
            slices = _pictures(sorted(filterfalse(_is_sheet, entries), key=_place), folder, prefix, assets)
            cases += [_case(entry, picture, state, eval_id) for entry, picture in islice(slices, most)]
            if is_shown:
                sheets += [sheet for _, sheet in _pictures(filter(_is_sheet, entries), folder, prefix, assets)]
        others -= not is_shown
        others = max(1, others)
    return tuple(cases), tuple(sheets)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    """The pictures of an evaluation; none where the list is damaged. They are no result: the report is made without."""
    try:
        return list(json.loads(read_with_digest(path)))
    except (DataError, ValueError, TypeError) as error:
        leave_out(f"{str(error).partition('; ')[0]}", path.parent)
        return []


def _is_sheet(entry: Mapping[str, Any]) -> bool:
    return str(entry["file"]).startswith("label-")


def _place(entry: Mapping[str, Any]) -> int:
    """Failures of any label come first: earlier versions chose pictures by the mean over labels, which hides them."""
    failed = {str(one["status"]) for one in entry.get("labels", ()) if one["dice"] == 0}
    return 0 if "missed" in failed else 1 if failed else 2


def _pictures(
    entries: Iterable[Mapping[str, Any]], folder: Path, prefix: str, assets: Assets
) -> Iterator[tuple[Mapping[str, Any], Picture]]:
    """(entry, picture) of the existing files (users may delete pictures to save space); adds each file to `assets`.

    File names beside the page contain only ids and numbers; names of subjects are only in the captions.
    """
    for entry in entries:
        file = folder / Path(entry["file"]).name
        if "sha256" in entry and file.is_file() and sha256_file(file) != entry["sha256"]:
            leave_out(f"{file}: damaged, or changed after the evaluation wrote it", folder)
            continue
        try:
            with Image.open(file, formats=("PNG",)) as opened:  # reads the header only
                size = opened.size
        except OSError:
            continue
        # The page links to the file: with another suffix, what follows the picture could be opened as a page.
        if file.suffix != ".png":
            continue
        name = f"{prefix}-{file.name}"
        assets[name] = file
        yield entry, Picture(name, entry["caption"], size=size)


def _case(entry: Mapping[str, Any], picture: Picture, state: RunState, eval_id: str) -> SliceCase:
    """A slice with its scores; evaluations of earlier versions stored only the caption."""
    if "slice" not in entry:
        return SliceCase(picture, state.planned.name, state.planned.run_id, str(entry["caption"]))
    labels = (CaseLabel(one["label"], one["name"], one["dice"], one["status"]) for one in entry["labels"])
    return SliceCase(
        picture=picture,
        point=state.planned.name,
        run=state.planned.run_id,
        where=str(entry["slice"]),
        subject=entry["subject"],
        why=entry["why"],
        dice=entry["dice"],
        labels=tuple(labels),
        label=entry.get("label"),
        eval=eval_id,
    )
