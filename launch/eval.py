"""Evaluate a checkpoint, or score masks made elsewhere."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from sam2ft.core.command import command
from sam2ft.core.errors import UserError

OF_CHECKPOINT = ("data", "model", "split", "protocol", "instances", "set")
TAKES = {"ckpt": OF_CHECKPOINT, "predictions": ("data", "split"), "reference": ("prediction", "labels")}
"""What is evaluated -> the options that it takes, besides --out."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="exactly one of --ckpt, --predictions and --reference says what is evaluated"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--ckpt", type=Path, metavar="FILE", help="a checkpoint: of a run here, or made elsewhere")
    what.add_argument("--predictions", type=Path, metavar="DIR", help="masks of a store's volumes (or a table of them)")
    what.add_argument("--reference", type=Path, metavar="FILE", help="one mask, to score --prediction against")
    parser.add_argument("--prediction", type=Path, metavar="FILE", help="the mask that is scored against --reference")
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="STORE", help="prepared store")
    parser.add_argument("--model", metavar="NAME", help="module.sam2_model_cfg, where the weights do not say it")
    parser.add_argument("--split", choices=("train", "val", "test"), help="subjects that are evaluated")
    parser.add_argument("--protocol", help="how the model is prompted (eval.protocol)")
    parser.add_argument("--instances", choices=("per_instance", "per_label"), help="one prompt per component or label")
    parser.add_argument("--labels", type=Path, metavar="TABLE.yaml", help="what the integers of --reference mean")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the tables")
    return parser


def main() -> int:
    given = parser().parse_args()
    what = next(name for name in TAKES if getattr(given, name) is not None)
    if surplus := [
        name for taken in TAKES.values() for name in taken if getattr(given, name) and name not in TAKES[what]
    ]:
        raise UserError(f"--{surplus[0]} does not go with --{what}; allowed: --{', --'.join(TAKES[what])}, --out")
    return {"ckpt": _checkpoint, "predictions": _predictions, "reference": _pair}[what](given)


def _checkpoint(given: argparse.Namespace) -> int:
    from sam2ft.engine import interrupt

    # Before torch is imported, which takes seconds: a stop in between must not be lost.
    stop = interrupt.install()
    from sam2ft.run.checkpoint_run import CheckpointRequest, evaluate_checkpoint
    from sam2ft.run.score_run import lines_of

    chosen = [f"eval.{name}={value}" for name in ("split", "protocol", "instances") if (value := getattr(given, name))]
    request = CheckpointRequest(given.ckpt, tuple(given.data), given.model, (*given.set, *chosen), given.out)
    outcome = evaluate_checkpoint(request, stop)
    return _show(lines_of(outcome.global_rows), outcome.folder)


def _predictions(given: argparse.Namespace) -> int:
    from sam2ft.run.score_run import score_store, summary_lines

    if len(given.data) != 1:
        raise UserError(f"--predictions needs one store, --data STORE; {len(given.data)} are given")
    result = score_store(given.predictions, given.data[0], split=given.split or "test", out=given.out)
    return _show(summary_lines(result), result.evaluation.folder)


def _pair(given: argparse.Namespace) -> int:
    from sam2ft.run.score_run import score_pair, summary_lines

    if given.prediction is None:
        raise UserError("--reference needs the mask that is scored against it, --prediction FILE")
    result = score_pair(given.reference, given.prediction, labels=given.labels, out=given.out)
    return _show(summary_lines(result), result.evaluation.folder)


def _show(lines: Iterable[str], folder: Path) -> int:
    print("\n".join(lines), file=sys.stderr)
    print(folder)
    return 0


if __name__ == "__main__":
    command(main)
