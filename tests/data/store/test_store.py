"""What is stored is what is read, and nothing else is taken for it."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.digests.verified_files import unverified_note
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.keys import VolumeKey
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.store.mask_facts import label_runs
from sam2ft.data.store.store import Store, records_digest
from sam2ft.data.store.writer import PreparedVolume, StoreWriter

Prepared = Callable[..., PreparedVolume]
Writing = Callable[..., Store]


def test_arrays_come_back_as_they_were_written(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    volume = prepared("a")
    store = write_store(tmp_path / "s", [volume])
    assert np.array_equal(store.image(volume.key), volume.image_zyx)
    assert np.array_equal(store.mask(volume.key), volume.mask_zyx)
    assert store.map(volume.key, "t2")[0, 0, 0] == 40
    assert isinstance(store.image(volume.key), np.memmap)
    assert not store.image(volume.key).flags.writeable


def test_the_index_knows_geometry_labels_and_fields(store: Store) -> None:
    record = store.record(VolumeKey("toy", "a", "image"))
    assert record.geometry.spacing_zyx_mm == (3.0, 0.5, 0.5)
    assert record.labelled_slices == (1, 2, 3)
    assert record.slices_of(5) == (1, 2, 3)
    assert record.slices_of(2) == ()
    assert record.maps == ("t2",)
    assert record.dicom["TE"] == [10.0, 11.0, 12.0, 13.0]
    assert store.labels.describe() == "1 cartilage, 5 bone"
    assert (store.name, store.anatomy, store.split_seed) == ("toy", "knee", 7)


def test_runs_of_slices_name_every_slice_with_a_label() -> None:
    mask = np.zeros((6, 2, 2), dtype=np.uint8)
    mask[[0, 1, 4], 0, 0] = 3
    assert label_runs(mask) == {3: ((0, 1), (4, 4))}


def test_splits_hold_their_subjects_and_subsets_are_nested(store: Store) -> None:
    assert [record.key.subject for record in store.split_volumes("train")] == ["a", "b", "c"]
    one, two = (store.split_volumes("train", limit) for limit in (1, 2))
    assert set(one) < set(two) < set(store.split_volumes("train"))


def test_a_split_without_volumes_says_what_there_is(tmp_path: Path, prepared: Prepared, write_store: Writing) -> None:
    store = write_store(tmp_path / "s", [prepared("a")])
    with pytest.raises(DataError, match=r"split test has no volume \(train 1, val 0, test 0\)"):
        store.split_volumes("test")
    with pytest.raises(DataError, match="split 'tset'; allowed: train, val, test"):
        store.split_volumes("tset")


def test_equal_content_has_an_equal_digest_wherever_it_lies(
    tmp_path: Path, prepared: Prepared, write_store: Writing
) -> None:
    here, there = (write_store(tmp_path / name, [prepared("b"), prepared("a")]) for name in ("x", "y"))
    assert records_digest(here.split_volumes("train")) == records_digest(there.split_volumes("train"))
    assert [record.digest for record in here.volumes] == [record.digest for record in there.volumes]


@pytest.mark.parametrize("what", ["image", "mask", "map", "geometry", "split"])
def test_any_change_of_content_changes_the_digest(
    tmp_path: Path, prepared: Prepared, write_store: Writing, what: str
) -> None:
    volume = prepared("a")
    changed = {
        "image": lambda: prepared("a", image_zyx=volume.image_zyx ^ 1),
        "mask": lambda: prepared("a", mask_zyx=np.roll(volume.mask_zyx, 1, axis=2)),
        "map": lambda: prepared(
            "a", maps={"t2": PreparedMap(np.full(volume.mask_zyx.shape, 41, dtype=np.float32), None, {})}
        ),
        "geometry": lambda: prepared("a", geometry=type(volume.geometry).axis_aligned((4, 24, 32), (3.5, 0.5, 0.5))),
        "split": lambda: volume,
    }[what]()
    before = write_store(tmp_path / "x", [volume])
    after = write_store(tmp_path / "y", [changed], {"a": "val"} if what == "split" else {})
    assert records_digest(before.volumes) != records_digest(after.volumes)


def test_a_changed_byte_is_found(store: Store) -> None:
    store.verify(store.volumes)
    path = store.path / "volumes" / "c__image.mask.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"c__image\.mask\.npy: the content changed after preparation"):
        store.verify(store.volumes)


def test_no_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no store in this folder; create it with launch/prepare\.py"):
        Store.open(tmp_path / "nowhere")


def test_a_store_of_another_version_is_refused(store: Store) -> None:
    index = read_json(store.path / "store.json")
    (store.path / "store.json").write_text(json.dumps(index | {"version": 0}))
    with pytest.raises(DataError, match=r"store version 0, this sam2ft reads 1 and 2; .* prepare into a new folder"):
        Store.open(store.path)


@pytest.mark.parametrize("content", ["[]", '{"version": 1}', "{"])
def test_a_damaged_index_is_refused(store: Store, content: str) -> None:
    (store.path / "store.json").write_text(content)
    with pytest.raises(DataError, match=r"store\.json"):
        Store.open(store.path)


EDITS = {
    "spacing": lambda index: index["volumes"][1]["geometry"]["spacing_zyx_mm"].__setitem__(0, 7.0),
    "array digest": lambda index: index["volumes"][2]["arrays"].update(mask="0" * 64),
    "label table": lambda index: index["labels"]["1"].update(name="bone marrow"),
    "no geometry": lambda index: index["volumes"][0].pop("geometry"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_of_what_decides_numbers_is_found_without_a_seal_too(store: Store, name: str) -> None:
    path = store.path / "store.json"
    index = read_json(path)
    EDITS[name](index)
    path.write_text(json.dumps(index))  # as an earlier version wrote it
    with pytest.raises(DataError, match=r"store\.json: damaged.* launch/prepare\.py"):
        Store.open(store.path)


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_edited_split_is_found_by_the_seal(store: Store, split: str) -> None:
    path = store.path / "store.json"
    path.write_text(path.read_text().replace('"split": "train"', f'"split": "{split}"', 1))
    with pytest.raises(DataError, match=r"store\.json: damaged, or edited"):
        Store.open(store.path)


def test_a_store_without_seals_is_read_and_noted(store: Store) -> None:
    for path in (store.path / "store.json", *store.path.glob("volumes/*.json")):
        path.write_text(json.dumps(read_json(path)))
    assert Store.open(store.path).volumes == store.volumes
    assert Store.open(store.path).volumes[0].dicom == store.volumes[0].dicom
    assert "unverified" in (unverified_note() or "")


@pytest.mark.parametrize("name", ["digest", "arrays", "geometry", "labelled_slices"])
def test_a_record_of_another_state_than_the_index_is_refused(store: Store, name: str) -> None:
    record = store.volumes[0]
    path = store.path / "volumes" / f"{record.stem}.json"
    path.write_text(json.dumps(read_json(path) | {name: {}}))
    with pytest.raises(DataError, match=rf"{record.stem}\.json: .*{name} differ from store\.json"):
        _ = record.dicom


def test_an_array_of_another_shape_is_refused(store: Store) -> None:
    np.save(store.path / "volumes" / "a__image.image.npy", np.zeros((4, 24, 31), dtype=np.uint16))
    with pytest.raises(DataError, match=r"holds uint16 \(4, 24, 31\), the index has \(4, 24, 32\)"):
        store.image(VolumeKey("toy", "a", "image"))


def test_a_missing_array_a_missing_map_and_a_missing_volume_are_named(store: Store) -> None:
    key = VolumeKey("toy", "a", "image")
    (store.path / "volumes" / "a__image.image.npy").unlink()
    with pytest.raises(DataError, match=r"a__image\.image\.npy: is gone"):
        store.image(key)
    with pytest.raises(DataError, match="no map t1rho; it has t2"):
        store.map(key, "t1rho")
    with pytest.raises(DataError, match="no volume toy/z/image"):
        store.image(VolumeKey("toy", "z", "image"))


def test_a_store_can_travel_to_a_worker(store: Store) -> None:
    assert pickle.loads(pickle.dumps(store)).volumes == store.volumes


def test_a_volume_is_finished_only_with_all_its_files_and_for_its_source(store: Store, prepared: Prepared) -> None:
    writer = StoreWriter(store.path, "toy", "knee", store.labels, 7)
    key = VolumeKey("toy", "a", "image")
    assert writer.is_finished(key, "test")
    assert not writer.is_finished(key, "another source")
    (store.path / "volumes" / "a__image.mask.npy").unlink()
    assert not writer.is_finished(key, "test")


def test_a_volume_that_was_interrupted_is_not_finished(
    store: Store, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = StoreWriter(store.path, "toy", "knee", store.labels, 7)
    # Cannot be written: the image is new by then, the rest is not.
    broken = prepared("a", maps={"t2": PreparedMap(object(), None, {})})
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        writer.write(broken, "new source")
    assert not writer.is_finished(broken.key, "new source")
    assert writer.is_finished(broken.key, "test")
    store.verify(store.volumes)
    writer.write(prepared("a"), "new source")
    assert writer.is_finished(broken.key, "new source")


def test_a_volume_leaves_the_store_only_when_it_is_told_to(store: Store) -> None:
    writer = StoreWriter(store.path, "toy", "knee", store.labels, 7)
    keys = [record.key for record in store.volumes]
    writer.finish(keys[:2], {"a": "train", "b": "test"})
    assert [record.key for record in Store.open(store.path).volumes] == keys
    assert writer.unused_files(keys[:2]) == []
    writer.finish(keys[:2], {"a": "train", "b": "test"}, without=keys[2:])
    assert [record.key for record in Store.open(store.path).volumes] == keys[:2]
    assert Store.open(store.path).split_volumes("test")[0].key == keys[1]
    unused = writer.unused_files(keys[:2], without=keys[2:])
    assert {path.name.split(".")[0] for path in unused} == {key.file_stem for key in keys[2:]}


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, store: Store) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("text")
    with pytest.raises(DataError, match=r"is not a store and not empty \(it contains thesis\.tex\)"):
        StoreWriter(tmp_path / "home", "toy", "knee", store.labels, 7).check()
    with pytest.raises(DataError, match="holds the store of dataset 'toy', not of 'oai'"):
        StoreWriter(store.path, "oai", "knee", store.labels, 7).check()
