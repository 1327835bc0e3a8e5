"""Files that do not say how they lie in the body: read alike, never mirrored, resampled or measured for heights."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.images.grids import Volume
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.masks.read_masks import read_placed_mask
from sam2ft.data.store.index import content_digest
from sam2ft.evaluation.masks.placing import read_prediction
from sam2ft.metrics.biomarkers.height import sagittal_axis

Writer = Callable[[Path, np.ndarray], Path]
SHAPE, EDGES = (8, 6, 5), (0.5, 0.5, 3.0)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1:3, 1:4, 2:4] = 1
CENTRED = np.diag([*EDGES, 1.0])
CENTRED[:3, 3] = [-1.75, -1.25, -6.0]


def nifti(path: Path, array: np.ndarray, affine: np.ndarray = CENTRED, *, code: int = 0, edges=EDGES) -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_zooms(edges)
    image.set_sform(affine, code)
    image.set_qform(affine, code)
    nibabel.save(image, path)
    return path


def oriented(path: Path, array: np.ndarray) -> Path:
    return nifti(path.with_suffix(".nii"), array, code=1)


def oriented_las(path: Path, array: np.ndarray) -> Path:
    """The affine that nibabel assumes for a file without codes."""
    return nifti(path.with_suffix(".nii"), array, np.diag([-1, 1, 1, 1]) @ CENTRED, code=1)


def bare_nifti(path: Path, array: np.ndarray) -> Path:
    return nifti(path.with_suffix(".nii.gz"), array)


def bare_nrrd(path: Path, array: np.ndarray) -> Path:
    nrrd.write(str(path.with_suffix(".nrrd")), array, {"spacings": list(EDGES)})
    return path.with_suffix(".nrrd")


@pytest.mark.parametrize("mask", [bare_nifti, bare_nrrd])
@pytest.mark.parametrize("image", [bare_nifti, bare_nrrd])
def test_image_and_mask_without_orientation_are_taken_in_the_order_of_their_files(
    tmp_path: Path, image: Writer, mask: Writer
) -> None:
    volume = read_volume(image(tmp_path / "image", MASK.astype(np.int16)))
    assert not volume.geometry.oriented
    assert "orientation" in volume.notes[0]
    assert "heights of discs are not measured" in volume.notes[0]
    found = read_placed_mask(mask(tmp_path / "mask", MASK), volume)
    assert np.array_equal(found.array_zyx, volume.array_zyx)


@pytest.mark.parametrize(
    ("image", "mask", "lacking"),
    [
        (oriented, bare_nifti, "mask"),
        (oriented_las, bare_nifti, "mask"),
        (oriented, bare_nrrd, "mask"),
        (bare_nifti, oriented, "image"),
        (bare_nrrd, oriented, "image"),
        (bare_nifti, oriented_las, "image"),
    ],
)
def test_one_file_without_orientation_is_refused_by_name(
    tmp_path: Path, image: Writer, mask: Writer, lacking: str
) -> None:
    paths = {"image": image(tmp_path / "image", MASK), "mask": mask(tmp_path / "mask", MASK)}
    with pytest.raises(DataError, match=r"header.* does not say how it lies in the body .*CopyInformation") as refused:
        read_placed_mask(paths["mask"], read_volume(paths["image"]))
    assert str(paths[lacking]) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("mask", [bare_nifti, bare_nrrd])
def test_nothing_is_resampled_from_or_to_an_unknown_place(tmp_path: Path, mask: Writer, resample: bool) -> None:
    elsewhere = CENTRED.copy()
    elsewhere[:3, 3] = [-2, -1, -3]
    grid = read_volume(nifti(tmp_path / "a.nii", MASK, elsewhere, code=1)).geometry
    with pytest.raises(DataError, match=r"mask\.\w+.*: its header does not say how it lies .*CopyInformation"):
        read_prediction(mask(tmp_path / "mask", MASK), Volume(MASK, grid), resample=resample)
    values = 40 * np.ones(SHAPE, np.float32)
    source = MapSource(file="{subject}", resample=resample)
    with pytest.raises(DataError, match=r"map\.\w+.*: its header does not say how it lies"):
        read_map(mask(tmp_path / "map", values), "t2", source, grid)
    smaller = read_volume(bare_nifti(tmp_path / "b", MASK[:-1])).geometry
    with pytest.raises(DataError, match="cannot be resampled" if resample else "different grids"):
        read_prediction(mask(tmp_path / "mask", MASK), Volume(MASK, smaller), resample=resample)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("image", [bare_nifti, bare_nrrd])
def test_a_written_mask_lies_on_its_unoriented_image_whatever_the_slice_axis(
    tmp_path: Path, image: Writer, axis: int
) -> None:
    from sam2ft.config.schema.dataset import Reading

    volume = read_volume(image(tmp_path / "image", MASK), reading=Reading(slice_axis=str(axis)))
    write_nifti(tmp_path / "p.nii.gz", volume.array_zyx, volume.geometry)
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "p.nii.gz").dataobj), MASK)
    placed = read_prediction(tmp_path / "p.nii.gz", volume, resample=False).volume
    assert np.array_equal(placed.array_zyx, volume.array_zyx)


@pytest.mark.parametrize("image", [bare_nifti, bare_nrrd])
def test_an_unoriented_grid_has_no_sagittal_planes_also_after_a_record(tmp_path: Path, image: Writer) -> None:
    geometry = read_volume(image(tmp_path / "image", MASK)).geometry
    assert sagittal_axis(geometry) is None
    assert Geometry.from_json(geometry.to_json()) == geometry
    assert sagittal_axis(replace(geometry, oriented=True)) is not None


def test_records_and_digests_of_oriented_grids_do_not_change() -> None:
    geometry = Geometry.axis_aligned((3, 4, 5), (3.0, 1.0, 1.0))
    assert "oriented" not in geometry.to_json()
    assert Geometry.from_json(geometry.to_json()).oriented
    labels = LabelTable.unnamed([1])
    assert content_digest({}, geometry, labels) != content_digest({}, replace(geometry, oriented=False), labels)


def test_heights_of_an_image_of_unknown_orientation_are_empty(score) -> None:
    disc = np.zeros((10, 20, 30), np.uint8)
    disc[3:7, 5:15, 5:25] = 1
    grid = Geometry.axis_aligned(disc.shape, (1.0, 1.0, 1.0))
    values = {}
    for known in (True, False):
        rows = score(disc, disc, names=("tissueheight",), geometry=replace(grid, oriented=known))["biomarker_volume"]
        values[known] = [row["reference"] for row in rows if row["label"] == 1]
    assert not any(map(math.isnan, values[True]))
    assert all(map(math.isnan, values[False]))
