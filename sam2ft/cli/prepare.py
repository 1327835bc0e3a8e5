"""Prepare a store from raw images or a phantom cohort, report on one, or check the biomarkers on a grid."""

import argparse
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from sam2ft.core.command import run_command, whole_number
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.core.files import read_json
from sam2ft.data.prepare.outcomes import (
    DEFAULTS,
    MINUTES,
    REFUSED,
    STORED,
    UNCHANGED,
    PrepareOptions,
    PrepareSummary,
    Surplus,
    VolumeOutcome,
    refused_lines,
)
from sam2ft.report.integrity.told import Refused, page_of_store, report_or_note, written_report

# Behind a phantom is no person: the same cohort gives the same store, hashes of UIDs included.
_PHANTOM_KEY = bytes(range(32))
_NOT_BESIDE_REPORT = ("out", "spacing", "prune", "verify", "upgrade", "yes", "json", "max_volume_gb")


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/prepare.py."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="volumes that are finished and unchanged are not prepared again; exit code 3: some are refused or gone",
    )
    _add_sources(parser)
    parser.add_argument("--out", type=Path, metavar="STORE", help="folder of the store")
    parser.add_argument(
        "--workers", type=whole_number, default=1, metavar="N", help="parallel processes, which share the volumes"
    )
    parser.add_argument(
        "--spacing",
        type=_spacing,
        metavar="ROW,COLUMN,SLICE",
        help="with --phantom-check: distance of rows, columns and slices in mm, such as 0.36,0.36,0.7",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="list stored volumes whose images are gone and files of earlier states, then remove them from the store",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read every stored array and compare its digest; volumes that were damaged are prepared again",
    )
    parser.add_argument(
        "--upgrade",
        action="store_true",
        help="prepare a store of an earlier version by today's rules: list every number that changes, and ask",
    )
    parser.add_argument("--yes", action="store_true", help="with --prune and --upgrade: do not ask")
    parser.add_argument("--json", action="store_true", help="with --phantom-check: print JSON to stdout")
    parser.add_argument(
        "--subjects", type=whole_number, default=8, metavar="N", help="subjects of the phantom cohort (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the phantom cohort (default: 0)")
    _add_limits(parser)
    return parser


def _add_sources(parser: argparse.ArgumentParser) -> None:
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
    source.add_argument(
        "--report",
        type=Path,
        metavar="STORE",
        help="write report.html of a prepared store again, and print its path; the store stays as it is",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-volume-gb",
        type=_positive,
        metavar="GIB",
        help="refuse a volume whose voxels need more memory, before it is read (default: max_volume_gb of the dataset "
        "file, 4)",
    )
    parser.add_argument(
        "--max-volume-minutes",
        type=_positive,
        default=MINUTES,
        metavar="M",
        help=f"refuse a volume that takes longer to read (default: {MINUTES:g})",
    )


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a number above 0")
    return value


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
    if given.report is not None:
        for name in _NOT_BESIDE_REPORT:
            if getattr(given, name) not in (None, False):
                arguments.error(f"--report takes --workers alone, not --{name.replace('_', '-')}")
        _report_on(given.report, None, given.workers, written_report)
        print(page_of_store(given.report))
        return 0
    if given.out is None:
        arguments.error("--out STORE is missing")
    if given.spacing is not None or given.json:
        arguments.error("--spacing and --json need --phantom-check")
    options = PrepareOptions(
        given.workers,
        isolated=True,
        minutes=given.max_volume_minutes,
        verify=given.verify,
        upgrade=_may_upgrade(given.yes) if given.upgrade else None,
        prune=_may_prune(given.yes) if given.prune else None,
    )
    if given.phantom:
        if given.max_volume_gb is not None:
            arguments.error("--max-volume-gb is for images of your own; a phantom has a fixed size")
        summary = prepare_phantom(given.phantom, given.subjects, given.seed, given.out, options)
    else:
        summary = prepare(given.dataset, given.out, options=options, max_volume_gb=given.max_volume_gb)
    print(summary.store)
    return 0


def prepare(
    dataset_file: Path,
    out: Path,
    base: Path = Path(),
    options: PrepareOptions = DEFAULTS,
    max_volume_gb: float | None = None,
) -> PrepareSummary:
    """Prepare the images that `dataset_file` describes into the store `out`.

    Args:
        base: folder that the paths of the dataset file are relative to; the working directory by default.
        max_volume_gb: replaces the key of the dataset file.

    Raises:
        UserError: nothing could be prepared.
        IncompleteError: some volumes were refused or are missing; names each of them.
    """
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.prepare.prepare import prepare_dataset

    config = load_dataset(dataset_file, (base,))
    if max_volume_gb is not None:
        config = replace(config, reading=config.reading.model_copy(update={"max_volume_gb": max_volume_gb}))
    with _progress("preparing") as (show, pause):

        def report(done: int, total: int, outcome: VolumeOutcome) -> None:
            if outcome.result != UNCHANGED or sys.stderr.isatty():
                show(done, total, f"{outcome.key} {outcome.result}")

        upgrade, prune = _after(pause, options.upgrade), _after(pause, options.prune)
        summary = prepare_dataset(config, base, out, report, replace(options, upgrade=upgrade, prune=prune))
    print(_text(summary), file=sys.stderr)
    problems = [*_refused(summary), *_missing(summary)]
    refused = [(outcome.key, outcome.reason) for outcome in summary.refused]
    try:
        _report_on(summary.store, refused, options.workers, report_or_note)
    except OSError:  # of the disk, which goes before what is incomplete
        print(*problems, sep="\n", file=sys.stderr)
        raise
    if problems:
        raise IncompleteError("\n".join(problems))
    return summary


def _report_on(store: Path, refused: Refused | None, workers: int, report: Callable[..., str]) -> None:
    with _progress("measuring") as (show, _):
        told = report(store, refused, workers, show if sys.stderr.isatty() else None)
    print(told, file=sys.stderr)


def _refused(summary: PrepareSummary) -> list[str]:
    if not summary.refused:
        return []
    were = "was" if len(summary.refused) == 1 else "were"
    counts = f"{len(summary.refused)} of {len(summary.outcomes)} volumes {were} refused, the others are prepared"
    return [f"{counts}:", *(f"  {line}" for line in refused_lines(summary.refused, summary.kept))]


def _missing(summary: PrepareSummary) -> list[str]:
    if not summary.missing:
        return []
    images = (
        "the image of 1 stored volume is"
        if len(summary.missing) == 1
        else (f"the images of {len(summary.missing)} stored volumes are")
    )
    return [f"{images} gone; nothing is removed without --prune:", *(f"  {key}" for key in summary.missing)]


Found = TypeVar("Found")


def _after(pause: Callable[[], None], ask: Callable[[Found], bool] | None) -> Callable[[Found], bool] | None:
    """`ask` with a terminal that shows its question: a progress bar would hide it."""

    def paused(found: Found) -> bool:
        pause()
        return ask is not None and ask(found)

    return None if ask is None else paused


def _may_upgrade(yes: bool) -> Callable[[Sequence[str]], bool]:
    """List what changes; ask unless `yes`. Without a terminal the answer is no."""

    def ask(changes: Sequence[str]) -> bool:
        ids = ", and runs and evaluations of them get new ids:" if changes else ": every number and id stays"
        print(
            f"volumes that change: {len(changes)}{ids}", *(f"  {line}" for line in changes), sep="\n", file=sys.stderr
        )
        return yes or _asked("store them so?")

    return ask


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        print(f"{question} Add --yes to agree.", file=sys.stderr)
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _may_prune(yes: bool) -> Callable[[Surplus], bool]:
    """List what may be removed; ask on a terminal, unless `yes`."""

    def ask(surplus: Surplus) -> bool:
        volumes = [f"  {key}" for key in surplus.volumes]
        print(
            f"--prune removes volumes whose images are gone: {len(surplus.volumes)}; files: {len(surplus.files)} "
            f"({surplus.num_bytes / 1e6:.1f} MB):",
            *volumes,
            *(f"  {path}" for path in surplus.files),
            sep="\n",
            file=sys.stderr,
        )
        return yes or not sys.stdin.isatty() or _asked("remove them?")

    return ask


def prepare_phantom(
    kind: str, subjects: int, seed: int, out: Path, options: PrepareOptions = DEFAULTS
) -> PrepareSummary:
    """Write a phantom cohort as raw DICOM and NIfTI to `out`/source, and prepare it like any other dataset.

    A complete cohort with the same kind, number of subjects and seed is not made again. Another cohort of the same kind
    replaces its sources, and the store follows as it does for any other change of sources.

    Raises:
        DataError: `out` contains anything but a phantom store of this kind, or another process writes to it.
    """
    from sam2ft.data.prepare.prepare import store_lock
    from sam2ft.data.store.index import read_index
    from sam2ft.data.store.key_file import write_key
    from sam2ft.phantom.cohort import write_cohort

    source = out / "source"
    cohort = {"kind": kind, "subjects": subjects, "seed": seed}
    marker = source / "phantom.json"
    if not marker.is_file() and out.is_dir() and any(out.iterdir()):
        raise DataError(f"{out}: is not empty and was not made from a phantom; give a new folder")
    made = _marked(marker)
    stored = {"dataset": f"{made.get('kind', kind)}_phantom"}
    with suppress(DataError):  # a damaged index: the preparation below makes it again
        stored = read_index(out) or stored
    if stored["dataset"] != f"{kind}_phantom":
        raise DataError(
            f"{out}: holds the store of dataset {stored['dataset']!r}; give a new folder for a {kind} phantom"
        )
    with store_lock(out):
        if made != cohort | {"complete": True}:
            shutil.rmtree(source, ignore_errors=True)
            write_sealed_json(marker, cohort | {"complete": False})
            with _progress("drawing") as (show, _):
                write_cohort(kind, subjects, seed, source, show)
            write_sealed_json(marker, cohort | {"complete": True})
        if not (key_file := source / f"{kind}_phantom.key").exists():
            write_key(key_file, _PHANTOM_KEY)
    return prepare(source / "dataset.yaml", out, base=source, options=options)


def _marked(marker: Path) -> dict[str, Any]:
    """Which phantom cohort the sources are; empty where none is known, so that it is drawn again."""
    try:
        return dict(read_json(marker)) if marker.is_file() else {}
    except (DataError, ValueError) as error:
        print(f"note: {error}; the cohort is drawn again", file=sys.stderr)
        return {}


def _text(summary: PrepareSummary) -> str:
    counts = {"prepared": STORED, "unchanged": UNCHANGED, "refused": REFUSED}
    volumes = ", ".join(f"{summary.count(result)} {name}" for name, result in counts.items() if summary.count(result))
    splits = ", ".join(f"{split} {count}" for split, count in summary.splits.items())
    empty = [split for split, count in summary.splits.items() if count == 0]
    notes = [f"no prepared subject is in {' or '.join(empty)}"] if empty else []
    if summary.unlabelled:
        notes.append(f"without any label in the mask: {', '.join(map(str, summary.unlabelled))}")
    if unused := summary.surplus.files:
        size = f"{summary.surplus.num_bytes / 1e6:.1f} MB"
        notes.append(
            f"{len(unused)} files of volumes that are gone and of earlier states ({size}); --prune removes them"
        )
    notes += [*summary.notes, *summary.key_notes, *summary.disagreements]
    notes += [f"{outcome.key}: {note}" for outcome in summary.outcomes for note in outcome.notes]
    return "\n".join([f"{summary.store}: {volumes}; subjects: {splits}", *summary.balance, *notes])


@contextmanager
def _progress(what: str) -> Iterator[tuple[Callable[[int, int, str], None], Callable[[], None]]]:
    """Yield show(done, total, name), a bar on a terminal, otherwise one line per call; and what ends the bar."""
    if not sys.stderr.isatty():
        yield (
            lambda done, total, name: print(f"{what} {done}/{total}: {name}", file=sys.stderr, flush=True),
            lambda: None,
        )
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)

        def show(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=f"{what} {escape(name)}")

        yield show, bar.stop


if __name__ == "__main__":
    run_command(main)
