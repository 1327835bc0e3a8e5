"""Labels of masks made elsewhere: names of segments without a label table, and ids of instances."""

from pathlib import Path

import nrrd
import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.evaluation.masks.score import score_pair, score_store

GEOMETRY = Geometry.axis_aligned((4, 12, 14), (3.0, 0.5, 0.5))


def two() -> np.ndarray:
    mask = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    mask[:, 2:10, 2:6], mask[:, 2:10, 8:12] = 1, 2
    return mask


def segments(path: Path, mask: np.ndarray, *named: tuple[int, str, str]) -> Path:
    """A file of 3D Slicer whose segments have a value, a name and an ID."""
    header = {"space": "RAS", "space directions": np.diag([0.5, 0.5, 3.0])}
    for number, (value, name, identity) in enumerate(named):
        header |= {f"Segment{number}_Name": name, f"Segment{number}_LabelValue": str(value)}
        header |= {f"Segment{number}_ID": identity}
    nrrd.write(str(path), mask.transpose(2, 1, 0), header)
    return path


REFERENCE = ((1, "Femoral Cartilage", "Segment_1"), (2, "Tibia", "tib"))


@pytest.mark.parametrize(
    "other",
    [
        ((1, "tibia", ""), (2, "femoral cartilage", "")),
        ((1, "TIBIA", ""), (2, "femoral_cartilage", "")),
        ((1, "Tibia ", ""), (2, "Femoral-Cartilage", "")),
        ((1, "shin", "Tibia"), (2, "cartilage", "femoral_cartilage")),
        ((1, "Tib", ""), (2, "x", "")),
        ((1, "shin", "TIB"), (2, "x", "")),
    ],
)
def test_a_name_with_two_values_is_refused_whatever_its_spelling(tmp_path: Path, other):
    reference = segments(tmp_path / "a.seg.nrrd", two(), *REFERENCE)
    prediction = segments(tmp_path / "b.seg.nrrd", two(), *other)
    with pytest.raises(DataError, match=r"segment '.*' has value . in the first and . in the second.*--labels"):
        score_pair(reference, prediction, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("other", "notes"),
    [
        (((1, "femoral_cartilage", "Segment_2"), (2, "TIBIA", "Segment_1")), []),
        (((2, "tibia", "Segment_1"), (1, "Femoral-cartilage", "Segment_2")), []),
        (((1, "Femoral Cartilage", "tib"), (2, "Tibia", "femur")), []),
        (
            ((1, "bone", "Segment_2"), (2, "2", "")),
            ["1 is 'Femoral Cartilage' and 'bone', 2 is 'Tibia' and '2'"],
        ),
        (((1, "2", ""), (2, "1", "")), ["1 is 'Femoral Cartilage' and '2', 2 is 'Tibia' and '1'"]),
        ((), []),
    ],
)
def test_without_a_label_table_the_values_decide(tmp_path: Path, other, notes):
    reference = segments(tmp_path / "a.seg.nrrd", two(), *REFERENCE)
    prediction = segments(tmp_path / "b.seg.nrrd", two(), *other)
    found = score_pair(reference, prediction, out=tmp_path / "out")
    assert {row["dice"] for row in found.tables["volume"]} == {1.0}
    written = read_json(tmp_path / "out" / "_SUCCESS")["notes"]
    expected = [f"files/a/b: segments of one value have two names ({one}); the values decide" for one in notes]
    assert written == expected


def store_of(folder: Path, labels: LabelTable, mask: np.ndarray, ids: np.ndarray | None) -> Store:
    writer = StoreWriter(folder, "toy", "spine", labels, split_seed=1)
    key = VolumeKey("toy", "a", "v1")
    slices = {"pixel_spacing": [[0.5, 0.5]] * 4, "slice_spacing": [3.0] * 4, "rows": [12] * 4, "columns": [14] * 4}
    writer.write(
        PreparedVolume(key, GEOMETRY, two().astype(np.uint16), mask, {}, (0, 1), slices, {}, instances_zyx=ids), "test"
    )
    writer.finish([key], {"a": "test"})
    return Store.open(folder)


@pytest.mark.parametrize("ids", [(20, 21), (1, 300), (7, 5), (2, 2)])
@pytest.mark.parametrize("only", [1, 5])
def test_ids_of_instances_are_the_only_label_of_a_store_with_given_ones(tmp_path: Path, ids, only: int):
    given = np.array([0, *ids], np.uint16)[two()]
    mask = np.where(two() > 0, only, 0).astype(np.uint8)
    store = store_of(tmp_path / "store", LabelTable((Label(only, "vertebra"),)), mask, given)
    write_nifti(tmp_path / "masks" / "a.nii.gz", given, GEOMETRY)
    found = score_store(tmp_path / "masks", store.path, out=tmp_path / "out")
    assert [row["dice"] for row in found.tables["volume"]] == [1.0]
    foreign = len({*ids} - {only})
    note = f"toy/a/v1: {foreign} ids that are no label are taken as instances of the only label, {only} vertebra"
    assert read_json(tmp_path / "out" / "_SUCCESS")["notes"] == [note]


def test_ids_of_instances_of_several_labels_are_refused_with_a_way_out(tmp_path: Path):
    table = LabelTable((Label(1, "vertebra"), Label(2, "disc")))
    for number, ids in enumerate(((20, 21), (1, 300), (7, 2))):
        given = np.array([0, *ids], np.uint16)[two()]
        store = store_of(tmp_path / f"store{number}", table, two(), given)
        write_nifti(tmp_path / "masks" / "a.nii.gz", given, GEOMETRY)
        with pytest.raises(DataError, match=r"a\.nii\.gz: unknown label id .*write the id of the label for every inst"):
            score_store(tmp_path / "masks", store.path, out=tmp_path / "out")
    # Where instances are components, an unknown id is no instance.
    store = store_of(tmp_path / "plain", LabelTable((Label(1, "vertebra"),)), (two() > 0).astype(np.uint8), None)
    with pytest.raises(DataError, match=r"a\.nii\.gz: unknown label id 2 \(128 voxels\), 7"):
        score_store(tmp_path / "masks", store.path, out=tmp_path / "out")
