"""A store as nnU-Net v2 raw dataset: what is in it, that it prepares to the same store again, what is refused."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.export.nnunet_export import NnunetExport, nnunet_export
from sam2ft.data.export.nnunet_folder import write_nnunet
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.sources.find import find_sources
from sam2ft.data.store.index import index_path, read_index, write_index
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.evaluation.masks.exported import names_beside
from sam2ft.evaluation.masks.inputs import find_predictions
from tests.data.export.test_round_trips import by_simpleitk, labelled, orientations, oriented, world_of

LABELS = LabelTable((Label(3, "cartilage", interface="bone"), Label(7, "bone"), Label(300, "tendon, long head")))
Prepared = Callable[..., PreparedVolume]
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test"}


def volume_of(prepared: Prepared, subject: str, geometry: Geometry, **given: Any) -> PreparedVolume:
    mask = labelled(geometry.shape_zyx, seed=sum(subject.encode()))
    fields = {"rows": [geometry.shape_zyx[1]] * len(mask), "TE": [10.0] * len(mask)}
    return prepared(subject, mask_zyx=mask, geometry=geometry, maps={}, slices=fields, **given)


def store_of(
    folder: Path, volumes: list[PreparedVolume], splits: dict[str, str], labels: LabelTable = LABELS, modality: str = ""
) -> Store:
    writer = StoreWriter(folder, "toy", "knee", labels, split_seed=7, modality=modality)
    for volume in volumes:
        writer.write(volume, source="test")
    writer.finish([volume.key for volume in volumes], splits)
    return Store.open(folder)


@pytest.fixture
def four(tmp_path: Path, prepared: Prepared) -> Store:
    """Two subjects in train, one in val, one in test; oblique, left-handed, and along another axis than z."""
    return store_of(tmp_path / "store", volumes_of_four(prepared), SPLITS)


def volumes_of_four(prepared: Prepared) -> list[PreparedVolume]:
    matrices = [matrix for _, matrix in orientations()]
    return [
        volume_of(prepared, subject, oriented(matrices[number], shape))
        for subject, number, shape in (
            ("a", 0, (4, 6, 5)),
            ("b", 7, (5, 6, 4)),
            ("c", 20, (4, 4, 4)),
            ("d", 33, (6, 5, 4)),
        )
    ]


def exported(store: Store, out: Path, **given: Any) -> tuple[NnunetExport, Path]:
    export = nnunet_export(store, 501, **given)
    write_nnunet(export, out)
    return export, out / export.folder


def test_labels_are_consecutive_and_named_and_masks_have_their_integers(four: Store, tmp_path: Path) -> None:
    export, folder = exported(four, tmp_path / "raw")
    content = read_json(folder / "dataset.json")
    assert folder.name == "Dataset501_toy"
    assert content["labels"] == {"background": 0, "cartilage": 1, "bone": 2, "tendon, long head": 3}
    assert content["sam2ft"]["label_ids"] == {"1": 3, "2": 7, "3": 300}
    assert (content["channel_names"], content["file_ending"], content["numTraining"]) == ({"0": "image"}, ".nii.gz", 3)
    assert read_json(folder / "splits_final.json") == [{"train": ["a", "b"], "val": ["c"]}]
    for case in export.cases:
        mask, image = (nibabel.load(folder / name) for name in (case.mask, case.image))
        stored, values = four.mask(case.record.key), np.asarray(mask.dataobj).transpose(2, 1, 0)
        assert [np.unique(stored[values == number]).tolist() for number in (0, 1, 2, 3)] == [[0], [3], [7], [300]]
        assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), four.image(case.record.key))
        assert np.array_equal(mask.affine, case.record.geometry.affine)
        table = np.array([0, 3, 7, 300])
        restored = {(*place[:3], int(table[place[3]])) for place in by_simpleitk(folder / case.mask)}
        assert restored == world_of(case.record.geometry, stored)
    assert sorted(one.name for one in (folder / "imagesTs").iterdir()) == ["d_0000.nii.gz"]
    assert sorted(one.name for one in (folder / "labelsTr").iterdir()) == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def prepared_again(folder: Path, tmp_path: Path) -> Store:
    """The export, prepared by the dataset file in it through the layout of nnU-Net."""
    config = load_dataset(folder / "sam2ft.yaml", (tmp_path,))
    prepare_dataset(config, tmp_path, tmp_path / "again", lambda *_: None)
    return Store.open(tmp_path / "again")


def assert_same(again: Store, store: Store) -> None:
    assert again.labels == store.labels
    assert [one.key for one in again.volumes] == [one.key for one in store.volumes]
    for record in store.volumes:
        other = again.record(record.key)
        assert other.split == record.split
        assert other.geometry.affine_ras == record.geometry.affine_ras
        assert np.array_equal(again.image(record.key), store.image(record.key))
        assert np.array_equal(again.mask(record.key), store.mask(record.key))


@pytest.mark.parametrize("part", range(4))
def test_an_export_prepares_to_the_same_voxels_places_labels_and_splits(
    tmp_path: Path, prepared: Prepared, part: int
) -> None:
    """All 48 orientations, twelve a store; shapes for which the slice axis is neither the longest nor the shortest."""
    of_part = list(orientations())[12 * part : 12 * part + 12]
    shapes = itertools.cycle([(4, 6, 5), (5, 4, 6), (6, 5, 4), (5, 5, 5)])
    volumes = [
        volume_of(prepared, f"{number:02d}", oriented(matrix, shape))
        for number, ((_, matrix), shape) in enumerate(zip(of_part, shapes, strict=False))
    ]
    splits = {volume.key.subject: ("train", "val", "test")[number % 3] for number, volume in enumerate(volumes)}
    store = store_of(tmp_path / "store", volumes, splits)
    assert_same(prepared_again(exported(store, tmp_path / "raw")[1], tmp_path), store)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_that_do_not_say_how_they_lie_come_back_too(tmp_path: Path, prepared: Prepared, axis: int) -> None:
    order = [one for one in range(3) if one != axis] + [axis]
    affine = np.diag([0.5, 0.5, 0.5, 1.0])[:, [*order, 3]]
    geometry = Geometry.from_affine((4, 6, 5), affine, oriented=False)
    store = store_of(tmp_path / "store", [volume_of(prepared, one, geometry) for one in "abcd"], SPLITS)
    again = prepared_again(exported(store, tmp_path / "raw")[1], tmp_path)
    for record in store.volumes:
        assert not again.record(record.key).geometry.oriented
        assert again.record(record.key).geometry.spacing_zyx_mm == record.geometry.spacing_zyx_mm
        assert np.array_equal(again.mask(record.key), store.mask(record.key))


def test_places_that_float32_cannot_hold_move_by_less_than_a_millionth(tmp_path: Path, prepared: Prepared) -> None:
    affine = np.diag([1 / 3, 0.7, 2.2, 1.0])
    affine[:3, 3] = (-101.123456789, 1 / 7, 1234.56789)
    geometry = Geometry.from_affine((4, 6, 5), affine)
    store = store_of(tmp_path / "store", [volume_of(prepared, one, geometry) for one in "abcd"], SPLITS)
    folder = exported(store, tmp_path / "raw")[1]
    again = prepared_again(folder, tmp_path)
    moved = max(one.geometry.corner_distance_mm(geometry) for one in again.volumes)
    assert 0 < moved < 1e-4
    marker = read_json(folder / "sam2ft.json")
    assert Geometry.from_json(marker["cases"]["a"]["geometry"]).affine_ras == geometry.affine_ras


ODD = ["a b", "\u00e4\u00f6", "50%", "a/b", "-x", "a_0000", "x" * 128, "\u00e4" * 128, "a__b"]


def test_every_subject_gets_a_name_that_nnunet_and_eval_take(tmp_path: Path, prepared: Prepared) -> None:
    geometry = oriented(np.eye(3))
    volumes = [volume_of(prepared, name, geometry) for name in ODD]
    volumes += [volume_of(prepared, "two", geometry, volume=one) for one in ("left", "right")]
    splits = {volume.key.subject: "train" for volume in volumes} | {"a b": "val"}
    export, folder = exported(store_of(tmp_path / "store", volumes, splits), tmp_path / "raw")
    names = [case.name for case in export.cases]
    assert len({name.casefold() for name in names}) == len(volumes)
    assert all("/" not in name and not name.startswith(".") for name in names)
    assert all(len(name.encode()) < 220 for name in names)
    assert sorted(one.name for one in (folder / "labelsTr").iterdir()) == sorted(f"{name}.nii.gz" for name in names)
    found = find_predictions(folder / "labelsTr", [case.record for case in export.cases])
    assert {key: path.name for key, path in found.paths.items()} == {
        case.record.key: f"{case.name}.nii.gz" for case in export.cases
    }


@pytest.mark.parametrize(
    ("modality", "windows", "channel"),
    [
        ("MRI", [(0.0, 1.0), (0.0, 9.0)], "MRI"),
        ("CT", [(-160.0, 240.0), (-160.0, 240.0)], "CT"),
        ("CT", [(-160.0, 240.0), (-150.0, 240.0)], "CT (windowed)"),
        ("zscore", [(0.0, 1.0), (0.0, 1.0)], "zscore (windowed)"),
        ("", [(0.0, 1.0), (0.0, 1.0)], "image"),
    ],
)
def test_the_channel_is_ct_only_where_all_volumes_have_one_window(
    tmp_path: Path, prepared: Prepared, modality: str, windows: Any, channel: str
) -> None:
    geometry = oriented(np.eye(3))
    volumes = [volume_of(prepared, name, geometry, window=window) for name, window in zip("ab", windows, strict=True)]
    store = store_of(tmp_path / "store", volumes, {"a": "train", "b": "val"}, modality=modality)
    assert nnunet_export(store, 1).channel == channel


def with_index(store: Store, **entries: Any) -> Store:
    write_index(index_path(store.path), {**(read_index(store.path) or {}), **entries})
    return Store.open(store.path)


def test_every_fold_of_the_store_is_a_fold_of_nnunet(four: Store, tmp_path: Path) -> None:
    rows = {"a": ["train", "val", "train"], "b": ["train", "train", "val"], "c": ["val", "train", "train"]}
    store = with_index(four, folds={**rows, "d": ["test"] * 3})
    _, folder = exported(store, tmp_path / "raw")
    assert read_json(folder / "splits_final.json") == [
        {"train": ["a", "b"], "val": ["c"]},
        {"train": ["b", "c"], "val": ["a"]},
        {"train": ["a", "c"], "val": ["b"]},
    ]
    for fold in range(3):
        (tmp_path / "f.yaml").write_text(
            f"dataset: {{name: t}}\nsources: {{layout: {{nnunet: {folder}, fold: {fold}}}}}\n"
        )

        found = find_sources(load_dataset(tmp_path / "f.yaml", (tmp_path,)), tmp_path)
        assert {row.key.subject: row.split for row in found} == {**{one: rows[one][fold] for one in rows}, "d": "test"}


@pytest.mark.parametrize("count", [2, 3])
def test_an_export_with_folds_prepares_to_the_same_folds(four: Store, tmp_path: Path, count: int) -> None:
    rows = {name: ["val" if fold == number else "train" for fold in range(count)] for number, name in enumerate("abc")}
    store = with_index(four, folds={**rows, "d": ["test"] * count})
    _, folder = exported(store, tmp_path / "raw")
    assert prepared_again(folder, tmp_path).folds == store.folds


def test_who_is_in_test_of_some_folds_is_left_out_of_these(four: Store, tmp_path: Path) -> None:
    rows = {"a": ["train", "test"], "b": ["val", "train"], "c": ["train", "val"], "d": ["test", "train"]}
    export, folder = exported(with_index(four, folds=rows), tmp_path / "raw")
    assert read_json(folder / "splits_final.json") == [
        {"train": ["a", "c"], "val": ["b"]},
        {"train": ["b", "d"], "val": ["c"]},
    ]
    assert not (folder / "imagesTs").exists()
    assert any("in test of some folds only: a, d" in note for note in export.notes)


def partial_store(folder: Path, prepared: Prepared) -> Store:
    """As `four`, all on one grid; of b the tendon was not drawn."""
    volumes = [volume_of(prepared, name, oriented(np.eye(3), (4, 6, 5))) for name in SPLITS]
    mask = np.where(volumes[1].mask_zyx == 300, 0, volumes[1].mask_zyx)
    volumes[1] = replace(volumes[1], mask_zyx=mask, labelled=(3, 7))
    return store_of(folder, volumes, SPLITS)


def test_partial_labels_are_refused_or_left_out(tmp_path: Path, prepared: Prepared) -> None:
    store = partial_store(tmp_path / "store", prepared)
    with pytest.raises(DataError, match=r"not all labels were drawn in toy/b/image; .*--leave-out-partial$"):
        nnunet_export(store, 501)
    export, folder = exported(store, tmp_path / "raw", leave_out_partial=True)
    assert [case.name for case in export.cases] == ["a", "c", "d"]
    assert read_json(folder / "splits_final.json") == [{"train": ["a"], "val": ["c"]}]
    assert export.notes == ("left out, because not all labels were drawn in them: toy/b/image",)


@pytest.mark.parametrize("name", ["background", "Background", "ignore"])
def test_names_that_mean_something_else_to_nnunet_are_refused(tmp_path: Path, prepared: Prepared, name: str) -> None:
    labels = LabelTable((Label(3, name), Label(7, "bone"), Label(300, "tendon")))
    store = store_of(tmp_path / "store", [volume_of(prepared, "a", oriented(np.eye(3)))], {"a": "train"}, labels)
    with pytest.raises(DataError, match=rf"label '{name}' has a name that nnU-Net reserves \(background, ignore\)"):
        nnunet_export(store, 501)


def test_a_subject_whose_files_would_be_hidden_is_refused(tmp_path: Path, prepared: Prepared) -> None:
    store = store_of(tmp_path / "store", [volume_of(prepared, ".a", oriented(np.eye(3)))], {".a": "train"})
    with pytest.raises(DataError, match=r"subject '\.a' begins with a point"):
        nnunet_export(store, 501)


def test_a_store_with_nothing_to_train_on_is_refused_and_one_without_val_is_told(
    tmp_path: Path, prepared: Prepared
) -> None:
    geometry = oriented(np.eye(3))
    volumes = [volume_of(prepared, one, geometry) for one in "ab"]
    with pytest.raises(DataError, match="no volume is in train or val, so that nnU-Net has nothing to train on"):
        nnunet_export(store_of(tmp_path / "one", volumes, {"a": "test", "b": "test"}), 501)
    export = nnunet_export(store_of(tmp_path / "two", volumes, {"a": "train", "b": "test"}), 501)
    assert not export.trains_by_folds
    assert any("fold 0 has no val" in note for note in export.notes)


def test_instances_are_explained(tmp_path: Path, prepared: Prepared) -> None:
    geometry = oriented(np.eye(3))
    volumes = [
        volume_of(prepared, one, geometry, instances_zyx=labelled(geometry.shape_zyx).astype(np.uint16)) for one in "ab"
    ]
    export = nnunet_export(store_of(tmp_path / "store", volumes, {"a": "train", "b": "val"}), 501)
    assert export.notes == (
        "nnU-Net learns labels, not instances: the instances of this store (as_given) are not exported",
    )


def test_sheared_axes_are_read_by_nibabel_because_simpleitk_refuses_them(tmp_path: Path, prepared: Prepared) -> None:
    for shear, reader in ((0.0, None), (1e-4, None), (4e-4, None), (6e-4, "NibabelIO"), (5e-3, "NibabelIO")):
        affine = np.diag([0.5, 0.5, 3.0, 1.0])
        affine[0, 1] = 0.5 * shear
        geometry = Geometry.from_affine((4, 6, 5), affine)
        store = store_of(tmp_path / f"s{shear}", [volume_of(prepared, one, geometry) for one in "abcd"], SPLITS)
        export, folder = exported(store, tmp_path / f"raw{shear}")
        assert export.dataset_json.get("overwrite_image_reader_writer") == reader
        if reader is None:
            assert by_simpleitk(folder / "labelsTr" / "a.nii.gz")
        else:
            with pytest.raises(RuntimeError, match="orthonormal"):
                by_simpleitk(folder / "labelsTr" / "a.nii.gz")


def test_what_eval_reads_of_dataset_json_is_there(four: Store, tmp_path: Path) -> None:
    _, folder = exported(four, tmp_path / "raw")
    names = names_beside(folder, "toy", four.labels)
    assert names.exported
    assert [(one.value, one.name) for one in names.segments] == [
        (1, "cartilage"),
        (2, "bone"),
        (3, "tendon, long head"),
    ]
    assert not names_beside(folder, "other", four.labels).exported
    assert json.loads((folder / "dataset.json").read_text())["sam2ft"]["dataset"] == "toy"
