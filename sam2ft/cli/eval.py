"""Evaluate checkpoints, or score masks that another program produced.

One of these options selects what is evaluated; the last line printed is the folder of the tables.

  --ckpt FILE                  a checkpoint: of a sam2ft run, official SAM 2 / 2.1, or of another program
  --compare FILE FILE ...      several, in one pass over the data, each compared with the first
  --predictions DIR            masks of a store's volumes, as NIfTI or another format; no model, no torch
  --reference A --prediction B one mask against another; no model, no torch
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sam2ft.core.command import run_command
from sam2ft.core.errors import UserError

if TYPE_CHECKING:
    from sam2ft.config.schema.dataset import Reading
    from sam2ft.core.tables.rows import Row
    from sam2ft.evaluation.checkpoints import CheckpointRequest
    from sam2ft.evaluation.masks.score import Scored

OF_CHECKPOINT = ("data", "model", "split", "fold", "protocol", "instances", "set")
TAKES = {
    "ckpt": OF_CHECKPOINT,
    "compare": OF_CHECKPOINT,
    "predictions": (
        *(
            "data",
            "split",
            "fold",
            "resample",
            "believe",
            "spacing_mm",
            "axes",
            "overlaps",
            "segment_from",
            "set",
            "workers",
        ),
    ),
    "reference": (
        *("prediction", "labels", "resample", "believe", "spacing_mm", "axes", "slice_axis"),
        *("overlaps", "segment_from", "set"),
    ),
}
"""Kind of evaluation -> its options, besides --out."""
ORDERS = ("zyx", "zxy", "yzx", "yxz", "xzy", "xyz")

EXAMPLES = """examples:
  python launch/eval.py --ckpt runs/knee/RUN/checkpoints/best.pt
  python launch/eval.py --ckpt weights/sam2.1_hiera_tiny.pt --data data/oai --protocol point
  python launch/eval.py --ckpt MedSAM2_latest.pt --data data/oai --set module.image_size=512
  python launch/eval.py --compare weights/sam2.1_hiera_tiny.pt MedSAM2_latest.pt,module.image_size=512 --data data/oai
  python launch/eval.py --predictions nnunet_out --data data/oai --split test
  python launch/eval.py --reference reader.nii.gz --prediction model.nii.gz --labels labels.yaml
  torchrun --nproc-per-node 2 launch/eval.py --ckpt best.pt --data data/oai
"""


def parser() -> argparse.ArgumentParser:
    """Return the argument parser of launch/eval.py."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_argument_group("what is evaluated (one of)").add_mutually_exclusive_group(required=True)
    what.add_argument("--ckpt", type=Path, metavar="FILE", help="a checkpoint")
    what.add_argument(
        "--compare", nargs="+", metavar="FILE", help="checkpoints; FILE,key=value: a checkpoint with its own settings"
    )
    what.add_argument(
        "--predictions", type=Path, metavar="DIR", help="one mask per volume, or a CSV: subject, volume, path"
    )
    what.add_argument(
        "--reference", type=Path, metavar="FILE", help="reference mask that --prediction is compared with"
    )
    model = parser.add_argument_group("with --ckpt and --compare")
    model.add_argument("--model", metavar="NAME", help="module.sam2_model_cfg, when the weights do not contain it")
    model.add_argument("--protocol", help="how the model is prompted (eval.protocol): box, point, points, mask, ...")
    model.add_argument(
        "--instances", choices=("per_instance", "per_label"), help="one prompt per component, or per label"
    )
    _add_masks(parser.add_argument_group("with --predictions and --reference"))
    both = parser.add_argument_group("where and how")
    both.add_argument("--data", type=Path, action="append", default=[], metavar="STORE", help="prepared store")
    both.add_argument("--split", choices=("train", "val", "test"), help="subjects that are evaluated (default: test)")
    both.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="fold of the stores whose --split is meant (default: that of the run, or 0)",
    )
    both.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    both.add_argument("--out", type=Path, metavar="DIR", help="folder of the tables")
    return parser


def _add_masks(masks: argparse._ArgumentGroup) -> None:
    masks.add_argument("--prediction", type=Path, metavar="FILE", help="mask that is scored against --reference")
    masks.add_argument("--labels", type=Path, metavar="TABLE.yaml", help="label table of the values in --reference")
    masks.add_argument("--resample", action="store_true", help="resample a mask on another grid (nearest voxel)")
    masks.add_argument(
        "--believe",
        choices=("sform", "qform", "pixdim", "positions", "spacing", "orientation"),
        help="field of a mask's header that is right where two fields contradict each other",
    )
    masks.add_argument(
        "--spacing-mm",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="distances between slices, rows and columns of masks that do not carry them (npy, npz, PNG, TIFF)",
    )
    masks.add_argument("--axes", choices=ORDERS, help="order of the axes of npy and npz masks: z slices, y rows")
    masks.add_argument(
        "--slice-axis",
        choices=("auto", "sagittal", "coronal", "axial", "0", "1", "2"),
        help="plane or axis of --reference that is cut into slices (default: auto, the plane of acquisition)",
    )
    masks.add_argument(
        "--overlaps",
        choices=("refuse", "first", "last"),
        help="label of a voxel that several segments of a mask claim (default: such a mask is refused)",
    )
    masks.add_argument(
        "--segment-from",
        type=_share,
        metavar="X",
        help="smallest fraction that belongs to a segment, in fractional DICOM segmentations (default: 0.5)",
    )
    masks.add_argument(
        "--workers", type=int, metavar="N", help="parallel processes for the volumes of --predictions (default: 1)"
    )


def main() -> int:
    """Run launch/eval.py; returns the exit code."""
    given = parser().parse_args()
    what = next(name for name in TAKES if getattr(given, name) is not None)
    if surplus := [
        name for taken in TAKES.values() for name in taken if _is_given(given, name) and name not in TAKES[what]
    ]:
        options = [name.replace("_", "-") for name in (surplus[0], *TAKES[what])]
        raise UserError(f"--{options[0]} does not go with --{what}; allowed: --{', --'.join(options[1:])}, --out")
    do = {"ckpt": _checkpoint, "compare": _compare, "predictions": _predictions, "reference": _pair}
    return do[what](given)


def _is_given(given: argparse.Namespace, name: str) -> bool:
    value = getattr(given, name)
    return value is not None and value is not False and value != []


def _checkpoint(given: argparse.Namespace) -> int:
    from sam2ft.distributed import stop_signal

    # Before torch is imported, which takes seconds: a stop signal during the import must not be lost.
    stop = stop_signal.install_stop_handlers()
    from sam2ft.evaluation.checkpoints import evaluate_checkpoint
    from sam2ft.evaluation.summary import summary_lines, warning_lines
    from sam2ft.runs.evaluation_files import read_table
    from sam2ft.runs.layout import EvalLayout

    outcome = evaluate_checkpoint(_request(given), stop)
    partly = _labelled_in_part(read_table(EvalLayout(outcome.folder), "volume"))
    return _show([*summary_lines(outcome.global_rows), *partly, *warning_lines(outcome.biomarker_rows)], outcome.folder)


def _labelled_in_part(volume_rows: "Iterable[Row]") -> list[str]:
    """A line for each dataset about labels that were drawn in some of its volumes only; as a rule none."""
    from sam2ft.report.comparison.drawn import drawn_in_part, drawn_sentence

    found = drawn_in_part(volume_rows)
    several = len(found) > 1
    return [f"{f'{of.dataset}: ' if several else ''}{drawn_sentence(drawn)}" for of, drawn in found.items()]


def _compare(given: argparse.Namespace) -> int:
    from sam2ft.distributed import stop_signal

    stop = stop_signal.install_stop_handlers()
    from sam2ft.evaluation.compare import compare_checkpoints
    from sam2ft.evaluation.compare_table import comparison_lines

    found = compare_checkpoints(given.compare, _request(given), stop)
    return _show(comparison_lines(found.rows), found.table)


def _request(given: argparse.Namespace) -> "CheckpointRequest":
    from sam2ft.evaluation.checkpoints import CheckpointRequest

    chosen = [f"eval.{name}={value}" for name in ("split", "protocol", "instances") if (value := getattr(given, name))]
    checkpoint = given.ckpt or Path()
    overrides = (*given.set, *chosen)
    return CheckpointRequest(checkpoint, tuple(given.data), given.model, overrides, given.out, given.fold)


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return value


def _predictions(given: argparse.Namespace) -> int:
    from sam2ft.evaluation.masks.score import score_store
    from sam2ft.evaluation.masks.settings import scoring_of

    if len(given.data) != 1:
        raise UserError(f"--predictions needs one store, --data STORE; {len(given.data)} are given")
    scoring = scoring_of(given.set, resample=given.resample, reading=_reading(given))
    split, workers = given.split or "test", given.workers or 1
    return _show_scored(
        score_store(
            given.predictions,
            given.data[0],
            split=split,
            fold=given.fold,
            out=given.out,
            scoring=scoring,
            workers=workers,
        )
    )


def _pair(given: argparse.Namespace) -> int:
    from sam2ft.evaluation.masks.score import score_pair
    from sam2ft.evaluation.masks.settings import scoring_of

    if given.prediction is None:
        raise UserError("--reference needs the mask that is scored against it, --prediction FILE")
    scoring = scoring_of(given.set, resample=given.resample, reading=_reading(given))
    return _show_scored(
        score_pair(given.reference, given.prediction, labels=given.labels, out=given.out, scoring=scoring)
    )


def _reading(given: argparse.Namespace) -> "Reading":
    from sam2ft.config.schema.dataset import Reading

    if given.spacing_mm and min(given.spacing_mm) <= 0:
        raise UserError(f"--spacing-mm: found {min(given.spacing_mm):g}; allowed: three lengths above 0")
    names = ("believe", "slice_axis", "spacing_mm", "axes", "overlaps", "segment_from")
    chosen = {name: value for name in names if (value := getattr(given, name)) is not None}
    return Reading.model_validate({**chosen, **({"spacing_mm": tuple(given.spacing_mm)} if given.spacing_mm else {})})


def _show_scored(result: "Scored") -> int:
    from sam2ft.evaluation.summary import biomarker_lines, summary_lines, warning_lines

    biomarkers = biomarker_lines(result.tables.get("biomarker_global", ()))
    warnings = warning_lines(result.tables.get("biomarker_volume", ()))
    partly = _labelled_in_part(result.tables["volume"])
    lines = [*summary_lines(result.tables["global"]), *partly, *([""] if biomarkers else []), *biomarkers, *warnings]
    return _show(lines, result.evaluation.folder)


def _show(lines: Iterable[str], where: Path) -> int:
    """Print the numbers to stderr and the folder to stdout, only in the main process."""
    from sam2ft.runs.attempt.rank import is_main_rank

    if is_main_rank():
        print("\n".join(lines), file=sys.stderr)
        print(where)
    return 0


if __name__ == "__main__":
    run_command(main)
