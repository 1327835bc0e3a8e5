"""Maps of a volume: read or fitted, on the image's grid or brought there when asked, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from sam2ft.config.schema.maps import MapSource
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.resampling import resampled_linear
from sam2ft.data.images.volumes import write_nifti
from sam2ft.data.store.store import Store
from sam2ft.phantom.dicom import DicomSeries, write_series

GRID = Geometry.axis_aligned((3, 16, 20), (3.0, 0.5, 0.5))
ECHOES_MS, SPIN_LOCKS_MS = (10.0, 20.0, 30.0, 40.0, 50.0), (0.0, 10.0, 40.0, 80.0)


def true_map() -> np.ndarray:
    """ms: 25 to 50 in the middle of the grid, NaN (air) around."""
    values = np.full(GRID.shape_zyx, np.nan)
    values[:, 3:12, 4:16] = np.linspace(25, 50, 12)
    return values


def echoes(folder: Path, true: np.ndarray, geometry: Geometry = GRID, times_ms: tuple[float, ...] = ECHOES_MS) -> Path:
    decays = 20_000 * np.exp(-np.array(times_ms)[:, None, None, None] / np.where(np.isnan(true), 1e-3, true))
    frames = tuple({"EchoTime": t, "AcquisitionNumber": i} for i, t in enumerate(times_ms))
    write_series(folder, decays.astype(np.float32), geometry, DicomSeries("a", 3, "echoes", 1, frames=frames))
    return folder


def test_a_multi_echo_series_becomes_a_map_that_says_how(tmp_path: Path) -> None:
    made = read_map(echoes(tmp_path / "e", true_map()), "t2", MapSource(), GRID)
    assert np.array_equal(np.isnan(made.values_zyx), np.isnan(true_map()))
    assert np.nanmax(np.abs(made.values_zyx - true_map())) < 0.01  # pixels are whole numbers
    assert made.r2_zyx is not None
    assert made.facts == {
        "source": "series",
        "model": "S0 exp(-t / T)",
        "times_ms": list(ECHOES_MS),
        "times_from": "EchoTime",
        "skip_first": False,
        "bounds_ms": [0.0, 100.0],
        "r2_min": 0.9,
        "resampled": False,
    }


def test_settings_reach_the_fit_and_the_record(tmp_path: Path) -> None:
    source = MapSource(series="{subject}", spin_lock_ms=SPIN_LOCKS_MS, bounds_ms=(30, 45), r2_min=0.5, skip_first=True)
    made = read_map(echoes(tmp_path / "e", true_map(), times_ms=SPIN_LOCKS_MS), "t1rho", source, GRID)
    within = (true_map() > 30) & (true_map() <= 45)
    assert np.array_equal(np.isfinite(made.values_zyx), within)
    assert made.facts["times_from"] == "spin_lock_ms in the order of AcquisitionNumber"
    assert (made.facts["skip_first"], made.facts["bounds_ms"], made.facts["r2_min"]) == (True, [30, 45], 0.5)


def test_a_map_on_another_grid_is_refused_with_both_grids_unless_resampling_is_asked_for(tmp_path: Path) -> None:
    coarse = Geometry.axis_aligned((3, 8, 10), (3.0, 1.0, 1.0))
    path = tmp_path / "t2.nii.gz"
    write_nifti(path, np.full(coarse.shape_zyx, 40, dtype=np.float32), coarse)
    with pytest.raises(DataError, match=r"t2\.nii\.gz.*different grids.*\(3, 16, 20\) against \(3, 8, 10\).*resample"):
        read_map(path, "t2", MapSource(), GRID)
    made = read_map(path, "t2", MapSource(file="{subject}", resample=True), GRID)
    assert (made.values_zyx[:, :15, :19] == 40).all()
    assert made.facts == {"source": "file", "resampled": True}


def test_a_fitted_map_is_resampled_with_its_r2(tmp_path: Path) -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    turned = Geometry.from_affine(
        (4, 30, 20), [[0.4 * c, 0, -2.5 * s, 1], [0, 0.4, 0, -0.3], [0.4 * s, 0, 2.5 * c, -1], [0, 0, 0, 1]]
    )
    folder = echoes(tmp_path / "e", np.full(turned.shape_zyx, 40.0), turned)
    made = read_map(folder, "t2", MapSource(series="{subject}", resample=True), GRID)
    finite = np.isfinite(made.values_zyx)
    assert 0.3 < finite.mean() < 1
    assert np.abs(made.values_zyx[finite] - 40).max() < 0.01
    assert made.r2_zyx is not None
    assert np.array_equal(np.isfinite(made.r2_zyx), finite)


def test_resampling_is_linear_in_millimetres_and_invents_nothing_where_values_end() -> None:
    source = Geometry.axis_aligned((2, 4, 6), (3.0, 1.0, 1.0))
    ramp = np.broadcast_to(10.0 * np.arange(6), source.shape_zyx).copy()
    target = Geometry.from_affine((1, 4, 9), [[0.5, 0, 0, 0.25], [0, 1, 0, 0], [0, 0, 3, 1.5], [0, 0, 0, 1]])
    expected = 10 * (0.25 + 0.5 * np.arange(9))
    assert resampled_linear(Volume(ramp, source), target)[0, 1] == pytest.approx(expected)
    ramp[:, :, 3:] = np.nan
    # Up to half way between the last value (x = 2 mm) and the first that is none.
    assert np.isfinite(resampled_linear(Volume(ramp, source), target)[0, 1]).tolist() == [True] * 5 + [False] * 4
    far = Geometry.from_affine((1, 4, 9), [[0.5, 0, 0, 50], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
    assert np.isnan(resampled_linear(Volume(ramp, source), far)).all()


def test_maps_without_a_single_value_are_refused_by_name(tmp_path: Path) -> None:
    write_nifti(tmp_path / "t2.nii.gz", np.full(GRID.shape_zyx, np.nan, dtype=np.float32), GRID)
    with pytest.raises(DataError, match=r"t2\.nii\.gz: map t2 has no finite value in any of its 960 voxels"):
        read_map(tmp_path / "t2.nii.gz", "t2", MapSource(), GRID)
    growing = echoes(tmp_path / "e", np.full(GRID.shape_zyx, 40.0), times_ms=ECHOES_MS)
    wrong = MapSource(series="{subject}", bounds_ms=(60, 100))
    with pytest.raises(DataError, match=r"none of its 960 voxels has a valid fit \(60 to 100 ms, r2 from 0\.9\)"):
        read_map(growing, "t2", wrong, GRID)
    far = Geometry.from_affine((3, 16, 20), [[1, 0, 0, 900], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "far.nii.gz", np.ones(far.shape_zyx, dtype=np.float32), far)
    with pytest.raises(DataError, match="no finite value on the image's grid"):
        read_map(tmp_path / "far.nii.gz", "t2", MapSource(file="{subject}", resample=True), GRID)


def test_a_folder_for_t1rho_needs_its_times_and_a_file_pattern_a_file(tmp_path: Path) -> None:
    folder = echoes(tmp_path / "e", true_map())
    with pytest.raises(DataError, match=r"give sources\.maps\.t1rho\.spin_lock_ms, which no DICOM tag contains"):
        read_map(folder, "t1rho", MapSource(), GRID)
    with pytest.raises(DataError, match=r"holds 5 stacks.*sources\.maps\.t2\.select: \{echo_ms: 10\}"):
        read_map(folder, "t2", MapSource(file="{subject}"), GRID)


@pytest.mark.parametrize(("shift_mm", "share"), [(0, 1.0), (3, 0.7), (-4, 0.6), (6, 0.4), (-7, 0.3), (50, 0.0)])
def test_a_resampled_map_says_how_much_of_the_mask_it_contains(tmp_path: Path, shift_mm: float, share: float) -> None:
    mask = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    mask[:, 3:6] = 1  # 20 columns of 0.5 mm
    moved = np.diag([1, 0.5, 3, 1.0])  # 10 columns of 1 mm over the same 10 mm
    moved[0, 3] = 0.25 + shift_mm
    grid = Geometry.from_affine((3, 16, 10), moved)
    write_nifti(tmp_path / "t2.nii.gz", np.full(grid.shape_zyx, 40, dtype=np.float32), grid)
    source = MapSource(file="{subject}", resample=True)
    if share < 0.5:
        with pytest.raises(DataError, match=r"map t2 (contains .* % of the labelled voxels|has no finite value)"):
            read_map(tmp_path / "t2.nii.gz", "t2", source, GRID, mask)
        return
    made = read_map(tmp_path / "t2.nii.gz", "t2", source, GRID, mask)
    assert made.facts == {"source": "file", "resampled": True, "share_inside": share}
    assert made.notes[-1].endswith(f"{100 * share:.3g} % of the mask lie inside the map")


def test_times_in_seconds_are_seen_in_a_fit_too(tmp_path: Path) -> None:
    in_seconds = (0.0, 0.01, 0.04, 0.08)
    folder = echoes(tmp_path / "e", true_map() / 1000, times_ms=in_seconds)
    with pytest.raises(
        DataError,
        match=r"the median of its positive values is 0\.0\d+ ms.*check the times of the decay"
        r".*, or give sources\.maps\.t1rho\.bounds_ms",
    ):
        read_map(folder, "t1rho", MapSource(series="{subject}", spin_lock_ms=in_seconds), GRID)
    told = MapSource(series="{subject}", spin_lock_ms=in_seconds, bounds_ms=(0, 1))
    assert "usual: 5 to 500 ms" in read_map(folder, "t1rho", told, GRID).notes[0]


def test_a_store_holds_map_r2_and_how_they_came_about(tmp_path: Path, prepare_raw: Callable[..., Store]) -> None:
    store = prepare_raw('{t2: "echoes/{subject}"}')
    record = store.record(VolumeKey("toy", "a", "image"))
    assert record.maps == ("t2",)
    r2 = store.map_r2(record.key, "t2")
    assert r2 is not None
    assert r2[:, 5, 6].min() > 0.999
    assert record.map_facts["t2"]["valid_of_label"] == {"1": [2 * 8 * 10, 2 * 8 * 10], "2": [0, 20]}
    assert json.loads(store.metadata_for_ml.read_text())["a"]["maps"]["t2"]["times_ms"] == list(ECHOES_MS)
    store.verify(store.volumes)


def test_another_setting_of_a_map_prepares_again_and_the_same_does_not(prepare_raw: Callable[..., Store]) -> None:
    first = prepare_raw('{t2: "echoes/{subject}"}').volumes[0].digest
    assert prepare_raw('{t2: {series: "echoes/{subject}"}}').volumes[0].digest == first
    assert prepare_raw('{t2: {series: "echoes/{subject}", bounds_ms: [0, 40]}}').volumes[0].digest != first


@pytest.fixture
def prepare_raw(tmp_path: Path) -> Callable[..., Store]:
    """prepare_raw(maps): the store of one subject whose series lies in echoes/a."""
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.prepare.prepare import prepare_dataset

    mask = np.zeros(GRID.shape_zyx, dtype=np.uint8)
    mask[:2, 4:12, 5:15], mask[0, 14:16, 0:10] = 1, 2
    image = np.random.default_rng(0).normal(size=GRID.shape_zyx).astype(np.float32)
    write_nifti(tmp_path / "images" / "a.nii.gz", image, GRID)
    write_nifti(tmp_path / "masks" / "a.nii.gz", mask, GRID)
    echoes(tmp_path / "echoes" / "a", true_map())

    def prepared(maps: str) -> Store:
        (tmp_path / "d.yaml").write_text(
            f"""dataset: {{name: toy}}
sources: {{images: "images/{{subject}}.nii.gz", masks: "masks/{{subject}}.nii.gz", maps: {maps}}}
labels: {{1: {{name: cartilage}}, 2: {{name: air}}}}
split: {{train: 1, val: 0, test: 0}}
"""
        )
        prepare_dataset(load_dataset(tmp_path / "d.yaml"), tmp_path, tmp_path / "store", lambda *_: None)
        return Store.open(tmp_path / "store")

    return prepared


def finished(folder: Path, values: np.ndarray, unit: str = "", **header: object) -> Path:
    """A series of a finished map whose stored integers are ten times `values`."""
    echoes(folder, np.full(GRID.shape_zyx, 40.0), times_ms=(10.0,))
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        z = round(float(one.ImagePositionPatient[2]) / 3)
        one.ImageType = ["DERIVED", "PRIMARY", "M", "T2 MAP"]
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = 0.1, 0, unit or "US"
        one.PixelData = np.rint(10 * values[z]).astype("<u2").tobytes()
        for keyword, value in header.items():
            setattr(one, keyword, value)
        one.save_as(path)
    return folder


T2_FILE = MapSource(file="{subject}")


@pytest.mark.parametrize(
    ("written", "source", "factor", "note"),
    [
        ("", T2_FILE, 1.0, ""),
        ("ms", T2_FILE, 1.0, ""),
        ("s", T2_FILE, 1000.0, "map t2 is in s, as its headers say"),
        ("", MapSource(file="{subject}", unit="s"), 1000.0, ""),
        ("ms", MapSource(file="{subject}", unit="s"), 1000.0, "unit s is used, though its headers say ms"),
        ("", MapSource(unit="ms"), 1.0, ""),
    ],
)
def test_a_map_that_a_scanner_made_is_read_with_its_slope_and_unit(
    tmp_path: Path, written: str, source: MapSource, factor: float, note: str
) -> None:
    values = np.linspace(20, 60, GRID.shape_zyx[0] * 16 * 20).reshape(GRID.shape_zyx).round(1)
    made = read_map(finished(tmp_path / "m", values, written, RescaleSlope=0.1 / factor), "t2", source, GRID)
    assert made.values_zyx == pytest.approx(values, rel=1e-5)
    assert made.r2_zyx is None
    assert made.facts == {"source": "file", "resampled": False} | ({} if factor == 1 else {"unit": "s"})
    assert any(note in one for one in made.notes) or not note


def test_a_mapping_to_real_values_goes_before_slope_and_intercept(tmp_path: Path) -> None:
    unit = Dataset()
    unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "s", "UCUM", "second"
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.0001, 0.002
    mapping.MeasurementUnitsCodeSequence = [unit]
    values = np.full(GRID.shape_zyx, 40.0)
    folder = finished(tmp_path / "m", values, "ms", RealWorldValueMappingSequence=[mapping])
    made = read_map(folder, "t2", T2_FILE, GRID)
    assert made.values_zyx == pytest.approx(1000 * (400 * 0.0001 + 0.002), rel=1e-6)
    finished(tmp_path / "two", values, RealWorldValueMappingSequence=[mapping, mapping])
    with pytest.raises(DataError, match="RealWorldValueMappingSequence has 2 items"):
        read_map(tmp_path / "two", "t2", T2_FILE, GRID)
    del mapping.RealWorldValueSlope
    finished(tmp_path / "curve", values, RealWorldValueMappingSequence=[mapping])
    with pytest.raises(DataError, match=r"no slope and intercept.*export the map again as NIfTI"):
        read_map(tmp_path / "curve", "t2", T2_FILE, GRID)
    write_nifti(tmp_path / "t2.nii.gz", values.astype(np.float32), GRID)
    assert read_map(tmp_path / "t2.nii.gz", "t2", T2_FILE, GRID).values_zyx == pytest.approx(40)


def test_a_map_in_two_units_is_refused(tmp_path: Path) -> None:
    folder = finished(tmp_path / "m", np.full(GRID.shape_zyx, 40.0), "ms")
    path = next(folder.iterdir())
    whole, header = path.read_bytes(), pydicom.dcmread(path)
    header.RescaleType = "s"
    header.save_as(path)
    with pytest.raises(DataError, match=r"its images name several units \(ms, s\)"):
        read_map(folder, "t2", T2_FILE, GRID)
    path.write_bytes(whole)
    assert read_map(folder, "t2", T2_FILE, GRID).values_zyx == pytest.approx(40)


@pytest.mark.parametrize("kind", [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "OTHER"], ["ORIGINAL"]])
def test_an_ordinary_image_is_not_taken_for_a_map(tmp_path: Path, kind: list[str]) -> None:
    folder = finished(tmp_path / "m", np.full(GRID.shape_zyx, 40.0), ImageType=kind)
    with pytest.raises(DataError, match=r"no finished map.*sources\.maps\.<name>\.series.*unit \(ms, s or 1/s\)"):
        read_map(folder, "t2", T2_FILE, GRID)
    told = read_map(folder, "t2", MapSource(file="{subject}", unit="ms"), GRID)
    assert told.values_zyx == pytest.approx(40)


def nifti_echoes(folder: Path, times_s: tuple[object, ...], key: str = "EchoTime") -> Path:
    folder.mkdir()
    for number, time in enumerate(times_s):
        decay = 1000 * np.exp(-float(time) * 1000 / true_map()) if isinstance(time, float) else true_map()
        write_nifti(folder / f"e{number}.nii.gz", np.nan_to_num(decay).astype(np.float32), GRID)
        (folder / f"e{number}.json").write_text(json.dumps({key: time}))
    return folder


@pytest.mark.parametrize("times_s", [(0.01, 0.02, 0.03, 0.05), (0.05, 0.01, 0.03, 0.02), (0.0, 0.08, 0.04)])
def test_echoes_in_nifti_are_fitted_by_the_times_of_their_sidecars(tmp_path: Path, times_s: tuple[float, ...]) -> None:
    folder = nifti_echoes(tmp_path / "e", times_s)
    made = read_map(folder, "t2", MapSource(), GRID)
    assert np.nanmax(np.abs(made.values_zyx - true_map())) < 1e-3
    assert made.facts["times_ms"] == pytest.approx(sorted(1000 * time for time in times_s))
    assert made.facts["times_from"] == "EchoTime"


def test_spin_locks_in_nifti_are_fitted_by_their_sidecars_and_must_be_those_of_the_key(tmp_path: Path) -> None:
    folder = nifti_echoes(tmp_path / "e", (0.08, 0.0, 0.04, 0.01), "SpinLockTime")
    made = read_map(folder, "t1rho", MapSource(series="{subject}", spin_lock_ms=(0.0, 80.0, 40.0, 10.0)), GRID)
    assert np.nanmax(np.abs(made.values_zyx - true_map())) < 1e-3
    assert made.facts["times_from"] == "SpinLockTime"
    with pytest.raises(DataError, match=r"name SpinLockTime 0, 10, 40, 80 ms; allowed: those of .*spin_lock_ms"):
        read_map(folder, "t1rho", MapSource(series="{subject}", spin_lock_ms=(0.0, 80.0, 40.0)), GRID)


BAD_TIMES = {
    "in ms": ((10.0, 20.0, 30.0), r"e0\.json: EchoTime is 10; allowed: a time in s"),
    "text": (("a", "b", "c"), r"e0\.json: EchoTime is missing or no number"),
    "absent": ((None, None, None), r"e0\.json: EchoTime is missing or no number"),
    "twice": ((0.01, 0.02, 0.02), r"e1\.nii\.gz and e2\.nii\.gz both have the EchoTime 0\.02 s"),
    "too few": ((0.01, 0.02), r"2 times \(10, 20 ms\); allowed: at least 3"),
}


@pytest.mark.parametrize("case", BAD_TIMES)
def test_echoes_in_nifti_without_a_time_each_are_refused(tmp_path: Path, case: str) -> None:
    times, message = BAD_TIMES[case]
    folder = nifti_echoes(tmp_path / "e", times)
    with pytest.raises(DataError, match=message):
        read_map(folder, "t2", MapSource(), GRID)


def test_echoes_in_nifti_need_a_sidecar_each_and_one_grid(tmp_path: Path) -> None:
    folder = nifti_echoes(tmp_path / "e", (0.01, 0.02, 0.03, 0.05))
    with pytest.raises(DataError, match=r"select chooses DICOM images; leave it out"):
        read_map(folder, "t2", MapSource(select=SeriesChoice(number=1)), GRID)
    expected = read_map(folder, "t2", MapSource(), GRID).values_zyx
    for text, message in (
        ("{", r"e3\.json: not readable JSON"),
        ('{"EchoTime": 0.03}', "both have the EchoTime 0.03 s"),
    ):
        (folder / "e3.json").write_text(text)
        with pytest.raises(DataError, match=message):
            read_map(folder, "t2", MapSource(), GRID)
    (folder / "e3.json").write_text('{"EchoTime": 0.05}')
    assert np.array_equal(read_map(folder, "t2", MapSource(), GRID).values_zyx, expected, equal_nan=True)
    other = Geometry.axis_aligned(GRID.shape_zyx, (3.0, 0.5, 0.6))
    write_nifti(folder / "e1.nii.gz", np.ones(other.shape_zyx, dtype=np.float32), other)
    with pytest.raises(DataError, match=r"e1\.nii\.gz: .*different grids"):
        read_map(folder, "t2", MapSource(), GRID)
    (folder / "e2.json").unlink()
    with pytest.raises(DataError, match=r"e2\.nii\.gz: has no sidecar e2\.json"):
        read_map(folder, "t2", MapSource(), GRID)
