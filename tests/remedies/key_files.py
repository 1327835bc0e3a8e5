"""Remedies of key files, with which names and UIDs are hashed, and of the originals of a store."""

import shutil
from pathlib import Path

from sam2ft.data.prepare.originals import originals
from sam2ft.data.store.store import Store
from tests.remedies.conftest import Raw, refusal
from tests.remedies.registry import remedy


def _keyed(raw: Raw, key: str = "", more: str = "") -> None:
    raw.settings(more=f"subject_id: hash\n{f'subject_key: {key}' if key else ''}\n{more}")


def _line(text: str) -> str:
    return " ".join(text.split())


def _unchanged(raw: Raw) -> bool:
    return len(raw.whole()) == 2 and "2 unchanged" in raw.prepare()


@remedy("bring it back", of="no such key file")
@remedy("name it in the dataset file", of="no such key file")
def a_key_file_that_is_away(raw: Raw) -> str:
    _keyed(raw)
    raw.prepare()
    Path("toy.key").rename("kept.key")
    shown = raw.prepare(code=2)
    Path("kept.key").rename("toy.key")
    assert _unchanged(raw)
    Path("toy.key").rename("kept.key")
    _keyed(raw, "kept.key")
    assert _unchanged(raw)
    return _line(shown)


@remedy("bring the right file back")
@remedy("name it in the dataset file", of="is no key file")
def a_file_that_is_no_key(raw: Raw) -> str:
    _keyed(raw)
    raw.prepare()
    right = Path("toy.key").read_bytes()
    for content in (b"", right[:-9], right + right, b"a key\n", b"\xff" * 64):
        Path("toy.key").write_bytes(content)
        shown = raw.prepare(code=2)
    Path("toy.key").write_bytes(right)
    assert _unchanged(raw)
    Path("toy.key").write_bytes(b"")
    Path("other.key").write_bytes(right)
    _keyed(raw, "other.key")
    assert _unchanged(raw)
    return _line(shown)


@remedy("give a path that can be written with subject_key: in the dataset file", case="file/a.key")
@remedy("give another path with subject_key: in the dataset file", case="store/a.key")
def a_place_where_no_key_can_be(raw: Raw, case: str) -> str:
    Path("file").write_text("")
    _keyed(raw, case)
    shown = raw.prepare(code=2)
    assert not Path(case).exists()
    _keyed(raw, "keys/a.key")
    raw.prepare()
    assert Path("keys/a.key").is_file()
    assert _unchanged(raw)
    return _line(shown)


@remedy("bring them back", of="its original images are not where")
def originals_that_are_away(raw: Raw) -> str:
    shown = ""
    for names in ("", "subject_id: hash\n"):
        raw.settings(more=names)
        raw.prepare()
        shutil.move("dicom", "away")
        shown = refusal(lambda: originals(raw.store, [raw.yaml]))
        # It says what it finds, as the message tells.
        assert "dicom" in raw.desk.refused("launch/prepare.py ds.yaml --out store")
        shutil.move("away", "dicom")
        found = originals(raw.store, [raw.yaml])
        assert found is not None
        assert {record.key for record in Store.open(raw.store).volumes} == set(found.images)
        shutil.rmtree("store")
    return shown
