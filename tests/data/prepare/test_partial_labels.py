"""Stores of volumes in which not every label was drawn: what is recorded, and what stays as it was."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.data.prepare.outcomes import PrepareOptions, PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.drawn_labels import partly_drawn
from sam2ft.data.store.metadata import read_metadata
from sam2ft.data.store.store import Store

NAMES = ("a", "b", "c", "d")
HOLDS = {"a": (1, 2), "b": (1,), "c": (2,), "d": ()}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four subjects, of whom a alone has both labels in its mask."""
    for number, name in enumerate(NAMES):
        values = np.random.default_rng(number).integers(0, 1000, size=(6, 5, 3)).astype(np.int16)
        mask = np.zeros(values.shape, np.uint8)
        for label in HOLDS[name]:
            mask[label, 1:3] = label
        for folder, array in (("i", values), ("m", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            image = nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 3.0, 1.0]))
            nibabel.save(image, tmp_path / folder / f"{name}.nii.gz")
    return tmp_path


def prepare(folder: Path, labelled: str = "", options: str = "") -> PrepareSummary:
    (folder / "ds.yaml").write_text(
        "dataset: {name: t}\nsources: {images: 'i/{subject}.nii.gz', masks: 'm/{subject}.nii.gz'}\n"
        f"labels: {{1: {{name: femur}}, 2: {{name: tibia}}}}\n{labelled and f'labelled: {labelled}'}\n{options}"
    )
    return prepare_dataset(
        load_dataset(folder / "ds.yaml"), folder, folder / "store", lambda *_: None, PrepareOptions()
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted((folder / "store").rglob("*.*")) if path.is_file()}


@pytest.mark.parametrize("every", ["[1, 2]", "[tibia, femur]", "{a: [1, 2], d: [femur, tibia]}"])
def test_a_store_of_all_labels_has_the_bytes_that_it_had_without_the_key(raw: Path, every: str) -> None:
    prepare(raw)
    before = files(raw)
    assert {outcome.result for outcome in prepare(raw, every).outcomes} == {"unchanged"}
    assert files(raw) == before
    assert all("labelled" not in json.loads(text) for path, text in before.items() if path.parent.name == "volumes"
               and path.suffix == ".json")  # fmt: skip


def test_what_was_drawn_is_in_the_record_the_index_and_the_metadata(raw: Path) -> None:
    summary = prepare(raw, "{b: [femur], c: [2]}")
    assert summary.notes[-1].startswith("drawn in part: femur in 3 of 4 subjects, tibia in 3 of 4 subjects")
    store = Store.open(raw / "store")
    assert {record.key.subject: record.labelled for record in store.volumes} == {
        "a": None, "b": (1,), "c": (2,), "d": None,
    }  # fmt: skip
    assert {record.key.subject: record.stored.get("labelled") for record in store.volumes} == {
        "a": None, "b": [1], "c": [2], "d": None,
    }  # fmt: skip
    entries = read_metadata(store.metadata_for_ml)
    assert {name: entry.get("labelled") for name, entry in entries.items()} == {
        "a": None, "b": [1], "c": [2], "d": None,
    }  # fmt: skip
    assert [(one.name, one.subjects) for one in partly_drawn(store.volumes, store.labels)] == [
        ("femur", (3, 4)), ("tibia", (3, 4)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labelled", "refused"),
    [("[femur]", {"a", "c"}), ("[2]", {"a", "b"}), ("{a: [1]}", {"a"}), ("{d: [2]}", set())],
)
def test_a_mask_that_holds_what_was_not_drawn_is_refused_in_one_line(
    raw: Path, labelled: str, refused: set[str]
) -> None:
    summary = prepare(raw, labelled)
    assert {outcome.key.subject for outcome in summary.refused} == refused
    for outcome in summary.refused:
        assert "\n" not in outcome.reason
        assert f"m/{outcome.key.subject}.nii.gz: holds label" in outcome.reason
        assert "which labelled leaves out (it lists" in outcome.reason


def test_a_volume_is_another_one_with_other_labels_and_the_others_stay(raw: Path) -> None:
    prepare(raw)
    digest = {record.key.subject: record.digest for record in Store.open(raw / "store").volumes}
    summary = prepare(raw, "{b: [femur], d: [tibia]}")
    assert {outcome.key.subject: outcome.result for outcome in summary.outcomes} == {
        "a": "unchanged", "b": "stored", "c": "unchanged", "d": "stored",
    }  # fmt: skip
    after = {record.key.subject: record.digest for record in Store.open(raw / "store").volumes}
    assert {name for name in digest if digest[name] != after[name]} == {"b", "d"}
    assert {outcome.result for outcome in prepare(raw, "{b: [1], d: [2]}").outcomes} == {"unchanged"}
    prepare(raw)
    assert {record.key.subject: record.digest for record in Store.open(raw / "store").volumes} == digest


@pytest.mark.parametrize("other", [[2], [1, 2], None])
def test_a_list_that_was_edited_in_the_index_is_found(raw: Path, other: list[int] | None) -> None:
    prepare(raw, "{b: [femur]}")
    index = read_json(raw / "store" / "store.json")
    (entry,) = [one for one in index["volumes"] if one["subject"] == "b"]
    assert entry["labelled"] == [1]
    del entry["labelled"]
    if other is not None:
        entry["labelled"] = other
    (raw / "store" / "store.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="damaged or edited"):
        Store.open(raw / "store")


@pytest.mark.parametrize("damage", ["lost", "no JSON", "cut"])
def test_an_index_that_is_made_again_has_what_was_drawn(raw: Path, damage: str) -> None:
    prepare(raw, "{b: [femur]}")
    before, index = files(raw), raw / "store" / "store.json"
    if damage == "lost":
        index.unlink()
    else:
        index.write_bytes(b"{" if damage == "no JSON" else index.read_bytes()[:-40])
    prepare(raw, "{b: [femur]}")
    assert {record.key.subject: record.labelled for record in Store.open(raw / "store").volumes}["b"] == (1,)
    assert {path: text for path, text in files(raw).items() if path != index} == {
        path: text for path, text in before.items() if path != index
    }


def test_names_and_hashed_subjects_go_with_it(raw: Path) -> None:
    prepare(raw, "{b: [femur]}", options="subject_id: hash\n")
    records = Store.open(raw / "store").volumes
    assert sorted(str(record.labelled) for record in records) == ["(1,)", "None", "None", "None"]
    assert all(record.key.subject.startswith("s-") for record in records)
