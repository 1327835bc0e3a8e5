"""Remedies of folds and of splits in groups."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.schema.datamodule import DatasetSource
from sam2ft.core.errors import DataError
from sam2ft.data.store.store import Store
from sam2ft.runs.stores import open_fold, open_source
from tests.remedies.conftest import Raw
from tests.remedies.registry import excused, remedy

excused("no remedy", "--fold: {}")
ABCD = "abcd"


def _cohort(raw: Raw) -> None:
    """Two subjects more, and a table in which a and b are of one family."""
    for name in "cd":
        raw.add(name)
    lines = [f"{name},dicom/{name},masks/{name}.nii.gz,{'f' if name in 'ab' else name}" for name in ABCD]
    Path("cases.csv").write_text("\n".join(["subject,image,mask,family", *lines]) + "\n")


def _settings(raw: Raw, split: str) -> None:
    raw.yaml.write_text(
        "dataset: {name: toy}\nsources: {images: cases.csv}\n"
        f"labels: {{1: {{name: cartilage}}}}\nsplit: {{{split}}}\n"
    )


def _file(folds: list[dict[str, list[str]]] | dict[str, list[str]]) -> None:
    Path("split.json").write_text(json.dumps(folds))


def _splits() -> dict[str, str]:
    return {record.key.subject: record.split for record in Store.open(Path("store")).volumes}


def _anew(raw: Raw) -> None:
    shutil.rmtree("other", ignore_errors=True)
    raw.prepare(out="other")
    assert raw.whole("other") == [*ABCD]


@remedy("leave split.fold out", of="and split.fold is all")
def all_folds_of_a_file_that_has_none(raw: Raw) -> str:
    _cohort(raw)
    _file({"train": [*"abc"], "val": ["d"]})
    _settings(raw, "file: split.json, fold: all")
    shown = raw.prepare(code=2)
    _settings(raw, "file: split.json")
    raw.prepare()
    assert _splits()["d"] == "val"
    return shown


@remedy("leave the key out", of="folds divides all subjects outside test")
def shares_beside_folds(raw: Raw) -> str:
    _cohort(raw)
    shown = ""
    for key in ("train: 0.5", "val: 0.2"):
        _settings(raw, f"folds: 2, test: 0, {key}")
        shown += raw.prepare(code=2)
    _settings(raw, "folds: 2, test: 0")
    raw.prepare()
    assert raw.whole() == [*ABCD]
    return shown


@remedy("keep that file", of="are from a file ({})")
@remedy("prepare into a new folder", of="are from a file ({})")
def a_draw_on_folds_of_a_file(raw: Raw) -> str:
    _cohort(raw)
    _file([{"train": ["a", "b"], "val": ["c"], "test": ["d"]}, {"train": ["b", "c"], "val": ["a"], "test": ["d"]}])
    _settings(raw, "file: split.json, fold: all")
    raw.prepare()
    _settings(raw, "folds: 2")
    shown = raw.prepare(code=2)
    _anew(raw)
    _settings(raw, "file: split.json, fold: all")
    raw.prepare()
    return shown


@remedy("prepare into a new folder, which draws all again", of="and a stored subject is not moved")
@remedy("leave split.group out", of="and a stored subject is not moved")
def a_family_that_is_stored_in_two_splits(raw: Raw) -> str:
    _cohort(raw)
    _file({"train": ["a", "c"], "val": ["d"], "test": ["b"]})
    _settings(raw, "file: split.json")
    raw.prepare()
    _settings(raw, "group: family")
    shown = raw.prepare(code=2)
    _anew(raw)
    _settings(raw, "train: 0.7")
    raw.prepare()
    return shown


@remedy("prepare into a new folder: nobody has a place there yet")
def a_family_that_is_stored_in_train_and_val(raw: Raw) -> str:
    _cohort(raw)
    _file({"train": ["a", "c", "d"], "val": ["b"]})
    _settings(raw, "file: split.json")
    raw.prepare()
    _settings(raw, "group: family, folds: 3, test: 0")
    shown = raw.prepare(code=2)
    _anew(raw)
    return shown


@remedy("leave the key out", of="but the store has no folds")
@remedy("prepare it with split.folds", of="but the store has no folds")
def a_fold_of_a_store_without_any(raw: Raw) -> str:
    _cohort(raw)
    _settings(raw, "train: 0.5, val: 0.25, test: 0.25")
    raw.prepare()
    before = _splits()

    def refused(action: Any) -> str:
        with pytest.raises(DataError) as caught:
            action()
        return str(caught.value)

    store = Path("store").absolute()
    shown = refused(lambda: open_source("toy", DatasetSource(store=store, fold=1)))
    shown += refused(lambda: open_fold(store, 1))
    assert {one.key.subject: one.split for one in open_source("toy", DatasetSource(store=store)).volumes} == before
    _settings(raw, "folds: 2, test: 0.25")
    raw.prepare()
    assert _splits() == before
    assert open_source("toy", DatasetSource(store=store, fold=1)).split_volumes("val")
    return shown
