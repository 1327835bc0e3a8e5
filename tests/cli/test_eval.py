"""launch/eval.py as a user starts it: what it refuses, with exit code 2, a message alone, and every file as it was."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.data.images.volumes import write_nifti

ROOT = Path(__file__).parents[2]
EVAL = str(ROOT / "launch" / "eval.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
QUICK = ("--set", "eval.qc_slices=0", "--set", "eval.precision=fp32", "--set", "module.image_size=64")


def start(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def assert_refused(toy: Any, before: Any, arguments: tuple[str, ...], *parts: str) -> None:
    done = start(toy.folder, EVAL, *arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr, f"{part!r} is not in: {done.stderr}"
    assert done.stdout == ""
    assert toy.files() == before


def masks(folder: Path, value: int = 1) -> None:
    """A mask per test volume of the toy, and two files that belong to nothing."""
    mask = np.full((4, 64, 64), value, dtype=np.uint8)
    for name in ("e__image", "f__image", "zoe__image"):
        write_nifti(folder / f"{name}.nii.gz", mask, Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.75)))
    (folder / "notes.txt").write_text("not a mask")


def test_help_names_every_way_and_gives_examples() -> None:
    done = start(ROOT, EVAL, "--help")
    assert done.returncode == 0
    for part in ("--ckpt", "--compare", "--predictions", "--reference", "--resample", "examples:", "torchrun"):
        assert part in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 120


def test_options_that_do_not_go_together_are_refused(toy: Any) -> None:
    before = toy.files()
    assert_refused(
        toy, before, ("--predictions", ".", "--data", "data/toy", "--protocol", "box"),
        "--protocol does not go with --predictions; "
        "allowed: --data, --split, --fold, --resample, --believe, --spacing-mm, --axes, --overlaps, --segment-from, "
        "--set, --workers, --out",
    )  # fmt: skip


def test_a_label_that_the_table_lacks_is_named_with_its_file(toy: Any) -> None:
    masks(toy.folder / "masks", value=9)
    assert_refused(
        toy, toy.files(), ("--predictions", "masks", "--data", "data/toy"),
        "e__image.nii.gz", "unknown label id 9 (16384 voxels)", "1 disc, 2 bar",
    )  # fmt: skip


def test_missing_predictions_are_named_beside_the_masks_that_are_of_nothing(toy: Any) -> None:
    masks(toy.folder / "masks")
    (toy.folder / "masks" / "f__image.nii.gz").rename(toy.folder / "masks" / "g__image.nii.gz")
    assert_refused(
        toy, toy.files(), ("--predictions", "masks", "--data", "data/toy"),
        "no prediction of 1 of 2 volumes: toy/f/image", "g__image.nii.gz, zoe__image.nii.gz",
    )  # fmt: skip


def test_a_prediction_that_is_cut_short_is_named(toy: Any) -> None:
    masks(toy.folder / "masks")
    whole = (toy.folder / "masks" / "f__image.nii.gz").read_bytes()
    (toy.folder / "masks" / "f__image.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert_refused(
        toy, toy.files(), ("--predictions", "masks", "--data", "data/toy"), "f__image.nii.gz: not a readable"
    )


def test_a_folder_with_foreign_files_is_scored_and_they_are_named(toy: Any) -> None:
    masks(toy.folder / "masks")
    done = start(toy.folder, EVAL, "--predictions", "masks", "--data", "data/toy", "--set", "eval.qc_slices=0")
    assert done.returncode == 0, done.stderr
    assert "not scored, of no volume of split test: zoe__image.nii.gz\n" in done.stderr
    assert (toy.folder / done.stdout.strip() / "_SUCCESS").is_file()


@pytest.mark.sam2
def test_a_checkpoint_that_does_not_fit_is_refused_with_the_keys(toy: Any) -> None:
    import torch
    from safetensors.torch import load_file

    state = load_file(toy.weights)
    odd = {key: tensor for key, tensor in state.items() if key != "mask_downsample.weight"}
    odd |= {"ghost.weight": torch.zeros(1), "sam_mask_decoder.iou_token.weight": torch.zeros(1, 7)}
    torch.save({"model": odd}, toy.folder / "odd.pt")
    before = toy.files()
    shape = "sam_mask_decoder.iou_token.weight is (1, 7), expected (1, 128)"
    told = ("odd.pt", "1 missing: mask_downsample.weight", "1 unexpected: ghost.weight", shape)
    assert_refused(toy, before, ("--ckpt", "odd.pt", "--data", "data/toy", *QUICK), *told)


@pytest.mark.sam2
@pytest.mark.slow
def test_two_processes_of_torchrun_write_the_bytes_of_one(toy: Any) -> None:
    arguments = ("--ckpt", "weights/nano.safetensors", "--data", "data/toy", *QUICK)
    one = start(toy.folder, EVAL, *arguments, "--out", "one")
    assert one.returncode == 0, one.stderr
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", EVAL)
    two = start(toy.folder, *launcher, *arguments, "--out", "two")
    assert two.returncode == 0, two.stderr
    assert (one.stdout, two.stdout) == ("one\n", "two\n")
    files = [path.relative_to(toy.folder / "one") for path in (toy.folder / "one").rglob("*") if path.is_file()]
    assert len(files) > 10
    for name in files:
        assert (toy.folder / "one" / name).read_bytes() == (toy.folder / "two" / name).read_bytes(), name
    shutil.copy(toy.weights, toy.folder / "second.safetensors")
    compared = start(toy.folder, *launcher, "--compare", "weights/nano.safetensors",
                     "weights/nano.safetensors,module.image_size=96", "--data", "data/toy", *QUICK)  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert compared.stdout.count("compare.csv") == 1
