"""The unit of a map: by the key, its sidecar or its name; times that no tissue has are named or refused."""

from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.map_units import implausible, in_ms, sidecar_of, unit_of
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import write_nifti

GRID = Geometry.axis_aligned((2, 3, 4), (3.0, 0.5, 0.5))


def map_file(path: Path, value: float, sidecar: str | None = None) -> Path:
    values = np.full(GRID.shape_zyx, value, dtype=np.float32)
    values[0, 0, 0] = 0  # background
    write_nifti(path, values, GRID)
    if sidecar is not None:
        sidecar_of(path).write_text(sidecar)
    return path


def median(path: Path, **source: object) -> float:
    made = read_map(path, "t2", MapSource(file="{subject}", **source), GRID)
    return float(np.nanmedian(made.values_zyx))


@pytest.mark.parametrize(
    ("name", "value", "sidecar", "source"),
    [
        ("a.nii.gz", 40, None, {}),
        ("a.nii.gz", 40, '{"EchoTime": 1}', {}),
        ("a.nii.gz", 40, '{"Units": "ms"}', {}),
        ("a.nii.gz", 0.04, '{"Units": "s"}', {}),
        ("a.nii.gz", 0.04, '{"Units": "Seconds"}', {}),
        ("sub-1_T2map.nii.gz", 0.04, None, {}),
        ("sub-1_T2map.nii.gz", 40, '{"Units": "ms"}', {}),
        ("sub-1_R2map.nii.gz", 25, None, {}),
        ("sub-1_R2starmap.nii.gz", 25, None, {}),
        ("sub-1_T2map.NII.GZ", 0.04, None, {}),
        ("a.nii.gz", 0.04, None, {"unit": "s"}),
        ("a.nii.gz", 25, None, {"unit": "1/s"}),
        ("a.nii.gz", 25, '{"Units": "1/s"}', {}),
        ("sub-1_T2map.nii.gz", 40, None, {"unit": "ms"}),
        ("a.nii.gz", 40, "not json", {"unit": "ms"}),
        ("a.nii.gz", 40, '{"Units": "s"}', {"unit": "ms"}),
    ],
)
def test_40_ms_are_40_ms_in_any_unit(
    tmp_path: Path, name: str, value: float, sidecar: str | None, source: dict[str, str]
) -> None:
    assert median(map_file(tmp_path / name, value, sidecar), **source) == pytest.approx(40, rel=1e-6)


def test_the_record_and_the_notes_say_which_unit_was_used(tmp_path: Path) -> None:
    path = map_file(tmp_path / "a_T2map.nii.gz", 0.04)
    made = read_map(path, "t2", MapSource(), GRID)
    assert made.facts == {"source": "file", "unit": "s", "resampled": False}
    assert made.notes == ("map t2 is in s, as the suffix of its name says (BIDS)",)
    sidecar_of(path).write_text('{"Units": "ms"}')
    assert unit_of(path, "t2", MapSource(file="{subject}", unit="s")) == (
        "s",
        ("map t2: unit s is used, though a_T2map.json says ms",),
    )


@pytest.mark.parametrize("sidecar", ['{"Units": "arbitrary"}', '{"Units": 3}', "{", '{"Units": ["s"]}'])
def test_a_sidecar_that_does_not_tell_is_refused_with_the_key(tmp_path: Path, sidecar: str) -> None:
    with pytest.raises(DataError, match=r"a\.json: .*give sources\.maps\.t2\.unit \(ms, s or 1/s\)"):
        median(map_file(tmp_path / "a.nii.gz", 40, sidecar))


@pytest.mark.parametrize(("value", "source"), [(0.04, {}), (40, {"unit": "s"}), (9000, {}), (1e-5, {"unit": "1/s"})])
def test_times_that_no_tissue_has_are_refused_unless_the_unit_is_given(
    tmp_path: Path, value: float, source: dict[str, str]
) -> None:
    path = map_file(tmp_path / "a.nii.gz", value)
    if source:
        made = read_map(path, "t2", MapSource(file="{subject}", **source), GRID)
        assert "median of its positive values is" in made.notes[0]
        return
    with pytest.raises(
        DataError, match=r"a\.nii\.gz: map t2: the median.*allowed: 0\.5 to 5000 ms.*sources\.maps\.t2\.unit"
    ):
        median(path)
    assert median(path, unit="ms") == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "sidecar", "why"),
    [
        ("a_T2map.nii.gz", None, "in s, as the suffix of its name says"),
        ("a_R2starmap.nii.gz", None, "in 1/s, as the suffix of its name says"),
        ("a.nii.gz", '{"Units": "s"}', "in s, as a.json says"),
    ],
)
def test_a_refused_map_says_where_its_unit_comes_from(tmp_path: Path, name: str, sidecar: str | None, why: str) -> None:
    path = map_file(tmp_path / name, 40 if "R2" not in name else 0.04, sidecar)
    with pytest.raises(DataError, match=rf"the median .*map t2 is {why}.*give sources\.maps\.t2\.unit"):
        median(path)


@pytest.mark.parametrize(
    ("name", "value", "noted"),
    [
        ("t2", 4, True),
        ("t2", 6, False),
        ("t2", 299, False),
        ("t2", 310, True),
        ("t1rho", 310, False),
        ("t1rho", 510, True),
    ],
)
def test_unusual_times_are_noted(name: str, value: float, noted: bool) -> None:
    values = np.array([np.nan, 0, -5, value, value, value])
    assert len(implausible(values, name, told=False, way_out="")) == noted


def test_rates_that_are_not_positive_have_no_time() -> None:
    assert in_ms(np.array([25.0, 0.0, -1.0, np.nan, 50.0]), "1/s").tolist()[::4] == [40, 20]
    assert np.isnan(in_ms(np.array([25.0, 0.0, -1.0, np.nan]), "1/s")[1:]).all()
    with pytest.raises(DataError, match="has no value above 0"):
        implausible(np.array([0.0, -1.0]), "t2", told=True, way_out="")


@pytest.mark.parametrize(
    "ending", [".mha", ".MHD", ".mgz", ".mgh.gz", ".hdr", ".img.gz", ".npy", ".npz", ".tif", ".nii.gz"]
)
def test_the_name_of_a_map_of_any_kind_says_its_unit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"sub-1_T2map{ending}"
    assert sidecar_of(path) == tmp_path / "sub-1_T2map.json"
    assert unit_of(path, "t2", MapSource())[0] == "s"
    assert unit_of(tmp_path / f"a{ending}", "t2", MapSource())[0] == "ms"
    sidecar_of(path).write_text('{"Units": "ms"}')
    assert unit_of(path, "t2", MapSource())[0] == "ms"
