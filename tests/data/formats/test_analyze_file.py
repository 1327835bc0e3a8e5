"""Pairs of a header and its voxels: NIfTI pairs as nibabel reads them, ANALYZE without a place in the body."""

import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fixtures.formats import turned_affine
from nibabel.spm99analyze import Spm99AnalyzeImage

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.analyze_file import read_pair
from sam2ft.data.images.volumes import read_volume

SHAPE = (7, 6, 5)


def values(dtype: str = "i2") -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def save(path: Path, kind: type, array: np.ndarray | None = None) -> Path:
    nibabel.save(kind(values() if array is None else array, turned_affine()), path)
    return path


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8", "u2"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_nifti_pair_is_read_by_either_name(tmp_path: Path, kind: type, dtype: str, ending: str) -> None:
    save(tmp_path / f"a.img{ending}", kind, values(dtype))
    other = nibabel.load(tmp_path / f"a.img{ending}")
    for name in ("a.hdr", "a.img"):
        image = read_pair(tmp_path / f"{name}{ending}")
        assert image.array.dtype == np.dtype(dtype)
        assert np.array_equal(image.array, np.asarray(other.dataobj))
        assert image.affine == pytest.approx(other.affine, abs=1e-5)
        assert image.oriented


@pytest.mark.parametrize("slope", [2.0, 0.25, 7.0])
def test_the_scale_of_a_pair_is_applied(tmp_path: Path, slope: float) -> None:
    image = nibabel.Nifti1Pair(values(), turned_affine())
    image.header.set_slope_inter(slope, 3)
    nibabel.save(image, tmp_path / "a.img")
    assert np.allclose(read_pair(tmp_path / "a.img").array, nibabel.load(tmp_path / "a.img").get_fdata())
    spm = Spm99AnalyzeImage(values(), np.diag([0.5, 0.75, 4, 1]))
    spm.header.set_slope_inter(slope)
    nibabel.save(spm, tmp_path / "b.img")
    found = read_pair(tmp_path / "b.img")
    assert np.allclose(found.array, nibabel.load(tmp_path / "b.img").get_fdata())


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_analyze_has_edges_and_no_place(tmp_path: Path, dtype: str, ending: str) -> None:
    image = nibabel.AnalyzeImage(values(dtype), np.diag([0.5, 0.75, 4, 1]))
    nibabel.save(image, tmp_path / f"a.img{ending}")
    volume = read_volume(tmp_path / f"a.hdr{ending}")
    assert volume.array_zyx.dtype == np.dtype(dtype)
    assert np.array_equal(volume.array_zyx, values(dtype).T)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((4, 0.75, 0.5))
    assert not volume.geometry.oriented
    assert "does not say how it lies in the body" in volume.notes[0]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.AnalyzeImage])
@pytest.mark.parametrize("times", [2, 4])
def test_a_volume_of_several_is_chosen(tmp_path: Path, kind: type, times: int) -> None:
    many = np.random.default_rng(0).integers(0, 99, (*SHAPE, times)).astype("i2")
    nibabel.save(kind(many, np.diag([0.5, 0.75, 4, 1])), tmp_path / "a.img")
    with pytest.raises(DataError, match=rf"expected one 3-D volume, found {times} "):
        read_volume(tmp_path / "a.img")
    for channel in range(times):
        assert np.array_equal(read_pair(tmp_path / "a.img", Reading(channel=channel)).array, many[..., channel])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.AnalyzeImage])
@pytest.mark.parametrize(("given", "lost"), [("a.hdr", "a.img"), ("a.img", "a.hdr")])
def test_a_half_pair_is_refused_until_the_other_half_is_there(
    tmp_path: Path, kind: type, given: str, lost: str
) -> None:
    save(tmp_path / "a.img", kind)
    shutil.move(tmp_path / lost, tmp_path / "kept")
    with pytest.raises(
        DataError, match=rf"{given}: is one of a pair \(.hdr, .img\), but {lost} is not beside it; copy"
    ):
        read_volume(tmp_path / given)
    shutil.move(tmp_path / "kept", tmp_path / lost)
    assert np.array_equal(read_pair(tmp_path / given).array, values())


@pytest.mark.parametrize("edge", [0, -1, np.nan])
def test_analyze_without_edges_is_refused_until_simpleitk_writes_them(tmp_path: Path, edge: float) -> None:
    image = nibabel.AnalyzeImage(values(), np.diag([0.5, 0.75, 4, 1]))
    nibabel.save(image, tmp_path / "a.img")
    content = bytearray((tmp_path / "a.hdr").read_bytes())
    content[80:84] = np.array(edge, dtype="<f4").tobytes()
    (tmp_path / "a.hdr").write_bytes(content)
    with pytest.raises(DataError, match="gives no voxel edges above 0; its voxel size is unknown; save it as NIfTI"):
        read_volume(tmp_path / "a.hdr")
    import SimpleITK

    fixed = SimpleITK.GetImageFromArray(np.fromfile(tmp_path / "a.img", "<i2").reshape(SHAPE[::-1]))
    fixed.SetSpacing((0.5, 0.75, 4))
    SimpleITK.WriteImage(fixed, str(tmp_path / "b.nii.gz"))
    assert np.array_equal(read_volume(tmp_path / "b.nii.gz").array_zyx, values().T)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Pair, nibabel.AnalyzeImage])
def test_voxels_of_another_size_are_refused(tmp_path: Path, kind: type) -> None:
    save(tmp_path / "a.img", kind)
    whole = (tmp_path / "a.img").read_bytes()
    for content, told in (
        (whole[:-3], "ends too early"),
        (whole + b"\0" * 8, "more than the"),
        (b"", "ends too early"),
    ):
        (tmp_path / "a.img").write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_volume(tmp_path / "a.hdr")


def test_files_with_each_other_names_say_how_they_are_named_right(tmp_path: Path) -> None:
    save(tmp_path / "a.img", nibabel.Nifti1Pair)
    nibabel.save(nibabel.Nifti1Image(values(), turned_affine()), tmp_path / "b.nii")
    shutil.copy(tmp_path / "a.hdr", tmp_path / "c.nii")
    with pytest.raises(DataError, match=r"it is the header of a pair .*; name it .hdr beside its .img file, or save"):
        read_volume(tmp_path / "c.nii")
    shutil.copy(tmp_path / "c.nii", tmp_path / "d.hdr")
    shutil.copy(tmp_path / "a.img", tmp_path / "d.img")
    assert np.array_equal(read_pair(tmp_path / "d.hdr").array, values())
    shutil.copy(tmp_path / "b.nii", tmp_path / "e.hdr")
    shutil.copy(tmp_path / "b.nii", tmp_path / "e.img")
    with pytest.raises(
        DataError, match=r"it is the header of a file \(.nii\), not of a pair \(.hdr, .img\); name it .nii"
    ):
        read_volume(tmp_path / "e.hdr")
    shutil.copy(tmp_path / "e.hdr", tmp_path / "e.nii")
    assert np.array_equal(read_volume(tmp_path / "e.nii").array_zyx, values().T)


@pytest.mark.parametrize(
    "content",
    [b"", b"x" * 400, b"\0" * 348, gzip.compress(b"x" * 400, mtime=0)],
    ids=["empty", "text", "zeros", "gzip"],
)
def test_other_contents_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.hdr").write_bytes(content)
    (tmp_path / "a.img").write_bytes(b"\0" * 420)
    with pytest.raises(DataError, match=r"a\.hdr: "):
        read_volume(tmp_path / "a.hdr")
