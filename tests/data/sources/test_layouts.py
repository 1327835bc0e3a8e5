"""Layouts of nnU-Net, of datalists and of BIDS: cases, labels, channels and splits; the labels of the file agree."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import UserError
from sam2ft.data.sources.find import find_sources, left_out
from sam2ft.data.sources.row import VolumeFiles

NNUNET = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "femur": 1, "tibia": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}
MSD = {
    "labels": {"0": "background", "1": "spleen"},
    "modality": {"0": "CT"},
    "training": [{"image": f"./imagesTr/s_{n}.nii.gz", "label": f"./labelsTr/s_{n}.nii.gz"} for n in range(3)],
    "test": ["./imagesTs/s_9.nii.gz"],
}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def found(folder: Path, layout: str, rest: str = "") -> list[VolumeFiles]:
    (folder / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {{layout: {layout}}}\n{rest}")
    return find_sources(load_dataset(folder / "ds.yaml", (folder,)), folder)


def labels(folder: Path, layout: str, rest: str = "") -> dict[int, str]:
    (folder / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {{layout: {layout}}}\n{rest}")
    return {label.id: label.name for label in load_dataset(folder / "ds.yaml", (folder,)).labels}


@pytest.fixture
def nnunet(tmp_path: Path) -> Path:
    """Three training cases with two channels, a test case with a label and one without."""
    raw = tmp_path / "nnUNet_raw" / "Dataset001_Knee"
    dump(raw / "dataset.json", NNUNET)
    for case in ("k_1", "k_2", "k_3"):
        touch(raw, f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz", f"labelsTr/{case}.nii.gz")
    touch(
        raw, "imagesTs/k_8_0000.nii.gz", "imagesTs/k_8_0001.nii.gz", "labelsTs/k_8.nii.gz", "imagesTs/k_9_0001.nii.gz"
    )
    folds = [{"train": ["k_1", "k_2"], "val": ["k_3"]}, {"train": ["k_2", "k_3"], "val": ["k_1"]}]
    dump(tmp_path / "nnUNet_preprocessed" / raw.name / "splits_final.json", folds)
    return tmp_path


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_folds_of_nnunet_may_write_accents_in_another_form(nnunet: Path, forms: Any) -> None:
    raw = nnunet / "nnUNet_raw" / "Dataset001_Knee"
    on_disk, in_folds = (unicodedata.normalize(form, "k_Zoë") for form in forms)
    touch(raw, f"imagesTr/{on_disk}_0000.nii.gz", f"imagesTr/{on_disk}_0001.nii.gz", f"labelsTr/{on_disk}.nii.gz")
    dump(raw / "splits_final.json", [{"train": ["k_1", "k_2", "k_3"], "val": [in_folds]}])
    rows = found(nnunet, "{nnunet: nnUNet_raw/Dataset001_Knee, channel: T2, fold: 0}")
    assert {row.key.subject: row.split for row in rows}[on_disk] == "val"


@pytest.mark.parametrize(("channel", "number"), [("T2", 1), (1, 1), ("t1", 0)])
def test_nnunet_gives_cases_channel_and_labels(nnunet: Path, channel: Any, number: int) -> None:
    layout = f"{{nnunet: nnUNet_raw/Dataset001_Knee, channel: {channel}}}"
    rows = found(nnunet, layout)
    assert [(row.key.subject, row.split) for row in rows] == [
        ("k_1", None),
        ("k_2", None),
        ("k_3", None),
        ("k_8", "test"),
    ]
    assert rows[0].image.name == f"k_1_000{number}.nii.gz"
    assert rows[3].mask == nnunet / "nnUNet_raw/Dataset001_Knee/labelsTs/k_8.nii.gz"
    assert labels(nnunet, layout) == {1: "femur", 2: "tibia"}


def test_a_fold_of_nnunet_gives_the_splits(nnunet: Path) -> None:
    rows = found(nnunet, "{nnunet: nnUNet_raw/Dataset001_Knee, channel: 0, fold: 1}")
    assert {row.key.subject: row.split for row in rows} == {"k_1": "val", "k_2": "train", "k_3": "train", "k_8": "test"}
    dump(nnunet / "mine.json", [{"train": ["k_3"], "val": ["k_1", "k_2"]}])
    rows = found(nnunet, "{nnunet: nnUNet_raw/Dataset001_Knee, channel: 0, fold: 0, splits: mine.json}")
    assert [row.split for row in rows] == ["val", "val", "train", "test"]


@pytest.mark.parametrize(
    ("change", "layout", "message"),
    [
        ({}, "", r"has 2 channels: 0 \(T1\), 1 \(T2\); choose one with sources\.layout\.channel"),
        ({}, ", channel: PD", r"sources\.layout\.channel is PD; allowed: 0 \(T1\), 1 \(T2\)"),
        ({}, ", channel: 0, fold: 2", r"sources\.layout\.fold is 2; allowed: 0 to 1"),
        ({"file_ending": ".nrrd"}, ", channel: 0", r"no image that ends with _0000\.nrrd"),
        ({"file_ending": None}, ", channel: 0", "file_ending is None"),
        (
            {"labels": {"background": 0, "whole": [1, 2], "core": [2]}},
            ", channel: 0",
            r"labels: whole are regions .*merge",
        ),
        (
            {"labels": {"background": 0, "a": 1, "ignore": 2}},
            ", channel: 0",
            r"ignore \(2\) marks .*labels_dropped: \[2\]",
        ),
        ({"labels": {"background": 0, "a": 1, "A": "one"}}, ", channel: 0", "allowed: names and whole numbers"),
        ({"labels": None}, ", channel: 0", "has no labels"),
    ],
)
def test_what_nnunet_leaves_open_is_refused(nnunet: Path, change: Any, layout: str, message: str) -> None:
    dump(nnunet / "nnUNet_raw/Dataset001_Knee/dataset.json", NNUNET | change)
    with pytest.raises(UserError, match=message):
        found(nnunet, f"{{nnunet: nnUNet_raw/Dataset001_Knee{layout}}}")


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([{"train": ["k_1"], "val": ["k_3"]}], "fold 0 has no place for k_2 of imagesTr"),
        ([{"train": ["k_1", "k_2", "k_7"], "val": ["k_3"]}], "fold 0 names k_7, for which imagesTr has no image"),
        ([{"train": ["k_1", "k_2", "k_3"], "val": ["k_3"]}], "k_3 is in train and in val"),
        ({"train": ["k_1"]}, "expected a list of folds"),
    ],
)
def test_folds_of_other_cases_are_refused(nnunet: Path, folds: Any, message: str) -> None:
    dump(nnunet / "mine.json", folds)
    with pytest.raises(UserError, match=message):
        found(nnunet, "{nnunet: nnUNet_raw/Dataset001_Knee, channel: 0, fold: 0, splits: mine.json}")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("labels: {1: {name: Femur}, 2: {name: tibia, interface: Femur}}\n", None),
        ("labels: {1: {name: bone, merge: [1, 2]}}\n", None),
        ("labels: {1: {name: femur}}\nlabels_dropped: [2]\n", None),
        (
            "labels: {1: {name: tibia}, 2: {name: femur}}\n",
            "label 1 is femur, labels: of the dataset file calls it tibia",
        ),
        ("labels: {1: {name: femur}}\n", r"its labels 2 \(tibia\) are not in labels: of the dataset file"),
    ],
)
def test_labels_of_the_file_agree_with_those_of_the_layout(nnunet: Path, given: str, message: str | None) -> None:
    layout = "{nnunet: nnUNet_raw/Dataset001_Knee, channel: 0}"
    if message is None:
        assert len(found(nnunet, layout, given)) == 4
        return
    with pytest.raises(UserError, match=message):
        found(nnunet, layout, given)


def test_a_datalist_gives_subjects_labels_and_splits(tmp_path: Path) -> None:
    dump(tmp_path / "Task09/dataset.json", MSD)
    for layout in ("{datalist: Task09/dataset.json}", "{datalist: Task09}"):
        rows = found(tmp_path, layout)
        assert [(row.key.subject, row.split) for row in rows] == [("s_0", None), ("s_1", None), ("s_2", None)]
        assert rows[1].image == tmp_path / "Task09/imagesTr/s_1.nii.gz"
    assert labels(tmp_path, "{datalist: Task09}") == {1: "spleen"}


def test_test_cases_without_a_mask_are_named(nnunet: Path) -> None:
    touch(nnunet / "nnUNet_raw/Dataset001_Knee", "imagesTs/k_9_0000.nii.gz")
    dump(nnunet / "Task09/dataset.json", MSD)
    for layout, name in (
        ("{nnunet: nnUNet_raw/Dataset001_Knee, channel: 1}", "k_9_0000.nii.gz"),
        ("{datalist: Task09}", "test[0]"),
    ):
        (nnunet / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {{layout: {layout}}}\n")
        (note,) = left_out(load_dataset(nnunet / "ds.yaml", (nnunet,)), nnunet)
        assert note.endswith(f"{name}: left out, because there is no mask")


def test_lists_and_folds_of_a_datalist_are_splits(tmp_path: Path) -> None:
    items = [{"image": f"{n}.nii", "label": f"m{n}.nii", "fold": n % 2, "age": 60 + n} for n in range(4)]
    own = "labels: {1: {name: a}}\n"
    dump(tmp_path / "list.json", {"training": items[:2], "validation": items[2:3], "testing": items[3:]})
    rows = found(tmp_path, "{datalist: list.json}", own)
    assert [(row.key.subject, row.split) for row in rows] == [
        ("0", "train"),
        ("1", "train"),
        ("2", "val"),
        ("3", "test"),
    ]
    assert rows[2].covariates == {"age": "62"}
    dump(tmp_path / "list.json", {"training": items})
    rows = found(tmp_path, "{datalist: list.json, fold: 1}", own)
    assert [row.split for row in rows] == ["train", "val", "train", "val"]


@pytest.mark.parametrize(
    ("content", "layout", "message"),
    [
        ({"training": [{"image": "a.nii", "label": "b.nii"}]}, ", fold: 0", r"training\[0\]: has no fold"),
        (
            {"training": [{"image": "a.nii", "label": "b.nii", "fold": 0}]},
            ", fold: 3",
            "no item has fold 3; allowed: 0",
        ),
        ({"training": ["a.nii"]}, "", r"training\[0\]: has no label"),
        ({"training": [{"image": "a.nii"}]}, "", r"training\[0\]: has no label"),
        ({"training": [], "test": ["a.nii"]}, "", "none of its items has a label"),
        ({"training": {"a": 1}}, "", "training: expected a list"),
        ({"training": [{"image": ["a.nii", "b.nii"], "label": "c.nii"}]}, "", "has 2 channels"),
        ({"training": [{"image": 3, "label": "c.nii"}]}, "", "allowed: image and label, each a path"),
        ({"training": [{"image": f"{n}/a.nii", "label": "c.nii"} for n in "xy"]}, "", "both have the key t/a/image"),
        ({"channel_names": {}}, "", r"has no list training; .*nnunet: FOLDER"),
        ([], "", "expected a mapping, found a list"),
    ],
)
def test_a_datalist_that_leaves_something_open_is_refused(
    tmp_path: Path, content: Any, layout: str, message: str
) -> None:
    dump(tmp_path / "list.json", content)
    with pytest.raises(UserError, match=message):
        found(tmp_path, f"{{datalist: list.json{layout}}}", "labels: {1: {name: a}}\n")


BIDS_LABELS = "labels: {1: {name: a}}\n"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    """Two subjects, one with two sessions; images of two suffixes and acquisitions; masks of two readers."""
    study = tmp_path / "study"
    touch(study, "sub-01/anat/sub-01_acq-sag_T2w.nii.gz", "sub-01/anat/sub-01_acq-tra_T2w.nii.gz")
    touch(study, "sub-01/anat/sub-01_acq-sag_T2w.json", "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/notes.txt")
    touch(study, *(f"sub-02/ses-{s}/anat/sub-02_ses-{s}_acq-sag_T2w.nii.gz" for s in "ab"))
    masks = study / "derivatives"
    touch(
        masks,
        "manual/sub-01/anat/sub-01_acq-sag_desc-manual_dseg.nii.gz",
        "auto/sub-01/sub-01_acq-sag_desc-net_dseg.nii.gz",
    )
    touch(masks, "manual/sub-01/anat/sub-01_acq-tra_dseg.nii.gz", "prep/sub-01/sub-01_acq-tra_space-MNI_dseg.nii.gz")
    touch(masks, "manual/sub-02/ses-a/anat/sub-02_ses-a_acq-sag_dseg.nii.gz")
    touch(masks, "prep/sub-02/sub-02_ses-b_acq-sag_desc-brain_mask.nii.gz")
    (study / "participants.tsv").write_text("participant_id\tage\tsite\nsub-01\t61\tUlm\nsub-02\tn/a\tBonn\n")
    return tmp_path


def test_bids_pairs_images_with_masks_of_the_derivatives(bids: Path) -> None:
    rows = {str(row.key): row for row in found(bids, "{bids: study, suffix: T2w}", BIDS_LABELS)}
    assert list(rows) == ["t/01/acq-sag", "t/01/acq-tra", "t/02/ses-a_acq-sag", "t/02/ses-b_acq-sag"]
    assert "has 2 masks below derivatives/" in rows["t/01/acq-sag"].problem
    assert rows["t/01/acq-tra"].mask.name == "sub-01_acq-tra_dseg.nii.gz"
    assert rows["t/02/ses-a_acq-sag"].mask.is_file()
    assert not rows["t/02/ses-b_acq-sag"].mask.exists()  # the mask of a brain is no label map
    assert rows["t/01/acq-tra"].described == {"age": "61", "site": "Ulm"}
    assert rows["t/02/ses-a_acq-sag"].described == {"ses": "a", "site": "Bonn"}


def test_entities_choose_images_and_masks(bids: Path) -> None:
    layout = "{bids: study, suffix: T2w, entities: {acq: sag, desc: manual}}"
    rows = found(bids, layout, BIDS_LABELS)
    assert [row.key.volume for row in rows] == ["acq-sag", "ses-a_acq-sag", "ses-b_acq-sag"]
    assert (rows[0].mask.name, rows[0].problem) == ("sub-01_acq-sag_desc-manual_dseg.nii.gz", "")
    rows = found(bids, "{bids: study, suffix: T2w, entities: {ses: b, desc: brain}}", BIDS_LABELS)
    assert [row.mask.name for row in rows] == ["sub-02_ses-b_acq-sag_desc-brain_mask.nii.gz"]


TABLES = {
    "beside": "manual/sub-01/anat/sub-01_acq-tra_dseg.tsv",
    "of the subject": "manual/sub-01/sub-01_dseg.tsv",
    "of the derivative": "manual/dseg.tsv",
    "of all": "dseg.tsv",
}


@pytest.mark.parametrize("place", TABLES)
def test_the_label_table_of_a_mask_must_say_what_the_dataset_file_says(bids: Path, place: str) -> None:
    path = bids / "study" / "derivatives" / TABLES[place]
    layout = "{bids: study, suffix: T2w}"

    def problem(rows: str) -> str:
        path.write_text("index\tname\tcolor\n0\tBackground\t#000000\n" + rows)
        found_rows = {row.key.volume: row.problem for row in found(bids, layout, BIDS_LABELS)}
        return found_rows["acq-tra"]

    name = BIDS_LABELS.partition("name: ")[2].partition("}")[0]
    assert problem(f"1\t{name.upper()}\tred\n9\tother\tred\n") == ""
    assert re.search(rf"dseg\.tsv: index 1 is 'liver', but labels: .* calls it '{name}'", problem("1\tliver\tred\n"))
    assert "index is 'x'; allowed: whole numbers" in problem("x\tliver\tred\n")
    assert "in one line" in problem(f"1\t{name}\tred\n1\t{name}\tred\n")
    path.write_text("number\tname\n1\tliver\n")
    told = {row.key.volume: row.problem for row in found(bids, layout, BIDS_LABELS)}
    assert "has no column index" in told["acq-tra"]


def test_the_nearest_label_table_counts_and_one_of_another_mask_does_not(bids: Path) -> None:
    masks = bids / "study" / "derivatives"
    name = BIDS_LABELS.partition("name: ")[2].partition("}")[0]
    (masks / "dseg.tsv").write_text("index\tname\n1\tliver\n")
    (masks / "manual" / "sub-01" / "anat" / "sub-01_acq-sag_dseg.tsv").write_text("index\tname\n1\tspleen\n")
    (masks / "manual" / "sub-01" / "sub-01_dseg.tsv").write_text(f"index\tname\n1\t{name}\n")
    told = {str(row.key): row.problem for row in found(bids, "{bids: study, suffix: T2w}", BIDS_LABELS)}
    assert told["t/01/acq-tra"] == ""
    assert "liver" in told["t/02/ses-a_acq-sag"]


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("{bids: study, suffix: PDw}", r"no image with suffix PDw; it has T1w, T2w"),
        ("{bids: study, suffix: T2w, entities: {acq: cor}}", "no image with suffix T2w and acq-cor"),
        ("{bids: nowhere, suffix: T2w}", r"nowhere: no such folder; sources\.layout\.bids"),
        ("{bids: study}", r"sources\.layout\.suffix: missing"),
        ("{bids: study, suffix: T2w, fold: 0}", r"sources\.layout\.fold: is used by nnunet and datalist only"),
        ("{bids: study, suffix: T2w, nnunet: x}", "has nnunet and bids; allowed: one of"),
        ("{nnunet: x, splits: y}", r"sources\.layout\.splits: needs fold"),
    ],
)
def test_a_wrong_layout_is_refused(bids: Path, layout: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        found(bids, layout, BIDS_LABELS)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("{}", r"sources\.images: missing"),
        ("{layout: {nnunet: x}, images: cases.csv}", r"sources\.layout: found beside images"),
        ("{layout: {nnunet: x}, masks: 'm/{subject}'}", r"sources\.masks: masks are listed in the layout"),
        ("{images: cases.csv, masks: 'm/{subject}'}", r"sources\.masks: masks are listed in the table"),
        ("{images: cases.xls}", r"sources\.images: found .*cases\.xls.*; allowed: a table as \.csv, \.tsv, \.xlsx"),
        ("{images: cases.csv, subject: '{site}'}", r"sources\.subject: is made from placeholders"),
        ("{images: '{id}/x', masks: 'm/{id}'}", r"sources\.images: found .*allowed: a path with \{subject\}"),
        ("{images: '{id}/{v}', masks: 'm/{id}', subject: '{id}'}", r"sources\.images: found "),
        ("{images: '{id}/x', masks: 'm/x', subject: '{id}'}", r"sources\.masks: found .*each subject has its own"),
        (
            "{images: '{id}/x', masks: '{idd}/{id}', subject: '{id}'}",
            r"sources\.masks: found \{idd\}; allowed: \{subject\}",
        ),
        (
            "{images: '{id}/x', masks: '{id}', subject: '{site}-{id}'}",
            r"sources\.subject: found \{site\}; allowed: .*\{id\}",
        ),
        ("{images: '{id}/x', masks: '{id}', subject: all}", r"sources\.subject: found \"all\"; allowed: text with"),
        ("{images: 'a**/{subject}', masks: '{subject}'}", r"sources\.images: found .*allowed: \*\* as a whole part"),
        ("{images: '{a b}/{subject}', masks: '{subject}'}", r"sources\.images: found .*names in braces"),
    ],
)
def test_wrong_keys_of_sources_are_refused(tmp_path: Path, sources: str, message: str) -> None:
    (tmp_path / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {sources}\n{BIDS_LABELS}")
    with pytest.raises(UserError, match=message):
        load_dataset(tmp_path / "ds.yaml", (tmp_path,))


def test_labels_are_needed_without_a_layout_that_has_them(tmp_path: Path) -> None:
    for sources in ("{images: cases.csv}", "{layout: {bids: study, suffix: T2w}}"):
        (tmp_path / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {sources}\n")
        with pytest.raises(UserError, match="labels: missing; label table"):
            load_dataset(tmp_path / "ds.yaml", (tmp_path,))
