"""Remedies of the names of subjects in a store, of the key that hashes them, and of the originals behind them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import ConfigError
from sam2ft.data.export import dicom_seg
from sam2ft.data.export.dicom_seg import refuse_without_highdicom
from sam2ft.data.export.source_series import source_series, write_segmentation
from sam2ft.data.prepare.originals import originals
from sam2ft.data.store.key_file import write_key
from sam2ft.data.store.store import Store
from tests.remedies.conftest import Raw, refusal
from tests.remedies.registry import executed_by, remedy

HASH = "subject_id: hash\n"
KEPT = "tests/data/prepare/test_pseudonyms.py::test_a_store_is_added_to_with_its_own_key_alone"

executed_by("name it in the dataset file", of="no such key file", test=KEPT)
executed_by("name the right key file with subject_key: in the dataset file", test=KEPT)


@remedy("leave the key out", of="is used by subject_id: table only")
def a_table_that_is_not_used(raw: Raw) -> str:
    Path("names.csv").write_text("given,subject\na,P1\nb,P2\n")
    for kind in ("", "subject_id: folder\n", HASH):
        raw.settings(more=f"{kind}subject_table: names.csv\n")
        with pytest.raises(ConfigError) as caught:
            load_dataset(raw.yaml)
        raw.settings(more=kind)
        load_dataset(raw.yaml)
    raw.prepare()
    return str(caught.value)


def _hashed(raw: Raw) -> None:
    raw.settings(more=HASH)
    raw.prepare()


@remedy("keep it", of="made this key file")
def a_new_key(raw: Raw) -> str:
    raw.settings(more=HASH)
    shown = " ".join(raw.prepare().split())
    key = raw.folder / "toy.key"
    assert str(key.name) in shown
    raw.add("c")
    kept = shutil.copy(key, "kept")
    key.unlink()
    raw.prepare(code=2)
    shutil.copy(kept, key)
    raw.prepare()
    assert len(raw.whole()) == 3
    return shown


@remedy("prepare into a new folder", of="is not the key of {}")
def another_key(raw: Raw) -> str:
    _hashed(raw)
    before = raw.whole()
    Path("toy.key").unlink()
    write_key(Path("toy.key"))
    shown = " ".join(raw.prepare(code=2).split())
    raw.prepare(out="new")
    assert len(raw.whole("new")) == 2
    assert not set(raw.whole("new")) & set(before)
    return shown


@remedy("prepare into a new folder", of="its subjects are named by subject_id")
def another_kind_of_names(raw: Raw) -> str:
    raw.prepare()
    Path("names.csv").write_text("given,subject\na,P1\nb,P2\n")
    for number, kind in enumerate((HASH, "subject_id: table\nsubject_table: names.csv\n")):
        raw.settings(more=kind)
        shown = " ".join(raw.prepare(code=2).split())
        raw.prepare(out=f"new{number}")
        assert len(raw.whole(f"new{number}")) == 2
    return shown


@remedy("name it in the dataset file", of="is no key file")
def a_file_that_is_no_key(raw: Raw) -> str:
    _hashed(raw)
    Path("toy.key").rename("right.key")
    for content in ("", "00ff\n", "not a key"):
        raw.settings(more=HASH)
        Path("toy.key").write_text(content)
        shown = " ".join(raw.prepare(code=2).split())
        raw.settings(more=f"{HASH}subject_key: right.key\n")
        assert "2 unchanged" in raw.prepare()
    return shown


# --- originals ------------------------------------------------------------------------------------------------------


@remedy("name the dataset file with eval.dicom_sources: [DATASET.yaml]")
def a_store_that_does_not_name_its_dataset_file(raw: Raw) -> str:
    _hashed(raw)
    (record, *_) = Store.open(raw.store).volumes
    shown = refusal(lambda: source_series(record))
    assert source_series(record, originals(raw.store, [raw.yaml])).parent.name == "dicom"
    return shown


@remedy("launch/prepare.py says what it finds")
def originals_that_are_away(raw: Raw) -> str:
    _hashed(raw)
    shutil.move("dicom", "elsewhere")
    shown = refusal(lambda: originals(raw.store, [raw.yaml]))
    assert "dicom/{subject}" in raw.prepare(code=2)
    shutil.move("elsewhere", "dicom")
    assert len(originals(raw.store, [raw.yaml]).images) == 2
    return shown


@remedy("launch/prepare.py names the file and the reason")
def a_series_that_changed(raw: Raw) -> str:
    for subject in "ab":
        raw.edit(subject, StudyInstanceUID="1.2.3", FrameOfReferenceUID="1.2.4")
    _hashed(raw)
    found = originals(raw.store, [raw.yaml])
    store = Store.open(raw.store)
    of_b = next(record for record in store.volumes if found.images[record.key].name == "b")
    mask = np.zeros(of_b.geometry.shape_zyx, np.uint16)
    mask[1, 2:4, 2:5] = 1

    def write() -> bool:
        return write_segmentation(raw.folder / "b.dcm", mask, store.labels, of_b, "x", found)

    first = sorted(raw.image("b").iterdir())[0]
    content = first.read_bytes()
    first.write_bytes(content[:200])
    shown = refusal(write)
    told = " ".join(raw.prepare(code=3).split())
    assert str(first.relative_to(raw.folder)) in told
    first.write_bytes(content)
    assert write()
    return shown


@remedy("pip install highdicom")
def a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> str:
    from importlib.metadata import distribution

    with monkeypatch.context() as patch:
        patch.setattr(dicom_seg, "find_spec", lambda name: None)
        shown = refusal(refuse_without_highdicom)
    named = shown.rpartition("pip install ")[2]
    # What pip installs under this name is what is looked for.
    assert any(path.parts[0] == "highdicom" for path in distribution(named).files or ())
    refuse_without_highdicom()
    return shown
