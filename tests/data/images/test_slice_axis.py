"""The slices of a volume lie where they were acquired, or where the dataset file says."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.images.slice_axis import acquisition_axis
from sam2ft.data.images.volumes import read_volume

# Columns of a RAS affine: the axes of a file that run to the left-right, front-back and head-foot.
SAGITTAL = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])


def save(path: Path, shape: tuple[int, ...], affine: np.ndarray, slices: int | None = None) -> Path:
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine)
    image.header.set_dim_info(slice=slices)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("shape", "spacing", "dim_info", "wanted"),
    [
        ((20, 24, 1), (0.5, 0.5, 0.3), None, (2, "single slice")),
        ((1, 24, 20), (3.0, 0.5, 0.5), None, (0, "single slice")),
        ((20, 24, 1), (0.5, 0.5, 0.3), 0, (2, "single slice")),
        ((24, 1, 1), (0.5, 0.5, 3.0), None, (2, "odd spacing")),
        ((9, 9, 9), (1.0, 1.0, 1.0), 0, (0, "dim_info")),
        ((9, 9, 9), (1.0, 1.0, 4.0), 1, (1, "dim_info")),
        ((9, 9, 9), (0.5, 0.5, 3.0), None, (2, "odd spacing")),
        ((9, 9, 9), (3.0, 0.5, 0.5), None, (0, "odd spacing")),
        ((9, 9, 9), (1.0, 0.9, 1.0), None, (1, "odd spacing")),
        ((9, 9, 9), (0.5, 0.75, 4.0), None, (2, "odd spacing")),
        ((9, 9, 9), (0.5, 4.0, 0.75), None, (1, "odd spacing")),
        ((9, 9, 9), (1.2, 1.1, 1.0), None, (2, "third axis")),
        ((9, 9, 9), (1.0009, 1.0, 1.0), None, (2, "third axis")),
        ((9, 9, 9), (1.0, 1.0, 1.0), None, (2, "third axis")),
    ],
)
def test_auto_is_the_plane_of_acquisition(shape, spacing, dim_info, wanted) -> None:
    assert acquisition_axis(shape, np.array(spacing), dim_info) == wanted


@pytest.mark.parametrize(("edge", "axis"), [(0.9, "odd spacing"), (1.0, "third axis"), (1.1, "odd spacing")])
def test_a_sagittal_volume_has_sagittal_slices_whatever_its_spacing(tmp_path: Path, edge: float, axis: str) -> None:
    affine = SAGITTAL @ np.diag([1, 1, edge, 1])
    volume = read_volume(save(tmp_path / "a.nii.gz", (7, 6, 5), affine))
    assert volume.array_zyx.shape == (5, 6, 7)
    assert volume.facts["slice_axis"] == {"chosen": "auto", "axis": axis, "plane": "sagittal"}


def test_dim_info_of_a_header_names_the_slices(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", (7, 6, 5), np.eye(4), slices=0))
    assert volume.array_zyx.shape == (7, 5, 6)
    assert volume.facts["slice_axis"] == {"chosen": "auto", "axis": "dim_info", "plane": "sagittal"}


def test_a_single_slice_stays_a_single_slice(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.nii.gz", (20, 24, 1), np.diag([0.5, 0.5, 0.3, 1])))
    assert volume.geometry.shape_zyx == (1, 24, 20)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((0.3, 0.5, 0.5))


@pytest.mark.parametrize(
    ("chosen", "shape", "plane"),
    [
        ("sagittal", (5, 6, 7), "sagittal"),
        ("coronal", (7, 5, 6), "coronal"),
        ("axial", (6, 5, 7), "axial"),
        ("0", (7, 5, 6), "coronal"),
        ("1", (6, 5, 7), "axial"),
        ("2", (5, 6, 7), "sagittal"),
    ],
)
def test_a_chosen_axis_is_obeyed_and_no_voxel_moves(tmp_path: Path, chosen: str, shape: tuple, plane: str) -> None:
    path = save(tmp_path / "a.nii.gz", (7, 6, 5), SAGITTAL @ np.diag([0.5, 0.5, 3, 1]))
    stored = nibabel.load(path)
    volume = read_volume(path, reading=Reading(slice_axis=chosen))
    assert volume.array_zyx.shape == shape
    assert volume.facts["slice_axis"] == {"chosen": chosen, "axis": "given", "plane": plane}
    z, y, x = (int(i[0]) for i in np.nonzero(volume.array_zyx == np.asarray(stored.dataobj)[6, 2, 1]))
    assert volume.geometry.affine @ [x, y, z, 1] == pytest.approx(stored.affine @ [6, 2, 1, 1])


def test_the_rule_of_old_stores_stays_within_reach(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", (20, 24, 1), np.diag([0.5, 0.5, 0.3, 1]))
    assert read_volume(path, version_1=True).geometry.shape_zyx == (24, 1, 20)


@pytest.mark.parametrize("degrees", [20, 44, 46, 70])
def test_a_plane_of_an_oblique_image_is_the_nearest(tmp_path: Path, degrees: int) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    volume = read_volume(save(tmp_path / "a.nii.gz", (7, 6, 5), affine), reading=Reading(slice_axis="sagittal"))
    assert volume.geometry.shape_zyx[0] == (7 if degrees < 45 else 6)


def test_a_plane_that_no_axis_is_near_to_is_refused(tmp_path: Path) -> None:
    # The normal of the axial plane is the space diagonal of these axes: 55 degrees from each.
    a, b, c = np.array([1, -1, 0]) / 2**0.5, np.array([1, 1, -2]) / 6**0.5, np.array([1, 1, 1]) / 3**0.5
    affine = np.eye(4)
    affine[:3, :3] = np.stack([a, b, c])
    path = save(tmp_path / "a.nii", (7, 6, 5), affine)
    with pytest.raises(DataError, match=r"slice_axis: axial: the nearest axis is 55 degrees .* slice_axis: 0, 1 or 2"):
        read_volume(path, reading=Reading(slice_axis="axial"))


def test_a_plane_of_a_file_without_orientation_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((7, 6, 5), np.uint8), None)
    image.header.set_zooms((1, 1, 3))
    nibabel.save(image, tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").facts["slice_axis"]["plane"] is None
    with pytest.raises(DataError, match=r"a\.nii: slice_axis: coronal: its header does not say"):
        read_volume(tmp_path / "a.nii", reading=Reading(slice_axis="coronal"))


@pytest.mark.parametrize(("chosen", "shape"), [("axial", (5, 6, 8)), ("coronal", (6, 5, 8)), ("sagittal", (8, 5, 6))])
def test_a_series_is_cut_along_another_axis_without_resampling(
    tmp_path: Path, write_series: Callable[..., Path], chosen: str, shape: tuple
) -> None:
    folder = write_series(tmp_path / "s")
    own, volume = read_volume(folder), read_volume(folder, reading=Reading(slice_axis=chosen))
    assert own.facts["slice_axis"] == {"chosen": "auto", "axis": "acquisition", "plane": "axial"}
    assert volume.geometry.shape_zyx == shape
    value = own.array_zyx[3, 2, 7]
    z, y, x = (int(i[0]) for i in np.nonzero(volume.array_zyx == value))
    assert volume.geometry.affine @ [x, y, z, 1] == pytest.approx(own.geometry.affine @ [7, 2, 3, 1])
    assert all(len(values) == shape[0] for values in volume.slices.values())
    assert volume.slices["TE"] == [10.0] * shape[0]
    for name in ("image_position_patient", "slice_thickness", "instanceNumber"):
        assert (name in volume.slices) == (chosen == "axial")
