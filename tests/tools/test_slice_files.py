"""Slices in files of their own, all in one folder, become volumes that prepare reads."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2ft.cli.prepare import prepare
from sam2ft.core.errors import DataError, IncompleteError, UserError
from sam2ft.data.store.store import Store
from sam2ft.tools.slice_files import main, slices_of

ROWS, COLUMNS = 20, 30
DATASET = "dataset: {name: knees}\nsources: {images: out/cases.csv}\nlabels: {1: {name: bone}, 2: {name: cartilage}}\n"


def image(subject: int, index: int) -> Any:
    return np.random.default_rng(10 * subject + index).integers(0, 2000, (ROWS, COLUMNS)).astype(np.int16)


def mask(index: int) -> Any:
    found = np.zeros((ROWS, COLUMNS), np.uint8)
    found[4:10, 5 + index : 15] = 1
    found[10:12, 5 + index : 15] = 2
    return found


@pytest.fixture
def slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three subjects of 12 slices, numbered from 0, with the predecessor's metadata."""
    monkeypatch.chdir(tmp_path)
    entries = {}
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for number, subject in enumerate(("OAI_3454", "OAI-17-b", "9")):
        for index in range(12):
            np.save(f"images/{subject}-{index:03d}.npy", image(number, index))
            np.save(f"masks/{subject}-{index:03d}.npy", mask(index % 3))
        fields = {"num_slices": 12, "rows": ROWS, "columns": COLUMNS, "pixel_spacing": [0.4, 0.5], "slice_spacing": 3.0}
        entries[subject] = {**fields, "split": ("train", "val", "test")[number]}
    Path("metadata_for_ml.json").write_text(json.dumps(entries))
    return tmp_path


def run(*more: str, metadata: bool = True, images: str = "images/{subject}-{slice}.npy") -> None:
    given = ["--images", images, "--masks", "masks/{subject}-{slice}.npy", "--out", "out"]
    main([*given, *(("--metadata", "metadata_for_ml.json") if metadata else ()), *more])


def test_a_store_of_them_has_the_voxels_distances_and_splits(slices, capsys):
    run()
    assert capsys.readouterr().out == "sources: {images: out/cases.csv}\n"
    Path("knees.yaml").write_text(DATASET)
    prepare(Path("knees.yaml"), Path("store"))
    store = Store.open(Path("store"))
    assert {record.key.subject: record.split for record in store.volumes} == {
        "OAI_3454": "train",
        "OAI-17-b": "val",
        "9": "test",
    }
    for record in store.volumes:
        assert record.geometry.spacing_zyx_mm == pytest.approx((3.0, 0.4, 0.5))
        assert not record.geometry.oriented
        assert np.array_equal(store.mask(record.key), np.stack([mask(index % 3) for index in range(12)]))
    again = {path: path.read_bytes() for path in Path("out").rglob("*.nii.gz")}
    run()
    assert {path: path.read_bytes() for path in Path("out").rglob("*.nii.gz")} == again


def test_pictures_one_hot_masks_and_spacing_by_hand_give_the_same_voxels(slices, capsys):
    run()
    first = {path.name: path.read_bytes() for path in Path("out").rglob("*.nii.gz")}
    for path in Path("masks").iterdir():
        np.save(path, np.stack([np.load(path) == 1, np.load(path) == 2], axis=-1))
    for path in list(Path("images").iterdir()):
        Image.fromarray(np.load(path).astype(np.uint16)).save(path.with_suffix(".png"))
    run("--spacing-mm", "3", "0.4", "0.5", metadata=False, images="images/{subject}-{slice}.png")
    assert Path("out/cases.csv").read_text().startswith("subject,image,mask\n")
    for path in Path("out/masks").iterdir():
        assert path.read_bytes() == first[path.name]


def spoilt(what: str) -> str:
    """Spoil the subject 9; what its refusal says."""
    if what == "missing":
        Path("images/9-004.npy").unlink()
        Path("masks/9-004.npy").unlink()
        return "9-000.npy: is followed by no slice 4"
    if what == "no mask":
        Path("masks/9-004.npy").unlink()
        return "9: image or mask lacks slice 4"
    if what == "size":
        np.save("images/9-004.npy", np.zeros((3, 4), np.int16))
        return r"9-004.npy: is \(3, 4\) of int16, the first slice \(20, 30\)"
    if what == "damaged":
        Path("images/9-004.npy").write_bytes(Path("images/9-004.npy").read_bytes()[:300])
        return "9-004.npy: not a readable numpy array"
    if what == "declares":
        with Path("images/9-004.npy").open("wb") as stream:
            header = {"descr": "<f8", "fortran_order": False, "shape": (3_000_000, 3_000_000)}
            np.lib.format.write_array_header_1_0(stream, header)
        return "9-004.npy: not a readable numpy array"
    if what == "pickle":
        np.save("images/9-004.npy", np.array({"a": 1}), allow_pickle=True)
        return "9-004.npy: not a readable numpy array"
    if what == "fractions":
        np.save("masks/9-000.npy", np.load("masks/9-000.npy") * 0.5)
        for index in range(1, 12):
            np.save(f"masks/9-{index:03d}.npy", np.load(f"masks/9-{index:03d}.npy") * 0.5)
        return "9-000.npy: holds 0 to 1; allowed: whole numbers"
    entries = json.loads(Path("metadata_for_ml.json").read_text())
    entries["9"]["num_slices"] = 13
    Path("metadata_for_ml.json").write_text(json.dumps(entries))
    return r"9: image has \(12, 20, 30\) slices, rows and columns, metadata \(13, 20, 30\)"


@pytest.mark.parametrize(
    "what", ["missing", "no mask", "size", "damaged", "declares", "pickle", "fractions", "metadata"]
)
def test_one_spoilt_subject_is_refused_and_the_others_are_written(slices, capsys, what):
    expected = spoilt(what)
    with pytest.raises(IncompleteError, match="1 refused, the others are in out"):
        run()
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(expected, line), line
    assert [line.split(",")[0] for line in Path("out/cases.csv").read_text().splitlines()] == [
        "subject",
        "OAI-17-b",
        "OAI_3454",
    ]
    assert not Path("out/images/9.nii.gz").exists()


def test_patterns_that_cannot_be_used_are_refused(slices):
    for pattern in ("images/{subject}.npy", "{subject}/{slice}.npy", "images/{subject}-{slice}-{slice}.npy"):
        with pytest.raises(UserError, match=r"allowed: one \{subject\} and one \{slice\}"):
            slices_of(pattern)
    with pytest.raises(DataError, match="no file matches in nowhere, which is no folder"):
        slices_of("nowhere/{subject}-{slice}.npy")
    np.save("images/9-04.npy", image(0, 0))
    with pytest.raises(DataError, match=r"9-04\.npy: is slice 4 of 9 as images/9-004\.npy is"):
        slices_of("images/{subject}-{slice}.npy")


@pytest.mark.parametrize("edges", [[0.4, -0.5], [0.4], "wide", [0.4, float("inf")]])
def test_distances_that_are_none_are_refused(slices, edges):
    entries = json.loads(Path("metadata_for_ml.json").read_text())
    entries["9"]["pixel_spacing"] = edges
    Path("metadata_for_ml.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match=r"metadata_for_ml\.json: 9: "):
        run()


def test_subjects_of_which_nothing_gives_the_distances_are_refused(slices, capsys):
    with pytest.raises(IncompleteError, match="3 refused"):
        run(metadata=False)
    assert "9: nothing gives the distances of its voxels; give --spacing-mm, or --metadata" in capsys.readouterr().err
    assert not Path("out").exists()
