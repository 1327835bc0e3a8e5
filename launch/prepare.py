"""Make a store from raw images, or from a phantom cohort."""

import argparse
from pathlib import Path

from sam2ft.core.command import command


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="what is finished and unchanged is not done again; exit code 3: some were refused"
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "dataset", type=Path, nargs="?", help="dataset file, such as experiments/datasets/oai_knee.yaml"
    )
    source.add_argument("--phantom", choices=("knee", "spine"), help="make subjects whose every biomarker is known")
    parser.add_argument("--out", type=Path, required=True, metavar="STORE", help="folder of the store")
    parser.add_argument("--subjects", type=_count, default=8, metavar="N", help="of the phantom cohort (default: 8)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the phantom cohort (default: 0)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of subjects from 1")
    return int(text)


def main() -> int:
    given = parser().parse_args()
    from sam2ft.run.prepare_run import prepare, prepare_phantom

    if given.phantom:
        summary = prepare_phantom(given.phantom, given.subjects, given.seed, given.out)
    else:
        summary = prepare(given.dataset, given.out)
    print(summary.store)
    return 0


if __name__ == "__main__":
    command(main)
