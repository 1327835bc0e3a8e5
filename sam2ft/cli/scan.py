"""Look through folders of images: show series and masks, pair them, and write a dataset file that prepares as it is."""

import argparse
import csv
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2ft.core.command import run_command, whole_number
from sam2ft.core.errors import DataError, UserError, number_of

if TYPE_CHECKING:
    from sam2ft.data.scan.scanned import Progress, Scanned
    from sam2ft.data.scan.shown import Overview

_KEYS = ("description", "number", "plane", "echo_ms", "part", "phase")
_FEW = 12
"""Images that are listed one by one without --each."""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of `sam2ft scan`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="the output shows descriptions of series and names of folders, which may name persons; names in headers "
        "are never shown",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="folders of images and masks")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a dataset file, such as knees.yaml")
    parser.add_argument("--force", action="store_true", help="with --out: replace a file that is there")
    parser.add_argument(
        "--series",
        action="append",
        default=[],
        metavar="TEXT",
        help=f"use these images: a description with * for any text, or KEY=VALUE with {', '.join(_KEYS)}; repeat it "
        "for several keys",
    )
    parser.add_argument(
        "--level",
        type=whole_number,
        metavar="N",
        help="which folder below FOLDER names the subject, from 1 (default: the first one at which folders differ)",
    )
    parser.add_argument("--unpack", type=Path, metavar="DIR", help="unpack zip archives into DIR and scan them too")
    parser.add_argument("--each", action="store_true", help="list every series, not only their kinds")
    parser.add_argument(
        "--hash",
        action="store_true",
        help="show numbers in place of names of subjects; the dataset file has subject_id: hash",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON to stdout")
    form.add_argument("--csv", action="store_true", help="print a line per series as CSV to stdout")
    return parser


def main() -> int:
    """Run `sam2ft scan`; returns the exit code."""
    arguments = parser()
    given = arguments.parse_args()
    if given.force and given.out is None:
        arguments.error("the file that would be replaced is not named")
    wanted = choice_of(given.series)
    if given.out is not None:
        from sam2ft.data.scan.dataset_file import refuse_overwriting

        refuse_overwriting(given.out, force=given.force)
    with _progress() as show:
        found = look_through(given, wanted, show)
    width = shutil.get_terminal_size().columns
    if given.json:
        print(json.dumps(as_json(found), indent=1))
    elif given.csv:
        _print_csv(found)
    else:
        _print_text(found, width, each=given.each)
    if given.out is not None:
        _write(found, given)
    return 0


def choice_of(texts: Sequence[str]) -> Mapping[str, Any]:
    """The keys that --series gives, with their values.

    Raises:
        UserError: a key or value is not allowed.
    """
    from pydantic import ValidationError

    from sam2ft.config.schema.series import SeriesChoice

    given: dict[str, str] = {}
    for text in texts:
        key, found, value = text.partition("=")
        name, content = (key.strip(), value.strip()) if found and key.strip() in _KEYS else ("description", text)
        if name in given:
            raise UserError(f"series: {name} is given twice; allowed: each key once")
        given[name] = content
    try:
        return dict(SeriesChoice.model_validate_strings(given).chosen)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise UserError(
            f"series: {name} is {given.get(name)}; allowed: what series.{name} of a dataset file may be"
        ) from None


def look_through(given: argparse.Namespace, wanted: Mapping[str, Any], show: "Progress") -> "Overview":
    """Scan the folders and plan a dataset.

    Raises:
        DataError: a folder is away, or --series fits nothing.
    """
    from sam2ft.data.scan.kinds import chosen_kind, image_kinds_of
    from sam2ft.data.scan.pairing import paired_masks
    from sam2ft.data.scan.plan import planned
    from sam2ft.data.scan.scanned import scanned
    from sam2ft.data.scan.series_choice import choose_series, confirm
    from sam2ft.data.scan.shown import Overview
    from sam2ft.data.scan.subjects import subjects_of

    roots = list(dict.fromkeys(given.folders))
    scan = scanned(roots, show)
    if given.unpack is not None and (folders := _unpacked(scan, roots, given.unpack)):
        scan = scanned([*roots, *folders], show)
        scan.archives = []
    subjects = subjects_of(scan.images, given.level, scan.masks, roots)
    pairing = paired_masks(scan.images, scan.masks, subjects)
    kinds = image_kinds_of(scan.images, subjects, pairing)
    if wanted and kinds:
        chosen_kind(kinds, wanted)
    plan = planned(kinds, subjects, pairing, wanted)
    choose_series(plan, scan.images, wanted)
    if given.out is not None:
        confirm(plan, show)
    numbers = {name: f"subject {number}" for number, name in enumerate(subjects.names, start=1)} if given.hash else {}
    return Overview(scan, subjects, pairing, kinds, plan, numbers)


def _unpacked(scan: "Scanned", roots: Sequence[Path], into: Path) -> list[Path]:
    """Unpack all archives; the folders to scan besides `roots`."""
    from sam2ft.data.scan.archives import unpack_zip

    places = Counter(archive.path.relative_to(root) for archive, root in scan.archives)
    for archive, root in scan.archives:
        # P01.zip of two folders: below their names.
        unpack_zip(archive, root if places[archive.path.relative_to(root)] == 1 else root.parent, into)
    inside = any(into.resolve().is_relative_to(root.resolve()) for root in roots)
    return [] if inside or not into.is_dir() else [into]


def _print_text(found: "Overview", width: int, *, each: bool) -> None:
    from sam2ft.data.scan.shown import overview_lines, series_lines

    print(*overview_lines(found, width), sep="\n")
    if found.scan.images and (each or len(found.scan.images) <= _FEW):
        print("", *series_lines(found, width), sep="\n")


def _write(found: "Overview", given: argparse.Namespace) -> None:
    from sam2ft.data.scan.dataset_file import ScanFacts, write_dataset_file
    from sam2ft.data.scan.labels import label_table

    labels, notes = label_table(found.plan, found.scan.stray)
    command = " ".join(["sam2ft scan", *map(str, given.folders)])
    warnings = (*found.subjects.warnings, *found.scan.notes)
    facts = ScanFacts(command, found.kinds, labels, notes, warnings, given.hash)
    written = write_dataset_file(found.plan, facts, given.out)
    beside = "" if written.table is None else f", and {written.table} with a line for each"
    volumes, subjects = number_of(len(found.plan.volumes), "volume"), number_of(len(found.plan.subjects), "subject")
    print(
        f"wrote {written.file}: {volumes} of {subjects}{beside}",
        f"read it, then: sam2ft prepare {written.file} --out data/{written.file.stem}",
        sep="\n",
        file=sys.stderr,
    )


def as_json(found: "Overview") -> dict[str, Any]:
    """Everything that was found, for programs."""
    scan, hidden = found.scan, found.hidden
    return {
        "folders": [hidden(str(root)) for root in scan.roots],
        "subjects": [hidden(name) for name in found.subjects.names],
        "subject_rule": found.subjects.rule,
        "images": list(image_rows(found)),
        "masks": [
            {
                "subject": hidden(pair.subject),
                "path": hidden(str(pair.mask.path)),
                "kind": pair.mask.kind,
                "labels": list(pair.mask.values),
                "names": {str(value): name for value, name in pair.mask.names.items()},
                "found_by": pair.by,
                "images": [hidden(str(image.place)) for image in pair.images],
            }
            for pair in found.pairing.pairs
        ],
        "masks_of_no_image": [[hidden(str(mask.path)), hidden(why)] for mask, why in found.pairing.lonely],
        "volumes": [
            {
                "subject": hidden(volume.subject),
                "volume": hidden(volume.volume),
                "image": hidden(str(volume.image.place)),
                "masks": [hidden(str(mask.path)) for mask in volume.masks.values()],
                "series": {**found.plan.series, **volume.series},
            }
            for volume in found.plan.volumes
        ],
        "choices": [hidden(choice) for choice in found.plan.choices],
        "left_out": [[hidden(who), hidden(why)] for who, why in found.plan.left_out],
        "warnings": [hidden(warning) for warning in (*found.subjects.warnings, *scan.notes)],
        "archives": [hidden(str(archive.path)) for archive, _ in scan.archives],
        "unreadable": [[hidden(str(path)), hidden(why)] for path, why in scan.unreadable],
        "not_looked_into": [[hidden(str(path)), why] for path, why in scan.left_out],
        "other_dicom": dict(scan.others),
        "other_files": [hidden(str(path)) for path in scan.stray],
    }


def image_rows(found: "Overview") -> Iterator[dict[str, Any]]:
    """One row per series or image file."""
    used = {volume.image for volume in found.plan.volumes}
    for image in found.scan.images:
        edges = [None] * 3 if image.grid is None else [round(float(edge), 6) for edge in image.grid.edges_mm]
        yield {
            "subject": found.hidden(found.subjects.of_place[image.place]),
            "place": found.hidden(str(image.place)),
            "kind": image.kind,
            "description": image.description,
            "number": image.number,
            "plane": image.plane,
            "voxels": " ".join(map(str, image.shape)),
            "mm": " ".join("?" if edge is None else f"{edge:g}" for edge in edges),
            "part": image.part,
            "echo_ms": image.echo_ms,
            "phase": image.phase,
            "localizer": int(image.localizer),
            "files": image.num_files,
            "used": int(image in used),
            "problem": found.hidden("; ".join(image.problems)),
        }


def _print_csv(found: "Overview") -> None:
    rows = list(image_rows(found))
    if not rows:
        raise DataError(f"{', '.join(map(str, found.scan.roots))}: no image was found")
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


@contextmanager
def _progress() -> Iterator["Progress"]:
    """A line that is written over on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    try:
        yield lambda done, total, where: print(f"\r\x1b[K{done}/{total} {where[-60:]}", end="", file=sys.stderr)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
