"""Every door that takes a path refuses a wrong kind with its own error, and takes what the message says to give."""

import re
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset, load_label_table
from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import CheckpointError, ConfigError, DataError, UserError
from sam2ft.core.geometry import Geometry
from sam2ft.core.given.recognise import Kind, kind_of
from sam2ft.core.given.wrong_kind import Wanted, wrong_kind
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.store.store import Store
from sam2ft.evaluation.checkpoints import CheckpointRequest, job_of
from sam2ft.evaluation.masks.inputs import find_predictions
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.model.files.read import read_weight_file
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.plan_file import newest_plan
from sam2ft.slurm.site import load_site
from sam2ft.sweeps.state.collect import experiment_layout
from sam2ft.sweeps.state.sources import sources_of

ROOT = Path(__file__).parents[3]
DATASET = 'dataset: {name: toy}\nsources: {images: "{subject}.nii", masks: "{subject}_m.nii"}\nlabels: {1: {name: a}}\n'


@pytest.fixture
def place(toy):
    """The toy, a run of it with weights and an evaluation, a dataset file, a table, masks, and a text."""
    run = RunLayout(Path("runs/toy/toy-1"))
    run.best.parent.mkdir(parents=True)
    run.config.write_text(toy.experiment.read_text())
    run.status.write_text("{}")
    run.best.write_bytes(toy.weights.read_bytes())
    Path("dataset.yaml").write_text(DATASET)
    Path("labels.yaml").write_text("labels: {1: {name: a}}\n")
    Path("notes.txt").write_text("hello\n")
    mask = np.ones((4, 8, 8), np.uint8)
    for name in ("e__image", "f__image"):
        write_nifti(Path(f"masks/{name}.nii.gz"), mask, Geometry.axis_aligned(mask.shape, (3.0, 1.0, 1.0)))
    return toy


def refused(error, call, *arguments):
    with pytest.raises(error) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


def weights(path):
    return read_weight_file(Path(path))


def store(path):
    return Store.open(Path(path))


def experiment(path):
    return load_experiment(Path(path))


def dataset(path):
    return load_dataset(Path(path))


def labels(path):
    return load_label_table(Path(path))


def plan(path):
    return newest_plan(experiment_layout(Path(path)))


def request(path):
    return job_of(CheckpointRequest(Path(path), (Path("data/toy"),)))


def predictions(path):
    return find_predictions(Path(path), Store.open(Path("data/toy")).split_volumes("test"))


def report(path):
    return sources_of([path])


DOORS = [
    (request, CheckpointError, "runs/toy/toy-1", "is the folder of a run, not a checkpoint"),
    (request, CheckpointError, "runs/toy/toy-1/checkpoints", "is the folder of a run's checkpoints, not a checkpoint"),
    (request, CheckpointError, "data/toy", "is a prepared store, not a checkpoint"),
    (request, CheckpointError, "toy.yaml", "is an experiment file, not a checkpoint"),
    (weights, CheckpointError, "notes.txt", "is a text file, not a checkpoint"),
    (weights, CheckpointError, "runs/toy/toy-1", "is the folder of a run, not a checkpoint"),
    (store, DataError, "runs/toy/toy-1", "is the folder of a run, not a prepared store"),
    (store, DataError, "dataset.yaml", "is a dataset file, not a prepared store"),
    (store, DataError, "data", "is a folder of prepared stores, not a prepared store"),
    (store, DataError, "data/toy/store.json", "is a file of a prepared store, not a prepared store"),
    (store, DataError, "masks", "is a folder of images or masks, not a prepared store"),
    (experiment, ConfigError, "data/toy", "is a prepared store, not an experiment file"),
    (experiment, ConfigError, "dataset.yaml", "is a dataset file, not an experiment file"),
    (experiment, ConfigError, "runs/toy/toy-1", "is the folder of a run, not an experiment file"),
    (experiment, ConfigError, "weights/nano.safetensors", "is a file of weights, not an experiment file"),
    (dataset, ConfigError, "toy.yaml", "is an experiment file, not a dataset file"),
    (dataset, ConfigError, "data/toy", "is a prepared store, not a dataset file"),
    (dataset, ConfigError, "masks", "is a folder of images or masks, not a dataset file"),
    (labels, ConfigError, "dataset.yaml", "is a dataset file, not a label table"),
    (plan, DataError, "runs/toy/toy-1", "is the folder of a run, not an experiment file or the folder of its runs"),
    (plan, DataError, "data/toy", "is a prepared store, not an experiment file or the folder of its runs"),
    (report, DataError, "data/toy", "is a prepared store, not an experiment file, or the folder of its runs"),
    (report, ConfigError, "dataset.yaml", "is a dataset file, not an experiment file"),
    (predictions, DataError, "data/toy", "is a prepared store, not a folder of predicted masks"),
    (predictions, DataError, "runs/toy/toy-1", "is the folder of a run, not a folder of predicted masks"),
]


@pytest.mark.parametrize(("door", "error", "given", "words"), DOORS)
def test_a_door_names_what_was_given(place, door, error, given, words):
    message = refused(error, door, given)
    assert message.startswith(f"{given}: {words}")
    assert "; " in message


ADVISED = [
    (request, "runs/toy/toy-1", r"give its weights, (\S+)", weights),
    (request, "runs/toy/toy-1/checkpoints", r"give its weights, (\S+)", weights),
    (request, "runs/toy/toy-1/status.json", r"give its weights, (\S+)", weights),
    (store, "data", r"give one of them: (\S+)", store),
    (store, "data/toy/store.json", r"give its folder, (\S+)", store),
    (experiment, "runs/toy/toy-1", r"or its copy (\S+)", experiment),
    (request, "weights", r"give one of them: (\S+)", weights),
]


@pytest.mark.parametrize(("door", "given", "advice", "then"), ADVISED)
def test_the_path_that_a_message_names_is_taken(place, door, given, advice, then):
    message = refused(UserError, door, given)
    assert then(re.search(advice, message)[1]) is not None


def test_the_weights_of_one_run_of_an_experiment_are_named(place):
    Path("runs/toy/plan-0123456789ab.json").write_text("{}")
    message = refused(CheckpointError, request, "runs/toy")
    assert weights(re.search(r"give the weights of one run, such as (\S+)", message)[1]).tensors


def test_the_examples_of_the_general_advice_are_what_they_are_called():
    assert kind_of(ROOT / "experiments" / "quickstart.yaml") is Kind.EXPERIMENT
    assert {kind_of(path) for path in (ROOT / "experiments" / "datasets").glob("*.yaml")} == {Kind.DATASET}
    assert {kind_of(path) for path in (ROOT / "slurm" / "sites").glob("*.yaml")} == {Kind.SITE}


def test_what_the_general_advice_asks_for_is_taken(place):
    assert weights("runs/toy/toy-1/checkpoints/best.pt").tensors
    assert store("data/toy").volumes
    assert labels("labels.yaml").ids == (1,)
    assert len(predictions("masks").paths) == 2
    assert read_volume(Path("masks/e__image.nii.gz")).array_zyx.shape == (4, 8, 8)
    Path("runs/toy/plan-0123456789ab.json").write_text("{}")
    for wanted in (Wanted.RUNS, Wanted.REPORTED):
        assert [wrong_kind(Path(one), wanted) for one in ("toy.yaml", "runs/toy")] == [None, None]
    (Path("runs/toy/report")).mkdir()
    for name in ("coverage.json", "index.html"):
        Path("runs/toy/report", name).write_text("{}")
    message = refused(DataError, report, "runs/toy/report")
    assert "give the folder of the runs, runs/toy, to make it anew" in message


def test_a_folder_of_evaluations_leads_to_its_run_and_to_its_predictions(place):
    kept = Path("runs/toy/toy-1/eval/e1/predictions")
    kept.mkdir(parents=True)
    (kept.parent / "_SUCCESS").write_text("{}")
    (kept.parent / "slice.csv").write_text("a\n")
    message = refused(DataError, report, "runs/toy/toy-1/eval")
    assert "is the folder of a run's evaluations, not an experiment file" in message
    assert kind_of(Path(re.search(r"give the folder of the run, (\S+)$", message)[1])) is Kind.RUN
    for path in Path("masks").iterdir():
        path.rename(kept / path.name)
    message = refused(DataError, predictions, "runs/toy/toy-1/eval")
    assert len(predictions(re.search(r"; give (\S+)$", message)[1]).paths) == 2


GIVEN = {
    "study.zip": (b"PK\x03\x04\0", "is an archive, not"),
    "paper.pdf": (b"%PDF-1.7\0", "is a PDF document, not"),
    "model.onnx": (b"\x08\x07\x12\0", "is a binary file, not"),
    "notes.txt": (b"hello\n", "is a text file, not"),
    "table.csv": (b"a,b\n", "is a table, not"),
}


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("door", [experiment, dataset, labels, store, plan, report, predictions])
def test_what_is_no_file_of_ours_is_named_at_every_door(place, door, name):
    content, words = GIVEN[name]
    Path(name).write_bytes(content)
    if door is predictions and name == "table.csv":
        pytest.skip("a table lists predictions")
    message = refused(UserError, door, name)
    assert message.startswith(f"{name}: {words}")
    assert "; give " in message


@pytest.mark.parametrize("name", ["picture.png", "scan.nii.gz", "table.csv", "1.dcm"])
def test_data_given_as_weights_are_named_as_what_they_are(place, name):
    start = {"1.dcm": bytes(128) + b"DICM", "scan.nii.gz": b"\x1f\x8b\x08\0"}.get(name, b"some,bytes")
    Path(name).write_bytes(start + bytes(200))
    assert "not a checkpoint; give a file of weights, such as" in refused(CheckpointError, weights, name)


@pytest.mark.parametrize(
    ("door", "given", "there"),
    [
        (experiment, "toyy.yaml", "toy.yaml"),
        (experiment, "toys", "toy.yaml"),
        (dataset, "dateset.yaml", "dataset.yaml"),
        (labels, "label.yaml", "labels.yaml"),
        (store, "data/toyy", "data/toy"),
        (request, "weights/nanno.safetensors", "weights/nano.safetensors"),
        (weights, "weights/nano.pt", "weights/nano.safetensors"),
        (plan, "runs/toyy", "runs/toy"),
        (predictions, "mask", "masks"),
    ],
)
def test_a_door_names_what_is_there_under_a_name_like_the_given_one(place, door, given, there):
    Path("runs/toy/plan-0123456789ab.json").write_text("{}")
    message = refused(UserError, door, given)
    assert message.startswith(f"{given}: no ")
    assert f"; there is {there}" in message


def test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say(place):
    assert "name it in an experiment file under dataset, and give that file" in refused(
        ConfigError, experiment, "data/toy"
    )
    assert "name it in an experiment file as module.sam2_checkpoint" in refused(
        ConfigError, experiment, "weights/nano.safetensors"
    )
    chosen = ("dataset.toy.store=data/toy", "module.sam2_checkpoint=weights/nano.safetensors")
    assert resolve(load_experiment(Path("toy.yaml"), chosen)).runs


def test_a_dataset_and_an_experiment_are_taken_by_each_others_door(place):
    assert "give it to launch/prepare.py" in refused(ConfigError, experiment, "dataset.yaml")
    assert dataset("dataset.yaml").dataset.name == "toy"
    assert "give it to launch/train.py or launch/sweep.py" in refused(ConfigError, dataset, "toy.yaml")
    assert experiment("toy.yaml").experiment.experiment.name == "toy"


def test_a_plan_names_a_store_and_weights_of_the_wrong_kind_also_in_a_dry_run(place):
    for setting, words in (
        ("dataset.toy.store=dataset.yaml", "is a dataset file, not a prepared store"),
        ("dataset.toy.store=masks", "is a folder of images or masks, not a prepared store"),
        ("module.sam2_checkpoint=runs/toy/toy-1", "is the folder of a run, not a checkpoint"),
        ("module.sam2_checkpoint=data/toy", "is a prepared store, not a checkpoint"),
    ):
        with pytest.raises(ConfigError, match=words):
            resolve(load_experiment(Path("toy.yaml"), [setting]), dry_run=True)


def test_predictions_are_taken_from_the_folder_that_holds_them(place):
    assert len(predictions("masks").paths) == 2
    evaluation = Path("runs/toy/toy-1/eval/e1")
    (evaluation / "predictions").parent.mkdir(parents=True)
    (evaluation / "_SUCCESS").write_text("{}")
    (evaluation / "slice.csv").write_text("a\n")
    assert "it holds no predictions; give a folder of masks" in refused(DataError, predictions, str(evaluation))
    (evaluation / "predictions").mkdir()
    for path in Path("masks").iterdir():
        path.rename(evaluation / "predictions" / path.name)
    message = refused(DataError, predictions, str(evaluation))
    assert len(predictions(re.search(r"; give (\S+)$", message)[1]).paths) == 2


def test_a_folder_above_a_series_names_the_series(place):
    series = Path("patient/mri/1.dcm")
    series.parent.mkdir(parents=True)
    series.write_bytes(bytes(128) + b"DICM")
    message = wrong_kind(Path("patient"), Wanted.MASK)
    assert "is a folder that holds folders only, not an image or mask" in message
    assert kind_of(Path(re.search(r"such as (\S+)$", message)[1])) is Kind.SERIES


def test_a_path_in_place_of_the_name_of_a_site_names_the_site(place):
    folder = ROOT / "slurm" / "sites"
    message = refused(ConfigError, load_site, "slurm/sites/devcluster.yaml", folder)
    name = re.search(r"without its ending: (\w+);", message)[1]
    assert load_site(name, folder).site.name == "devcluster"
