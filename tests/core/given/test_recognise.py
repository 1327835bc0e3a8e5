"""What a path is, by its names and first bytes."""

from pathlib import Path

import pytest

from sam2ft.core.given.recognise import BEST, RUN_CONFIG, Kind, kind_of, some_inside
from sam2ft.data.store.index import index_path
from sam2ft.runs.layout import RunLayout

EXPERIMENT = "experiment: {name: a}\nmodule: {}\n"


def make(root: Path, *names: str, **files: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content\n") if not name.endswith("/") else path.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


FOLDERS = {
    Kind.STORE: ("store.json", "volumes/a.npy"),
    Kind.RUN: ("config.yaml", "status.json"),
    Kind.EVALUATION: ("_SUCCESS", "slice.csv", "volume.csv", "global.csv"),
    Kind.REPORT: ("coverage.json", "index.html", "slice.csv", "volume.csv", "global.csv"),
    Kind.RUNS: ("plan-0123456789ab.json", "toy-1/config.yaml"),
    Kind.ALL_RUNS: ("knee/plan-0123456789ab.json", "knee/knee-1/config.yaml", "other/notes.txt"),
    Kind.STORES: ("toy/store.json", "other/store.json"),
    Kind.FOLDERS: ("a/b.txt", "c/d.txt"),
    Kind.IMAGES: ("a.nii.gz", "b.nii.gz", "notes.txt"),
    Kind.FOLDER: ("notes.txt", "more.txt"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_is_known_by_the_names_in_it(kind, tmp_path):
    assert kind_of(make(tmp_path, *FOLDERS[kind])) is kind


def test_folders_without_names_of_ours(tmp_path):
    run = make(tmp_path / "run", "config.yaml", "identity.json", "checkpoints/best.pt")
    assert kind_of(run / "checkpoints") is Kind.CHECKPOINTS
    assert kind_of(make(run / "eval", "e1/_SUCCESS")) is Kind.EVALUATIONS
    assert kind_of(make(tmp_path / "eval", "e1/_SUCCESS")) is Kind.FOLDERS
    (tmp_path / "empty").mkdir()
    assert kind_of(tmp_path / "empty") is Kind.EMPTY
    series = tmp_path / "series"
    series.mkdir()
    (series / "1").write_bytes(bytes(128) + b"DICM" + bytes(20))
    assert kind_of(series) is Kind.SERIES
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a.pt").write_bytes(b"PK\x03\x04\0\0")
    assert kind_of(weights) is Kind.WEIGHTS_FOLDER
    assert some_inside(weights, Kind.WEIGHTS) == [weights / "a.pt"]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.yaml", EXPERIMENT.encode(), Kind.EXPERIMENT),
        ("without_ending", EXPERIMENT.encode(), Kind.EXPERIMENT),
        ("a.yaml", b"extends: b.yaml\nexperiment: {name: c}\n", Kind.EXPERIMENT),
        ("a.yaml", b"# comment\ndataset: {name: a}\nsources: {}\nlabels: {}\n", Kind.DATASET),
        ("a.yaml", b"site: {name: a}\nslurm: {}\n", Kind.SITE),
        ("a.yaml", b"labels: {1: {name: a}}\n", Kind.LABELS),
        ("a.yaml", b"labels: {}\nother: 1\n", Kind.KEYS),
        ("a.yaml", b"text: |\n  sources: none\n", Kind.KEYS),
        ("a.yml", b"no key at all\n", Kind.KEYS),
        ("a.json", b'{"a": 1}', Kind.KEYS),
        ("readme.md", b"# A title\n", Kind.TEXT),
        ("a.pt", b"PK\x03\x04\0\0", Kind.WEIGHTS),
        ("a.pt", b"hello\n", Kind.TEXT),
        ("a.pt", b"<!DOCTYPE html><html></html>", Kind.TEXT),
        ("a.safetensors", (80).to_bytes(8, "little") + b'{"a":1}', Kind.WEIGHTS),
        ("a.nii.gz", b"\x1f\x8b\x08\0", Kind.IMAGE),
        ("a", bytes(128) + b"DICM", Kind.DICOM),
        ("a.csv", b"a,b\n1,2\n", Kind.TABLE),
        ("a.html", b"<html></html>", Kind.PAGE),
        ("store.json", b"{}", Kind.STORE_FILE),
        ("unknown", b"\0\1\2", Kind.BINARY),
        ("empty", b"", Kind.EMPTY_FILE),
        ("empty.pt", b"", Kind.EMPTY_FILE),
        ("blank", b" \n", None),
        ("study.zip", b"PK\x03\x04\0\0", Kind.ARCHIVE),
        ("study.7z", b"7z\xbc\xaf\x27\x1c\0", Kind.ARCHIVE),
        ("study.tar", b"a.txt" + bytes(252) + b"ustar\0", Kind.ARCHIVE),
        ("study.tgz", b"\x1f\x8b\x08\0", Kind.ARCHIVE),
        ("brain.mgz", b"\x1f\x8b\x08\0", Kind.IMAGE),
        ("paper.pdf", b"%PDF-1.7\0", Kind.DOCUMENT),
        ("a.yaml", "experiment: {}".encode("utf-16"), None),
        ("a.yaml", "Größe: ü\n".encode() + b"x" * 9000, Kind.KEYS),
        ("latin.txt", "Größe".encode("latin-1"), None),
    ],
)
def test_a_file_is_known_by_its_ending_and_first_bytes(name, content, kind, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert kind_of(tmp_path / name) is kind


def test_a_letter_that_is_cut_by_the_end_of_the_first_bytes_is_text_all_the_same(tmp_path):
    for shift in range(4):
        (tmp_path / "a").write_text("x" * (8192 - shift) + "ü€" * 10, "utf-8")
        assert kind_of(tmp_path / "a") is Kind.TEXT


def test_what_does_not_exist_or_cannot_be_listed_has_no_kind(tmp_path):
    assert kind_of(tmp_path / "gone") is None
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert kind_of(tmp_path / "loop") is None
    assert some_inside(tmp_path / "gone", Kind.STORE) == []


def test_the_names_are_those_of_the_layouts(tmp_path):
    run = RunLayout(tmp_path / "run")
    assert run.config == run.folder / RUN_CONFIG
    assert run.best == run.folder / BEST
    make(run.folder, RUN_CONFIG)
    assert kind_of(run.folder) is Kind.FOLDER
    run.status.write_text("{}")
    assert kind_of(run.folder) is Kind.RUN
    assert kind_of(run.status) is Kind.RUN_FILE
    make(tmp_path / "store", index_path(Path()).name)
    assert kind_of(tmp_path / "store") is Kind.STORE
