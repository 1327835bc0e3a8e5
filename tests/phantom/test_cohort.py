"""The raw cohort on disk: DICOM, NIfTI, dataset file and truth agree with the arrays they were made from."""

from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json
from sam2ft.data.dicom.series import read_series
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_reordered
from sam2ft.data.prepare.prepare import prepare_dataset
from sam2ft.data.store.store import Store
from sam2ft.phantom.cohort import cohort_sequence, write_cohort
from sam2ft.phantom.phantom import (
    ECHO_TIMES_MS,
    SPIN_LOCK_TIMES_MS,
    PhantomVolume,
    echo_series,
    knee_subject,
    spine_subject,
)

SEED = 21


@cache
def knee(index: int) -> PhantomVolume:
    return knee_subject(SEED, index, cohort_sequence("knee", SEED))


@pytest.fixture(scope="module")
def knees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("knees")
    write_cohort("knee", 2, SEED, folder)
    return folder


@pytest.mark.parametrize("index", [0, 1])
def test_the_series_read_back_is_the_image_on_its_grid(knees: Path, index: int) -> None:
    volume = knee(index)
    series = read_series(knees / "dicom" / volume.subject / "sag")
    assert volume.geometry.difference(series.geometry) is None
    assert series.geometry.dz_source == "positions"
    assert series.geometry.spacing_zyx_mm == pytest.approx(volume.geometry.spacing_zyx_mm, rel=1e-6)
    step = float(volume.image_zyx.max()) / 3000
    assert np.abs(series.array_zyx - volume.image_zyx).max() <= 0.51 * max(1.0, step)


@pytest.mark.parametrize("index", [0, 1])
def test_mask_and_maps_in_ras_lie_on_the_series_in_lps(knees: Path, index: int) -> None:
    volume = knee(index)
    grid = read_series(knees / "dicom" / volume.subject / "sag").geometry
    mask = read_reordered(knees / "masks" / f"{volume.subject}.nii.gz", grid)
    assert np.array_equal(mask, volume.mask_zyx)
    t2 = read_reordered(knees / "maps" / f"{volume.subject}_t2.nii.gz", grid, what="map t2")
    assert np.array_equal(t2, volume.t2_ms_zyx, equal_nan=True)


def test_a_voxel_lies_at_the_same_place_of_the_room_in_both_files(knees: Path) -> None:
    # By hand, without our readers: DICOM counts towards left and posterior, NIfTI towards right and anterior.
    import nibabel as nib

    header = next(
        pydicom.dcmread(path, stop_before_pixels=True)
        for path in sorted((knees / "dicom" / "knee000" / "sag").iterdir())
    )
    affine = nib.nifti1.Nifti1Image.from_filename(knees / "masks" / "knee000.nii.gz").affine
    first = np.array(header.ImagePositionPatient, dtype=float) * [-1, -1, 1]
    slice_index = np.linalg.solve(affine[:3, :3], first - affine[:3, 3])
    assert slice_index[:2] == pytest.approx([0, 0], abs=1e-3)
    assert slice_index[2] == pytest.approx(round(slice_index[2]), abs=1e-3)
    along_row = np.array(header.ImageOrientationPatient[:3], dtype=float) * [-1, -1, 1]
    assert affine[:3, 0] == pytest.approx(along_row * float(header.PixelSpacing[1]), abs=1e-4)
    # Rows run from anterior to posterior, columns of the picture from superior to inferior.
    assert affine[1, 0] < 0 > affine[2, 1]


def test_headers_hold_the_traps_that_real_series_have(knees: Path) -> None:
    files = sorted((knees / "dicom" / "knee001" / "sag").iterdir())
    headers = [pydicom.dcmread(path) for path in files]
    first = headers[0]
    assert first.SOPClassUID == pydicom.uid.MRImageStorage
    assert float(first.SliceThickness) == pytest.approx(0.75 * float(first.SpacingBetweenSlices))
    positions = [float(header.SliceLocation) for header in headers]
    assert sorted(int(header.InstanceNumber) for header in headers) == list(range(1, len(headers) + 1))
    assert positions not in (sorted(positions), sorted(positions, reverse=True))
    assert float(first.RescaleIntercept) == -8.0
    assert "RescaleSlope" not in pydicom.dcmread(next((knees / "dicom" / "knee000" / "sag").iterdir()))
    assert str(first.PatientName).startswith("Invented")
    assert first.PatientBirthDate
    uids = {header.SOPInstanceUID for header in headers}
    assert len(uids) == len(headers)
    assert all(header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID for header in headers)
    cosines = np.abs(np.array(first.ImageOrientationPatient, dtype=float))
    assert (cosines > 1e-3).all(), "oblique"


def test_relaxation_series_decay_slice_by_slice_as_the_volume_does(knees: Path) -> None:
    volume = knee(0)
    expected = echo_series(volume)
    count, slices = len(ECHO_TIMES_MS), len(volume.image_zyx)
    headers = [pydicom.dcmread(path) for path in sorted((knees / "echoes" / "knee000" / "sag").iterdir())]
    assert len(headers) == count * slices
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    lowest = min(float(header.SliceLocation) for header in headers)
    for header in headers[:: len(headers) // 9]:
        index = round((float(header.SliceLocation) - lowest) / volume.geometry.spacing_zyx_mm[0])
        echo = ECHO_TIMES_MS.index(float(header.EchoTime))
        values = header.pixel_array * float(header.RescaleSlope)
        where = volume.proton_zyx[index] > 200
        assert np.median(values[where] - expected[echo, index][where]) == pytest.approx(0, abs=1.0)
    locks = [
        pydicom.dcmread(path, stop_before_pixels=True) for path in (knees / "spinlock" / "knee000" / "sag").iterdir()
    ]
    numbers = {int(header.AcquisitionNumber) for header in locks}
    assert numbers == set(range(1, len(SPIN_LOCK_TIMES_MS) + 1))


def test_the_dataset_file_prepares_into_a_store_without_the_person(knees: Path, tmp_path: Path) -> None:
    summary = prepare_dataset(load_dataset(knees / "dataset.yaml"), knees, tmp_path / "store", lambda *_: None)
    assert summary.refused == ()
    store = Store.open(tmp_path / "store")
    assert [record.key.subject for record in store.volumes] == ["knee000", "knee001"]
    key = store.volumes[0].key
    assert np.array_equal(store.mask(key), knee(0).mask_zyx)
    assert set(store.volumes[0].maps) == {"t2", "t1rho"}
    texts = [path.read_text() for path in (tmp_path / "store").glob("*.json")]
    assert texts
    assert not any("Invented" in text or "MRN" in text for text in texts)


def test_twelve_subjects_split_into_six_two_and_four(knees: Path) -> None:
    from sam2ft.data.store.split import split_by_fractions

    split = load_dataset(knees / "dataset.yaml").split
    fractions = {"train": split.train, "val": split.val, "test": split.test}
    parts = list(split_by_fractions([f"knee{i:03d}" for i in range(12)], fractions, split.seed).values())
    assert [parts.count(name) for name in ("train", "val", "test")] == [6, 2, 4]


def test_the_truth_file_holds_what_the_subjects_say(knees: Path) -> None:
    truth = read_json(knees / "truth.json")
    assert truth["kind"] == "knee"
    assert truth["seed"] == SEED
    assert truth["subjects"]["knee001"] == knee(1).truth


def test_subjects_do_not_depend_on_how_many_are_made(knees: Path, tmp_path: Path) -> None:
    write_cohort("knee", 1, SEED, tmp_path)
    for pattern in ("dicom/knee000/sag/*.dcm", "masks/knee000.nii.gz", "maps/knee000_*.nii.gz"):
        files = sorted(tmp_path.glob(pattern))
        assert files
        for path in files:
            assert path.read_bytes() == (knees / path.relative_to(tmp_path)).read_bytes(), path.name


def test_a_spine_cohort_has_masks_and_no_maps(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    write_cohort("spine", 1, SEED, tmp_path, lambda *args: seen.append(args))
    assert seen == [(1, 1, "spine000")]
    assert not (tmp_path / "maps").exists()
    config = load_dataset(tmp_path / "dataset.yaml")
    assert config.labels.describe() == "1 vertebra, 2 disc"
    mask = read_reordered(tmp_path / "masks" / "spine000.nii.gz", read_series(tmp_path / "dicom/spine000/sag").geometry)
    assert np.array_equal(mask, spine_subject(SEED, 0).mask_zyx)


@pytest.mark.parametrize(
    ("kind", "subjects", "words"), [("hip", 2, "allowed: knee, spine"), ("knee", 0, "at least one")]
)
def test_unknown_kinds_and_empty_cohorts_are_refused(kind: str, subjects: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        write_cohort(kind, subjects, SEED, tmp_path)


def test_a_cohort_is_imaged_with_one_sequence_and_cohorts_take_them_in_turn() -> None:
    assert [cohort_sequence("knee", seed) for seed in range(5)] == ["dess", "pd", "pd_fs", "t1", "dess"]


@pytest.mark.parametrize(
    ("name", "folder", "source"),
    [
        ("t2", "echoes", MapSource()),
        ("t1rho", "spinlock", MapSource(series="{subject}", spin_lock_ms=SPIN_LOCK_TIMES_MS)),
    ],
)
def test_maps_fitted_to_the_series_are_the_true_ones_within_noise(
    knees: Path, name: str, folder: str, source: MapSource
) -> None:
    volume = knee(0)
    true = volume.t2_ms_zyx if name == "t2" else volume.t1rho_ms_zyx
    assert true is not None
    fitted = read_map(knees / folder / volume.subject / "sag", name, source, volume.geometry).values_zyx
    both = np.isfinite(true) & np.isfinite(fitted)
    assert both.sum() > 0.95 * np.isfinite(true).sum()
    assert abs(np.median(fitted[both] - true[both])) < 0.3
