"""From raw files to a store: right, resumable, and each kind of bad input refused by name."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.keys import VolumeKey
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare import prepare as module
from sam2ft.data.prepare.outcomes import DEFAULTS, PrepareOptions, PrepareSummary, Surplus, VolumeOutcome
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store

DATASET = """\
dataset: {name: toy, anatomy: knee}
sources: {images: "dicom/{subject}/{volume}", masks: "masks/{subject}_{volume}.nii.gz"}
labels:
  1: {name: cartilage, interface: bone, merge: [1, 11]}
  5: {name: bone}
labels_dropped: [9]
split: {train: 0.5, val: 0.17, test: 0.33, seed: 1}
"""


@pytest.fixture
def raw(tmp_path: Path, write_series: Callable[..., Path]) -> Path:
    """Three subjects a, b, c with a DICOM series, its mask and a dataset file."""
    folder = tmp_path / "raw"
    for subject in "abc":
        image = read_volume(write_series(folder / "dicom" / subject / "left", change=image_of(subject)))
        write_nifti(folder / "masks" / f"{subject}_left.nii.gz", mask_of(image.array_zyx.shape), image.geometry)
    (folder / "dataset.yaml").write_text(DATASET)
    return folder


def image_of(subject: str) -> Callable[[Any, int], None]:
    """Change of a slice that gives every subject an image of its own; a has that of write_series."""

    def change(header: Any, z: int) -> None:
        if subject != "a":
            noise = np.random.default_rng([ord(subject[0]), z]).integers(0, 200, size=6 * 8)
            header.PixelData = (np.frombuffer(header.PixelData, "<u2") + noise).astype("<u2").tobytes()

    return change


def mask_of(shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[1, 1, 1:3], mask[2, 2, 2], mask[3, 3, 3], mask[3, 0, 0] = 1, 11, 5, 9
    return mask


def run(raw: Path, out: Path, options: PrepareOptions = DEFAULTS) -> PrepareSummary:
    return prepare_dataset(load_dataset(raw / "dataset.yaml"), raw, out, lambda *_: None, options)


def subjects(out: Path) -> list[str]:
    """Subjects of a store whose arrays are all as the index says."""
    store = Store.open(out)
    store.verify(store.volumes)
    return [record.key.subject for record in store.volumes]


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Name -> (time of modification, content) of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in tree(folder).items()}


def test_a_series_and_its_mask_become_a_volume(raw: Path, tmp_path: Path) -> None:
    summary = run(raw, tmp_path / "store")
    assert [outcome.result for outcome in summary.outcomes] == ["stored"] * 3
    store = Store.open(tmp_path / "store")
    key = VolumeKey("toy", "a", "left")
    assert store.record(key).geometry.spacing_zyx_mm == (2.0, 0.5, 0.75)
    assert store.mask(key)[[1, 2, 3, 3], [1, 2, 3, 0], [1, 2, 3, 0]].tolist() == [1, 1, 5, 0]
    image = store.image(key)
    assert (image.min(), image.max()) == (0, 65535)
    assert image[2, 3, 4] == pytest.approx(65535 * (234 - 2) / (455 - 2), abs=300)
    meta = json.loads(store.metadata_for_stats.read_text())["a"]["slices"]["002"]
    assert (meta["slice_spacing"], meta["slice_thickness"], meta["TE"], meta["rows"]) == (2.0, 3.0, 10.0, 6)
    store.verify(store.volumes)


def test_subjects_are_split_by_the_largest_remainder(raw: Path, tmp_path: Path) -> None:
    # 1.5, 0.51 and 0.99 of three subjects.
    assert run(raw, tmp_path / "store").splits == {"train": 1, "val": 1, "test": 1}


def test_no_name_birth_date_or_free_text_reaches_the_store(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    everything = b"".join(content for name, content in contents(tmp_path / "store").items() if name.endswith(".json"))
    for secret in (b"Jane", b"PID-12345", b"19700101", b"Hospital", b"Who", b"053Y"):
        assert secret not in everything


def test_what_keep_names_is_kept(raw: Path, tmp_path: Path) -> None:
    (raw / "dataset.yaml").write_text(DATASET + "keep: [PatientAge, SeriesDescription]\n")
    run(raw, tmp_path / "store")
    assert json.loads((tmp_path / "store" / "metadata_for_ml.json").read_text())["a"]["age"] == "053Y"


def test_a_second_call_changes_no_file(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    before = tree(tmp_path / "store")
    summary = run(raw, tmp_path / "store")
    assert [outcome.result for outcome in summary.outcomes] == ["unchanged"] * 3
    assert tree(tmp_path / "store") == before


def test_only_what_changed_is_prepared_again(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    image = read_volume(raw / "dicom" / "b" / "left")
    write_nifti(raw / "masks" / "b_left.nii.gz", np.flip(mask_of(image.array_zyx.shape)), image.geometry)
    digests = {record.key.subject: record.digest for record in Store.open(tmp_path / "store").volumes}
    assert [outcome.result for outcome in run(raw, tmp_path / "store").outcomes] == ["unchanged", "stored", "unchanged"]
    store = Store.open(tmp_path / "store")
    assert [record.key.subject for record in store.volumes if record.digest != digests[record.key.subject]] == ["b"]
    store.verify(store.volumes)


def test_changed_settings_prepare_everything_again(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    (raw / "dataset.yaml").write_text(DATASET + "intensity: {clip_percentiles: [0, 100]}\n")
    assert run(raw, tmp_path / "store").count("stored") == 3


def test_another_split_seed_prepares_nothing_again(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    (raw / "dataset.yaml").write_text(DATASET.replace("seed: 1", "seed: 2"))
    assert run(raw, tmp_path / "store").count("unchanged") == 3
    assert Store.open(tmp_path / "store").split_seed == 2


@pytest.mark.parametrize("at", range(1, 12))
def test_a_prepare_killed_anywhere_goes_on_and_ends_as_one_that_was_not(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    class Killed(BaseException):
        pass

    from sam2ft.core import files

    renames = 0
    sync = files.sync_folder

    def sync_or_die(folder: Path) -> None:
        nonlocal renames
        renames += 1
        if renames == at:
            raise Killed
        sync(folder)

    monkeypatch.setattr(files, "sync_folder", sync_or_die)
    with pytest.raises(Killed):
        run(raw, tmp_path / "killed")
    monkeypatch.undo()
    finished = max(0, (at - 1) // 3)  # image, mask, record of each volume
    summary = run(raw, tmp_path / "killed")
    assert summary.count("unchanged") >= min(finished, 3)
    run(raw, tmp_path / "whole")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_store_that_is_being_changed_is_read_as_it_was(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(raw, tmp_path / "store")
    before = Store.open(tmp_path / "store")
    spoil_mask(raw, lambda array, affine: (np.where(array == 5, 1, array).astype(np.uint8), affine))

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.StoreWriter, "finish", stop)
    with pytest.raises(KeyboardInterrupt):
        run(raw, tmp_path / "store")
    monkeypatch.undo()
    assert Store.open(tmp_path / "store").volumes == before.volumes
    assert subjects(tmp_path / "store") == ["a", "b", "c"]
    # What the killed call finished is used; who opened the store before goes on reading what it opened.
    assert run(raw, tmp_path / "store").count("unchanged") == 3
    assert Store.open(tmp_path / "store").volumes != before.volumes
    assert subjects(tmp_path / "store") == ["a", "b", "c"]
    before.verify(before.volumes)
    assert np.count_nonzero(before.mask(before.volumes[1].key) == 5) == 1


def test_what_a_killed_call_prepared_of_another_state_of_a_source_does_not_count(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(raw, tmp_path / "store")
    before = Store.open(tmp_path / "store").volumes
    mask = raw / "masks" / "b_left.nii.gz"
    kept, times = mask.read_bytes(), mask.stat()
    spoil_mask(raw, lambda array, affine: (np.where(array == 5, 1, array).astype(np.uint8), affine))
    monkeypatch.setattr(module.StoreWriter, "finish", lambda *_, **__: None)
    run(raw, tmp_path / "store")
    monkeypatch.undo()
    mask.write_bytes(kept)
    os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(raw, tmp_path / "store").count("unchanged") == 3
    assert Store.open(tmp_path / "store").volumes == before


def take_mask(raw: Path) -> None:
    (raw / "masks" / "b_left.nii.gz").unlink()


def take_image(raw: Path) -> None:
    shutil.rmtree(raw / "dicom" / "b")


def empty_mask(raw: Path) -> None:
    (raw / "masks" / "b_left.nii.gz").write_bytes(b"")


def cut_slice(raw: Path) -> None:
    path = raw / "dicom" / "b" / "left" / "003.dcm"
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize("spoil", [take_mask, take_image, empty_mask, cut_slice])
def test_what_is_stored_stays_when_its_source_is_away_or_damaged(
    raw: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    run(raw, tmp_path / "store")
    before = Store.open(tmp_path / "store").volumes
    spoil(raw)
    summary = run(raw, tmp_path / "store")
    assert Store.open(tmp_path / "store").volumes == before
    assert subjects(tmp_path / "store") == ["a", "b", "c"]
    b = VolumeKey("toy", "b", "left")
    assert (summary.missing, summary.kept) == (((b,), frozenset()) if spoil is take_image else ((), frozenset([b])))
    assert [outcome.key for outcome in summary.refused] == ([] if spoil is take_image else [b])


def test_prune_lists_what_it_removes_and_removes_nothing_without_a_yes(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    spoil_mask(raw, lambda array, affine: (np.where(array == 5, 1, array).astype(np.uint8), affine), "c")
    run(raw, tmp_path / "store")
    shutil.rmtree(raw / "dicom" / "b")
    listed: list[Surplus] = []
    summary = run(raw, tmp_path / "store", PrepareOptions(prune=lambda found: listed.append(found) or False))
    assert subjects(tmp_path / "store") == ["a", "b", "c"]
    assert summary.missing == (VolumeKey("toy", "b", "left"),)
    summary = run(raw, tmp_path / "store", PrepareOptions(prune=lambda found: listed.append(found) or True))
    assert listed[0] == listed[1]
    assert listed[0].volumes == (VolumeKey("toy", "b", "left"),)
    names = {path.name for path in listed[0].files}
    kinds = ("image.npy", "mask.npy", "json")
    assert names == {f"{stem}.{kind}" for stem in ("b__left", "c__left") for kind in kinds}
    assert subjects(tmp_path / "store") == ["a", "c"]
    assert (summary.missing, summary.surplus.files) == ((), ())
    left = {path.name for path in (tmp_path / "store" / "volumes").iterdir()}
    assert left == {f"{stem}.{kind}" for stem in ("a__left", "c__left@2") for kind in kinds}


def test_pruning_costs_a_program_that_reads_other_volumes_nothing(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    reading = Store.open(tmp_path / "store")
    shutil.rmtree(raw / "dicom" / "b")
    run(raw, tmp_path / "store", PrepareOptions(prune=lambda _: True))
    assert reading.image(VolumeKey("toy", "a", "left")).any()
    with pytest.raises(DataError, match=r"b__left\.image\.npy: is gone, removed by hand or by `prepare --prune`"):
        reading.image(VolumeKey("toy", "b", "left"))


def test_a_renamed_subject_is_a_new_one_and_the_old_one_stays_until_it_is_pruned(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    (raw / "dicom" / "b").rename(raw / "dicom" / "bee")
    (raw / "masks" / "b_left.nii.gz").rename(raw / "masks" / "bee_left.nii.gz")
    summary = run(raw, tmp_path / "store")
    assert summary.missing == (VolumeKey("toy", "b", "left"),)
    assert {"a", "b", "c"} <= set(subjects(tmp_path / "store"))
    run(raw, tmp_path / "store", PrepareOptions(prune=lambda _: True))
    assert subjects(tmp_path / "store") == ["a", "bee", "c"]


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def a_list(path: Path) -> None:
    path.write_text("[]")


def few_keys(path: Path) -> None:
    path.write_text('{"version": 2}')


@pytest.mark.parametrize("damage", [nothing, a_list, few_keys, Path.unlink])
@pytest.mark.parametrize("name", ["volumes/b__left.json", "metadata_for_ml.json", "metadata_for_stats.json"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_damaged_small_file_of_a_store_costs_no_volume(
    raw: Path, tmp_path: Path, damage: Callable[[Path], None], name: str, is_there: bool
) -> None:
    run(raw, tmp_path / "store")
    before = {record.key: record.digest for record in Store.open(tmp_path / "store").volumes}
    damage(tmp_path / "store" / name)
    if not is_there:
        shutil.rmtree(raw / "dicom" / "b")
    run(raw, tmp_path / "store")
    assert {record.key: record.digest for record in Store.open(tmp_path / "store").volumes} == before
    assert subjects(tmp_path / "store") == ["a", "b", "c"]
    for name in ("metadata_for_ml.json", "metadata_for_stats.json"):
        assert json.loads((tmp_path / "store" / name).read_text()).keys() >= {"a", "c"}


def without_a_digit(path: Path) -> None:
    path.write_text(path.read_text().replace("0.75", "0.76", 1))


def is_lost(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [nothing, a_list, few_keys, without_a_digit, is_lost])
def test_a_damaged_index_is_made_again_with_the_splits_that_it_had(
    raw: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    run(raw, tmp_path / "store")
    before, splits = Store.open(tmp_path / "store").volumes, splits_of(tmp_path / "store")
    damage(tmp_path / "store" / "store.json")
    with pytest.raises(DataError, match=r"store\.json: .*launch/prepare\.py|launch/prepare\.py"):
        Store.open(tmp_path / "store")
    shutil.rmtree(raw / "dicom" / "b")  # what is stored stays, as with a whole index
    summary = run(raw, tmp_path / "store")
    assert summary.count("unchanged") == 2
    assert summary.notes[0].startswith("store.json was made again from the records of 3 volumes")
    assert Store.open(tmp_path / "store").volumes == before
    assert splits_of(tmp_path / "store") == splits


def test_an_index_that_cannot_be_made_again_names_what_else_is_damaged(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    without_a_digit(tmp_path / "store" / "store.json")
    path = tmp_path / "store" / "metadata_for_ml.json"
    path.write_text(path.read_text().replace("train", "test"))
    with pytest.raises(DataError, match=r"store\.json: damaged.* cannot be made again: .*metadata_for_ml\.json"):
        run(raw, tmp_path / "store")


@pytest.mark.parametrize("kind", ["mask", "image"])
def test_a_damaged_array_is_replaced_by_what_its_message_says(raw: Path, tmp_path: Path, kind: str) -> None:
    run(raw, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    path, stamp = tmp_path / "store" / "volumes" / f"b__left.{kind}.npy", os.stat(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    with pytest.raises(DataError, match=rf"b__left\.{kind}\.npy: .*; run launch/prepare\.py with --verify"):
        store.verify(store.volumes)
    assert run(raw, tmp_path / "store", PrepareOptions(verify=True)).count("stored") == 1
    healed = Store.open(tmp_path / "store")
    healed.verify(healed.volumes)
    assert {record.digest for record in healed.volumes} == {one.digest for one in store.volumes}


def test_a_damaged_array_whose_image_is_gone_is_named(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    path = tmp_path / "store" / "volumes" / "b__left.mask.npy"
    backup = shutil.copytree(tmp_path / "store", tmp_path / "backup")
    path.write_bytes(path.read_bytes()[:-1])
    shutil.rmtree(raw / "dicom" / "b")
    (note,) = run(raw, tmp_path / "store", PrepareOptions(verify=True)).notes
    assert note.startswith(f"{path}: the content changed")
    assert "restore it from a backup" in note
    shutil.copy(backup / "volumes" / path.name, path)
    assert run(raw, tmp_path / "store", PrepareOptions(verify=True)).notes == ()
    store = Store.open(tmp_path / "store")
    store.verify(store.volumes)


def test_a_leak_is_refused_also_when_the_removal_of_its_old_name_is_declined(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    (raw / "splits.json").write_text(json.dumps({"train": ["a", "bee"], "val": ["c"], "test": ["b"]}))
    start, _, _ = DATASET.partition("split:")
    (raw / "dataset.yaml").write_text(f"{start}split: {{file: {raw}/splits.json}}\n")
    (raw / "dicom" / "b").rename(raw / "dicom" / "bee")
    (raw / "masks" / "b_left.nii.gz").rename(raw / "masks" / "bee_left.nii.gz")
    summary = run(raw, tmp_path / "store", PrepareOptions(prune=lambda _: False))
    assert [outcome.key.subject for outcome in summary.refused] == ["bee"]
    assert "if b was renamed to bee, --prune removes the old one" in summary.refused[0].reason
    run(raw, tmp_path / "store", PrepareOptions(prune=lambda _: True))
    assert subjects(tmp_path / "store") == ["a", "bee", "c"]


def as_version_1(out: Path) -> None:
    """Make a store look as if sam2ft 0.1.0 had written it."""
    for path in [out / "store.json", *(out / "volumes").glob("*.json")]:
        path.write_text(json.dumps(read_json(path) | {"version": 1}, indent=2) + "\n")


def test_a_store_of_version_1_stays_one_until_it_is_upgraded(raw: Path, tmp_path: Path, write_series: Any) -> None:
    store = tmp_path / "store"
    run(raw, store)
    as_version_1(store)
    before = Store.open(store).volumes
    assert run(raw, store).count("unchanged") == 3
    image = read_volume(write_series(raw / "dicom" / "d" / "left", change=image_of("d")))
    write_nifti(raw / "masks" / "d_left.nii.gz", mask_of(image.array_zyx.shape), image.geometry)
    assert run(raw, store).count("stored") == 1
    files = [store / "store.json", *store.glob("volumes/*.json")]
    assert {json.loads(path.read_text())["version"] for path in files} == {1}
    asked: list[list[str]] = []
    with pytest.raises(DataError, match="stays as it was"):
        run(raw, store, PrepareOptions(upgrade=lambda changes: asked.append(list(changes)) or False))
    assert Store.open(store).volumes[:3] == before
    assert not list(store.glob("volumes/*@*"))
    (raw / "masks" / "d_left.nii.gz").unlink()
    with pytest.raises(DataError, match=r"not every volume can be prepared anew:\n  toy/d/left: .*no such file"):
        run(raw, store, PrepareOptions(upgrade=lambda _: True))
    write_nifti(raw / "masks" / "d_left.nii.gz", mask_of(image.array_zyx.shape), image.geometry)
    run(raw, store, PrepareOptions(upgrade=lambda _: True))
    assert json.loads((store / "store.json").read_text())["version"] == 2
    assert subjects(store) == ["a", "b", "c", "d"]
    assert asked == [[]]


def test_volumes_of_two_label_tables_never_share_a_store(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "store")
    before = Store.open(tmp_path / "store").volumes
    shutil.rmtree(raw / "dicom" / "b")
    (raw / "dataset.yaml").write_text(DATASET.replace("name: bone", "name: femur").replace("interface: bone, ", ""))
    with pytest.raises(DataError, match=r"label table has changed, .*\n  toy/b/left: its image is gone"):
        run(raw, tmp_path / "store")
    assert Store.open(tmp_path / "store").volumes == before
    run(raw, tmp_path / "store", PrepareOptions(prune=lambda _: True))
    assert subjects(tmp_path / "store") == ["a", "c"]


def spoil_mask(raw: Path, change: Callable[[np.ndarray, Any], tuple[np.ndarray, Any]], subject: str = "b") -> None:
    path = raw / "masks" / f"{subject}_left.nii.gz"
    stored = nibabel.load(path)
    array, affine = change(np.asarray(stored.dataobj).copy(), stored.affine.copy())
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def with_unknown_label(array: np.ndarray, affine: Any) -> tuple[np.ndarray, Any]:
    array[0, 0, :2] = 77
    return array, affine


def shifted(array: np.ndarray, affine: Any) -> tuple[np.ndarray, Any]:
    affine[0, 3] += 5
    return array, affine


def cropped(array: np.ndarray, affine: Any) -> tuple[np.ndarray, Any]:
    return array[:-1], affine


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            with_unknown_label,
            r"b_left\.nii\.gz: unknown label id 77 \(2 voxels\); the label table has 1 cartilage, 5 bone",
        ),
        (shifted, r"b_left\.nii\.gz: image and mask are on different grids: corners lie up to 5 mm apart"),
        (cropped, r"b_left\.nii\.gz: image and mask are on different grids: shape"),
    ],
)
def test_a_bad_mask_is_refused_and_the_others_are_prepared(raw: Path, tmp_path: Path, change: Any, reason: str) -> None:
    spoil_mask(raw, change)
    summary = run(raw, tmp_path / "store")
    assert [(outcome.key.subject, outcome.result) for outcome in summary.outcomes] == [
        ("a", "stored"),
        ("b", "refused"),
        ("c", "stored"),
    ]
    assert re.search(reason, summary.refused[0].reason)
    assert len(Store.open(tmp_path / "store").volumes) == 2


def test_a_refused_subject_does_not_move_the_others_between_splits(raw: Path, tmp_path: Path) -> None:
    run(raw, tmp_path / "whole")
    spoil_mask(raw, with_unknown_label)
    run(raw, tmp_path / "part")
    splits = [
        {record.key.subject: record.split for record in Store.open(tmp_path / name).volumes}
        for name in ("whole", "part")
    ]
    assert splits[1].items() < splits[0].items()


def missing_slice(raw: Path) -> None:
    for subject in "abc":
        (raw / "dicom" / subject / "left" / "003.dcm").unlink()


def mixed_series(raw: Path) -> None:
    for subject, other in ("ab", "bc", "ca"):
        shutil.copy(raw / "dicom" / other / "left" / "003.dcm", raw / "dicom" / subject / "left" / "other.dcm")


def no_masks(raw: Path) -> None:
    for path in (raw / "masks").iterdir():
        path.unlink()


def unknown_labels(raw: Path) -> None:
    for subject in "abc":
        spoil_mask(raw, with_unknown_label, subject)


def other_unknown_labels(raw: Path) -> None:
    for subject, other in (("a", 80), ("b", 80), ("c", 81)):

        def change(array: np.ndarray, affine: Any, other: int = other) -> tuple[np.ndarray, Any]:
            array[0, 0, :3] = (77, 77, other)
            return array, affine

        spoil_mask(raw, change, subject)


def two_splits(raw: Path) -> None:
    (raw / "splits.json").write_text('{"train": ["a", "b"], "val": ["b"], "test": ["c"]}')
    start, _, _ = DATASET.partition("split:")
    (raw / "dataset.yaml").write_text(f"{start}split: {{file: {raw}/splits.json}}\n")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing_slice, r"toy/a/left: .*1 missing slice"),
        (mixed_series, r"toy/a/left: .*holds 2 stacks of images"),
        (no_masks, r"masks: 3 images but no mask; this folder is empty, a_left\.nii\.gz was expected"),
        (unknown_labels, r"unknown label id 77.*; likewise .*toy/c/left"),
        (
            other_unknown_labels,
            r"3 volumes for .*likewise .*c/left; unknown ids .*: 77 in 3, 80 in 2, 81 in 1",
        ),
        (two_splits, "subject b is in two splits, train and val"),
    ],
)
def test_when_nothing_can_be_prepared_a_store_stays_as_it_was(
    raw: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    run(raw, tmp_path / "store")
    before = tree(tmp_path / "store")
    spoil(raw)
    with pytest.raises(DataError, match=message):
        run(raw, tmp_path / "store")
    assert tree(tmp_path / "store") == before
    with pytest.raises(DataError, match=message):
        run(raw, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_maps_are_stored_on_the_images_grid(raw: Path, tmp_path: Path) -> None:
    for subject in "abc":
        image = read_volume(raw / "dicom" / subject / "left")
        values = np.full(image.array_zyx.shape, 40, dtype=np.float32)
        values[0] = np.nan
        write_nifti(raw / "t2" / f"{subject}.nii.gz", values, image.geometry)
    patterns = 'masks: "masks/{subject}_{volume}.nii.gz", maps: {t2: "t2/{subject}.nii.gz"}}'
    (raw / "dataset.yaml").write_text(DATASET.replace('masks: "masks/{subject}_{volume}.nii.gz"}', patterns))
    run(raw, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert store.volumes[0].maps == ("t2",)
    t2 = store.map(store.volumes[0].key, "t2")
    assert np.isnan(t2[0]).all()
    assert (t2[1:] == 40).all()


def test_a_file_is_never_taken_for_a_series_to_fit(raw: Path, tmp_path: Path) -> None:
    lock = "maps: {t1rho: {series: 'masks/{subject}_{volume}.nii.gz', spin_lock_ms: [0, 10, 40]}}}"
    (raw / "dataset.yaml").write_text(DATASET.replace('_{volume}.nii.gz"}', '_{volume}.nii.gz", ' + lock))
    with pytest.raises(DataError, match=r"is a file; sources\.maps\.t1rho\.series takes a folder"):
        run(raw, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_mask_without_any_label_is_prepared_and_pointed_out(raw: Path, tmp_path: Path) -> None:
    spoil_mask(raw, lambda array, affine: (np.zeros_like(array), affine))
    assert run(raw, tmp_path / "store").unlabelled == (VolumeKey("toy", "b", "left"),)


def test_workers_make_the_same_store_and_refuse_the_same_volumes(raw: Path, tmp_path: Path) -> None:
    (raw / "dicom" / "b" / "left" / "003.dcm").unlink()
    alone = run(raw, tmp_path / "alone")
    seen: list[tuple[int, int, str]] = []

    def tell(done: int, total: int, outcome: VolumeOutcome) -> None:
        seen.append((done, total, str(outcome.key)))

    shared = prepare_dataset(
        load_dataset(raw / "dataset.yaml"), raw, tmp_path / "shared", tell, PrepareOptions(workers=2)
    )
    assert shared.outcomes == alone.outcomes
    assert seen == [(number, 3, f"toy/{subject}/left") for number, subject in enumerate("abc", start=1)]
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_distances_that_headers_tell_otherwise_are_reported(raw: Path, tmp_path: Path) -> None:
    # The series are 2 mm apart and 3 mm thick.
    assert run(raw, tmp_path / "store").disagreements == (
        "slice_thickness gives 3 mm, positions 2 mm (used) in toy/a/left and 2 more of 3 volumes",
    )


def test_one_prepare_at_a_time_writes_a_store(raw: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    run(raw, tmp_path / "store")
    with (
        FileLock(tmp_path / "store" / module.LOCK),
        pytest.raises(DataError, match="another prepare process is writing"),
    ):
        run(raw, tmp_path / "store")


def test_progress_is_told_of_every_volume(raw: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, outcome: VolumeOutcome) -> None:
        seen.append((done, total, outcome.key.subject))

    prepare_dataset(load_dataset(raw / "dataset.yaml"), raw, tmp_path / "store", progress)
    assert seen == [(1, 3, "a"), (2, 3, "b"), (3, 3, "c")]


@pytest.mark.real
def test_a_real_ct_series_with_its_labels_becomes_a_store(real_data: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    case = real_data / "ct_dicom"
    (raw / "cases.csv").write_text(f"subject,image,mask\nct,{case / 'dicom'},{case / 'labels.nii.gz'}\n")
    (raw / "dataset.yaml").write_text(
        "dataset: {name: real}\nsources: {images: cases.csv}\n"
        "labels: {1: {name: vertebra, merge: [26, 27, 28, 29, 30, 31, 32, 33, 34]}}\nlabels_dropped: others\n"
        "split: {train: 1, val: 0, test: 0}\n"
    )
    run(raw, tmp_path / "store")
    record = Store.open(tmp_path / "store").volumes[0]
    assert record.geometry.spacing_zyx_mm == (2.0, 0.9765625, 0.9765625)
    assert record.labelled_slices
    assert record.dicom["slice_thickness"][0] == 3.0


@pytest.mark.parametrize(("axis", "shape"), [("auto", (5, 6, 8)), ("coronal", (6, 5, 8)), ("sagittal", (8, 5, 6))])
def test_a_store_has_the_slices_that_the_dataset_file_chooses(
    raw: Path, tmp_path: Path, axis: str, shape: tuple
) -> None:
    (raw / "dataset.yaml").write_text(DATASET + f"slice_axis: {axis}\n")
    assert [outcome.result for outcome in run(raw, tmp_path / "store").outcomes] == ["stored"] * 3
    store = Store.open(tmp_path / "store")
    key = VolumeKey("toy", "a", "left")
    assert store.record(key).geometry.shape_zyx == store.mask(key).shape == shape
    # Wherever the slices lie: the cartilage at the voxels (x, y, z) of the series where the mask has it.
    z, y, x = np.nonzero(np.asarray(store.mask(key)) == 1)
    series = read_volume(raw / "dicom" / "a" / "left").geometry
    voxels = np.linalg.solve(series.affine, store.record(key).geometry.affine @ np.stack([x, y, z, np.ones_like(x)]))
    assert sorted(map(tuple, np.rint(voxels[:3].T).astype(int).tolist())) == [(1, 1, 1), (2, 1, 1), (2, 2, 2)]


@pytest.mark.parametrize(("believe", "dz"), [("qform", 0.6), ("pixdim", 0.6), ("sform", 0.8)])
def test_a_volume_whose_header_contradicts_itself_needs_the_key_believe(raw: Path, tmp_path: Path, believe, dz) -> None:
    text = DATASET.replace("dicom/{subject}/{volume}", "images/{subject}_{volume}.nii.gz")
    (raw / "dataset.yaml").write_text(text)
    for subject in "abc":
        for folder, array in (("images", np.arange(80, dtype=np.int16)), ("masks", np.eye(8, 10, dtype=np.uint8))):
            image = nibabel.Nifti1Image(array.reshape(4, 4, 5), np.diag([0.5, 0.5, 0.8, 1]))
            image.set_qform(np.diag([0.5, 0.5, 0.6, 1]), 1)
            (raw / folder).mkdir(exist_ok=True)
            nibabel.save(image, raw / folder / f"{subject}_left.nii.gz")
    with pytest.raises(DataError, match=r"a_left\.nii\.gz: sform and qform .*0\.8\) mm against .*0\.6\) mm; .*believe"):
        run(raw, tmp_path / "store")
    (raw / "dataset.yaml").write_text(text + f"believe: {believe}\n")
    summary = run(raw, tmp_path / "store")
    assert [f"{believe} is believed" in note for note in summary.outcomes[0].notes] == [True, True]
    assert summary.outcomes[0].notes[1].startswith("mask: sform and qform")
    for record in Store.open(tmp_path / "store").volumes:
        assert record.geometry.spacing_zyx_mm[0] == pytest.approx(dz)


CELLS = """\
dataset: {name: toy, anatomy: cells}
sources: {images: "dicom/{subject}/{volume}", masks: "masks/{subject}_{volume}.nii.gz"}
labels: {1: {name: cell, merge: others}, 5: {name: bone}}
"""


def test_ids_of_instances_survive_merge_only_where_they_are_asked_for(raw: Path, tmp_path: Path) -> None:
    key = VolumeKey("toy", "b", "left")
    spoil_mask(raw, lambda array, affine: (np.where(array == 11, 1000, array.astype(np.uint16)), affine))
    (raw / "dataset.yaml").write_text(CELLS)
    run(raw, tmp_path / "components")
    (raw / "dataset.yaml").write_text(CELLS + "instances: {source: as_given}\n")
    run(raw, tmp_path / "given")
    plain, given = Store.open(tmp_path / "components"), Store.open(tmp_path / "given")
    assert plain.instances(key) is None
    assert plain.instances_of_slice(key.slice(1)) is None
    ids = given.instances(key)
    assert ids is not None
    assert ids[[1, 1, 2, 3, 3, 0], [1, 1, 2, 3, 0, 0], [1, 2, 2, 3, 0, 0]].tolist() == [1, 1, 1000, 5, 9, 0]
    assert ((ids > 0) == (given.mask(key) > 0)).all()
    assert np.array_equal(given.mask(key), plain.mask(key))
    assert given.record(key).digest != plain.record(key).digest
    assert given.record(key).arrays.items() > plain.record(key).arrays.items()
    given.verify(given.volumes)


def test_a_store_given_other_instances_is_prepared_again(raw: Path, tmp_path: Path) -> None:
    key, digests = VolumeKey("toy", "b", "left"), []
    settings = [
        "",
        "instances: {source: components}\n",
        "instances: {min_mm3: 50}\n",
        "instances: {source: as_given}\n",
    ]
    for setting, again in zip(settings, (3, 0, 3, 3), strict=True):
        (raw / "dataset.yaml").write_text(CELLS + setting)
        assert run(raw, tmp_path / "store").count("stored") == again
        record = Store.open(tmp_path / "store").record(key)
        digests.append(record.digest)
        assert record.instances_min_mm3 == (50 if "50" in setting else None)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert Store.open(tmp_path / "store").instances(key) is not None
    (raw / "dataset.yaml").write_text(CELLS)
    run(raw, tmp_path / "store")
    assert Store.open(tmp_path / "store").record(key).digest == digests[0]
    assert Store.open(tmp_path / "store").instances(key) is None


def test_an_instance_id_beyond_16_bit_is_refused(raw: Path, tmp_path: Path) -> None:
    spoil_mask(raw, lambda array, affine: (np.where(array == 11, 70000, array.astype(np.int32)), affine))
    (raw / "dataset.yaml").write_text(CELLS + "instances: {source: as_given}\n")
    (refused,) = run(raw, tmp_path / "store").refused
    assert re.search(r"b_left\.nii\.gz: the mask has values from 0 to 70000; label ids are 0 to 65535", refused.reason)


def splits_of(store: Path) -> dict[str, str]:
    return {record.key.subject: record.split for record in Store.open(store).volumes}


def test_a_growing_cohort_keeps_every_split_also_of_a_subject_that_was_refused(
    raw: Path, tmp_path: Path, write_series: Callable[..., Path]
) -> None:
    spoil_mask(raw, with_unknown_label, "c")
    refused_in = run(raw, tmp_path / "store")
    assert [one.key.subject for one in refused_in.refused] == ["c"]
    index = json.loads((tmp_path / "store" / "store.json").read_text())
    assert list(index["reserved_splits"]) == ["c"]
    before = splits_of(tmp_path / "store") | index["reserved_splits"]
    for number, more in enumerate(("d", "ef", "ghijk")):
        for subject in more:
            write_series(raw / "dicom" / subject / "left", change=image_of(subject))
            shutil.copy(raw / "masks" / "a_left.nii.gz", raw / "masks" / f"{subject}_left.nii.gz")
        if number == 1:
            spoil_mask(raw, lambda array, affine: (np.where(array == 77, 1, array).astype(np.uint8), affine), "c")
        summary = run(raw, tmp_path / "store")
        after = splits_of(tmp_path / "store")
        assert before.items() - {("c", before["c"])} <= after.items()
        before = after | {"c": before["c"]}
    assert after == before
    assert "reserved_splits" not in json.loads((tmp_path / "store" / "store.json").read_text())
    # 5.5, 1.87 and 3.63 of 11 subjects.
    assert summary.splits == {"train": 5, "val": 2, "test": 4}


def test_a_changed_file_moves_subjects_and_says_so(raw: Path, tmp_path: Path) -> None:
    start, _, _ = DATASET.partition("split:")
    (raw / "dataset.yaml").write_text(f"{start}split: {{file: splits.json}}\n")
    (raw / "splits.json").write_text('{"train": ["a"], "val": ["b"], "test": ["c"]}')
    assert run(raw, tmp_path / "store").notes == ()
    (raw / "splits.json").write_text('{"train": ["c"], "val": ["b"], "test": ["a"]}')
    (note,) = run(raw, tmp_path / "store").notes
    assert note.startswith("split.file moves stored subjects: a (train -> test), c (test -> train);")
    assert splits_of(tmp_path / "store") == {"a": "test", "b": "val", "c": "train"}


def test_the_modality_is_that_given_else_that_of_all_series_else_not_known(
    raw: Path, tmp_path: Path, edit: Callable[..., None]
) -> None:
    out = tmp_path / "store"
    run(raw, out)
    assert (Store.open(out).given_modality, Store.open(out).modality) == ("", "MRI")
    text = (raw / "dataset.yaml").read_text()
    (raw / "dataset.yaml").write_text(text.replace("anatomy: knee", "anatomy: knee, modality: 3 T MRI"))
    assert all(outcome.result == "unchanged" for outcome in run(raw, out).outcomes)
    assert Store.open(out).modality == "3 T MRI"
    # An index that is lost has it from the dataset file again.
    (out / "store.json").unlink()
    run(raw, out)
    assert Store.open(out).modality == "3 T MRI"
    (raw / "dataset.yaml").write_text(text)
    for path in (raw / "dicom" / "b" / "left").iterdir():
        edit(path, Modality="CT")
    run(raw, out)
    assert Store.open(out).modality == ""
