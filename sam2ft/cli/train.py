"""Train one point of an experiment, here and now (also under torchrun)."""

import argparse
from pathlib import Path

from sam2ft.core.command import command


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, epilog="an interrupted training continues when called again")
    parser.add_argument("experiment", type=Path, help="experiment file, such as experiments/quickstart.yaml")
    parser.add_argument("--point", type=int, metavar="I", help="index of the point; needed when the file has a sweep")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the file")
    parser.add_argument("--fresh", action="store_true", help="start again, whatever was trained before")
    return parser


def main() -> int:
    given = parser().parse_args()
    from sam2ft.sweeps.local.here import train_here

    return train_here(given.experiment, tuple(given.set), point=given.point, fresh=given.fresh)


if __name__ == "__main__":
    command(main)
