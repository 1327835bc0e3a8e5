"""Plan an experiment and run or submit the missing runs."""

import argparse
from pathlib import Path

from sam2ft.core.command import run_command
from sam2ft.core.errors import UserError
from sam2ft.runs.states import FailureClass


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/sweep.py."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="a second call finds nothing left to do")
    parser.add_argument("experiment", type=Path, nargs="?", help="experiment file, such as experiments/lr_grid.yaml")
    parser.add_argument("--dry-run", action="store_true", help="check everything and show the plan; start nothing")
    parser.add_argument("--site", metavar="NAME", help="submit to Slurm with slurm/sites/NAME.yaml")
    parser.add_argument("--local", type=int, metavar="N", help="run on this machine, N points at a time")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="override a key of the file"
    )
    parser.add_argument(
        "--retry",
        choices=("failed", *map(str, FailureClass), "all"),
        help="also start failed runs (of this failure class; all: also unknown ones)",
    )
    parser.add_argument("--force", action="store_true", help="train finished runs again from the start")
    parser.add_argument(
        "--calibrate", action="store_true", help="measure seconds per step of each kind of run; start nothing"
    )
    parser.add_argument("--max-gpu-hours", type=float, metavar="H", help="refuse a sweep that may take more GPU-hours")
    parser.add_argument(
        "--strict-code", action="store_true", help="make the code part of run ids: other code, other runs"
    )
    parser.add_argument("--check-site", metavar="NAME", help="check slurm/sites/NAME.yaml without submitting work")
    parser.add_argument("--yes", action="store_true", help="confirm a sweep of more than 100 runs")
    parser.add_argument("--json", action="store_true", dest="as_json", help="print the plan as JSON to stdout")
    return parser


def main() -> int:
    """Run launch/sweep.py; returns the exit code."""
    given = parser().parse_args()
    if given.check_site is not None:
        from sam2ft.slurm.site_check import show_site_check

        return show_site_check(given.check_site, given.experiment, given.overrides, as_json=given.as_json)
    if given.experiment is None:
        raise UserError("experiment file missing; launch/sweep.py experiments/NAME.yaml")
    from sam2ft.sweeps.sweep import SweepRequest, sweep

    del given.check_site
    return sweep(SweepRequest(**vars(given)))


if __name__ == "__main__":
    run_command(main)
