"""One line says what was given, what is needed, and what to give instead."""

import itertools

import pytest

from sam2ft.core.given.recognise import Kind
from sam2ft.core.given.wrong_kind import ALLOWED, Wanted, wrong_kind


@pytest.fixture
def things(tmp_path):
    """One of each kind, as a user would have them."""
    run = tmp_path / "runs" / "toy" / "toy-1"
    store = tmp_path / "data" / "toy"
    texts = {
        tmp_path / "toy.yaml": "experiment: {name: toy}\nmodule: {}\n",
        tmp_path / "dataset.yaml": "dataset: {name: a}\nsources: {}\n",
        tmp_path / "site.yaml": "site: {name: a}\n",
        tmp_path / "labels.yaml": "labels: {1: {name: a}}\n",
        tmp_path / "notes.txt": "hello\n",
        tmp_path / "runs" / "toy" / "plan-0123456789ab.json": "{}",
        run / "config.yaml": "experiment: {name: toy}\nmodule: {}\n",
        run / "status.json": "{}",
        run / "eval" / "e1" / "_SUCCESS": "{}",
        run / "eval" / "e1" / "slice.csv": "a\n",
        run.parent / "report" / "coverage.json": "{}",
        run.parent / "report" / "index.html": "<html>",
        store / "store.json": "{}",
        tmp_path / "masks" / "a.nii": "x",
        tmp_path / "patient" / "series" / "text": "x",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "best.pt").write_bytes(b"PK\x03\x04\0")
    (tmp_path / "patient" / "series" / "text").write_bytes(bytes(128) + b"DICM")
    return {
        Kind.RUN: run,
        Kind.CHECKPOINTS: run / "checkpoints",
        Kind.WEIGHTS: run / "checkpoints" / "best.pt",
        Kind.RUN_FILE: run / "status.json",
        Kind.EVALUATION: run / "eval" / "e1",
        Kind.RUNS: run.parent,
        Kind.REPORT: run.parent / "report",
        Kind.STORE: store,
        Kind.STORES: store.parent,
        Kind.STORE_FILE: store / "store.json",
        Kind.EXPERIMENT: tmp_path / "toy.yaml",
        Kind.DATASET: tmp_path / "dataset.yaml",
        Kind.SITE: tmp_path / "site.yaml",
        Kind.LABELS: tmp_path / "labels.yaml",
        Kind.TEXT: tmp_path / "notes.txt",
        Kind.IMAGES: tmp_path / "masks",
        Kind.IMAGE: tmp_path / "masks" / "a.nii",
        Kind.FOLDERS: tmp_path / "patient",
        Kind.SERIES: tmp_path / "patient" / "series",
    }


def test_every_thing_at_every_door_is_taken_or_named_in_one_line(things):
    for (kind, path), wanted in itertools.product(things.items(), Wanted):
        message = wrong_kind(path, wanted)
        if kind in ALLOWED[wanted]:
            assert message is None, (kind, wanted)
        else:
            assert message.startswith(f"{path}: is {kind.value}, not {wanted.value}; "), (kind, wanted)
            assert "\n" not in message
            assert message.partition("; ")[2], "no remedy"


@pytest.mark.parametrize(
    ("kind", "wanted", "remedy"),
    [
        (Kind.RUN, Wanted.CHECKPOINT, "give its weights, {}/checkpoints/best.pt"),
        (Kind.CHECKPOINTS, Wanted.CHECKPOINT, "best.pt"),
        (Kind.RUN_FILE, Wanted.CHECKPOINT, "toy-1/checkpoints/best.pt"),
        (Kind.EVALUATION, Wanted.CHECKPOINT, "toy-1/checkpoints/best.pt"),
        (Kind.RUNS, Wanted.CHECKPOINT, "toy-1/checkpoints/best.pt"),
        (Kind.STORE_FILE, Wanted.STORE, "give its folder, "),
        (Kind.STORES, Wanted.STORE, "give one of them: {}/toy"),
        (Kind.DATASET, Wanted.STORE, "run launch/prepare.py {} --out FOLDER"),
        (Kind.SERIES, Wanted.STORE, "describe the images in a dataset file"),
        (Kind.RUN, Wanted.EXPERIMENT, "{}/config.yaml"),
        (Kind.DATASET, Wanted.EXPERIMENT, "give it to launch/prepare.py"),
        (Kind.EXPERIMENT, Wanted.DATASET, "give it to launch/train.py or launch/sweep.py"),
        (Kind.STORE, Wanted.DATASET, "it is prepared already"),
        (Kind.RUN, Wanted.RUNS, "give the folder of the experiment, "),
        (Kind.REPORT, Wanted.REPORTED, "{}/index.html"),
        (Kind.FOLDERS, Wanted.MASK, "such as {}/series"),
        (Kind.EVALUATION, Wanted.PREDICTIONS, "it holds no predictions"),
    ],
)
def test_the_remedy_names_the_path_to_give(things, kind, wanted, remedy):
    assert remedy.format(things[kind]) in wrong_kind(things[kind], wanted)


def test_a_run_without_weights_says_so(things):
    things[Kind.WEIGHTS].unlink()
    assert "it has no weights yet" in wrong_kind(things[Kind.RUN], Wanted.CHECKPOINT)


def test_what_is_not_known_is_left_to_the_reader_of_the_door(tmp_path):
    (tmp_path / "odd").write_bytes(b"\0\1")
    assert [wrong_kind(tmp_path / name, wanted) for name in ("odd", "gone") for wanted in Wanted] == [None] * 2 * len(
        Wanted
    )
