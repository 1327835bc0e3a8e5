"""The two metadata files, exactly as other tools of this field read them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.store.metadata import extract_meta, load_meta, metadata_of
from sam2ft.data.store.store import Store
from sam2ft.data.store.writer import PreparedVolume

Prepared = Callable[..., PreparedVolume]
Writing = Callable[..., Store]


def test_one_entry_per_subject_with_a_representative_slice(store: Store) -> None:
    meta = json.loads(store.metadata_for_ml.read_text())
    assert meta["a"] == {
        "subject_id": "a",
        "dataset": "toy",
        "anatomy": "knee",
        "num_slices": 4,
        "mask_labels": [1, 5],
        "split": "train",
        "pixel_spacing": [0.5, 0.5],
        "slice_thickness": 4.0,
        "slice_spacing": 3.0,
        "rows": 24,
        "columns": 32,
    }


def test_one_entry_per_slice_counted_from_001(store: Store) -> None:
    meta = json.loads(store.metadata_for_stats.read_text())
    assert meta["a"]["subject_id"] == "a"
    assert list(meta["a"]["slices"]) == ["001", "002", "003", "004"]
    assert meta["a"]["slices"]["003"] == {
        "pixel_spacing": [0.5, 0.5],
        "slice_thickness": 4.0,
        "slice_spacing": 3.0,
        "rows": 24,
        "columns": 32,
        "TE": 12.0,
    }


def test_a_subject_with_two_volumes_has_an_entry_for_each(
    tmp_path: Path, prepared: Prepared, write_store: Writing
) -> None:
    store = write_store(tmp_path / "s", [prepared("a", "left"), prepared("a", "right"), prepared("b", "left")])
    meta = load_meta(store.path, representative_slice=True)
    assert list(meta) == ["a/left", "a/right", "b"]
    assert meta["a/left"]["subject_id"] == "a"


def test_what_a_dataset_keeps_of_a_subject_is_in_its_entry(
    tmp_path: Path, prepared: Prepared, write_store: Writing
) -> None:
    store = write_store(tmp_path / "s", [prepared("a", subject_fields={"age": "053Y"})])
    assert load_meta(store.path, True)["a"]["age"] == "053Y"


def test_a_subject_is_found_by_its_whole_name() -> None:
    meta = {"OAI_123": {"rows": 123}, "OAI_12": {"rows": 12}}
    assert extract_meta(meta, "OAI_12", ["rows"]) == {"rows": 12}
    with pytest.raises(DataError, match="no subject 'OAI_1' among 2"):
        extract_meta(meta, "OAI_1", ["rows"])


def test_slices_of_a_subject_whose_name_begins_anothers_are_only_its_own() -> None:
    meta = {"OAI_123": {"slices": {"001": {"rows": 123}}}, "OAI_12": {"slices": {"002": {"rows": 12}}}}
    assert extract_meta(meta, "OAI_12", ["rows"], slice_id="002") == {"rows": 12}
    with pytest.raises(DataError, match="no slice '001'; it has 1"):
        extract_meta(meta, "OAI_12", ["rows"], slice_id="001")
    with pytest.raises(DataError, match="slice by slice; name a slice"):
        extract_meta(meta, "OAI_12", ["rows"])


def test_a_missing_field_is_named_with_those_there_are() -> None:
    with pytest.raises(DataError, match="metadata of a: no field TE, TR; it has rows"):
        extract_meta({"a": {"rows": 1}}, "a", ["rows", "TE", "TR"])


def test_the_right_one_of_the_two_files_is_taken(store: Store) -> None:
    assert "slices" in load_meta(store.path, representative_slice=False)["a"]
    assert "slices" in load_meta(store.metadata_for_ml, representative_slice=False)["a"]
    assert "rows" in load_meta(store.metadata_for_stats, representative_slice=True)["a"]


def test_the_predecessors_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "volume_metadata_for_ml.json").write_text('{"OAI_3454": {"rows": 384}}')
    (tmp_path / "volume_metadata_for_stats.json").write_text('{"OAI_3454": {"slices": {"007": {"rows": 384}}}}')
    assert load_meta(tmp_path, True)["OAI_3454"]["rows"] == 384
    stats = load_meta(tmp_path / "volume_metadata_for_ml.json", False)
    assert extract_meta(stats, "OAI_3454", ["rows"], slice_id="007") == {"rows": 384}


def test_metadata_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a is described by one representative slice"):
        load_meta({"a": {"rows": 1}}, representative_slice=False)
    with pytest.raises(DataError, match="a is described slice by slice"):
        load_meta({"a": {"slices": {}}}, representative_slice=True)
    with pytest.raises(DataError, match=r"no metadata_for_ml\.json or volume_metadata_for_ml\.json"):
        load_meta(tmp_path, representative_slice=True)


def test_metrics_are_handed_each_slices_own_value_or_the_middle_ones(store: Store) -> None:
    fields = {"TE": [10.0, 11.0, 12.0, 13.0], "TR": [1.0, 2.0, None, 4.0], "rows": [24] * 4}
    wanted = ("TE", "TR", "flip_angle")
    assert metadata_of(fields, wanted, 4, representative_slice=False) == {"TE": fields["TE"], "TR": fields["TR"]}
    assert metadata_of(fields, wanted, 4, representative_slice=True) == {"TE": [12.0] * 4}
    # The middle slice is the one that metadata_for_ml.json describes.
    in_file = extract_meta(load_meta(store.path, representative_slice=True), "a", ("rows", "slice_thickness"))
    record = store.split_volumes("train")[0]
    handed = metadata_of(record.dicom, tuple(in_file), 4, representative_slice=True)
    assert handed == {field: [value] * 4 for field, value in in_file.items()}
