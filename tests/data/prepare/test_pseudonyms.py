"""Names of subjects in a store: as given, hashed with a key, or from a table; and what a store remembers of that."""

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import ConfigError, DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.export.source_series import source_series
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare import pseudonyms
from sam2ft.data.prepare.outcomes import PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.prepare.pseudonyms import read_subject_table
from sam2ft.data.store.key_file import key_id, keyed_hash, read_key, write_key
from sam2ft.data.store.store import Store, record_path
from sam2ft.phantom.dicom import DicomSeries, write_series
from tests.fixtures.damaged_kinds import KINDS

DATASET = """\
dataset: {{name: {name}}}
sources: {{images: "{images}/{{subject}}/{{volume}}{suffix}", masks: "masks/{{subject}}.nii.gz"}}
labels: {{1: {{name: disc}}}}
split: {split}
"""
SUBJECTS = ("Mia", "Noah", "Zoë")
Write = Callable[..., Path]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three subjects with a DICOM series, a NIfTI image and a mask each."""
    for number, subject in enumerate(SUBJECTS):
        geometry = Geometry.axis_aligned((3, 6, 8), (3.0, 0.5, 0.5))
        image = np.random.default_rng(number).integers(0, 900, size=(1, 3, 6, 8)).astype(np.float32)
        write_series(tmp_path / "dicom" / subject / "left", image, geometry, DicomSeries(subject, 1, "PD", seed=number))
        write_nifti(tmp_path / "nifti" / subject / "left.nii.gz", image[0].astype(np.int16), geometry)
        write_nifti(tmp_path / "masks" / f"{subject}.nii.gz", np.ones((3, 6, 8), np.uint8), geometry)
    return tmp_path


def write(raw: Path, more: str = "", *, kind: str = "dicom", name: str = "toy", split: str = "{}") -> Path:
    path = raw / f"{name}.yaml"
    suffix = ".nii.gz" if kind == "nifti" else ""
    path.write_text(DATASET.format(name=name, images=kind, suffix=suffix, split=split) + more)
    return path


def run(raw: Path, dataset: Path, store: str = "store") -> PrepareSummary:
    return prepare_dataset(load_dataset(dataset), raw, raw / store, lambda *_: None)


def subjects(folder: Path) -> set[str]:
    return {record.key.subject for record in Store.open(folder).volumes}


def test_hashed_subjects_and_volumes_are_the_same_in_every_store_with_one_key(raw: Path) -> None:
    first = run(raw, write(raw, "subject_id: hash\nsubject_key: keys/shared.key\n"))
    assert "made this key file" in first.key_notes[0]
    second = run(raw, write(raw, "subject_id: hash\nsubject_key: keys/shared.key\n", kind="nifti", name="other"), "b")
    assert second.key_notes == ()
    key = read_key(raw / "keys" / "shared.key")
    expected = {f"s-{keyed_hash(key, 'subject', name)[:16]}" for name in SUBJECTS}
    assert subjects(raw / "store") == subjects(raw / "b") == expected
    assert {record.key.volume for record in Store.open(raw / "b").volumes} == {
        f"v-{keyed_hash(key, 'volume', 'left')[:16]}"
    }
    third = run(raw, write(raw, "subject_id: hash\n", name="third"), "c")
    assert third.splits["train"] == 2
    assert subjects(raw / "c").isdisjoint(expected)  # the key beside the dataset file is another one


def test_a_store_is_added_to_with_its_own_key_alone(raw: Path) -> None:
    dataset = write(raw, "subject_id: hash\n")
    run(raw, dataset)
    index = json.loads((raw / "store" / "store.json").read_text())
    assert index["names"] == {"subject_id": "hash", "key_id": key_id(read_key(raw / "toy.key"))}
    assert run(raw, dataset).count("unchanged") == 3
    (raw / "toy.key").rename(raw / "kept.key")
    before = (raw / "store" / "store.json").read_bytes()
    with pytest.raises(DataError, match=r"toy\.key: no such key file; bring it back"):
        run(raw, dataset)
    write_key(raw / "toy.key")
    with pytest.raises(DataError, match=r"toy\.key: is not the key of .*store \(key id [0-9a-f]{16}, .*subject_key"):
        run(raw, dataset)
    assert (raw / "store" / "store.json").read_bytes() == before
    assert run(raw, write(raw, "subject_id: hash\nsubject_key: kept.key\n")).count("unchanged") == 3


@pytest.mark.parametrize(("before", "after"), [("folder", "hash"), ("hash", "folder"), ("hash", "table")])
def test_a_store_keeps_its_kind_of_names(raw: Path, before: str, after: str) -> None:
    (raw / "names.csv").write_text("given,subject\n" + "".join(f"{name},{name}1\n" for name in SUBJECTS))
    table = {"table": "subject_table: names.csv\n"}
    run(raw, write(raw, f"subject_id: {before}\n{table.get(before, '')}"))
    with pytest.raises(DataError, match=rf"named by subject_id: {before}, .*has subject_id: {after}; .*new folder"):
        run(raw, write(raw, f"subject_id: {after}\n{table.get(after, '')}"))
    assert run(raw, write(raw, f"subject_id: {before}\n{table.get(before, '')}")).count("unchanged") == len(SUBJECTS)


def test_a_key_is_never_in_the_store_and_others_that_can_read_it_are_told(raw: Path) -> None:
    with pytest.raises(DataError, match=r"store/a\.key: the key file lies in the store"):
        run(raw, write(raw, "subject_id: hash\nsubject_key: store/a.key\n"))
    write_key(raw / "a.key")
    (raw / "a.key").chmod(0o644)
    assert "chmod 600" in run(raw, write(raw, "subject_id: hash\nsubject_key: a.key\n")).key_notes[0]


def test_a_key_that_cannot_be_made_names_the_way_out(raw: Path) -> None:
    (raw / "file").write_text("")
    with pytest.raises(DataError, match=r"file/a\.key: the key file cannot be made .*subject_key"):
        run(raw, write(raw, "subject_id: hash\nsubject_key: file/a.key\n"))
    assert not (raw / "store" / "store.json").exists()


def test_a_table_names_the_subjects(raw: Path) -> None:
    (raw / "names.csv").write_text("given, subject\nMia,P1\nNoah, P2\nZoë,P3\nabsent,P4\n", encoding="utf-8")
    run(raw, write(raw, "subject_id: table\nsubject_table: names.csv\n"))
    assert subjects(raw / "store") == {"P1", "P2", "P3"}
    (raw / "names.csv").write_text("given,subject\nMia,P1\n")
    with pytest.raises(DataError, match=r"subject_table: has no line for Noah, Zoë; every subject found needs one"):
        run(raw, write(raw, "subject_id: table\nsubject_table: names.csv\n"), "other")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("given\na\n", "its first line must be the columns given,subject"),
        ("", "its first line must be the columns given,subject"),
        ("given,subject\na\n", "names.csv:2: needs two cells"),
        ("given,subject\na,b\na,c\n", "names.csv:3: the given name a has a line already"),
        ("given,subject\n\na,\n", "names.csv:3: needs two cells"),
        ("given,subject\na,b\x07\n", "names.csv:2: subject .* printable"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "names.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_subject_table(tmp_path / "names.csv")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("subject_id: table\n", "subject_table: missing; subject_id: table needs it"),
        ("subject_table: a.csv\n", "is used by subject_id: table only"),
        ("subject_id: hashed\n", "subject_id: .*hashed"),
    ],
)
def test_settings_of_names_that_do_not_fit_are_refused(raw: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_dataset(write(raw, more))


def test_two_subjects_with_one_hash_are_refused(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "keyed_hash", lambda *_: "0" * 64)
    with pytest.raises(
        DataError, match=r"dicom/Mia/left and .*dicom/Noah/left would both be called toy/s-0{16}/v-0{16}"
    ):
        run(raw, write(raw, "subject_id: hash\n"))


@pytest.mark.parametrize("stored", [True, False])
def test_a_split_file_names_subjects_as_given_or_as_stored(raw: Path, stored: bool) -> None:
    key = write_key(raw / "toy.key")
    called = {name: f"s-{keyed_hash(key, 'subject', name)[:16]}" if stored else name for name in SUBJECTS}
    split = {"train": [called["Zoë"]], "val": [called["Mia"]], "test": [called["Noah"]]}
    (raw / "split.json").write_text(json.dumps(split))
    run(raw, write(raw, "subject_id: hash\n", split="{file: split.json}"))
    found = {record.key.subject: record.split for record in Store.open(raw / "store").volumes}
    assert found[f"s-{keyed_hash(key, 'subject', 'Zoë')[:16]}"] == "train"
    assert found[f"s-{keyed_hash(key, 'subject', 'Mia')[:16]}"] == "val"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("names", ["folder", "hash", "table"])
def test_a_split_file_may_write_accents_in_another_form(raw: Path, names: str, form: Literal["NFC", "NFD"]) -> None:
    split = {"train": ["Mia"], "val": [unicodedata.normalize(form, "Zoë")], "test": ["Noah"]}
    (raw / "split.json").write_text(json.dumps(split))
    (raw / "names.csv").write_text("given,subject\nMia,p1\nNoah,p2\nZoë,p3\n", encoding="utf-8")
    more = "" if names == "folder" else f"subject_id: {names}\n"
    more += "subject_table: names.csv\n" if names == "table" else ""
    run(raw, write(raw, more, split="{file: split.json}"))
    splits = {record.key.subject: record.split for record in Store.open(raw / "store").volumes}
    key = (raw / "toy.key").is_file() and read_key(raw / "toy.key")
    hashed = f"s-{keyed_hash(key, 'subject', 'Zoë')[:16]}" if key else ""
    assert splits[{"folder": "Zoë", "hash": hashed, "table": "p3"}[names]] == "val"
    assert sorted(splits.values()) == ["test", "train", "val"]


def test_a_name_that_is_given_to_one_and_stored_of_another_subject_is_refused(raw: Path) -> None:
    (raw / "names.csv").write_text("given,subject\nMia,Noah\nNoah,Zoë\nZoë,Mia\n", encoding="utf-8")
    (raw / "split.json").write_text(json.dumps({"train": ["Mia", "Noah", "Zoë"]}))
    with pytest.raises(DataError, match=r"split\.json: subject Mia is the given name of Noah and another subject"):
        run(raw, write(raw, "subject_id: table\nsubject_table: names.csv\n", split="{file: split.json}"))


def test_with_names_as_given_a_key_hashes_uids_and_files_need_none(raw: Path) -> None:
    run(raw, write(raw, kind="nifti"))
    assert not (raw / "toy.key").exists()
    assert json.loads((raw / "store" / "store.json").read_text())["names"]["subject_id"] == "folder"
    run(raw, write(raw, name="toy2"), "b")
    key = read_key(raw / "toy2.key")
    (record, *_) = Store.open(raw / "b").volumes
    assert record.key.subject == "Mia"
    content = json.loads(record_path(raw / "b", record.stem).read_text())
    assert content["source_image"] is None
    assert "series_uid_sha256" not in content["slices"]
    assert len(set(content["slices"]["series_uid_hmac"])) == 1
    assert json.loads((raw / "b" / "store.json").read_text())["names"]["key_id"] == key_id(key)


def test_an_index_without_names_has_those_of_its_records(raw: Path) -> None:
    dataset = write(raw, "subject_id: hash\n")
    run(raw, dataset)
    path = raw / "store" / "store.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in before.items() if name != "names"}))
    assert run(raw, dataset).count("unchanged") == 3
    assert json.loads(path.read_text()) == before


def test_names_change_no_digest(raw: Path) -> None:
    run(raw, write(raw))
    run(raw, write(raw, "subject_id: hash\n"), "b")
    one, other = ({record.digest for record in Store.open(raw / name).volumes} for name in ("store", "b"))
    assert one == other
    assert len(one) == 3


def test_a_store_of_an_earlier_version_keeps_its_hashes_and_paths(raw: Path) -> None:
    dataset = write(raw)
    run(raw, dataset)
    path = raw / "store" / "store.json"
    index = json.loads(path.read_text())
    del index["names"], index["content_sha256"]  # as 0.1.0 wrote it
    path.write_text(json.dumps(index))
    for old in (raw / "store" / "volumes").glob("*.json"):
        content = json.loads(old.read_text())
        del content["names"]
        old.write_text(json.dumps(content))
    (raw / "toy.key").unlink()
    run(raw, dataset)
    assert "names" not in json.loads(path.read_text())
    assert not (raw / "toy.key").exists()
    (record, *_) = Store.open(raw / "store").volumes
    content = json.loads(record_path(raw / "store", record.stem).read_text())
    assert content["source_image"] == str(raw / "dicom" / "Mia" / "left")
    assert len(content["slices"]["series_uid_sha256"][0]) == 64
    assert source_series(record) == raw / "dicom" / "Mia" / "left"
    with pytest.raises(DataError, match="subject_id: folder, the dataset file has subject_id: hash"):
        run(raw, write(raw, "subject_id: hash\n"))


@pytest.mark.parametrize("more", ["", "subject_id: hash\n"])
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_an_index_that_is_made_again_keeps_names_and_key(raw: Path, more: str, damage: str) -> None:
    dataset = write(raw, more)
    run(raw, dataset)
    index = raw / "store" / "store.json"
    before, records = json.loads(index.read_text()), Store.open(raw / "store").volumes
    if damage == "lost":
        index.unlink()
    else:
        index.write_text(index.read_text().replace('"volume"', '"vqlume"', 1))
    again = run(raw, dataset)
    assert [outcome.result for outcome in again.outcomes] == ["unchanged"] * 3
    after = json.loads(index.read_text())
    assert after["names"] == before["names"]
    assert Store.open(raw / "store").volumes == records
    (raw / "toy.key").rename(raw / "kept.key")
    index.unlink()
    with pytest.raises(DataError, match="key"):
        run(raw, dataset)


@pytest.mark.parametrize("missing", ["Mia", "Noah", "Zoë"])
def test_a_subject_that_the_split_file_lacks_is_named_so_that_its_user_finds_it(raw: Path, missing: str) -> None:
    rest = [name for name in ("Mia", "Noah", "Zoë") if name != missing]
    (raw / "split.json").write_text(json.dumps({"train": rest}))
    with pytest.raises(DataError, match=f"in no split: s-[0-9a-f]{{16}} .*{missing}"):
        run(raw, write(raw, "subject_id: hash\n", split="{file: split.json}"))
    (raw / "split.json").write_text(json.dumps({"train": [*rest, missing], "val": [missing]}))
    with pytest.raises(DataError, match=f"subject {missing} is in two splits"):
        run(raw, write(raw, "subject_id: hash\n", split="{file: split.json}"))


@pytest.mark.parametrize("kind", ["enhanced MR", "enhanced CT", "mosaic"])
def test_a_file_of_several_images_has_uids_that_are_hashed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ds.yaml").write_text(KINDS[kind].write(tmp_path)[0])
    summary = prepare_dataset(load_dataset(tmp_path / "ds.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
    assert not summary.refused
    assert (tmp_path / "toy.key").is_file()
    (record,) = Store.open(tmp_path / "store").volumes
    (uid,) = {*record.dicom["series_uid_hmac"]}
    assert re.fullmatch("[0-9a-f]{64}", uid)
