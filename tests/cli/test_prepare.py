"""launch/prepare.py as a user meets it: exit codes, messages, and no torch."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2ft.cli.prepare import prepare_phantom
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.store.store import Store

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
    assert "store: 2 prepared; subjects: train 2, val 0, test 0\nno prepared subject is in val or test" in done.stderr
    assert len(Store.open(raw / "store").volumes) == 2


def test_a_refused_subject_ends_with_3_and_its_reason_while_the_others_are_prepared(raw: Path) -> None:
    (raw / "dicom" / "b" / "003.dcm").unlink()
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert done.returncode == 3
    assert "1 of 2 volumes was refused, the others are prepared:\n  toy/b/image: " in done.stderr
    assert "1 missing slice" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(Store.open(raw / "store").volumes) == 1


def test_a_stored_volume_whose_image_is_gone_stays_and_ends_with_3_until_it_is_pruned(raw: Path) -> None:
    prepare(raw, "dataset.yaml", "--out", "store")
    shutil.rmtree(raw / "dicom" / "b")
    done = prepare(raw, "dataset.yaml", "--out", "store")
    assert done.returncode == 3
    gone = "the image of 1 stored volume is gone; nothing is removed without --prune:\n  toy/b/image\n"
    assert done.stderr.endswith(gone)
    assert len(Store.open(raw / "store").volumes) == 2
    done = prepare(raw, "dataset.yaml", "--out", "store", "--prune")
    assert (done.returncode, done.stdout) == (0, "store\n")
    assert "--prune removes volumes whose images are gone: 1; files: 3 (" in done.stderr
    assert "  toy/b/image\n  store/volumes/b__image.image.npy\n" in done.stderr
    assert len(Store.open(raw / "store").volumes) == 1


@pytest.mark.parametrize(("out", "reason"), [("dataset.yaml/x", "not a directory"), ("/sys/x", "")])
def test_a_folder_that_cannot_be_written_ends_with_2_and_its_name(raw: Path, out: str, reason: str) -> None:
    done = prepare(raw, "dataset.yaml", "--out", out)
    assert done.returncode == 2
    assert f"{out}: {reason}" in done.stderr
    assert "Traceback" not in done.stderr


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["knee", "spine"])
def test_a_phantom_becomes_a_store(tmp_path: Path, kind: str) -> None:
    done = prepare(tmp_path, "--phantom", kind, "--subjects", "2", "--seed", "3", "--out", "store")
    assert done.returncode == 0, done.stderr
    store = Store.open(tmp_path / "store")
    assert (store.anatomy, len(store.volumes)) == (f"{kind} phantom, generated images", 2)
    assert (tmp_path / "store" / "source" / "truth.json").is_file()
    for record in store.volumes:
        for name in record.maps:
            cartilage = np.isin(store.mask(record.key), (1, 2, 3, 4))
            assert np.array_equal(np.isfinite(store.map(record.key, name)), cartilage)


def test_a_phantom_is_drawn_once_unless_it_was_interrupted_or_is_another(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def write_cohort(kind: str, subjects: int, seed: int, folder: Path, _progress: object) -> None:
        drawn.append((kind, subjects, seed))
        for name in ("dicom", "masks"):
            shutil.copytree(raw / name, folder / name)
        (folder / "dataset.yaml").write_text(DATASET.replace("toy", "knee_phantom"))
        if seed == 13 and drawn.count(("knee", 2, 13)) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr("sam2ft.phantom.cohort.write_cohort", write_cohort)
    store = tmp_path / "phantom"
    assert len(prepare_phantom("knee", 2, 1, store).outcomes) == 2
    prepare_phantom("knee", 2, 1, store)
    assert drawn == [("knee", 2, 1)]
    with pytest.raises(KeyboardInterrupt):
        prepare_phantom("knee", 2, 13, store)
    prepare_phantom("knee", 2, 13, store)
    prepare_phantom("knee", 2, 13, store)
    assert drawn[1:] == [("knee", 2, 13)] * 2
    Store.open(store)


def test_a_phantom_is_not_made_in_a_folder_that_holds_something_else(raw: Path) -> None:
    done = prepare(raw, "--phantom", "knee", "--out", ".")
    assert done.returncode == 2
    assert "is not empty and was not made from a phantom" in done.stderr
    assert (raw / "dataset.yaml").read_text() == DATASET


@pytest.mark.parametrize(
    "name",
    [
        "cli.prepare",
        "data.images.volumes",
        "data.prepare.relabel",
        "data.samples.instances",
        "data.store.metadata",
        "data.store.split",
        "data.store.store",
    ],
)
def test_what_a_login_node_uses_does_not_import_torch(name: str) -> None:
    code = f"import sys, sam2ft.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
