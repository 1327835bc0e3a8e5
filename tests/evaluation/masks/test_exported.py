"""Names of integers beside predictions of nnU-Net: where they decide, and where the integers do as ever."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.evaluation.masks.exported import NO_NAMES, names_beside
from sam2ft.evaluation.masks.score import Scored, score_store

LABELS = LabelTable((Label(1, "cartilage"), Label(5, "bone")))
SAME = {"background": 0, "cartilage": 1, "bone": 5}
MOVED = {"background": 0, "cartilage": 1, "bone": 2}
SWAPPED = {"background": 0, "Cartilage": 5, "BONE": 1}


def beside(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "content",
    [
        {"labels": SAME},
        {"labels": {"background": 0, "femur": 1, "tibia": 2}},
        {"labels": {"background": 0, "whole": [1, 2], "bone": 2}},
        {"labels": {"0": "background", "1": "bone"}},
        {"labels": None},
        [1, 2],
        "{ damaged",
        "",
    ],
)
def test_what_says_nothing_else_than_the_store_changes_nothing(tmp_path: Path, content: Any) -> None:
    assert names_beside(beside(tmp_path / "p", content), "toy", LABELS) == NO_NAMES
    assert NO_NAMES.identity() is None


@pytest.mark.parametrize("table", [MOVED, SWAPPED])
def test_another_integer_of_a_known_name_is_told(tmp_path: Path, table: dict[str, int]) -> None:
    names = names_beside(beside(tmp_path / "p", {"labels": table}), "toy", LABELS)
    assert {one.name: one.value for one in names.segments} == {name: one for name, one in table.items() if one}
    assert names.identity() is not None


def test_a_folder_without_it_and_a_table_of_predictions_say_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("subject,volume,path\n")
    assert names_beside(tmp_path, "toy", LABELS) == names_beside(tmp_path / "p.csv", "toy", LABELS) == NO_NAMES


def predictions(store: Store, folder: Path, numbers: dict[int, int]) -> Path:
    """The masks of the test subjects with other integers."""
    table = np.zeros(6, np.uint8)
    for label, number in numbers.items():
        table[label] = number
    for record in store.split_volumes("test"):
        write_nifti(folder / f"{record.key.subject}.nii.gz", table[store.mask(record.key)], record.geometry)
    return folder


def scored(store: Store, folder: Path, out: Path) -> Scored:
    return score_store(folder, store.path, out=out)


@pytest.mark.parametrize(("table", "numbers"), [(MOVED, {1: 1, 5: 2}), (SWAPPED, {1: 5, 5: 1}), (SAME, {1: 1, 5: 5})])
def test_predictions_are_scored_by_the_names_of_their_integers(
    store: Store, tmp_path: Path, table: dict[str, int], numbers: dict[int, int]
) -> None:
    folder = beside(predictions(store, tmp_path / "p", numbers), {"labels": table})
    found = scored(store, folder, tmp_path / "out")
    assert [row["dice"] for row in found.tables["volume"]] == [1.0] * len(found.tables["volume"])
    # Swapped integers would be scored without a word by their numbers: the names are part of the identity.
    if table is SWAPPED:
        (folder / "dataset.json").unlink()
        without = scored(store, folder, tmp_path / "other")
        assert without.run != found.run
        assert max(row["dice"] for row in without.tables["volume"]) < 1
    if table is SAME:
        (folder / "dataset.json").unlink()
        assert scored(store, folder, tmp_path / "other").run == found.run


def test_an_integer_without_a_name_is_refused(store: Store, tmp_path: Path) -> None:
    folder = beside(predictions(store, tmp_path / "p", {1: 1, 5: 3}), {"labels": MOVED})
    with pytest.raises(DataError, match="unknown label id 3"):
        scored(store, folder, tmp_path / "out")
