"""Bad input: exit code 2, one clear message, no traceback, and every file as it was."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.files import read_json

ROOT = Path(__file__).parents[1]
PYTHON = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(script: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """A launch script in a process of its own, as a user starts it."""
    return subprocess.run(
        [sys.executable, ROOT / "launch" / script, *arguments],
        cwd=cwd, env=PYTHON, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def assert_refused(done: "subprocess.CompletedProcess[str]", *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for part in parts:
        assert part in done.stderr, f"{part!r} is not in: {done.stderr}"
    assert done.stdout == ""


EXPERIMENTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "misspelt key": ("optimizer: {", "optimiser: {", ("toy.yaml:10: module.optimiser", "did you mean optimizer?")),
    "wrong type": ("num_epochs: 2", "num_epochs: many", ("toy.yaml:11: module.num_epochs", '"many"')),
    "duplicate key": (
        "  image_size: 64\n",
        "  image_size: 64\n  image_size: 32\n",
        ("toy.yaml:9: module.image_size: duplicate key", "line 8"),
    ),
    "YAML tag": ("seed: 42", "seed: !!python/object:os.system 42", ("toy.yaml:1", "python/object")),
    "unknown optimizer": ("type: AdamW", "type: AdamWish", ("module.optimizer", "AdamWish", "AdamW")),
    "argument of another scheduler": (
        "num_epochs: 2",
        "num_epochs: 2\n  scheduler: {type: CosineAnnealingWarmRestarts, T_max: 10}",
        ("module.scheduler", "T_max", "CosineAnnealingLR", "T_0"),
    ),
    "trains nothing": ("mask_decoder: true", "mask_decoder: false", ("module.trainable",)),
    "metric that nobody knows": ("iou: true", "iuo: true", ("datamodule.metric.func", "iuo")),
    "weights that are not there": ("nano.safetensors", "none.pt", ("module.sam2_checkpoint", "weights/none.pt")),
    "store that is not there": ("data/toy", "data/other", ("dataset.toy.store", "data/other")),
    "low-rank updates of an encoder that trains": (
        "image_encoder: false, mask_decoder: true}",
        "image_encoder: true, mask_decoder: true}\n  lora: {rank: 4}",
        ("toy.yaml:9: module.trainable.image_encoder", "module.lora"),
    ),
    "metadata that are not there": (
        "num_workers: 0",
        "num_workers: 0, stats_metadata_file: m.json",
        ("datamodule.stats_metadata_file", "m.json"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", EXPERIMENTS)
def test_an_experiment_that_cannot_be_run_is_refused_before_anything_happens(toy: Any, case: str) -> None:
    changed, to, parts = EXPERIMENTS[case]
    toy.write(changed, to)
    before = toy.files()
    assert_refused(run("sweep.py", "toy.yaml", "--local", "1", cwd=toy.folder), *parts)
    after = toy.files()
    after.pop("runs/.digests.json", None)  # remembered digests of weights: a cache
    assert after == before


def test_train_refuses_like_sweep_and_a_wrong_override_names_the_command_line(toy: Any) -> None:
    before = toy.files()
    assert_refused(run("train.py", "toy.yaml", "--set", "module.num_epoch=3", cwd=toy.folder), "--set", "num_epochs")
    assert toy.files() == before


def test_a_store_of_another_column_version_is_refused(toy: Any) -> None:
    index = toy.store / "store.json"
    value = read_json(index)
    write_sealed_json(index, {**value, "version": value["version"] + 1})
    before = toy.files()
    assert_refused(
        run("sweep.py", "toy.yaml", "--local", "1", cwd=toy.folder), "dataset.toy.store", "version", "prepare"
    )
    after = toy.files()
    after.pop("runs/.digests.json", None)
    assert after == before


# --- raw images ---------------------------------------------------------------------------------------------------

DATASET = """\
dataset: {name: raw, anatomy: knee}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: cartilage}}
split: {train: 1, val: 0, test: 0}
"""


def _series(folder: Path, uid: str, positions: range, first: int = 0) -> None:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    folder.mkdir(parents=True, exist_ok=True)
    for z in positions:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        header.SeriesInstanceUID, header.Modality, header.InstanceNumber = uid, "MR", z + 1
        header.SliceThickness, header.PixelSpacing = 3, [0.5, 0.5]
        header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 2.0 * z], [1, 0, 0, 0, 1, 0]
        header.Rows, header.Columns = 8, 8
        header.SamplesPerPixel, header.PhotometricInterpretation, header.PixelRepresentation = 1, "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelData = np.arange(64, dtype="<u2").tobytes()
        header.save_as(folder / f"{first + z:03d}.dcm", enforce_file_format=True)


def _mask(path: Path, depth: int = 6, value: int = 1) -> None:
    from sam2ft.core.geometry import Geometry
    from sam2ft.data.images.volumes import write_nifti

    mask = np.zeros((depth, 8, 8), dtype=np.uint8)
    mask[1, 2:4, 2:4] = value
    # DICOM looks from the other side: its x and y axes are minus those of NIfTI.
    affine = ((-0.5, 0.0, 0.0, 0.0), (0.0, -0.5, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    write_nifti(path, mask, Geometry(mask.shape, (2.0, 0.5, 0.5), affine, "positions"))


def _other_grid(raw: Path) -> None:
    _mask(raw / "masks" / "s1.nii.gz", depth=5)


def _missing_slice(raw: Path) -> None:
    (raw / "dicom" / "s1" / "003.dcm").unlink()


def _mixed_series(raw: Path) -> None:
    _series(raw / "dicom" / "s1", "1.2.3.5", range(2), first=100)


def _no_masks(raw: Path) -> None:
    (raw / "masks" / "s1.nii.gz").unlink()


def _unknown_label(raw: Path) -> None:
    _mask(raw / "masks" / "s1.nii.gz", value=9)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One subject of a six-slice series with its mask, and the store made of it."""
    folder = tmp_path_factory.mktemp("good") / "raw"
    _series(folder / "dicom" / "s1", "1.2.3.4", range(6))
    _mask(folder / "masks" / "s1.nii.gz")
    (folder / "raw.yaml").write_text(DATASET)
    done = run("prepare.py", "raw.yaml", "--out", "store", cwd=folder)
    assert (done.returncode, done.stdout.strip()) == (0, "store"), done.stderr
    return folder


@pytest.fixture
def raw(good: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(good, tmp_path / "raw"))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def test_the_raw_images_below_are_good_before_they_are_spoilt(raw: Path) -> None:
    before = files(raw / "store")
    assert run("prepare.py", "raw.yaml", "--out", "store", cwd=raw).returncode == 0
    assert files(raw / "store") == before
    assert str(raw / "store" / "store.json") in before


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (_other_grid, ("s1.nii.gz", "grid", "5", "6")),
        (_missing_slice, ("dicom/s1", "missing slice")),
        (_mixed_series, ("dicom/s1", "2 stacks")),
        (_no_masks, ("masks", "empty")),
        (_unknown_label, ("s1", "unknown label id 9", "1 cartilage")),
    ],
)
def test_raw_images_that_cannot_be_used_are_refused_and_a_store_stays_as_it_was(
    raw: Path, spoil: Callable[[Path], None], parts: tuple[str, ...]
) -> None:
    spoil(raw)
    before = files(raw)
    assert_refused(run("prepare.py", "raw.yaml", "--out", "store", cwd=raw), *parts)
    assert files(raw) == before


# --- checkpoints --------------------------------------------------------------------------------------------------


@pytest.mark.sam2
def test_a_checkpoint_of_another_model_size_is_refused_naming_both(toy: Any) -> None:
    before = toy.files()
    stock = ("--model", "configs/sam2.1/sam2.1_hiera_t.yaml")
    done = run("eval.py", "--ckpt", "weights/nano.safetensors", "--data", "data/toy", *stock, cwd=toy.folder)
    assert_refused(done, "weights/nano.safetensors", "sam2_nano", "sam2.1_hiera_t")
    assert toy.files() == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--ckpt", "weights/other.pt"), ("weights/other.pt: no such file",)),
        (("--predictions", "masks"), ("--data STORE",)),
        (("--reference", "a.nii.gz"), ("--prediction FILE",)),
        (("--reference", "a.nii.gz", "--prediction", "b.nii.gz"), ("a.nii.gz",)),
        (("--ckpt", "weights/nano.safetensors", "--labels", "t.yaml"), ("--labels does not go with --ckpt",)),
        ((), ("--ckpt",)),
    ],
)
def test_an_evaluation_that_lacks_something_says_what(
    toy: Any, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before = toy.files()
    assert_refused(run("eval.py", *arguments, cwd=toy.folder), *parts)
    assert toy.files() == before


@pytest.mark.parametrize("script", ["status.py", "aggregate.py"])
def test_an_experiment_that_nobody_planned_is_refused(toy: Any, script: str) -> None:
    before = toy.files()
    assert_refused(run(script, "toy.yaml", cwd=toy.folder), "no plan here; run launch/sweep.py first")
    assert toy.files() == before
