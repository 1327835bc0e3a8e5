"""Prepare a store from raw images or a phantom cohort, or check the biomarkers on a voxel grid (--phantom-check)."""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.core.files import read_json, write_json

if TYPE_CHECKING:
    from sam2ft.data.prepare.prepare import PrepareSummary, VolumeOutcome


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/prepare.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="volumes that are finished and unchanged are not prepared again; exit code 3: some were refused",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "dataset", type=Path, nargs="?", help="dataset file, such as experiments/datasets/oai_knee.yaml"
    )
    source.add_argument("--phantom", choices=("knee", "spine"), help="make a cohort whose biomarkers are known")
    source.add_argument(
        "--phantom-check",
        action="store_true",
        help="measure solids of known size on the grid of --spacing and print the bias of each biomarker; no store",
    )
    parser.add_argument("--out", type=Path, metavar="STORE", help="folder of the store")
    parser.add_argument(
        "--workers", type=_count, default=1, metavar="N", help="parallel processes, which share the volumes"
    )
    parser.add_argument(
        "--spacing",
        type=_spacing,
        metavar="ROW,COLUMN,SLICE",
        help="with --phantom-check: distance of rows, columns and slices in mm, such as 0.36,0.36,0.7",
    )
    parser.add_argument("--json", action="store_true", help="with --phantom-check: print JSON to stdout")
    parser.add_argument(
        "--subjects", type=_count, default=8, metavar="N", help="subjects of the phantom cohort (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the phantom cohort (default: 0)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number of 1 or more")
    return int(text)


def _spacing(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: three numbers such as 0.36,0.36,0.7") from None


def main() -> int:
    """Run launch/prepare.py; returns the exit code."""
    arguments = parser()
    given = arguments.parse_args()
    if given.phantom_check:
        if given.spacing is None:
            arguments.error("--phantom-check needs --spacing ROW,COLUMN,SLICE")
        from sam2ft.phantom.biomarker_bias import phantom_check

        phantom_check(given.spacing, as_json=given.json)
        return 0
    if given.out is None:
        arguments.error("--out STORE is missing")
    if given.spacing is not None or given.json:
        arguments.error("--spacing and --json need --phantom-check")
    if given.phantom:
        summary = prepare_phantom(given.phantom, given.subjects, given.seed, given.out, given.workers)
    else:
        summary = prepare(given.dataset, given.out, workers=given.workers)
    print(summary.store)
    return 0


def prepare(dataset_file: Path, out: Path, base: Path = Path(), workers: int = 1) -> "PrepareSummary":
    """Prepare the images that `dataset_file` describes into the store `out`.

    Args:
        base: folder that the paths of the dataset file are relative to; the working directory by default.
        workers: number of parallel processes, which share the volumes.

    Raises:
        UserError: nothing could be prepared.
        IncompleteError: some volumes were refused; names each of them.
    """
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.prepare.prepare import UNCHANGED, prepare_dataset

    config = load_dataset(dataset_file)
    with _progress("preparing") as show:

        def report(done: int, total: int, outcome: "VolumeOutcome") -> None:
            if outcome.result != UNCHANGED:
                show(done, total, f"{outcome.key} {outcome.result}")

        summary = prepare_dataset(config, base, out, report, workers=workers)
    print(_text(summary), file=sys.stderr)
    if summary.refused:
        counts = f"{len(summary.refused)} of {len(summary.outcomes)} volumes were refused, the others are prepared"
        refused = (f"  {outcome.key}: {outcome.reason}" for outcome in summary.refused)
        raise IncompleteError("\n".join([f"{counts}:", *refused]))
    return summary


def prepare_phantom(kind: str, subjects: int, seed: int, out: Path, workers: int = 1) -> "PrepareSummary":
    """Write a phantom cohort as raw DICOM and NIfTI to `out`/source, and prepare it like any other dataset.

    A complete cohort with the same kind, number of subjects and seed is not made again.

    Raises:
        DataError: `out` contains anything but a phantom store.
    """
    from sam2ft.phantom.cohort import write_cohort

    source = out / "source"
    cohort = {"kind": kind, "subjects": subjects, "seed": seed}
    marker = source / "phantom.json"
    if not marker.is_file() and out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out}: is not empty and was not made from a phantom; give a new folder")
    if not marker.is_file() or read_json(marker) != cohort | {"complete": True}:
        shutil.rmtree(source, ignore_errors=True)
        write_json(marker, cohort | {"complete": False})
        with _progress("drawing") as show:
            write_cohort(kind, subjects, seed, source, show)
        write_json(marker, cohort | {"complete": True})
    return prepare(source / "dataset.yaml", out, base=source, workers=workers)


def _text(summary: "PrepareSummary") -> str:
    from sam2ft.data.prepare.prepare import REFUSED, STORED, UNCHANGED

    counts = {"prepared": STORED, "unchanged": UNCHANGED, "refused": REFUSED}
    volumes = ", ".join(f"{summary.count(result)} {name}" for name, result in counts.items() if summary.count(result))
    splits = ", ".join(f"{split} {count}" for split, count in summary.splits.items())
    empty = [split for split, count in summary.splits.items() if count == 0]
    notes = [f"no prepared subject is in {' or '.join(empty)}"] if empty else []
    if summary.unlabelled:
        notes.append(f"without any label in the mask: {', '.join(map(str, summary.unlabelled))}")
    notes += summary.disagreements
    notes += [f"{outcome.key}: {note}" for outcome in summary.outcomes for note in outcome.notes]
    return "\n".join([f"{summary.store}: {volumes}; subjects: {splits}", *notes])


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yield show(done, total, name): a progress bar on a terminal, otherwise one line per call."""
    if not sys.stderr.isatty():
        yield lambda done, total, name: print(f"{what} {done}/{total}: {name}", file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, name: bar.update(
            task, completed=done, total=total, description=f"{what} {escape(name)}"
        )


if __name__ == "__main__":
    run_command(main)
