"""One slice distance; what a header says twice is compared; uneven slices are refused or evened."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.dicom.placement import evened
from sam2ft.data.dicom.series import read_series
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.read_masks import read_placed_mask

Writer = Callable[..., Path]


def at(offsets_mm: list[float], **attributes: object) -> Callable[[FileDataset, int], None]:
    def change(header: FileDataset, z: int) -> None:
        header.ImagePositionPatient = [-10.0, -20.0, 5.0 + offsets_mm[z]]
        for name, value in attributes.items():
            setattr(header, name, value)

    return change


def step_of(geometry: Geometry) -> float:
    return float(np.linalg.norm(geometry.affine[:3, 2]))


@pytest.mark.parametrize(
    "beside_mm",
    [[0, 20, 0, 20, 0], [0, 0, 0.3, 0, 0], [0, 1, 1.5, 1, 0], [0, -80, 0, 0, 0]],
    ids=["two stacks side by side", "a moved slice", "a curve", "a slice of another stack"],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_slices_beside_the_line_of_the_others_are_refused(
    tmp_path: Path, write_series: Writer, beside_mm: list[float], axis: int
) -> None:
    def aside(header: FileDataset, z: int, share: float = 1) -> None:
        position = [-10.0, -20.0, 5.0 + 2 * z]
        position[axis] += share * beside_mm[z]
        header.ImagePositionPatient = position

    with pytest.raises(DataError, match="mm beside the line from the first slice to the last; allowed: half a pixel"):
        read_series(write_series(tmp_path / "s", change=aside))
    rounded = write_series(tmp_path / "r", change=lambda header, z: aside(header, z, 0.01 if beside_mm[2] else 0.001))
    assert read_series(rounded).geometry.spacing_zyx_mm[0] == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("aside_mm", [20, -90, 2])
def test_two_stacks_side_by_side_are_read_from_a_folder_each(
    tmp_path: Path, write_series: Writer, aside_mm: float
) -> None:
    def change(header: FileDataset, z: int) -> None:
        header.ImagePositionPatient = [-10.0 + aside_mm * (z % 2), -20.0, 5.0 + 2 * z]

    folder = write_series(tmp_path / "s", count=7, change=change)
    with pytest.raises(DataError, match="if slices of two stacks are mixed, put each stack into a folder of its own"):
        read_series(folder)
    (tmp_path / "other").mkdir()
    for z in (1, 3, 5):
        path = folder / f"{7 - z:03d}.dcm"
        path.rename(tmp_path / "other" / path.name)
    first, other = read_series(folder), read_series(tmp_path / "other")
    assert (first.array_zyx.shape[0], other.array_zyx.shape[0]) == (4, 3)
    assert other.geometry.affine[0, 3] - first.geometry.affine[0, 3] == pytest.approx(-aside_mm)


@pytest.mark.parametrize(
    ("offsets", "mean", "named"),
    [
        ([0, 3.0, 6.0, 9.29, 12.58], 12.58 / 4, True),
        ([0, 2.0, 4.1, 6.1], 6.1 / 3, True),
        ([0, 1.0, 2.005, 3.0], 1.0, False),
        ([0, 5.0, 10.0], 5.0, False),
    ],
)
def test_dz_is_the_mean_step_in_spacing_and_affine(
    tmp_path: Path, write_series: Writer, offsets: list[float], mean: float, named: bool
) -> None:
    volume = read_series(write_series(tmp_path / "s", count=len(offsets), change=at(offsets)))
    assert volume.geometry.spacing_zyx_mm[0] == pytest.approx(mean)
    assert volume.geometry.spacing_zyx_mm[0] == step_of(volume.geometry)
    assert [note.startswith("slice distances vary from") for note in volume.notes] == [True] * named


def test_stores_of_version_1_keep_the_median(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s", change=at([0, 3.0, 6.0, 9.0, 12.29]))
    assert read_series(folder, median_dz=True).geometry.spacing_zyx_mm[0] == pytest.approx(3.0)
    assert step_of(read_series(folder, median_dz=True).geometry) == pytest.approx(12.29 / 4)


@pytest.mark.parametrize("spacing", ["3.3", "1.8", "2.01", "0.5"])
def test_a_spacing_that_contradicts_the_positions_is_refused_naming_both(
    tmp_path: Path, write_series: Writer, spacing: str
) -> None:
    folder = write_series(tmp_path / "s", change=at([0, 2, 4, 6, 8], SpacingBetweenSlices=spacing))
    refusal = (
        rf"SpacingBetweenSlices is {float(spacing):g} mm in \d+\.dcm, the distance of positions is 2 mm.*believe: pos"
    )
    with pytest.raises(DataError, match=refusal):
        read_series(folder)
    positions = read_series(folder, reading=Reading(believe="positions"))
    assert positions.geometry.spacing_zyx_mm[0] == step_of(positions.geometry) == 2
    assert "the positions are believed" in positions.notes[0]
    believed = read_series(folder, reading=Reading(believe="spacing"))
    assert believed.geometry.spacing_zyx_mm[0] == float(spacing)
    assert step_of(believed.geometry) == pytest.approx(float(spacing))
    assert believed.geometry.dz_source == "slice_spacing"


@pytest.mark.parametrize(
    ("offsets", "spacing"),
    [
        ([0, 2, 4, 6, 8], "2"),
        ([0, 2, 4, 6, 8], "2.001"),
        ([0, 3.333, 6.667, 10.0, 13.333], "3.33"),
        ([0, 3.0, 6.0, 9.29, 12.58], "3.0"),
        ([0, 2, 4, 6, 8], ""),
        ([0, 2, 4, 6, 8], "0"),
        ([0, 2, 4, 6, 8], "-2"),
    ],
)
def test_a_spacing_within_rounding_or_among_uneven_distances_agrees(
    tmp_path: Path, write_series: Writer, offsets: list[float], spacing: str
) -> None:
    folder = write_series(tmp_path / "s", change=at(offsets, SpacingBetweenSlices=spacing))
    assert read_series(folder).geometry.spacing_zyx_mm[0] == pytest.approx(offsets[-1] / 4)


def test_a_spacing_that_is_wrong_in_one_image_is_seen(tmp_path: Path, write_series: Writer) -> None:
    def change(header: FileDataset, z: int) -> None:
        header.SpacingBetweenSlices = 4 if z == 3 else 2

    folder = write_series(tmp_path / "s", change=change)
    with pytest.raises(DataError, match=r"SpacingBetweenSlices is 4 mm in 002\.dcm"):
        read_series(folder, reading=Reading(believe="spacing"))


@pytest.mark.parametrize(
    ("cosines", "message"),
    [
        ([1.01, 0, 0, 0, 1, 0], "vectors of length 1.01 and 1, which PixelSpacing contradicts.*believe: orientation"),
        ([1, 0, 0, 0, 2, 0], "vectors of length 1 and 2"),
        ([1, 0, 0, 0.1, 0.994987, 0], r"rows and columns are not at right angles \(cosine 0\.1\)"),
        ([1, 0, 0, 1, 0, 0], "rows and columns are not at right angles"),
        ([0, 0, 0, 0, 1, 0], "a vector without a direction"),
    ],
)
def test_orientation_vectors_are_unit_and_orthogonal(
    tmp_path: Path, write_series: Writer, cosines: list[float], message: str
) -> None:
    folder = write_series(tmp_path / "s", change=at([0, 2, 4, 6, 8], ImageOrientationPatient=cosines))
    with pytest.raises(DataError, match=rf"\.dcm: ImageOrientationPatient is .*{message}"):
        read_series(folder)


@pytest.mark.parametrize("cosines", [[1.01, 0, 0, 0, 1, 0], [0.5, 0, 0, 0, 0.5, 0], [1, 0, 0, 0, 0.9994, 0]])
def test_with_believe_orientation_only_the_directions_count(
    tmp_path: Path, write_series: Writer, cosines: list[float]
) -> None:
    folder = write_series(tmp_path / "s", change=at([0, 2, 4, 6, 8], ImageOrientationPatient=cosines))
    geometry = read_series(folder, reading=Reading(believe="orientation")).geometry
    assert np.linalg.norm(geometry.affine[:3, :3], axis=0) == pytest.approx([0.75, 0.5, 2])
    assert geometry.spacing_zyx_mm == (2, 0.5, 0.75)


UNEVEN = {
    "one wide gap": [0, 2.0, 4.0, 7.0],
    "growing": [0, 1.0, 3.0, 6.0],
    "a missing slice": [0, 2.0, 4.0, 8.0],
}


@pytest.mark.parametrize("case", UNEVEN)
def test_uneven_slices_are_refused_or_evened_with_their_mask(tmp_path: Path, write_series: Writer, case: str) -> None:
    offsets = np.array(UNEVEN[case])
    ramp = [np.full((6, 8), 100 + 50 * offset) for offset in offsets]

    def change(header: FileDataset, z: int) -> None:
        at(UNEVEN[case])(header, z)
        header.PixelData = ramp[z].astype("<u2").tobytes()

    folder = write_series(tmp_path / "s", count=4, change=change)
    with pytest.raises(DataError, match=r"mm; allowed: distances within 10 %, or irregular: resample"):
        read_series(folder)
    reading = Reading(irregular="resample")
    volume = read_volume(folder, reading=reading)
    dz = offsets[-1] / 3
    assert volume.geometry.spacing_zyx_mm[0] == step_of(volume.geometry) == pytest.approx(dz)
    # Linear in the position: the ramp has its value at each even position.
    assert volume.array_zyx[:, 0, 0] == pytest.approx(100 + 50 * dz * np.arange(4), abs=0.5)
    assert [position[2] for position in volume.slices["image_position_patient"]] == pytest.approx(5 + dz * np.arange(4))
    nearest = [int(np.abs(offsets - dz * k).argmin()) for k in range(4)]
    assert volume.nearest_slices == tuple(nearest)
    assert any("resampled to 4 slices at even distances" in note for note in volume.notes)
    mask = np.broadcast_to(np.arange(1, 5, dtype=np.uint8)[:, None, None], (4, 6, 8))
    write_nifti(tmp_path / "mask.nii.gz", mask, volume.geometry)
    assert read_placed_mask(tmp_path / "mask.nii.gz", volume).array_zyx[:, 0, 0].tolist() == [
        index + 1 for index in nearest
    ]

    def label(header: FileDataset, z: int) -> None:
        at(UNEVEN[case])(header, z)
        header.PixelData = mask[z].astype("<u2").tobytes()

    drawn = write_series(tmp_path / "m", count=4, change=label)
    assert read_placed_mask(drawn, volume, reading).array_zyx[:, 0, 0].tolist() == [index + 1 for index in nearest]


def test_nothing_is_taken_from_a_neighbour_without_a_value() -> None:
    values = np.array([0.0, 10.0, np.nan, 30.0], dtype=np.float32)[:, None, None]
    even, nearest = evened(values, np.array([0.0, 1.0, 2.2, 3.0]))
    assert nearest == (0, 1, 2, 3)
    assert even[[0, 1, 3], 0, 0].tolist() == [0, 10, 30]
    assert np.isnan(even[2, 0, 0])


@pytest.mark.parametrize("axis", ["0", "1", "2"])
def test_a_mask_follows_along_the_slices_of_the_series_however_it_is_cut(
    tmp_path: Path, write_series: Writer, axis: str
) -> None:
    folder = write_series(tmp_path / "s", count=4, change=at([0, 1.0, 2.0, 6.0]))
    reading = Reading(irregular="resample", slice_axis=axis)
    image = read_volume(folder, reading=reading)
    series = read_volume(folder, reading=Reading(irregular="resample"))
    mask = np.broadcast_to(np.arange(1, 5, dtype=np.uint8)[:, None, None], (4, 6, 8))
    write_nifti(tmp_path / "mask.nii.gz", mask, series.geometry)
    found = read_placed_mask(tmp_path / "mask.nii.gz", image, reading).array_zyx
    expected = [1, 3, 3, 4]  # even slices at 0, 2, 4 and 6 mm; 4 mm is as near to 2 as to 6
    assert found.shape == image.array_zyx.shape
    along = np.moveaxis(found, {"2": 0, "1": 1, "0": 1}[axis], 0).reshape(4, -1)
    assert along[:, 0].tolist() == expected
    assert (along == along[:, :1]).all()
