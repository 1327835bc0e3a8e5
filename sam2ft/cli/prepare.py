"""Prepare a store from raw images or a phantom cohort, or check the biomarkers on a voxel grid (--phantom-check)."""

import argparse
from pathlib import Path

from sam2ft.core.command import run_command


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
    from sam2ft.cli.prepare_store import prepare, prepare_phantom

    if given.phantom:
        summary = prepare_phantom(given.phantom, given.subjects, given.seed, given.out, given.workers)
    else:
        summary = prepare(given.dataset, given.out, workers=given.workers)
    print(summary.store)
    return 0


if __name__ == "__main__":
    run_command(main)
