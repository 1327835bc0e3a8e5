"""Write a prepared store in the form of another program: as a raw dataset of nnU-Net v2, with the same splits."""

import argparse
import re
import shlex
import sys
from pathlib import Path

from sam2ft.core.command import run_command, whole_number

MOST_ID = 999


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of `sam2ft export`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="prints the folder that it wrote, and on stderr the commands of nnU-Net that come next; a folder that "
        "sam2ft did not write is never replaced",
    )
    parser.add_argument("form", choices=("nnunet",), help="form of the files: a raw dataset of nnU-Net v2")
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of the store")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of raw datasets (nnUNet_raw) to write into"
    )
    parser.add_argument(
        "--id", type=_number, default=501, metavar="N", help="number of the dataset, 1 to 999 (default: 501)"
    )
    parser.add_argument("--name", type=_name, help="name of the dataset behind its number (default: that of the store)")
    parser.add_argument(
        "--leave-out-partial",
        action="store_true",
        help="leave out volumes in which not all labels were drawn (default: they are refused)",
    )
    parser.add_argument(
        "--workers", type=whole_number, default=1, metavar="N", help="parallel processes, which share the volumes"
    )
    return parser


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ID:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number from 1 to {MOST_ID}")
    return int(text)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: letters without accents, digits, _ and -")
    return text


def main() -> int:
    """Run `sam2ft export`; returns the exit code."""
    from sam2ft.data.export.nnunet_export import nnunet_export
    from sam2ft.data.export.nnunet_folder import write_nnunet
    from sam2ft.data.store.store import Store

    given = parser().parse_args()
    export = nnunet_export(
        Store.open(given.store), given.id, given.name or "", leave_out_partial=given.leave_out_partial
    )

    def progress(done: int, total: int, case: str) -> None:
        print(f"exporting {done}/{total}: {case}", file=sys.stderr, flush=True)

    written = write_nnunet(export, given.out, progress, given.workers)
    target = given.out / export.folder
    training = export.dataset_json["numTraining"]
    counts = f"{training} in imagesTr, {len(export.cases) - training} in imagesTs"
    print(f"{target}: {'written' if written else 'unchanged'}; cases: {counts}", file=sys.stderr)
    print("".join(f"note: {note}\n" for note in export.notes), end="", file=sys.stderr)
    tested = len(export.cases) > training
    steps = next_commands(given.out, export.folder, given.store, by_folds=export.trains_by_folds, tested=tested)
    print(steps, file=sys.stderr)
    print(target)
    return 0


def next_commands(out: Path, folder: str, store: Path, *, by_folds: bool, tested: bool) -> str:
    """The commands that train nnU-Net on the export, predict its test cases and score them, if there are any."""
    number = int(folder.removeprefix("Dataset").partition("_")[0])
    beside = {name: out.resolve().parent / name for name in ("nnUNet_preprocessed", "nnUNet_results")}
    places = {"nnUNet_raw": out.resolve(), **beside}
    splits = shlex.join(["cp", str(out / folder / "splits_final.json"), str(beside["nnUNet_preprocessed"] / folder)])
    predicted = f"predictions_{number}"
    lines = [
        "export " + " ".join(f"{name}={shlex.quote(str(path))}" for name, path in places.items()),
        f"nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity",
        *([splits] if by_folds else []),
        f"nnUNetv2_train {number} 3d_fullres 0",
    ]
    if tested:
        predict = shlex.join(["nnUNetv2_predict", "-i", str(out / folder / "imagesTs"), "-o", predicted])
        lines += [
            f"{predict} -d {number} -c 3d_fullres -f 0",
            shlex.join(["sam2ft", "eval", "--predictions", predicted, "--data", str(store), "--split", "test"]),
        ]
    return "\n".join(["next, with nnU-Net installed:", *(f"  {line}" for line in lines)])


if __name__ == "__main__":
    run_command(main)
