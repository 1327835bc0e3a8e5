"""launch/prepare.py as a user meets it: exit codes, messages, and no torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2ft.data.store import Store
from sam2ft.data.volumes import read_volume, write_nifti

ROOT = Path(__file__).parents[2]
DATASET = """\
dataset: {name: toy}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: cartilage}}
split: {train: 1, val: 0, test: 0}
"""


def prepare(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / "prepare.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def raw(tmp_path: Path, write_series: Callable[..., Path]) -> Path:
    for subject in "ab":
        geometry = read_volume(write_series(tmp_path / "dicom" / subject)).geometry
        write_nifti(tmp_path / "masks" / f"{subject}.nii.gz", np.ones((5, 6, 8), dtype=np.uint8), geometry)
    (tmp_path / "dataset.yaml").write_text(DATASET)
    return tmp_path


def test_a_dataset_file_becomes_a_store_and_stdout_says_where(raw: Path) -> None:
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert (done.returncode, done.stdout) == (0, "store\n")
    assert "preparing 2/2: toy/b/image stored" in done.stderr
    assert "store: 2 prepared; subjects: train 2, val 0, test 0" in done.stderr
    assert len(Store.open(raw / "store").volumes) == 2


def test_a_refused_subject_ends_with_3_and_its_reason_while_the_others_are_prepared(raw: Path) -> None:
    (raw / "dicom" / "b" / "003.dcm").unlink()
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert done.returncode == 3
    assert "1 of 2 volumes were refused, the others are prepared:\n  toy/b/image: " in done.stderr
    assert "1 missing slice" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(Store.open(raw / "store").volumes) == 1


def test_when_every_subject_is_refused_it_ends_with_2_and_makes_nothing(raw: Path) -> None:
    for path in (raw / "masks").iterdir():
        path.unlink()
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "masks: 2 images but no mask; this folder is empty, a.nii.gz was expected"
    assert not (raw / "store").exists()


def test_a_misspelt_dataset_file_ends_with_2_and_the_line(raw: Path) -> None:
    (raw / "dataset.yaml").write_text(DATASET.replace("labels:", "lables:"))
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert done.returncode == 2
    assert "dataset.yaml:3: lables" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--out", "s"), ("x.yaml", "--phantom", "knee", "--out", "s")])
def test_it_wants_one_source_and_a_store(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = prepare(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_a_phantom_becomes_a_store_once(tmp_path: Path) -> None:
    arguments = ("--phantom", "spine", "--subjects", "1", "--seed", "3", "--out", "store")
    first = prepare(tmp_path, *arguments)
    assert first.returncode == 0, first.stderr
    assert Store.open(tmp_path / "store").anatomy == "spine"
    assert (tmp_path / "store" / "source" / "truth.json").is_file()
    again = prepare(tmp_path, *arguments)
    assert "1 unchanged" in again.stderr
    assert "drawing" not in again.stderr
    # A cohort that was interrupted is made again.
    marker = tmp_path / "store" / "source" / "phantom.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"complete": False}))
    assert "drawing 1/1" in prepare(tmp_path, *arguments).stderr


def test_a_phantom_is_not_made_in_a_folder_that_holds_something_else(raw: Path) -> None:
    done = prepare(raw, "--phantom", "knee", "--out", ".")
    assert done.returncode == 2
    assert "is not empty and was not made from a phantom" in done.stderr
    assert (raw / "dataset.yaml").read_text() == DATASET


@pytest.mark.parametrize(
    "name",
    ["run.prepare_run", "data.store", "data.volumes", "data.labels", "data.metadata", "data.split", "data.prompts"],
)
def test_what_a_login_node_uses_does_not_import_torch(name: str) -> None:
    code = f"import sys, sam2ft.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
