"""What sources say besides files: splits, covariates and labelled structures, from the sources to the store."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.keys import VolumeKey
from sam2ft.data.prepare.outcomes import PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store

NAMES = ("a", "b", "c", "d")
HEADER = "subject;image;mask;split;site;age;note\n"


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 3.0, 1.0])), path)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four subjects as NIfTI, and a table of them."""
    for number, name in enumerate(NAMES):
        values = np.random.default_rng(number).integers(0, 1000, size=(6, 5, 3)).astype(np.int16)
        write(tmp_path / "i" / f"{name}_0000.nii.gz", values)
        write(tmp_path / "m" / f"{name}.nii.gz", (values > 500).astype(np.uint8))
    return tmp_path


def table(folder: Path, splits: str, rest: str = "") -> Path:
    lines = [f"{name};i/{name}_0000.nii.gz;m/{name}.nii.gz;{split};Ulm;{number};secret" for number, (name, split)
             in enumerate(zip(NAMES, splits.split(), strict=True), start=61)]  # fmt: skip
    (folder / "cases.csv").write_text(HEADER + "\n".join(lines) + "\n")
    return dataset(folder, "images: cases.csv, keep_covariates: [site, age]", rest)


def dataset(folder: Path, sources: str, rest: str = "") -> Path:
    (folder / "ds.yaml").write_text(f"dataset: {{name: t}}\nsources: {{{sources}}}\nlabels: {{1: {{name: a}}}}\n{rest}")
    return folder / "ds.yaml"


def run(path: Path, out: Path) -> PrepareSummary:
    return prepare_dataset(load_dataset(path, (path.parent,)), path.parent, out, lambda *_: None)


def splits(out: Path) -> dict[str, str]:
    return {record.key.subject: record.split for record in Store.open(out).volumes}


def test_the_split_of_a_table_counts_as_a_split_file(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    run(table(raw, "train val test train"), out)
    assert splits(out) == {"a": "train", "b": "val", "c": "test", "d": "train"}
    summary = run(table(raw, "train val test val"), out)
    assert splits(out)["d"] == "val"
    assert [note for note in summary.notes if note.startswith("the sources move stored subjects: d (train -> val)")]


@pytest.mark.parametrize(
    ("rest", "key"),
    [
        ("split: {train: 0.5, val: 0.25, test: 0.25}\n", r"split\.train: the sources give the split of every subject"),
        ("split: {file: s.json}\n", r"split\.file: the sources give"),
    ],
)
def test_a_second_split_would_do_nothing_and_is_refused(raw: Path, tmp_path: Path, rest: str, key: str) -> None:
    (raw / "s.json").write_text(json.dumps({"train": list(NAMES)}))
    with pytest.raises(DataError, match=key):
        run(table(raw, "train val test train", rest), tmp_path / "store")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_beside_a_test_set_the_others_are_drawn_between_train_and_val(raw: Path, tmp_path: Path, seed: int) -> None:
    listed: dict[str, Any] = {"training": [], "testing": []}
    for name in NAMES:
        part = "testing" if name == "b" else "training"
        listed[part].append({"image": f"i/{name}_0000.nii.gz", "label": f"m/{name}.nii.gz", "subject": name})
    (raw / "list.json").write_text(json.dumps(listed))
    out = tmp_path / "store"
    run(
        dataset(raw, "layout: {datalist: list.json}", f"split: {{train: 0.5, val: 0.25, test: 0.25, seed: {seed}}}"),
        out,
    )
    found = splits(out)
    assert found.pop("b") == "test"
    assert sorted(found.values()) == ["train", "train", "val"]
    run(raw / "ds.yaml", out)
    assert splits(out) == found | {"b": "test"}


def test_a_raw_dataset_of_nnunet_is_prepared_with_its_fold_and_labels(raw: Path, tmp_path: Path) -> None:
    folder = raw / "Dataset001_T"
    folder.mkdir()
    (raw / "i").rename(folder / "imagesTr")
    (raw / "m").rename(folder / "labelsTr")
    described = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "bone": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(described))
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a", "b", "c"], "val": ["d"]}]))
    (raw / "ds.yaml").write_text("dataset: {name: t}\nsources: {layout: {nnunet: Dataset001_T, fold: 0}}\n")
    run(raw / "ds.yaml", tmp_path / "store")
    assert splits(tmp_path / "store") == {"a": "train", "b": "train", "c": "train", "d": "val"}
    assert [label.name for label in Store.open(tmp_path / "store").labels] == ["bone"]


def test_only_listed_covariates_reach_the_store_and_no_digest(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    run(table(raw, "train val test train"), out)
    key = VolumeKey("t", "b", "image")
    assert Store.open(out).covariates[key] == {"site": "Ulm", "age": "62"}
    assert not [path for path in out.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    digests = [record.digest for record in Store.open(out).volumes]
    (raw / "cases.csv").write_text((raw / "cases.csv").read_text().replace(";62;", ";63;"))
    summary = run(raw / "ds.yaml", out)
    assert {outcome.result for outcome in summary.outcomes} == {"unchanged"}
    assert Store.open(out).covariates[key]["age"] == "63"
    assert [record.digest for record in Store.open(out).volumes] == digests


def test_covariates_of_a_volume_whose_image_is_gone_stay_until_they_are_no_longer_listed(
    raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    run(table(raw, "train val test train"), out)
    lines = (raw / "cases.csv").read_text().splitlines()
    (raw / "cases.csv").write_text("\n".join(line for line in lines if not line.startswith("b;")))
    run(raw / "ds.yaml", out)
    assert Store.open(out).covariates[VolumeKey("t", "b", "image")] == {"site": "Ulm", "age": "62"}
    dataset(raw, "images: cases.csv, keep_covariates: [site]")
    run(raw / "ds.yaml", out)
    assert {tuple(values) for values in Store.open(out).covariates.values()} == {("site",)}
    dataset(raw, "images: cases.csv")
    run(raw / "ds.yaml", out)
    assert "covariates" not in read_json(out / "store.json")


def test_covariates_go_by_the_hashed_name(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    run(table(raw, "train val test train", "subject_id: hash\n"), out)
    store = Store.open(out)
    assert set(store.covariates) == {record.key for record in store.volumes}
    assert all(key.subject.startswith("s-") for key in store.covariates)


def test_an_unknown_covariate_is_refused(raw: Path, tmp_path: Path) -> None:
    table(raw, "train val test train")
    with pytest.raises(DataError, match=r"sources\.keep_covariates: no volume has sex; allowed: age, note, site"):
        run(dataset(raw, "images: cases.csv, keep_covariates: [sex]"), tmp_path / "store")


@pytest.mark.parametrize(
    ("labelled", "reason"),
    [
        ("1", None),
        ("1 5", None),
        ("", None),
        ("2", "cases.csv: labelled of {}: '2' is no label; allowed: 1 a, 5 b"),
        ("5", "holds label 1 a in 42 voxels, which labelled leaves out (it lists 5 b); add it to labelled"),
    ],
)
def test_what_was_drawn_in_a_volume_is_stored_and_a_contradiction_refuses_it_alone(
    raw: Path, tmp_path: Path, labelled: str, reason: str | None
) -> None:
    lines = [f"{name};i/{name}_0000.nii.gz;m/{name}.nii.gz;{labelled if name == 'b' else ''}" for name in NAMES]
    (raw / "cases.csv").write_text("subject;image;mask;labelled\n" + "\n".join(lines))
    path = dataset(raw, "images: cases.csv")
    path.write_text(path.read_text().replace("{1: {name: a}}", "{1: {name: a}, 5: {name: b}}"))
    summary = run(path, tmp_path / "store")
    assert [outcome.key.subject for outcome in summary.refused] == ([] if reason is None else ["b"])
    assert reason is None or reason.format(raw / "i" / "b_0000.nii.gz") in summary.refused[0].reason
    records = {record.key.subject: record for record in Store.open(tmp_path / "store").volumes}
    assert {name: record.labelled for name, record in records.items() if name != "b"} == dict.fromkeys("acd")
    if reason is None:
        assert records["b"].labelled == ((1,) if labelled == "1" else None)
        partly = "drawn in part: b in 3 of 4 subjects; elsewhere they count neither as absent nor as spurious"
        assert summary.notes == ((partly,) if labelled == "1" else ())


@pytest.mark.parametrize("size", [200, 300, 5000])
def test_a_path_that_is_too_long_refuses_its_volume_alone(raw: Path, tmp_path: Path, size: int) -> None:
    lines = [f"{name};i/{name}_0000.nii.gz;m/{name if name != 'b' else 'x' * size}.nii.gz" for name in NAMES]
    (raw / "cases.csv").write_text("subject;image;mask\n" + "\n".join(lines))
    refused = run(dataset(raw, "images: cases.csv"), tmp_path / "store").refused
    assert [outcome.key.subject for outcome in refused] == ["b"]


@pytest.mark.parametrize("written", ["b_0000.NII.gz", "b_0000.nii.GZ", "B_0000.Nii.gz"])
def test_an_image_with_other_letters_is_left_out_with_a_note(raw: Path, tmp_path: Path, written: str) -> None:
    path = dataset(raw, "images: 'i/{subject}_0000.nii.gz', masks: 'm/{subject}.nii.gz'")
    assert run(path, tmp_path / "all").notes == ()
    (raw / "i" / "b_0000.nii.gz").rename(raw / "i" / written)
    summary = run(path, tmp_path / "store")
    assert len(summary.outcomes) == 3
    assert [note.partition(":")[0] for note in summary.notes] == [str(raw / "i" / written)]


@pytest.mark.parametrize(
    ("name", "written"), [("a.nii.gz", "A.nii.gz"), ("b.nii.gz", "b.NII.gz"), ("c.nii.gz", "c .nii.gz")]
)
def test_a_mask_with_other_letters_is_named_but_not_taken(raw: Path, tmp_path: Path, name: str, written: str) -> None:
    (raw / "m" / name).rename(raw / "m" / written)
    path = dataset(raw, "images: 'i/{subject}_0000.nii.gz', masks: 'm/{subject}.nii.gz'")
    (refused,) = run(path, tmp_path / "store").refused
    assert f"{name}: no such file or folder; {raw / 'm' / written} is there: capital letters" in refused.reason
