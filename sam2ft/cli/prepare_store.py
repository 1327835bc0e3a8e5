"""Preparation of a store from a dataset file or a phantom cohort, with a progress display (launch/prepare.py)."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.core.files import read_json, write_json
from sam2ft.data.prepare.prepare import REFUSED, STORED, UNCHANGED, PrepareSummary, VolumeOutcome, prepare_dataset


def prepare(dataset_file: Path, out: Path, base: Path = Path(), workers: int = 1) -> PrepareSummary:
    """Prepare the images that `dataset_file` describes into the store `out`.

    Args:
        base: folder that the paths of the dataset file are relative to; the working directory by default.
        workers: number of parallel processes, which share the volumes.

    Raises:
        UserError: nothing could be prepared.
        IncompleteError: some volumes were refused; names each of them.
    """
    config = load_dataset(dataset_file)
    with _progress("preparing") as show:

        def report(done: int, total: int, outcome: VolumeOutcome) -> None:
            if outcome.result != UNCHANGED:
                show(done, total, f"{outcome.key} {outcome.result}")

        summary = prepare_dataset(config, base, out, report, workers=workers)
    print(_text(summary), file=sys.stderr)
    if summary.refused:
        counts = f"{len(summary.refused)} of {len(summary.outcomes)} volumes were refused, the others are prepared"
        refused = (f"  {outcome.key}: {outcome.reason}" for outcome in summary.refused)
        raise IncompleteError("\n".join([f"{counts}:", *refused]))
    return summary


def prepare_phantom(kind: str, subjects: int, seed: int, out: Path, workers: int = 1) -> PrepareSummary:
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


def _text(summary: PrepareSummary) -> str:
    counts = {"prepared": STORED, "unchanged": UNCHANGED, "refused": REFUSED}
    volumes = ", ".join(f"{summary.count(result)} {name}" for name, result in counts.items() if summary.count(result))
    splits = ", ".join(f"{split} {count}" for split, count in summary.splits.items())
    empty = [split for split, count in summary.splits.items() if count == 0]
    notes = [f"no prepared subject is in {' or '.join(empty)}"] if empty else []
    if summary.unlabelled:
        notes.append(f"without any label in the mask: {', '.join(map(str, summary.unlabelled))}")
    notes += summary.disagreements
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
