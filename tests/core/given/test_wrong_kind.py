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
        tmp_path / "other.yaml": "name: a\n",
        tmp_path / "empty": "",
        tmp_path / "study.zip": "PK\x03\x04\0",
        tmp_path / "paper.pdf": "%PDF-1.7\0",
        tmp_path / "odd": "\0\1",
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
        Kind.EVALUATIONS: run / "eval",
        Kind.RUNS: run.parent,
        Kind.ALL_RUNS: run.parent.parent,
        Kind.REPORT: run.parent / "report",
        Kind.STORE: store,
        Kind.STORES: store.parent,
        Kind.STORE_FILE: store / "store.json",
        Kind.EXPERIMENT: tmp_path / "toy.yaml",
        Kind.DATASET: tmp_path / "dataset.yaml",
        Kind.SITE: tmp_path / "site.yaml",
        Kind.LABELS: tmp_path / "labels.yaml",
        Kind.TEXT: tmp_path / "notes.txt",
        Kind.KEYS: tmp_path / "other.yaml",
        Kind.EMPTY_FILE: tmp_path / "empty",
        Kind.ARCHIVE: tmp_path / "study.zip",
        Kind.DOCUMENT: tmp_path / "paper.pdf",
        Kind.BINARY: tmp_path / "odd",
        Kind.FOLDER: tmp_path,
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
        (Kind.FOLDER, Wanted.MASK, "give the folder that holds the files of one series, such as {}/patient/series"),
        (Kind.ALL_RUNS, Wanted.CHECKPOINT, "give the weights of one run, such as {}/toy/toy-1/checkpoints/best.pt"),
        (Kind.ALL_RUNS, Wanted.REPORTED, "give one of them: {}/toy"),
        (Kind.ALL_RUNS, Wanted.RUNS, "give one of them: {}/toy"),
        (Kind.EVALUATIONS, Wanted.CHECKPOINT, "give its weights, "),
        (Kind.EVALUATIONS, Wanted.REPORTED, "give the folder of the run, "),
        (Kind.EVALUATIONS, Wanted.RUNS, "give the folder of the experiment, "),
        (Kind.EVALUATIONS, Wanted.PREDICTIONS, "it holds no predictions; give a folder of masks"),
        (Kind.EVALUATION, Wanted.PREDICTIONS, "it holds no predictions"),
    ],
)
def test_the_remedy_names_the_path_to_give(things, kind, wanted, remedy):
    assert remedy.format(things[kind]) in wrong_kind(things[kind], wanted)


def test_a_run_without_weights_says_so(things):
    things[Kind.WEIGHTS].unlink()
    assert "it has no weights yet" in wrong_kind(things[Kind.RUN], Wanted.CHECKPOINT)


def test_the_copy_of_an_experiment_in_a_run_leads_to_its_weights(things):
    copy = things[Kind.RUN] / "config.yaml"
    assert wrong_kind(copy, Wanted.CHECKPOINT).endswith(f"give its weights, {things[Kind.WEIGHTS]}")
    assert "give a file of weights, such as" in wrong_kind(things[Kind.EXPERIMENT], Wanted.CHECKPOINT)


def test_the_evaluation_with_predictions_is_named(things):
    predictions = things[Kind.EVALUATION] / "predictions"
    predictions.mkdir()
    assert wrong_kind(things[Kind.EVALUATIONS], Wanted.PREDICTIONS).endswith(f"give {predictions}")


def test_a_series_far_below_is_named_and_no_folder_of_folders(tmp_path):
    series = tmp_path / "study" / "patient" / "date" / "series"
    series.mkdir(parents=True)
    (series / "1").write_bytes(bytes(128) + b"DICM")
    assert wrong_kind(tmp_path / "study", Wanted.MASK).endswith(f"such as {series}")
    (series / "1").unlink()
    assert wrong_kind(tmp_path / "study", Wanted.MASK).endswith("give the folder that holds the files of one series")


def test_what_is_not_known_is_left_to_the_reader_of_the_door(tmp_path):
    (tmp_path / "odd").write_bytes("Größe".encode("latin-1"))
    assert [wrong_kind(tmp_path / name, wanted) for name in ("odd", "gone") for wanted in Wanted] == [None] * 2 * len(
        Wanted
    )
