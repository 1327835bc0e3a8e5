"""Plan an experiment and run or submit what is missing."""

import argparse
from pathlib import Path

from sam2ft.core.command import command
from sam2ft.core.errors import UserError


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog="a second call finds nothing to do and says so")
    parser.add_argument("experiment", type=Path, nargs="?", help="experiment file, such as experiments/lr_grid.yaml")
    parser.add_argument("--dry-run", action="store_true", help="check everything and show the plan, start nothing")
    parser.add_argument("--site", metavar="NAME", help="submit to Slurm as slurm/sites/NAME.yaml says")
    parser.add_argument("--local", type=int, metavar="N", help="run here, N points at a time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument(
        "--retry",
        choices=("failed", "error", "oom", "timeout", "no_progress", "all"),
        help="also start runs that failed (so)",
    )
    parser.add_argument("--force", action="store_true", help="train finished runs again from the start")
    parser.add_argument("--calibrate", action="store_true", help="measure seconds per step of each kind, start nothing")
    parser.add_argument("--max-gpu-hours", type=float, metavar="H", help="refuse to start what may take more")
    parser.add_argument("--strict-code", action="store_true", help="name runs by the code, too: other code, other runs")
    parser.add_argument("--check-site", metavar="NAME", help="prove slurm/sites/NAME.yaml without submitting work")
    parser.add_argument("--yes", action="store_true", help="start more runs than are started without asking")
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")
    return parser


def main() -> int:
    given = parser().parse_args()
    if given.check_site is not None:
        from sam2ft.slurm.site_check import show_site_check

        return show_site_check(given.check_site, given.experiment, given.set, as_json=given.json)
    if given.experiment is None:
        raise UserError("which experiment? launch/sweep.py experiments/NAME.yaml")
    from sam2ft.sweeps.sweep import SweepRequest, sweep

    return sweep(
        SweepRequest(
            experiment=given.experiment,
            overrides=tuple(given.set),
            site=given.site,
            local=given.local,
            dry_run=given.dry_run,
            retry=given.retry,
            force=given.force,
            calibrate=given.calibrate,
            strict_code=given.strict_code,
            max_gpu_hours=given.max_gpu_hours,
            yes=given.yes,
            as_json=given.json,
        )
    )


if __name__ == "__main__":
    command(main)
