"""The files of volumes in nibabel's own tests, as far as its wheel carries them: read like nibabel, or why not."""

import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import nibabel
import numpy as np
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.images.volumes import read_volume

FOLDER = Path(str(files("nibabel"))) / "tests" / "data"
READ = {
    "anatomical.nii": 1,
    "example4d.nii.gz": 2,
    "example_nifti2.nii.gz": 2,
    "functional.nii": 20,
    "reoriented_anat_moved.nii": 1,
    "resampled_anat_moved.nii": 1,
    "standard.nii.gz": 1,
}
"""File -> number of its volumes."""
REFUSED = {
    "analyze.hdr": "analyze.img is not beside it",
    "nifti1.hdr": "nifti1.img is not beside it",
    "nifti2.hdr": "nifti2.img is not beside it",
    "row_major.dconn.nii": "expected one 3-D volume",
    "test.mgz": "found 2 .times or channels.",
}


def existing(name: str) -> Path:
    if not (FOLDER / name).is_file():
        pytest.skip(f"the installed nibabel does not carry {name}")
    return FOLDER / name


@pytest.mark.parametrize("name", READ)
def test_voxels_of_nibabels_files_lie_where_nibabel_puts_them(name: str) -> None:
    path, number = existing(name), READ[name]
    image = nibabel.load(path)
    values = np.asanyarray(image.dataobj).reshape(*image.shape[:3], -1)
    for channel in range(number):
        volume = read_volume(path, reading=Reading() if number == 1 else Reading(channel=channel))
        z, y, x = np.indices(volume.array_zyx.shape).reshape(3, -1)
        places = volume.geometry.affine @ np.stack([x, y, z, np.ones_like(x)])
        i, j, k = np.rint(np.linalg.solve(image.affine, places)[:3]).astype(int)
        assert np.allclose(volume.array_zyx.ravel(), values[i, j, k, channel], rtol=1e-5, equal_nan=True)
        assert sorted(volume.geometry.spacing_zyx_mm) == pytest.approx(sorted(image.header.get_zooms()[:3]), rel=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_the_others_are_refused_with_the_reason(name: str) -> None:
    path = existing(name)
    with pytest.raises(DataError, match=REFUSED[name]) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_stack_of_scikit_image_is_read() -> None:
    path = Path(str(files("skimage"))) / "data" / "multipage.tif"
    if not path.is_file():
        pytest.skip("the installed scikit-image does not carry multipage.tif")
    from skimage.io import imread

    volume = read_volume(path, reading=Reading(spacing_mm=(2, 1, 1)))
    assert np.array_equal(volume.array_zyx, imread(path))


OF_NIBABEL = {
    "phantom_EPI_asc_CLEAR_2_1.PAR": "phantom_EPI_asc_CLEAR_2_1.nii.gz",
    "phantom_varscale.REC": "phantom_varscale.nii.gz",
    "scaled+tlrc.HEAD": "scaled+tlrc.nii.gz",
    "scaled+tlrc.BRIK": "scaled+tlrc.nii.gz",
    "example4d+orig.BRIK.gz": "example4d+orig.nii.gz",
    "tiny.mnc": "tiny.nii.gz",
    "minc1_4d.mnc": "minc1_4d.nii.gz",
}
"""File of a kind that nibabel reads alone -> what it is converted to."""


@pytest.mark.parametrize("name", OF_NIBABEL)
def test_files_that_nibabel_reads_alone_are_converted_as_the_message_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = existing(name)
    for one in FOLDER.glob(f"{path.name.split('.')[0]}.*"):
        shutil.copy(one, tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="unknown kind of file") as caught:
        read_volume(Path(name))
    command = str(caught.value).rpartition("in Python with nibabel: ")[2]
    subprocess.run([sys.executable, "-W", "ignore", "-c", f"import nibabel; {command}"], check=True)
    converted = nibabel.load(OF_NIBABEL[name])
    volumes = int(np.prod(converted.shape[3:]))
    volume = read_volume(Path(OF_NIBABEL[name]), reading=Reading() if volumes == 1 else Reading(channel=0))
    source = np.asanyarray(nibabel.load(path).dataobj).reshape(*converted.shape[:3], -1)[..., 0]
    assert np.nansum(volume.array_zyx) == pytest.approx(np.nansum(source.astype(np.float64)), rel=1e-4)
    assert volume.array_zyx.size == source.size
