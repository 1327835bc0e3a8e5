"""Whatever axes a file has, every voxel keeps its place in space."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import Volume, reordered_to_grid
from sam2ft.data.images.volumes import read_reordered, read_volume, write_nifti

SHAPE = (7, 5, 3)
BY_SPACING = np.diag([0.5, 0.75, 4.0, 1.0])


def oblique() -> np.ndarray:
    """Spacing 0.5, 0.75, 4 mm along axes turned by 30 degrees about z, then 20 about x; origin off centre."""
    a, b = np.radians(30), np.radians(20)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([0.5, 0.75, 4.0])
    affine[:3, 3] = [11, -7, 3.5]
    return affine


def save(path: Path, array_ijk: np.ndarray, affine: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array_ijk, affine), path)
    return path


def numbered() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)


def test_the_slice_axis_of_a_file_is_the_largest_spacing(tmp_path: Path) -> None:
    affine = np.diag([0.5, 4.0, 0.75, 1.0])
    volume = read_volume(save(tmp_path / "a.nii.gz", numbered(), affine))
    assert volume.array_zyx.shape == (5, 3, 7)
    assert volume.geometry.spacing_zyx_mm == (4.0, 0.75, 0.5)


def test_on_a_tie_the_slice_axis_is_the_last(tmp_path: Path) -> None:
    affine = np.diag([3.0, 3.0000001, 3.0, 1.0])
    assert read_volume(save(tmp_path / "a.nii", numbered(), affine)).array_zyx.shape == (3, 5, 7)


@pytest.mark.parametrize(
    "affine", [BY_SPACING, oblique(), oblique()[:, [2, 0, 1, 3]]], ids=["axial", "oblique", "turned"]
)
def test_every_voxel_stays_where_it_was(tmp_path: Path, affine: np.ndarray) -> None:
    array = numbered()
    volume = read_volume(save(tmp_path / "a.nii.gz", array, affine))
    for ijk in ([0, 0, 0], [6, 0, 2], [1, 4, 1]):
        z, y, x = (int(i[0]) for i in np.where(volume.array_zyx == array[tuple(ijk)]))
        assert volume.geometry.affine @ [x, y, z, 1] == pytest.approx(affine @ [*ijk, 1], abs=1e-5)


@pytest.mark.parametrize("affine", [BY_SPACING, oblique()], ids=["axial", "oblique"])
def test_what_is_written_as_nifti_reads_back_at_the_same_place(tmp_path: Path, affine: np.ndarray) -> None:
    geometry = Geometry.from_affine((3, 5, 7), affine)
    array = numbered().reshape(3, 5, 7).astype(np.uint16)
    write_nifti(tmp_path / "deep" / "p.nii.gz", array, geometry)
    assert np.array_equal(read_reordered(tmp_path / "deep" / "p.nii.gz", geometry), array)
    stored = nibabel.load(tmp_path / "deep" / "p.nii.gz")
    assert np.allclose(stored.get_qform(), affine, atol=1e-5)
    assert np.allclose(stored.get_sform(), affine, atol=1e-5)


def test_the_same_prediction_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    geometry = Geometry.axis_aligned((3, 5, 7), (4, 0.75, 0.5))
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, np.ones((3, 5, 7), dtype=bool), geometry)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_a_mask_with_other_axes_on_the_same_grid_is_brought_onto_the_images(
    axes: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    image = Geometry.from_affine((3, 5, 7), oblique())
    wanted = numbered().transpose(2, 1, 0)
    # The same voxels, stored with axes permuted and some of them running backwards.
    array, affine = numbered(), oblique()
    for axis in flips:
        back = np.eye(4)
        back[axis, axis], back[axis, 3] = -1, array.shape[axis] - 1
        array, affine = np.flip(array, axis), affine @ back
    array, affine = array.transpose(axes), affine[:, [*axes, 3]]
    mask = Volume(array.transpose(2, 1, 0), Geometry.from_affine(array.transpose(2, 1, 0).shape, affine))
    assert np.array_equal(reordered_to_grid(mask, image), wanted)


def test_a_mask_on_another_grid_is_refused_with_numbers() -> None:
    image = Geometry.axis_aligned((3, 5, 7), (4.0, 0.75, 0.5))
    shifted = image.affine
    shifted[0, 3] += 0.25
    with pytest.raises(DataError, match=r"different grids: corners lie up to 0\.25 mm apart"):
        reordered_to_grid(Volume(np.zeros((3, 5, 7)), Geometry.from_affine((3, 5, 7), shifted)), image)
    with pytest.raises(DataError, match=r"different grids: shape \(z, y, x\) \(3, 5, 7\) against \(3, 5, 8\)"):
        reordered_to_grid(Volume(np.zeros((3, 5, 8)), Geometry.axis_aligned((3, 5, 8), (4.0, 0.75, 0.5))), image)
    with pytest.raises(DataError, match=r"not parallel|corners lie"):
        reordered_to_grid(Volume(np.zeros((3, 5, 7)), Geometry.from_affine((3, 5, 7), oblique())), image)


def test_the_file_of_a_mask_on_another_grid_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.nii.gz", numbered(), BY_SPACING)
    with pytest.raises(DataError, match=r"mask\.nii\.gz: image and mask are on different grids"):
        read_reordered(path, Geometry.axis_aligned((4, 5, 7), (4.0, 0.75, 0.5)))


def test_nrrd_and_nifti_of_one_image_lie_at_one_place(tmp_path: Path) -> None:
    affine = oblique()
    lps = np.diag([-1, -1, 1, 1]) @ affine
    header = {
        "space": "left-posterior-superior",
        "space directions": lps[:3, :3].T,
        "space origin": lps[:3, 3],
        "kinds": ["domain"] * 3,
    }
    nrrd.write(str(tmp_path / "a.nrrd"), numbered(), header, index_order="F")
    from_nrrd = read_volume(tmp_path / "a.nrrd")
    from_nifti = read_volume(save(tmp_path / "a.nii.gz", numbered(), affine))
    assert from_nifti.geometry.difference(from_nrrd.geometry) is None
    assert np.array_equal(from_nrrd.array_zyx, from_nifti.array_zyx)


def test_a_nrrd_in_ras_is_not_turned(tmp_path: Path) -> None:
    header = {
        "space": "right-anterior-superior",
        "space directions": np.diag([0.5, 0.75, 4.0]),
        "space origin": [1, 2, 3],
    }
    nrrd.write(str(tmp_path / "a.nrrd"), numbered(), header, index_order="F")
    assert read_volume(tmp_path / "a.nrrd").geometry.affine @ [0, 0, 0, 1] == pytest.approx([1, 2, 3, 1])


def test_a_4d_file_of_one_volume_is_that_volume(tmp_path: Path) -> None:
    assert read_volume(save(tmp_path / "a.nii", numbered()[..., None], BY_SPACING)).array_zyx.shape == (3, 5, 7)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((7, 5, 3, 2), dtype=np.int16), r"shape \(7, 5, 3, 2\); expected one 3-D volume"),
        (np.zeros(SHAPE, dtype=np.complex64), "complex64; expected one number per voxel"),
    ],
)
def test_a_file_that_is_no_plain_volume_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_volume(save(tmp_path / "a.nii", array, BY_SPACING))


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    sheared = BY_SPACING.copy()
    sheared[1, 2] = 1.0
    with pytest.raises(DataError, match="not at right angles"):
        read_volume(save(tmp_path / "a.nii", numbered(), sheared))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.nrrd").write_bytes(b"x")
    cut = save(tmp_path / "cut.nii.gz", np.random.default_rng(0).normal(size=(40, 40, 40)), BY_SPACING)
    cut.write_bytes(cut.read_bytes()[:-500])
    for name, message in (
        ("broken.nii.gz", "not a readable NIfTI"),
        ("cut.nii.gz", "not a readable NIfTI"),
        ("a.nrrd", "not a readable NRRD"),
        ("a.jpg", "unknown kind of file; allowed: NIfTI"),
        ("absent.nii", "no such file or folder"),
    ):
        with pytest.raises(DataError, match=rf"{name}: {message}"):
            read_volume(tmp_path / name)


def test_a_folder_is_read_as_a_dicom_series(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    assert read_volume(write_series(tmp_path / "s")).geometry.shape_zyx == (5, 6, 8)


@pytest.mark.real
def test_the_labels_of_a_real_ct_fit_its_dicom_although_their_rows_run_the_other_way(real_data: Path) -> None:
    image = read_volume(real_data / "ct_dicom" / "dicom")
    labels = read_reordered(real_data / "ct_dicom" / "labels.nii.gz", image.geometry)
    stored = np.asarray(nibabel.load(real_data / "ct_dicom" / "labels.nii.gz").dataobj)
    assert np.array_equal(labels, stored.transpose(2, 1, 0)[:, ::-1])
    # TotalSegmentator's vertebra L1..T12 etc. are bone: inside labels the CT is denser than outside.
    assert image.array_zyx[labels > 0].mean() > image.array_zyx[labels == 0].mean()


@pytest.mark.real
@pytest.mark.parametrize("name", ["mr_small/{}.nii.gz", "ct_small/{}.nii.gz"])
def test_real_images_and_their_labels_share_a_grid(real_data: Path, name: str) -> None:
    image = read_volume(real_data / name.format("image"))
    assert read_reordered(real_data / name.format("labels"), image.geometry).shape == image.geometry.shape_zyx


@pytest.mark.real
def test_a_real_isotropic_spine_keeps_its_last_axis_as_slices(real_data: Path) -> None:
    volume = read_volume(real_data / "spine_mr" / "sub-mri_label-6_T2w.nii.gz")
    assert volume.geometry.shape_zyx == (67, 52, 68)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((1.5, 1.5, 1.5))


@pytest.mark.parametrize("kind", ["any", "half turn", "nearly a half turn"])
def test_what_is_written_never_contradicts_itself(tmp_path: Path, kind: str) -> None:
    # The first number of a quaternion is a square root: near a half turn its rounding turns an axis by up to 7e-4.
    rng = np.random.default_rng(0)
    for _ in range(40):
        angle = {"any": rng.uniform(0, 360), "half turn": 180, "nearly a half turn": rng.uniform(179.9, 180)}[kind]
        axis = rng.normal(size=3)
        turn = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis), degrees=True).as_matrix()
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn @ np.diag([0.31, 0.62, 3.3]), rng.uniform(-100, 100, 3)
        geometry = Geometry.from_affine((3, 5, 7), affine)
        write_nifti(tmp_path / "p.nii.gz", numbered().reshape(3, 5, 7), geometry)
        assert read_volume(tmp_path / "p.nii.gz").notes == ()


@pytest.mark.parametrize("shear", [0.0, 4e-4, 1e-3, 9e-3])
def test_a_little_shear_is_written_without_a_contradicting_qform(tmp_path: Path, shear: float) -> None:
    affine = np.diag([0.5, 0.5, 4.0, 1.0])
    affine[0, 2] = 4.0 * shear
    geometry = Geometry.from_affine((3, 5, 7), affine)
    write_nifti(tmp_path / "p.nii.gz", numbered().reshape(3, 5, 7), geometry)
    assert np.array_equal(read_reordered(tmp_path / "p.nii.gz", geometry), numbered().reshape(3, 5, 7))
    assert nibabel.load(tmp_path / "p.nii.gz").header["qform_code"] == (0 if shear > 5e-4 else 1)


@pytest.mark.parametrize(("name", "way"), [("a.vtk", "SimpleITK"), ("a.gipl", "SimpleITK"), ("a.mnc", "SimpleITK")])
def test_other_formats_are_refused_with_the_way_out(tmp_path: Path, name: str, way: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"{name}: unknown kind of file; allowed: NIfTI .*{way}: .*'a\.nii\.gz'"):
        read_volume(tmp_path / name)
