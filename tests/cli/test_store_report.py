"""report.html as `prepare` writes it: with every preparation, and by `prepare --report` again."""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.cli import prepare as command
from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.core.files import sha256_file
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare.outcomes import PrepareOptions
from sam2ft.data.store.index import index_path
from sam2ft.data.store.store import Store, records_digest
from sam2ft.report.integrity import write

SUBJECTS = ("Schmidt_Anna", "Weber_Ben", "Zoe_Klein")
DATASET = """\
dataset: {name: toy}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: cartilage}}
split: {train: 1, val: 0, test: 0}
"""


@pytest.fixture
def raw(tmp_path: Path, write_series: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, subject in enumerate(SUBJECTS):

        def change(header: Any, z: int, number: int = number) -> None:
            pixels = np.random.default_rng(10 * number + z).integers(0, 900, (6, 8)).astype(np.uint16)
            header.PixelData = pixels.tobytes()

        geometry = read_volume(write_series(tmp_path / "dicom" / subject, change=change)).geometry
        mask = np.zeros((5, 6, 8), np.uint8)
        mask[1:4, 1:5, 2 : 5 + number] = 1
        write_nifti(tmp_path / "masks" / f"{subject}.nii.gz", mask, geometry)
    (tmp_path / "dataset.yaml").write_text(DATASET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prepared(**options: Any) -> Any:
    return command.prepare(Path("dataset.yaml"), Path("store"), options=PrepareOptions(**options))


def report(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare", *arguments])
    return command.main()


def state_on(page: Path) -> str:
    return page.read_text().partition('<dt>State</dt><dd><code title="')[2].partition('"')[0]


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("report.html", "report.json"))
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def test_every_preparation_writes_the_page_of_the_state_that_it_leaves(raw: Path, capfd: Any) -> None:
    prepared()
    page = raw / "store" / "report.html"
    assert "store/report.html: findings: " in capfd.readouterr().err
    before = state_on(page)
    assert before == records_digest(Store.open(raw / "store").volumes)
    shutil.rmtree(raw / "dicom" / SUBJECTS[1])
    with pytest.raises(IncompleteError):
        prepared()
    assert state_on(page) == before
    assert SUBJECTS[1] in page.read_text()
    prepared(prune=lambda _: True)
    assert state_on(page) == records_digest(Store.open(raw / "store").volumes) != before
    assert SUBJECTS[1] not in page.read_text()


def test_the_page_is_written_again_from_the_store_alone(raw: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    prepared()
    stored = contents(raw / "store")
    for name in ("report.html", "report.json"):
        (raw / "store" / name).unlink()
    shutil.rmtree(raw / "dicom")
    capfd.readouterr()
    assert report(monkeypatch, "--report", "store") == 0
    assert capfd.readouterr().out == "store/report.html\n"
    assert state_on(raw / "store" / "report.html") == records_digest(Store.open(raw / "store").volumes)
    assert contents(raw / "store") == stored


def test_only_new_volumes_are_measured(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared()
    measured: list[str] = []
    monkeypatch.setattr(write, "measured_volume", lambda store: measured.append(store) or original(store))
    assert report(monkeypatch, "--report", "store") == 0
    assert measured == []
    (raw / "store" / "report.json").write_text("{}")
    assert report(monkeypatch, "--report", "store") == 0
    assert len(measured) == len(SUBJECTS)


original = write.measured_volume


@pytest.mark.parametrize(
    "error", [ValueError("odd"), MemoryError(), PermissionError(errno.EACCES, "no", "x"), OSError()]
)
def test_a_page_that_cannot_be_made_is_a_note_and_the_store_is_whole(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, error: Exception
) -> None:
    def fail(_: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(write, "render_integrity", fail)
        summary = prepared()
    shown = capfd.readouterr().err
    assert "note: store/report.html was not written" in shown
    assert len(Store.open(summary.store).volumes) == len(SUBJECTS)
    remedy = shown.partition("; run sam2ft prepare ")[2].split("\n")[0].split()
    assert report(monkeypatch, *remedy) == 0
    assert (raw / "store" / "report.html").is_file()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_disk_is_raised_after_what_was_refused_is_said(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, number: int
) -> None:
    (raw / "dicom" / SUBJECTS[0] / "003.dcm").unlink()

    def fail(path: Path, _: str) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(write, "write_text", fail)
    with pytest.raises(OSError, match=r"report\.html"):
        prepared()
    assert "1 of 3 volumes was refused" in capfd.readouterr().err
    assert len(Store.open(raw / "store").volumes) == 2


@pytest.mark.parametrize("how", ["hash", "folder"])
def test_the_page_names_subjects_as_the_store_does_and_no_folders(raw: Path, how: str) -> None:
    (raw / "dataset.yaml").write_text(DATASET + f"subject_id: {how}\n")
    (raw / "dicom" / SUBJECTS[0] / "003.dcm").unlink()
    (raw / "masks" / f"{SUBJECTS[1]}.nii.gz").unlink()
    with pytest.raises(IncompleteError) as shown:
        prepared()
    assert SUBJECTS[1] in str(shown.value)
    texts = [(raw / "store" / name).read_text() for name in ("report.html", "report.json")]
    stored = Store.open(raw / "store").volumes
    assert all(record.key.subject in texts[0] for record in stored)
    for text in texts:
        assert str(raw) not in text
        assert "dicom/" not in text
        named = [name for name in SUBJECTS if name in text]
        assert named == ([] if how == "hash" else named)
    assert ("1 missing slice" in texts[0]) or how == "hash"
    assert "no such file or folder" in texts[0]


@pytest.mark.parametrize("option", [("--prune",), ("--out", "x"), ("--verify",), ("--max-volume-gb", "3")])
def test_an_option_that_does_nothing_beside_report_is_refused(
    raw: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, option: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit):
        report(monkeypatch, "--report", "store", *option)
    assert f"--report takes --workers alone, not {option[0]}" in capfd.readouterr().err
    prepared()
    assert report(monkeypatch, "--report", "store", "--workers", "2") == 0


def test_a_folder_without_a_store_is_refused(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="store"):
        report(monkeypatch, "--report", "dicom")
    assert not (raw / "dicom" / "report.html").exists()


def test_a_lost_index_is_made_again_beside_a_report(raw: Path) -> None:
    prepared()
    before = records_digest(Store.open(raw / "store").volumes)
    index_path(raw / "store").unlink()
    prepared()
    assert state_on(raw / "store" / "report.html") == before
