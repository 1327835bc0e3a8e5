"""Plan an experiment and run or submit what is missing."""

import argparse
from pathlib import Path

from sam2ft.core.command import command


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog="a second call finds nothing to do and says so")
    parser.add_argument("experiment", type=Path, help="experiment file, such as experiments/lr_grid.yaml")
    parser.add_argument("--dry-run", action="store_true", help="check everything and show the plan, start nothing")
    parser.add_argument("--site", metavar="NAME", help="submit to Slurm as slurm/sites/NAME.yaml says")
    parser.add_argument("--local", type=int, metavar="N", help="run here, N points at a time")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument(
        "--retry", choices=("failed", "error", "oom", "timeout", "all"), help="also start runs that failed (so)"
    )
    parser.add_argument("--force", action="store_true", help="train finished runs again from the start")
    parser.add_argument("--yes", action="store_true", help="start more runs than are started without asking")
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")
    return parser


def main() -> int:
    given = parser().parse_args()
    from sam2ft.cluster.sweep import SweepRequest, sweep

    return sweep(
        SweepRequest(
            experiment=given.experiment,
            overrides=tuple(given.set),
            site=given.site,
            local=given.local,
            dry_run=given.dry_run,
            retry=given.retry,
            force=given.force,
            yes=given.yes,
            as_json=given.json,
        )
    )


if __name__ == "__main__":
    command(main)
