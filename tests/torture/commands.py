"""The commands of a toy experiment, as `launch/` starts them, and the folders that they find."""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from sam2ft.core.command import run_command

DATASET = """\
dataset: {name: scans}
sources: {images: "images/{subject}.nii.gz", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: disc}, 2: {name: bar}}
split: {train: 0.5, val: 0.25, test: 0.25, seed: 1}
"""


@dataclass(frozen=True)
class Command:
    """A command with its arguments; `function` is run in the working directory."""

    function: str
    arguments: tuple[str, ...]


PREPARE = Command("torture.commands:prepare", ("dataset.yaml", "--out", "store"))
TRAIN = Command("torture.commands:train", ("toy.yaml",))
EVALUATE = Command("torture.commands:evaluate", ("--ckpt", "best.pt", "--data", "data/toy", "--out", "scores"))
SCORE = Command("torture.commands:evaluate", ("--predictions", "masks", "--data", "store", "--out", "scored"))
SWEEP = Command("torture.commands:sweep", ("toy.yaml", "--local", "1"))
AGGREGATE = Command("torture.commands:aggregate", ("toy.yaml",))


def prepare() -> None:
    """launch/prepare.py."""
    from sam2ft.cli.prepare import main

    run_command(main)


def train() -> None:
    """launch/train.py."""
    from sam2ft.cli.train import main

    run_command(main)


def evaluate() -> None:
    """launch/eval.py."""
    from sam2ft.cli.eval import main

    run_command(main)


def sweep() -> None:
    """launch/sweep.py."""
    from sam2ft.cli.sweep import main

    run_command(main)


def aggregate() -> None:
    """launch/aggregate.py."""
    from sam2ft.cli.aggregate import main

    run_command(main)


def save() -> None:
    """One resume file of a training in the working directory, after what the start of an attempt removes."""
    import torch

    from sam2ft.core.files import remove_partial
    from sam2ft.training.checkpoints.checkpoint import save_resume

    remove_partial(Path())
    save_resume(Path("1.safetensors"), {"note": sys.argv[1], "weights": torch.arange(4000.0)}, keep=2)


def write_scans(folder: Path, names: str = "abcd") -> None:
    """Images and masks of one subject per letter, and the dataset file."""
    y, x = np.indices((16, 20))
    for number, name in enumerate(names):
        mask = np.zeros((20, 16, 3), dtype=np.uint8)
        mask[((y - 6) ** 2 + (x - 6 - number) ** 2 <= 16).T] = 1
        mask[12:18, 9:13, 1:] = 2
        noise = np.random.default_rng(number).integers(0, 200, size=mask.shape)
        for kind, array in (("images", (mask.astype(np.int64) * 300 + noise).astype(np.int16)), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            image = nibabel.Nifti1Image(array, np.diag([0.5, 0.5, 3.0, 1.0]))
            image.header.set_xyzt_units("mm")
            nibabel.save(image, folder / kind / f"{name}.nii.gz")
    (folder / "dataset.yaml").write_text(DATASET)


def fresh(template: Path, folder: Path) -> Path:
    """`folder` as a copy of `template`, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(template, folder))
