"""Folds from the dataset file, or the file or layout of another program, to the store and back to an experiment."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.datamodule import DatasetSource
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.data.prepare.outcomes import PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.folds import num_folds, split_in
from sam2ft.data.store.split import SPLITS
from sam2ft.data.store.store import Store, records_digest
from sam2ft.runs.stores import open_fold, open_source, split_records

NAMES = tuple("abcdefgh")


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 1000, size=(6, 5, 3)).astype(np.int16)
    values = (values > 500).astype(np.uint8) if "label" in str(path) or "m/" in str(path) else values
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 3.0, 1.0])), path)


def cases(folder: Path, names: str | tuple[str, ...] = NAMES) -> None:
    """A table of subjects with a site and a family of two."""
    lines = ["subject,image,mask,site,family"]
    for number, name in enumerate(names):
        write(folder / "i" / f"{name}.nii.gz", ord(name))
        write(folder / "m" / f"{name}.nii.gz", ord(name))
        lines.append(f"{name},i/{name}.nii.gz,m/{name}.nii.gz,{'UV'[number % 2]},f{number // 2}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")


def prepared(folder: Path, split: str = "", sources: str = "images: cases.csv", **more: Any) -> PrepareSummary:
    path = folder / "ds.yaml"
    text = f"dataset: {{name: t}}\nsources: {{{sources}}}\nlabels: {{1: {{name: a}}}}\n"
    path.write_text(text + (f"split: {split}\n" if split else "") + "".join(f"{k}: {v}\n" for k, v in more.items()))
    return prepare_dataset(load_dataset(path, (folder,)), folder, folder / "store", lambda *_: None)


def folds(folder: Path) -> list[dict[str, list[str]]]:
    """Split -> its stored subjects, of each fold."""
    store = Store.open(folder / "store")
    subjects = sorted({record.key.subject for record in store.volumes})
    rows = [split_in(store.folds, number, subjects) for number in range(num_folds(store.folds))]
    return [{split: [name for name in subjects if row[name] == split] for split in SPLITS} for row in rows]


def test_the_store_holds_every_fold_and_an_experiment_chooses_one(tmp_path: Path) -> None:
    cases(tmp_path)
    summary = prepared(tmp_path, "{test: 0.25, folds: 3, stratify: [site]}")
    found, store = folds(tmp_path), tmp_path / "store"
    assert len(found) == 3
    assert {tuple(one["test"]) for one in found} == {tuple(found[0]["test"])}
    assert sorted(name for one in found for name in one["val"]) == sorted({*NAMES} - {*found[0]["test"]})
    assert summary.splits == {split: len(names) for split, names in found[0].items()}
    for number, one in enumerate(found):
        opened = open_source("t", DatasetSource(store=store, fold=number))
        for split in ("train", "val", "test"):
            assert [record.key.subject for record in split_records([opened], split)] == one[split]
    assert {record.split for record in Store.open(store).volumes if record.key.subject in found[0]["val"]} == {"val"}


def test_ids_follow_from_the_subjects_of_a_fold(tmp_path: Path) -> None:
    cases(tmp_path)
    prepared(tmp_path, "{test: 0.25, folds: 3}")
    stores = [open_source("t", DatasetSource(store=tmp_path / "store", fold=fold)) for fold in (None, 0, 1, 2)]
    digests = [records_digest(split_records([one], "train") + split_records([one], "val")) for one in stores]
    assert digests[0] == digests[1]  # null is fold 0
    assert len(set(digests)) == 3
    assert len({records_digest(split_records([one], "test")) for one in stores}) == 1


@pytest.mark.parametrize(("fold", "message"), [(3, "found 3; allowed: 0 to 2"), (9, "found 9; allowed: 0 to 2")])
def test_a_fold_that_is_not_there_is_refused(tmp_path: Path, fold: int, message: str) -> None:
    cases(tmp_path)
    prepared(tmp_path, "{folds: 3}")
    with pytest.raises(DataError, match=f"^dataset.t.fold: {message}"):
        open_source("t", DatasetSource(store=tmp_path / "store", fold=fold))
    with pytest.raises(DataError, match=f"^--fold: {message}"):
        open_fold(tmp_path / "store", fold)


def test_without_folds_the_store_is_as_before_and_has_none(tmp_path: Path) -> None:
    cases(tmp_path)
    prepared(tmp_path, "{train: 0.5, val: 0.25, test: 0.25}")
    store = tmp_path / "store"
    assert "folds" not in (store / "store.json").read_text() + (store / "metadata_for_ml.json").read_text()
    assert folds(tmp_path) == []
    with pytest.raises(DataError, match="the store has no folds; leave the key out, or prepare it"):
        open_source("t", DatasetSource(store=store, fold=0))


def test_a_lost_index_is_made_again_with_its_folds_and_a_refused_subject_keeps_its_own(tmp_path: Path) -> None:
    cases(tmp_path)
    (tmp_path / "m" / "c.nii.gz").write_bytes(b"damaged")
    prepared(tmp_path, "{folds: 3, group: family}")
    content = read_json(tmp_path / "store" / "store.json")
    assert content["folds"].keys() == {*NAMES}
    assert "c" in content["reserved_splits"]
    before = folds(tmp_path)
    (tmp_path / "store" / "store.json").unlink()
    prepared(tmp_path, "{folds: 3, group: family}")
    assert folds(tmp_path) == before
    write(tmp_path / "m" / "c.nii.gz", 1)
    prepared(tmp_path, "{folds: 3, group: family}")
    after = folds(tmp_path)
    assert all({*one[split]} <= {*new[split]} for one, new in zip(before, after, strict=True) for split in one)
    assert Counter(name for one in after for split in one.values() for name in split) == dict.fromkeys(NAMES, 3)


def splits_final(count: int, names: tuple[str, ...] = NAMES) -> str:
    rows = [[name for at, name in enumerate(names) if at % count == number] for number in range(count)]
    return json.dumps([{"train": sorted({*names} - {*row}), "val": row} for row in rows])


def nnunet(folder: Path) -> str:
    for number, name in enumerate(NAMES):
        write(folder / "D1" / "imagesTr" / f"{name}_0000.nii.gz", number)
        write(folder / "D1" / "labelsTr" / f"{name}.nii.gz", number)
    write(folder / "D1" / "imagesTs" / "z_0000.nii.gz", 99)
    write(folder / "D1" / "labelsTs" / "z.nii.gz", 99)
    about = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (folder / "D1" / "dataset.json").write_text(json.dumps(about))
    (folder / "D1" / "splits_final.json").write_text(splits_final(4))
    return "layout: {nnunet: D1, fold: all}"


def datalist(folder: Path) -> str:
    cases(folder, (*NAMES, "z"))
    items = [{"image": f"i/{n}.nii.gz", "label": f"m/{n}.nii.gz", "fold": at % 4} for at, n in enumerate(NAMES)]
    lists = {"training": items, "testing": [{"image": "i/z.nii.gz", "label": "m/z.nii.gz"}]}
    (folder / "list.json").write_text(json.dumps(lists))
    return "layout: {datalist: list.json, fold: all}"


@pytest.mark.parametrize("layout", [nnunet, datalist])
def test_all_folds_of_a_layout_are_those_of_the_store(tmp_path: Path, layout: Any) -> None:
    sources = layout(tmp_path)
    summary = prepared(tmp_path, sources=sources)
    found = folds(tmp_path)
    assert [one["val"] for one in found] == [["a", "e"], ["b", "f"], ["c", "g"], ["d", "h"]]
    assert [one["test"] for one in found] == [["z"]] * 4
    assert [len(one["train"]) for one in found] == [6] * 4
    assert summary.splits == {"train": 6, "val": 2, "test": 1}
    single = prepared(tmp_path / "one", sources=layout(tmp_path / "one").replace("all", "2"))
    assert "folds" not in read_json(single.store / "store.json")


def test_all_folds_of_a_split_file(tmp_path: Path) -> None:
    cases(tmp_path)
    (tmp_path / "s.json").write_text(splits_final(4))
    prepared(tmp_path, "{file: s.json, fold: all}")
    assert [one["val"] for one in folds(tmp_path)] == [["a", "e"], ["b", "f"], ["c", "g"], ["d", "h"]]
    (tmp_path / "s.json").write_text(splits_final(4, NAMES[::-1]))
    summary = prepared(tmp_path, "{file: s.json, fold: all}")
    assert any(note.startswith("split.file moves stored subjects") for note in summary.notes)
    assert folds(tmp_path)[0]["val"] == ["d", "h"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is no list of folds"),
        ('{"train": ["a"], "val": [], "test": []}', "is no list of folds, and split.fold is all"),
        ('[{"train": ["a"], "val": ["b"]}, {"train": ["a"]}]', "in no split: c, d, e"),
        (splits_final(2).replace('"h"', '"x"', 1), "in no split: h|no images were found for x"),
    ],
)
def test_a_split_file_without_folds_that_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    cases(tmp_path)
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, "{file: s.json, fold: all}")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda items: items[2].pop("fold"), r"training\[2\]: has no fold"),
        (lambda items: items[2].update(fold="1"), r"training\[2\]: has no fold"),
        (lambda items: [item.update(fold=item["fold"] * 2) for item in items], "folds of training are 0, 2, 4, 6"),
        (lambda items: [item.update(fold=0) for item in items], "folds of training are 0; allowed"),
    ],
)
def test_a_datalist_without_folds_from_0_is_refused(tmp_path: Path, edit: Any, message: str) -> None:
    sources = datalist(tmp_path)
    content = read_json(tmp_path / "list.json")
    edit(content["training"])
    (tmp_path / "list.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, sources=sources)


def test_folds_go_by_the_hashed_name(tmp_path: Path) -> None:
    cases(tmp_path)
    prepared(tmp_path, "{folds: 3, group: family}", subject_id="hash")
    text = (tmp_path / "store" / "store.json").read_text()
    assert {name for one in folds(tmp_path) for name in one["val"]} <= {*json.loads(text)["folds"]}
    assert all(name.startswith("s-") for name in json.loads(text)["folds"])
    assert "family" not in text
