"""Where every run of an experiment stands."""

import argparse
from pathlib import Path

from sam2ft.core.command import command


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", type=Path, help="experiment file, or its folder under runs/")
    parser.add_argument("--failed", action="store_true", help="only runs that failed or were lost")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    return parser


def main() -> int:
    given = parser().parse_args()
    from sam2ft.cluster.status import show_status

    return show_status(given.experiment, only_failed=given.failed, as_json=given.json)


if __name__ == "__main__":
    command(main)
