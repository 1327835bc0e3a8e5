"""The same image under two subjects: refused across splits, named within one, and nothing that is stored is lost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.prepare.leaks import ComparedVolume, leaks
from sam2ft.data.prepare.outcomes import DEFAULTS, PrepareOptions, PrepareSummary
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.likeness import block_means
from sam2ft.data.store.store import Store

SHAPE = (6, 20, 24)
DATASET = """\
dataset: {name: toy}
sources: {images: "img/{subject}_{volume}.nii.gz", masks: "msk/{subject}_{volume}.nii.gz"}
labels: {1: {name: disc}}
split: {file: splits.json}
"""


def scan(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, 2, 2))
    return np.round(500 + 100 * smooth / smooth.std() + rng.normal(size=SHAPE)).astype(np.float32)


def compared(name: str, seed: int, *, is_new: bool = False) -> ComparedVolume:
    image = np.round(scan(seed) * 60).astype(np.uint16)
    subject, _, volume = name.partition("/")
    key = VolumeKey("toy", subject, volume or "v")
    return ComparedVolume(key, is_new, image.shape, block_means(image), f"{name}.nii", lambda: image)


def found(volumes: list[ComparedVolume], **split_of: str) -> list[tuple[str, str, bool]]:
    named = [(one.volume, one.other, one.is_leak) for one in leaks(volumes, split_of)]
    return [
        (str(one.key)[4:].removesuffix("/v"), str(other.key)[4:].removesuffix("/v"), leak) for one, other, leak in named
    ]


def test_the_newer_of_two_volumes_is_the_leak_else_the_one_with_the_later_key() -> None:
    assert found([compared("a", 1), compared("b", 1), compared("c", 2)], a="train", b="test", c="test") == [
        ("b", "a", True)
    ]
    new = [compared("a", 1, is_new=True), compared("b", 1), compared("c", 2)]
    assert found(new, a="train", b="test", c="test") == [("a", "b", True)]


def test_within_a_split_or_a_subject_it_is_only_named() -> None:
    assert found([compared("a", 1), compared("b", 1)], a="train", b="train") == [("b", "a", False)]
    assert found([compared("a/one", 1), compared("a/two", 1)], a="train") == [("a/two", "a/one", False)]
    assert found([compared("a", 1), compared("b", 2)], a="train", b="test") == []
    assert found([]) == []


def test_of_several_the_same_all_but_those_in_the_first_split_are_leaks() -> None:
    same = [compared(name, 1) for name in "abcd"]
    assert found(same, a="train", b="test", c="train", d="test") == [
        ("b", "a", True),
        ("c", "a", False),
        ("d", "a", True),
    ]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Subjects a, b in train, c in test, with a scan each."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number, subject in enumerate("abc"):
        write(folder, subject, scan(number))
    (folder / "dataset.yaml").write_text(DATASET)
    put(folder, train="ab", test="c")
    return folder


def write(raw: Path, subject: str, image: Any, volume: str = "v") -> None:
    geometry = Geometry.axis_aligned(image.shape, (3.0, 1.0, 1.0))
    mask = np.zeros(image.shape, dtype=np.uint8)
    mask[1:, 2:5, 2:5] = 1
    for folder, array in (("img", image), ("msk", mask)):
        (raw / folder).mkdir(exist_ok=True)
        write_nifti(raw / folder / f"{subject}_{volume}.nii.gz", array, geometry)


def put(raw: Path, **subjects: str) -> None:
    (raw / "splits.json").write_text(json.dumps({split: list(names) for split, names in subjects.items()}))


def run(raw: Path, options: PrepareOptions = DEFAULTS) -> PrepareSummary:
    return prepare_dataset(load_dataset(raw / "dataset.yaml"), raw, raw / "store", lambda *_: None, options)


def subjects(raw: Path) -> list[str]:
    return [record.key.subject for record in Store.open(raw / "store").volumes]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "copied": lambda image: image,
    "flipped": lambda image: image[:, :, ::-1],
    "upside down": lambda image: image[::-1, ::-1],
    "rescaled": lambda image: 2.5 * image + 40,
    "in 12 bit": lambda image: np.round(3.3 * image).astype(np.int16),
    "inverted and flipped": lambda image: 1000 - image[:, ::-1],
    "other axes": lambda image: image.transpose(0, 2, 1)[:, ::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_in_another_split_is_refused_and_the_others_are_prepared(raw: Path, change: str) -> None:
    write(raw, "d", CHANGES[change](scan(0)))
    put(raw, train="ab", test="cd")
    summary = run(raw)
    (refused,) = summary.refused
    assert refused.key.subject == "d"
    assert refused.reason.startswith(f"{raw}/img/d_v.nii.gz: is the image of toy/a/v ")
    assert "d is in test, a in train" in refused.reason
    assert "\n" not in refused.reason
    assert subjects(raw) == ["a", "b", "c"]
    before = {path.name: path.read_bytes() for path in (raw / "store").rglob("*") if path.is_file()}
    assert [one.key.subject for one in run(raw).refused] == ["d"]
    assert {path.name: path.read_bytes() for path in (raw / "store").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_in_the_same_split_is_prepared_and_named(raw: Path, change: str) -> None:
    write(raw, "d", CHANGES[change](scan(0)))
    put(raw, train="abd", test="c")
    summary = run(raw)
    assert not summary.refused
    assert summary.notes == ("the same image, within one split or subject: toy/d/v and toy/a/v",)
    assert subjects(raw) == ["a", "b", "c", "d"]


def test_a_second_reading_of_one_subject_is_named(raw: Path) -> None:
    write(raw, "c", scan(2), volume="w")
    assert run(raw).notes == ("the same image, within one split or subject: toy/c/w and toy/c/v",)


def test_what_was_stored_before_stays_and_the_new_one_is_refused(raw: Path) -> None:
    run(raw)
    write(raw, "Z", scan(2)[::-1])  # before c in the order of keys
    put(raw, train="abZ", test="c")
    assert [one.key.subject for one in run(raw).refused] == ["Z"]
    assert subjects(raw) == ["a", "b", "c"]
    # The way out that the message names.
    put(raw, train="ab", test="cZ")
    assert not run(raw).refused
    assert subjects(raw) == ["Z", "a", "b", "c"]


def test_a_file_that_becomes_a_copy_is_refused_and_its_stored_state_stays(raw: Path) -> None:
    run(raw)
    before = Store.open(raw / "store").record(VolumeKey("toy", "a", "v")).digest
    write(raw, "a", scan(2))
    summary = run(raw)
    assert [one.key.subject for one in summary.refused] == ["a"]
    assert summary.kept == {VolumeKey("toy", "a", "v")}
    assert Store.open(raw / "store").record(VolumeKey("toy", "a", "v")).digest == before


def test_a_stored_leak_is_refused_by_name_and_nothing_is_lost(raw: Path) -> None:
    write(raw, "d", scan(0))
    put(raw, train="abd", test="c")
    run(raw)
    put(raw, train="ab", test="cd")
    summary = run(raw)
    assert [one.key.subject for one in summary.refused] == ["d"]
    assert subjects(raw) == ["a", "b", "c", "d"]


def test_a_renamed_subject_is_a_leak_until_the_old_name_is_pruned(raw: Path) -> None:
    run(raw)
    for folder in ("img", "msk"):
        (raw / folder / "a_v.nii.gz").rename(raw / folder / "d_v.nii.gz")
    put(raw, train="ab", test="cd")
    assert [one.key.subject for one in run(raw).refused] == ["d"]
    assert not run(raw, PrepareOptions(prune=lambda _: True)).refused
    assert subjects(raw) == ["b", "c", "d"]


def test_a_store_of_an_earlier_version_is_compared_too(raw: Path) -> None:
    run(raw)
    for path in (raw / "store" / "volumes").glob("*.json"):
        record = read_json(path)
        del record["block_means"]
        path.write_text(json.dumps(record))
    write(raw, "d", scan(0))
    put(raw, train="ab", test="cd")
    assert [one.key.subject for one in run(raw).refused] == ["d"]


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x" * path.stat().st_size)])
def test_a_stored_image_that_was_damaged_by_hand_stops_nothing(raw: Path, damage: Callable[[Path], Any]) -> None:
    run(raw)
    (raw / "img" / "a_v.nii.gz").unlink()
    damage(raw / "store" / "volumes" / "a__v.image.npy")
    write(raw, "d", scan(0))
    put(raw, train="ab", test="cd")
    assert not run(raw).refused
    assert subjects(raw) == ["a", "b", "c", "d"]
