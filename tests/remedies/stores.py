"""Remedies of prepared stores: damaged, lost, foreign and older ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.digests.verified_files import read_sealed_json, write_sealed_json
from sam2ft.core.keys import VolumeKey
from sam2ft.data.store import writer
from sam2ft.data.store.store import Store, array_path, index_path, record_path
from tests.remedies.conftest import Raw, refusal
from tests.remedies.registry import remedy

KEY = VolumeKey("toy", "a", "image")


def _damaged_array(raw: Raw, how: Any) -> Path:
    path = array_path(raw.store, Store.open(raw.store).record(KEY).stem, "mask")
    how(path)
    return path


@remedy("run launch/prepare.py again, then the same command", of="is gone, removed by hand")
def an_array_that_is_gone(raw: Raw) -> str:
    raw.prepare()
    _damaged_array(raw, Path.unlink)
    shown = refusal(lambda: Store.open(raw.store).mask(KEY))
    raw.prepare()
    assert Store.open(raw.store).mask(KEY).max() == 1
    assert raw.whole() == ["a", "b"]
    return shown


@remedy("run launch/prepare.py with --verify, which prepares the volume again")
def an_array_that_is_damaged(raw: Raw) -> str:
    raw.prepare()

    def flipped(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[-1] ^= 4
        path.write_bytes(content)

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-5])

    def of_another_shape(path: Path) -> None:
        np.save(path, np.zeros((5, 6, 9), np.uint8))

    shown = ""
    for how in (flipped, cut, of_another_shape):
        _damaged_array(raw, how)
        store = Store.open(raw.store)
        shown = refusal(lambda store=store: store.verify(store.volumes))
        raw.prepare("--verify")
        assert raw.whole() == ["a", "b"]
    return shown


@remedy("create it with launch/prepare.py DATASET.yaml --out {}")
def a_folder_without_a_store(raw: Raw) -> str:
    shown = refusal(lambda: Store.open(Path("store")))
    raw.desk.works(f"launch/prepare.py ds.yaml --out {shown.rpartition('--out ')[2]}")
    assert raw.whole() == ["a", "b"]
    return shown


def _damaged_index(raw: Raw, change: Any) -> str:
    raw.prepare()
    path = index_path(raw.store)
    text = path.read_text()
    value = json.loads(text)
    new = change(value)
    path.write_text(text[: len(text) // 2] if new is None else json.dumps(new))
    return refusal(lambda: Store.open(raw.store))


AGAIN = "^launch/prepare.py on the same dataset file makes it again"


@remedy("restore it from a backup", of=AGAIN)
@remedy(
    "launch/prepare.py on the same dataset file makes it again from the records of the volumes, with the splits that "
    "metadata_for_ml.json names"
)
def an_index_that_is_damaged(raw: Raw) -> str:
    raw.prepare()
    good = index_path(raw.store).read_bytes()
    for change in (lambda _: None, lambda value: value | {"volumes": []}, lambda value: {"version": 2}):
        shown = _damaged_index(raw, change)
        index_path(raw.store).write_bytes(good)
        assert raw.whole() == ["a", "b"]
        _damaged_index(raw, change)
        raw.prepare()
        assert raw.whole() == ["a", "b"]
        assert index_path(raw.store).read_bytes() == good
    return shown


@remedy("prepare into a new folder", of="use the sam2ft that wrote it")
def an_index_of_another_version(raw: Raw) -> str:
    raw.prepare()
    path = index_path(raw.store)
    write_sealed_json(path, {**read_sealed_json(path), "version": 99})
    shown = raw.prepare(code=2)
    raw.prepare(out="new")
    assert raw.whole("new") == ["a", "b"]
    return shown


@remedy("run launch/prepare.py again", of="or restore the file from a backup if the image")
@remedy("restore the file from a backup if the image of the volume is gone")
def a_record_that_is_damaged(raw: Raw) -> str:
    raw.prepare()
    shown = ""
    for content in (b"{}", b"", None):
        path = record_path(raw.store, Store.open(raw.store).record(KEY).stem)
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content is None else content)
        shown = refusal(lambda: Store.open(raw.store).record(KEY).dicom)
        shutil.move(raw.image("a"), "away")
        path.write_bytes(whole)
        assert len(Store.open(raw.store).record(KEY).dicom["rows"]) == 5
        shutil.move("away", raw.image("a"))
        path.write_bytes(b"" if content is None else content)
        raw.prepare()
        assert len(Store.open(raw.store).record(KEY).dicom["rows"]) == 5
        assert raw.whole() == ["a", "b"]
    return shown


@remedy("--out names a folder")
def a_file_given_as_store(raw: Raw) -> str:
    Path("file").write_text("")
    shown = raw.prepare(out="file", code=2)
    raw.prepare(out="folder")
    assert raw.whole("folder") == ["a", "b"]
    return shown


@remedy("give a new folder", of="is not a store and not empty")
def a_folder_of_something_else(raw: Raw) -> str:
    shown = raw.prepare(out="dicom", code=2)
    raw.prepare(out="new")
    assert raw.whole("new") == ["a", "b"]
    return shown


@remedy("give a new folder", of="was not made from a phantom", slow=True)
def a_phantom_into_a_folder_of_something_else(raw: Raw) -> str:
    shown = raw.desk.refused("launch/prepare.py --phantom knee --subjects 1 --out dicom")
    raw.desk.works("launch/prepare.py --phantom spine --subjects 1 --out new")
    return shown


@remedy("give a new folder for a {} phantom", slow=True)
def a_phantom_of_another_kind(raw: Raw) -> str:
    raw.desk.works("launch/prepare.py --phantom spine --subjects 1 --out phantom")
    shown = raw.desk.refused("launch/prepare.py --phantom knee --subjects 1 --out phantom")
    raw.desk.works("launch/prepare.py --phantom knee --subjects 1 --out new")
    return shown


def _gone(raw: Raw) -> str:
    raw.prepare()
    shutil.rmtree(raw.image("a"))
    return raw.prepare(code=3)


@remedy("nothing is removed without --prune")
def a_volume_whose_image_is_gone(raw: Raw) -> str:
    shown = _gone(raw)
    assert raw.whole() == ["a", "b"]
    raw.prepare("--prune", "--yes")
    assert raw.whole() == ["b"]
    return shown


@remedy("{} Add --yes to agree")
def a_question_that_nobody_can_answer(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(writer, "STORE_VERSION", 1)
    raw.prepare()
    monkeypatch.undo()
    monkeypatch.chdir(raw.folder)
    shown = raw.prepare("--upgrade", code=2)
    assert json.loads(index_path(raw.store).read_text())["version"] == 1
    raw.prepare("--upgrade", "--yes")
    assert json.loads(index_path(raw.store).read_text())["version"] == 2
    assert raw.whole() == ["a", "b"]
    return shown


@remedy("--prune removes them")
def files_of_earlier_states(raw: Raw) -> str:
    raw.prepare()
    raw.settings(more="intensity: {clip_percentiles: [0, 100]}\n")
    shown = raw.prepare()
    before = len(list((raw.store / "volumes").iterdir()))
    raw.prepare("--prune", "--yes")
    assert len(list((raw.store / "volumes").iterdir())) < before
    assert raw.whole() == ["a", "b"]
    return shown


@remedy("bring their files back")
@remedy("prepare into a new folder", of="the label table has changed")
@remedy("--prune removes the volume", of="^its image is gone")
def other_labels_while_an_image_is_gone(raw: Raw) -> str:
    _gone(raw)
    raw.settings("cartilage", "meniscus")
    shown = raw.prepare(code=2)
    raw.prepare(out="new")
    assert raw.whole("new") == ["b"]
    shutil.copytree("store", "copy")
    raw.prepare("--prune", "--yes", out="copy")
    assert raw.whole("copy") == ["b"]
    raw.add("a")
    raw.prepare()
    assert raw.whole() == ["a", "b"]
    return shown
