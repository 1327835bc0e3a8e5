"""The size of the voxels of a NIfTI file is that of its header, or unknown: never what a library puts in its place."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.declared_size import declared_size
from sam2ft.data.formats.nifti_file import read_nifti
from sam2ft.data.formats.readers import stem_of
from sam2ft.data.images.volumes import read_volume

SHAPE, EDGES = (7, 6, 5), (0.5, 0.75, 3.0)
AFFINE = np.diag([*EDGES, 1.0])


def save(path: Path, pixdim: tuple[float, ...] = EDGES, *, s: int = 1, q: int = 1, shape=SHAPE, dim_info=None) -> Path:
    """A file whose pixdim is as given, whatever its affines say."""
    image = nibabel.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), AFFINE)
    image.set_sform(AFFINE, s)
    image.set_qform(AFFINE, q)
    if dim_info is not None:
        image.header.set_dim_info(slice=dim_info)
    data = bytearray(image.to_bytes())
    data[80:92] = np.array(pixdim, "<f4").tobytes()
    path.write_bytes(data)
    return path


ABSENT = [(0, 0, 0), (0.5, 0.75, 0), (-0.5, 0.75, 3), (0.5, np.nan, 3)]


@pytest.mark.parametrize("pixdim", ABSENT)
@pytest.mark.parametrize("q", [0, 1])
def test_without_an_sform_a_size_that_pixdim_does_not_give_is_unknown(tmp_path: Path, pixdim, q: int, capfd) -> None:
    with pytest.raises(DataError, match=r"a\.nii: sform_code .*pixdim gives .*none.*size is unknown.*SetSpacing"):
        read_volume(save(tmp_path / "a.nii", pixdim, s=0, q=q))
    assert "pixdim" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("pixdim", ABSENT)
@pytest.mark.parametrize("q", [0, 1])
def test_with_an_sform_it_is_that_of_the_sform(tmp_path: Path, pixdim, q: int, caplog) -> None:
    volume = read_volume(save(tmp_path / "a.nii", pixdim, q=q))
    assert volume.geometry.spacing_zyx_mm == EDGES[::-1]
    assert volume.notes == ()
    assert not caplog.records, "nibabel says nothing by itself"


@pytest.mark.parametrize("believe", ["sform", "qform", None])
def test_an_edge_that_is_given_is_still_compared(tmp_path: Path, believe: str | None) -> None:
    path = save(tmp_path / "a.nii", (0, 0.75, 2.5))
    if believe is None:
        with pytest.raises(DataError, match=r"spacing \(0\.5, 0\.75, 3\) mm against \(0\.5, 0\.75, 2\.5\) mm"):
            read_nifti(path)
    else:
        depth = np.linalg.norm(read_nifti(path, Reading(believe=believe)).affine[:3, 2])
        assert depth == pytest.approx(3 if believe == "sform" else 2.5)


@pytest.mark.parametrize("edges", [EDGES, (1, 1, 1), (0.3, 2.0, 0.4)])
def test_without_both_codes_the_affine_is_that_of_nibabel(tmp_path: Path, edges) -> None:
    path = save(tmp_path / "a.nii", edges, s=0, q=0)
    assert read_nifti(path).affine == pytest.approx(nibabel.load(path).affine)


@pytest.mark.parametrize("depth", [3.0, 1.0, 0.4])
@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (0, 0)])
def test_a_2d_image_is_one_slice_of_its_depth(
    tmp_path: Path, depth: float, codes: tuple[int, int], monkeypatch
) -> None:
    monkeypatch.setitem(globals(), "AFFINE", np.diag([0.5, 0.75, depth, 1.0]))
    path = save(tmp_path / "a.nii", (0.5, 0.75, depth), s=codes[0], q=codes[1], shape=SHAPE[:2])
    volume = read_volume(path)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((depth, 0.75, 0.5))
    assert np.array_equal(volume.array_zyx[0].T, nibabel.load(path).dataobj)
    assert f"a single 2-D image: read as one slice of {depth:g} mm" in volume.notes[-1]


@pytest.mark.parametrize("depth", [0.0, -3.0, np.nan])
def test_a_2d_image_without_a_depth_is_refused_with_a_way_out(tmp_path: Path, depth: float) -> None:
    path = save(tmp_path / "a.nii", (0.5, 0.75, depth), shape=SHAPE[:2])
    with pytest.raises(DataError, match=r"a\.nii: is a 2-D image of shape \(7, 6\) without the depth.*JoinSeries"):
        read_volume(path)
    sitk.WriteImage(sitk.JoinSeries(sitk.GetImageFromArray(np.zeros((6, 7))), 0, 3.0), tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii").geometry.spacing_zyx_mm == (3, 1, 1)


@pytest.mark.parametrize("name", ["a.NII", "a.Nii.Gz", "a.NII.GZ", "a.NRRD", "a.Seg.Nrrd", "a.NHDR"])
def test_suffixes_are_known_in_any_case(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    plain = tmp_path / name.lower()
    image = sitk.GetImageFromArray(np.arange(210, dtype=np.int16).reshape(5, 6, 7))
    sitk.WriteImage(image, plain)
    if plain != path:
        plain.rename(path)
    assert np.array_equal(read_volume(path).array_zyx, sitk.GetArrayFromImage(image))
    assert declared_size(path)[1] == 420
    assert stem_of(path.name) == "a"


@pytest.mark.parametrize(("dim_info", "noted"), [(0, True), (1, True), (2, False)])
def test_a_slice_dimension_against_an_odd_spacing_is_noted(tmp_path: Path, dim_info: int, noted: bool) -> None:
    volume = read_volume(save(tmp_path / "a.nii", dim_info=dim_info))
    assert volume.facts["slice_axis"]["axis"] == "dim_info"
    named = f"dim_info names axis {dim_info} as that of the slices"
    assert [named in note and "slice_axis: 2" in note for note in volume.notes] == [True] * noted
