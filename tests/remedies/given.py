"""Remedies of paths of the wrong kind (their doors: tests/core/given), and of labels that are not known."""

import shutil
import subprocess
from pathlib import Path

import numpy as np

from sam2ft.core.labels import LabelTable
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.naming import relabelled
from tests.remedies.conftest import Raw, refusal
from tests.remedies.registry import excused, executed_by, remedy

DOORS = "tests/core/given/test_doors.py::"
OF = {
    "give the experiment file": "launch/status.py and launch/aggregate.py take {} too",
    "give {}": "^give {}$",
    "name it in an experiment file under dataset": "it is prepared already",
}
"""A clause that other messages have too -> a piece of this one."""

for clause, test in (
    ("give its weights, {}", "test_the_path_that_a_message_names_is_taken"),
    ("give one of them: {}{}", "test_the_path_that_a_message_names_is_taken"),
    ("give its folder, {}", "test_the_path_that_a_message_names_is_taken"),
    (
        "give the experiment file that it was started from, or its copy {}",
        "test_the_path_that_a_message_names_is_taken",
    ),
    ("give the weights of one run, such as {}", "test_the_weights_of_one_run_of_an_experiment_are_named"),
    ("give the folder that holds the files of one series{}", "test_a_folder_above_a_series_names_the_series"),
    ("give {}", "test_predictions_are_taken_from_the_folder_that_holds_them"),
    ("give a folder of masks", "test_predictions_are_taken_from_the_folder_that_holds_them"),
    (
        "give the name of a file in {} without its ending{}",
        "test_a_path_in_place_of_the_name_of_a_site_names_the_site",
    ),
    (
        "name it in an experiment file as module.sam2_checkpoint",
        "test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say",
    ),
    ("give that", "test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say"),
    ("give that file", "test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say"),
    (
        "give it to launch/prepare.py, and here an experiment file that names its store under dataset",
        "test_a_dataset_and_an_experiment_are_taken_by_each_others_door",
    ),
    (
        "give it to launch/train.py or launch/sweep.py, and here the dataset file: the one with sources and labels",
        "test_a_dataset_and_an_experiment_are_taken_by_each_others_door",
    ),
    (
        "give an experiment file, such as experiments/quickstart.yaml",
        "test_the_examples_of_the_general_advice_are_what_they_are_called",
    ),
    (
        "give a dataset file, such as those in experiments/datasets",
        "test_the_examples_of_the_general_advice_are_what_they_are_called",
    ),
    (
        "name it in an experiment file under dataset",
        "test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say",
    ),
    ("give that to launch/train.py", "test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say"),
    *(
        (clause, "test_what_the_general_advice_asks_for_is_taken")
        for clause in (
            "give a file of weights, such as runs/EXPERIMENT/RUN/checkpoints/best.pt, or an official one of "
            "`make weights`",
            "give the folder that launch/prepare.py wrote",
            "give the folder of one",
            "give the experiment file",
            "give the experiment file that names its store under dataset",
            "give the folder of the experiment, {}",
            "give the folder of the runs, {}, to make it anew",
            "give the folder of the run, {}",
            "give a folder with one mask per volume",
            "give one file of it, or all with --predictions FOLDER --data STORE",
            "masks of a whole store are scored with --predictions FOLDER --data STORE",
            "give an image file such as NIfTI, or the folder of one DICOM series",
            "give a label table: a YAML file with the single key labels",
        )
    ),
    (
        "give the predictions of one of its evaluations, {}/EVALUATION/predictions",
        "test_predictions_are_taken_from_the_folder_that_holds_them",
    ),
):
    executed_by(clause, of=OF.get(clause, ""), test=f"{DOORS}{test}")


executed_by(
    "name it in an experiment file under dataset",
    of="^name it in an experiment file under dataset",
    test=f"{DOORS}test_a_store_and_weights_are_named_in_an_experiment_as_the_messages_say",
)


@remedy("run launch/prepare.py {} --out FOLDER")
@remedy("give that folder", of="--out FOLDER, and give that folder")
def a_dataset_file_as_a_store(raw: Raw) -> str:
    text = refusal(lambda: Store.open(Path("ds.yaml")))
    assert "run launch/prepare.py ds.yaml --out FOLDER, and give that folder" in text
    raw.desk.works("launch/prepare.py ds.yaml --out FOLDER")
    assert Store.open(Path("FOLDER")).volumes
    return text


def _third_label(raw: Raw) -> None:
    for subject in ("a", "b"):
        volume = read_volume(raw.image(subject))
        mask = np.ones(volume.array_zyx.shape, np.uint8)
        mask[0, 0, 0] = 3
        write_nifti(raw.mask(subject), mask, volume.geometry)


@remedy("add each to labels, to the merge of a label, or to labels_dropped of the dataset file")
def a_value_that_is_no_label(raw: Raw) -> str:
    _third_label(raw)
    text = " ".join(raw.prepare(code=2).split())
    assert text.count("unknown label id 3 (1 voxels)") == 1
    assert "2 volumes for the same reason" in text
    for new in (
        "{1: {name: cartilage}, 3: {name: bone}}",
        "{1: {name: cartilage, merge: [1, 3]}}",
        "{1: {name: cartilage}}\nlabels_dropped: [3]",
    ):
        raw.settings("{1: {name: cartilage}}", new)
        raw.prepare()
    return text


@remedy("write the mask with the ids of this table")
def a_prediction_with_another_id(raw: Raw) -> str:
    _third_label(raw)
    table = LabelTable.from_json({"1": {"name": "cartilage"}})
    volume = read_volume(raw.mask("a"))
    text = refusal(lambda: relabelled(raw.mask("a"), volume, table))
    write_nifti(raw.mask("a"), np.ones(volume.array_zyx.shape, np.uint8), volume.geometry)
    relabelled(raw.mask("a"), read_volume(raw.mask("a")), table)
    return text


excused(
    "no remedy",
    "lower ends {} to {}, upper ends {} to {}",
    "launch/status.py and launch/aggregate.py take {} too",
    "launch/eval.py --ckpt evaluates it",
    "its weights are evaluated with --ckpt",
    "open its {}",
)
excused(
    "judgement",
    "run launch/prepare.py on it",
    "give its store",
)


@remedy("give the image file, or the folder of one DICOM series, that was in it")
def subjects_in_archives(raw: Raw) -> str:
    text = ""
    for kind, unpack in (("zip", "unzip -q"), ("tar", "tar -xf"), ("gztar", "tar -xf")):
        shutil.rmtree("store", ignore_errors=True)
        for subject in ("a", "b"):
            packed = shutil.make_archive(f"packed/{subject}", kind, "dicom", subject)
            Path(packed).rename(f"packed/{subject}.x")
        raw.settings("dicom/{subject}", "packed/{subject}.x")
        text += " ".join(raw.prepare(code=2).split())
        for subject in ("a", "b"):
            if unpack.startswith("unzip") and shutil.which("unzip") is None:
                shutil.unpack_archive(f"packed/{subject}.x", "unpacked", "zip")
                continue
            Path("unpacked").mkdir(exist_ok=True)
            subprocess.run([*unpack.split(), f"../packed/{subject}.x"], cwd="unpacked", check=True)
        raw.settings("dicom/{subject}", "unpacked/{subject}")
        raw.prepare()
        assert raw.whole() == ["a", "b"]
        raw.settings()
    assert text.count("is an archive, not an image or mask") == 3
    return text
