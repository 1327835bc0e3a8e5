"""What metrics are told of slices: from the store, or from a file that must fit the image."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.store.slice_metadata import MetadataSource, disagreement_summary, distance_disagreements
from sam2ft.data.store.store import Store, VolumeRecord

GRID = {"pixel_spacing": [0.5, 0.5], "slice_thickness": 4.0, "slice_spacing": 3.0, "rows": 24, "columns": 32}


@pytest.fixture
def record(store: Store) -> VolumeRecord:
    """Subject a: 4 slices of 24 x 32 pixels of 0.5 mm, 3 mm apart by their positions."""
    return store.volumes[0]


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., MetadataSource]:
    """source(entries, wanted, representative_slice): of a file with these entries."""

    def of(entries: Any, wanted: tuple[str, ...] = ("TE",), representative_slice: bool = False) -> MetadataSource:
        (tmp_path / "m.json").write_text(json.dumps(entries))
        return MetadataSource.of(wanted, representative_slice, tmp_path / "m.json")

    return of


def by_slice(**changes: Any) -> dict[str, Any]:
    return {"slices": {f"{i:03d}": GRID | {"TE": 100.0 + i} | changes for i in range(1, 5)}}


def test_without_a_file_the_stores_own_are_handed_on(record: VolumeRecord) -> None:
    own = MetadataSource(("TE", "flip_angle"), representative_slice=False).describe(record)
    assert own.dicom == {"TE": [10, 11, 12, 13]}
    assert own.geometry == record.geometry


def test_a_file_overrides_slice_by_slice_or_by_the_middle_one(record: VolumeRecord, source: Any) -> None:
    assert source({"a": by_slice()}).describe(record).dicom == {"TE": [101, 102, 103, 104]}
    assert source({"a/image": by_slice()}).describe(record).dicom == {"TE": [101, 102, 103, 104]}
    # The middle of four is the third, as in metadata_for_ml.json.
    assert source({"a": by_slice()}, representative_slice=True).describe(record).dicom == {"TE": [103] * 4}
    assert source({"a": {"TE": 7.0}}, representative_slice=True).describe(record).dicom == {"TE": [7] * 4}


def test_both_files_of_a_store_describe_it_as_it_does_itself(store: Store, record: VolumeRecord) -> None:
    wanted = ("pixel_spacing", "slice_spacing", "rows")
    for file, representative in ((store.metadata_for_stats, False), (store.metadata_for_ml, True)):
        found = MetadataSource.of(wanted, representative, file).describe(record)
        assert found.dicom == MetadataSource(wanted, representative).describe(record).dicom
        assert found.geometry == record.geometry


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"ab": by_slice()}, "no subject 'a' (nor 'a/image') among 1"),
        ({"a": {"slices": {k: v for k, v in by_slice()["slices"].items() if k != "003"}}}, "no slice '003'"),
        ({"a": {"slices": by_slice()["slices"] | {"005": {"TE": 1}}}}, "a has 5 slices, the image 4"),
        ({"a": {"slices": by_slice()["slices"] | {"002": GRID}}}, "metadata of a, slice 002: no field TE"),
        ({"a": {"TE": 7.0}}, "described by one representative slice"),
        ({"a": by_slice(rows=32, columns=24)}, "a has 32 rows x 24 columns, the image 24 x 32; they are swapped"),
        ({"a": by_slice(rows=48)}, "a has 48 rows x 32 columns, the image 24 x 32"),
        ({"a": by_slice(pixel_spacing=[0.0, 0.5])}, "a has pixel_spacing [0.0, 0.5]; allowed: two lengths > 0"),
        ({"a": by_slice(pixel_spacing=[0.6, 0.5])}, "a has pixel_spacing 0.6 x 0.5 mm (rows x columns), the image 0.5"),
    ],
)  # fmt: skip
def test_what_does_not_describe_the_image_is_refused_by_name(
    record: VolumeRecord, source: Any, entries: Any, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        source(entries).describe(record)
    assert "m.json" in str(caught.value)
    assert message in str(caught.value)


def test_swapped_spacings_are_called_so(record: VolumeRecord, source: Any) -> None:
    uneven = replace(record, geometry=Geometry.axis_aligned((4, 24, 32), (3.0, 0.36, 0.5)))
    with pytest.raises(
        DataError, match=r"0\.5 x 0\.36 mm \(rows x columns\), the image 0\.36 x 0\.5 mm; they are swap"
    ):
        source({"a": by_slice(pixel_spacing=[0.5, 0.36])}).describe(uneven)


def test_a_file_that_is_no_mapping_is_refused(source: Any) -> None:
    with pytest.raises(DataError, match=r"m\.json: expected a mapping subject -> fields"):
        source([1, 2])


def test_the_distance_of_slices_is_that_of_positions_then_spacing_then_thickness(
    record: VolumeRecord, source: Any
) -> None:
    given = source({"a": by_slice(slice_spacing=3.5, slice_thickness=5.0)})
    found = given.describe(record)
    assert (found.geometry.spacing_zyx_mm[0], found.geometry.dz_source) == (3.0, "positions")
    assert found.disagreements == (
        "slice_spacing gives 3.5 mm, positions 3 mm",
        "slice_thickness gives 5 mm, positions 3 mm",
    )
    thick = replace(record, geometry=replace(record.geometry, dz_source="slice_thickness"))
    found = given.describe(thick)
    assert (found.geometry.spacing_zyx_mm, found.geometry.dz_source) == ((3.5, 0.5, 0.5), "slice_spacing")
    assert found.geometry.affine[2, 2] == 3.5
    only = source({"a": {"TE": 1.0, "slice_thickness": 5.0}}, representative_slice=True)
    assert only.describe(thick).geometry.spacing_zyx_mm[0] == 5.0


def test_disagreements_below_one_percent_are_none_and_many_are_one_sentence() -> None:
    grid = Geometry.axis_aligned((2, 4, 4), (3.0, 0.5, 0.5))
    assert distance_disagreements(grid, {"slice_thickness": [3.02, 2.98], "spacing_between_slices": [None, 3.0]}) == ()
    of_volume = {
        name: distance_disagreements(grid, {"slice_thickness": [thickness] * 2, "spacing_between_slices": [3.3] * 2})
        for name, thickness in (("a", 4.0), ("b", 3.0), ("c", 2.0))
    }
    assert disagreement_summary(of_volume) == [
        "spacing_between_slices gives 3.3 mm, positions 3 mm (used) in a and 2 more of 3 volumes",
        "slice_thickness gives 4 mm, positions 3 mm (used) in a and 1 more of 3 volumes",
    ]
