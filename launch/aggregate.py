"""Collect all runs of an experiment into tables and a report."""

import argparse
from pathlib import Path

from sam2ft.core.command import command


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="experiment file, or its folder under runs/")
    parser.add_argument("--require-complete", action="store_true", help="end with 3 when a planned run is not done")
    return parser


def main() -> int:
    given = parser().parse_args()
    from sam2ft.cluster.collect import aggregate_experiment

    return aggregate_experiment(given.experiment, require_complete=given.require_complete)


if __name__ == "__main__":
    command(main)
