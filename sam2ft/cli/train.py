"""Train one point of an experiment in this process, in the foreground (also under torchrun)."""

import argparse
from pathlib import Path

from sam2ft.core.command import run_command


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/train.py."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="call it again to continue an interrupted training")
    parser.add_argument("experiment", type=Path, help="experiment file, such as experiments/quickstart.yaml")
    parser.add_argument("--point", type=int, metavar="I", help="index of the point; needed when the file has a sweep")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument("--fresh", action="store_true", help="train again from the start")
    return parser


def main() -> int:
    """Run launch/train.py; returns the exit code."""
    given = parser().parse_args()
    from sam2ft.sweeps.local.train_here import train_here

    return train_here(given.experiment, tuple(given.set), point=given.point, fresh=given.fresh)


if __name__ == "__main__":
    run_command(main)
