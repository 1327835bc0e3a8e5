"""Every orientation of an image in every kind of file: each voxel lies where SimpleITK and nibabel say it lies."""

from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
from fixtures.formats import sitk_image
from pydicom.dataset import FileDataset

from sam2ft.core.geometry import Geometry
from sam2ft.data.images.grids import Volume, reordered_to_grid
from sam2ft.data.images.volumes import read_volume

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (7, 6, 5)
ORIENTATIONS = [(axes, signs) for axes in permutations(range(3)) for signs in product((False, True), repeat=3)]


def anatomy() -> tuple[np.ndarray, np.ndarray]:
    """(voxels numbered from 1, their RAS affine): right, anterior and superior along the axes, 0.5, 0.75 and 4 mm."""
    affine = np.diag([0.5, 0.75, 4.0, 1.0])
    affine[:3, 3] = [-11.0, 7.5, 3.0]
    return 1 + np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE), affine


def turned(axes: tuple[int, ...], backwards: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels at the same places, stored with other axes, some of which run backwards."""
    array, affine = anatomy()
    for axis in range(3):
        if backwards[axis]:
            back = np.eye(4)
            back[axis, axis], back[axis, 3] = -1, array.shape[axis] - 1
            array, affine = np.flip(array, axis), affine @ back
    return array.transpose(axes), affine[:, [*axes, 3]]


def as_nifti(folder: Path, array: np.ndarray, affine: np.ndarray, _: Callable[..., Path]) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    nibabel.save(image, folder / "a.nii.gz")
    return folder / "a.nii.gz"


def as_nrrd(folder: Path, array: np.ndarray, affine: np.ndarray, _: Callable[..., Path]) -> Path:
    lps = LPS @ affine
    header = {"space": "LPS", "space directions": lps[:3, :3].T, "space origin": lps[:3, 3], "encoding": "gzip"}
    nrrd.write(str(folder / "a.nrrd"), array, header, index_order="F")
    return folder / "a.nrrd"


def as_mha(folder: Path, array: np.ndarray, affine: np.ndarray, _: Callable[..., Path]) -> Path:
    sitk.WriteImage(sitk_image(array, affine), str(folder / "a.mha"), True)
    return folder / "a.mha"


def as_mgz(folder: Path, array: np.ndarray, affine: np.ndarray, _: Callable[..., Path]) -> Path:
    nibabel.save(nibabel.MGHImage(array, affine), folder / "a.mgz")
    return folder / "a.mgz"


def as_dicom(folder: Path, array: np.ndarray, affine: np.ndarray, write_series: Callable[..., Path]) -> Path:
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    directions = lps[:3, :3] / spacing

    def place(header: FileDataset, z: int) -> None:
        header.ImageOrientationPatient = [*directions[:, 0].tolist(), *directions[:, 1].tolist()]
        header.ImagePositionPatient = (lps @ [0, 0, z, 1])[:3].tolist()
        header.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        header.PixelData = array[:, :, z].T.astype("<u2").tobytes()

    return write_series(folder / "s", array.shape[2], change=place, shape=(array.shape[1], array.shape[0]))


def oracle(path: Path) -> sitk.Image:
    if path.suffix == ".mgz":  # which SimpleITK does not read; its place is nibabel's
        image = nibabel.load(path)
        return sitk_image(np.asarray(image.dataobj).astype(np.uint16), image.affine)
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


@pytest.mark.parametrize("write", [as_nifti, as_nrrd, as_mha, as_mgz, as_dicom])
@pytest.mark.parametrize(("axes", "backwards"), ORIENTATIONS)
def test_every_voxel_lies_where_other_readers_put_it(
    axes: tuple[int, ...],
    backwards: tuple[bool, ...],
    write: Callable[..., Path],
    tmp_path: Path,
    write_series: Callable[..., Path],
) -> None:
    wanted, affine = anatomy()
    path = write(tmp_path, *turned(axes, backwards), write_series)
    volume = read_volume(path)

    # Five landmarks against SimpleITK: the place of a value in this file.
    image = oracle(path)
    values_zyx = sitk.GetArrayFromImage(image)
    for ijk in ((0, 0, 0), (6, 5, 4), (6, 0, 2), (1, 4, 1), (3, 2, 4)):
        z, y, x = (int(found[0]) for found in np.nonzero(volume.array_zyx == wanted[ijk]))
        k, j, i = (int(found[0]) for found in np.nonzero(values_zyx == wanted[ijk]))
        mm = volume.geometry.affine @ [x, y, z, 1]
        assert mm == pytest.approx(affine @ [*ijk, 1], abs=1e-4)
        assert mm[:3] == pytest.approx(np.array(image.TransformIndexToPhysicalPoint((i, j, k))) * [-1, -1, 1], abs=1e-4)

    # All voxels, on the grid of the anatomy.
    grid = Geometry.from_affine(SHAPE[::-1], affine)
    assert np.array_equal(reordered_to_grid(volume, grid), wanted.transpose(2, 1, 0))
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(0.5 * 0.75 * 4.0)
    if write in (as_nifti, as_mgz):
        closest = nibabel.as_closest_canonical(nibabel.load(path))
        there = Volume(np.asarray(closest.dataobj).T, Geometry.from_affine(SHAPE[::-1], closest.affine))
        assert np.array_equal(reordered_to_grid(volume, there.geometry), there.array_zyx)
