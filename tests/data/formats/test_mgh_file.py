"""FreeSurfer's files: types, frames, directions and what follows the voxels, as nibabel reads them."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fixtures.formats import turned_affine
from nibabel.freesurfer import MGHImage

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.mgh_file import read_mgh
from sam2ft.data.images.volumes import read_volume

SHAPE = (7, 6, 5)


def values(dtype: str = "i2") -> np.ndarray:
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def save(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    nibabel.save(MGHImage(values() if array is None else array, turned_affine() if affine is None else affine), path)
    return path


def changed(path: Path, at: int, content: bytes) -> Path:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "u2"])
@pytest.mark.parametrize("ending", [".mgh", ".mgz"])
def test_numbers_and_places_are_those_of_nibabel(tmp_path: Path, dtype: str, ending: str) -> None:
    path = save(tmp_path / f"a{ending}", values(dtype))
    image, other = read_mgh(path), nibabel.load(path)
    assert image.array.dtype == np.dtype(dtype)
    assert np.array_equal(image.array, np.asarray(other.dataobj))
    assert image.affine == pytest.approx(other.affine, abs=1e-4)


def test_a_name_says_nothing_about_the_compression(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.mgh").read_bytes()
    (tmp_path / "b.mgz").write_bytes(plain)
    (tmp_path / "c.mgh").write_bytes(gzip.compress(plain))
    (tmp_path / "d.mgh.gz").write_bytes(gzip.compress(plain))
    for name in ("b.mgz", "c.mgh", "d.mgh.gz"):
        assert np.array_equal(read_volume(tmp_path / name).array_zyx, read_volume(tmp_path / "a.mgh").array_zyx)


COMMAND = (3).to_bytes(4, "big") + (15).to_bytes(8, "big") + b"mri_convert DOE"
OLD_TRANSFORM = (30).to_bytes(4, "big") + (7).to_bytes(4, "big") + b"a.xfm\0\0"
SEQUENCE = np.array([2300, 0.1, 2.9, 900], ">f4").tobytes()


@pytest.mark.parametrize("tags", [b"added", SEQUENCE + b"\0" * 4 + COMMAND[:-1], SEQUENCE + b"\0" * 5, b"\xff" * 20])
def test_what_cannot_follow_the_voxels_tells_that_bytes_were_added(tmp_path: Path, tags: bytes) -> None:
    path = save(tmp_path / "a.mgh")
    path.write_bytes(path.read_bytes()[: 284 + values().nbytes] + tags)
    with pytest.raises(DataError, match="what follows its voxels is none of its kind"):
        read_mgh(path)


@pytest.mark.parametrize(
    "tags",
    [
        b"",
        b"\0" * 20,
        SEQUENCE,
        SEQUENCE + b"\0" * 4 + COMMAND + OLD_TRANSFORM + COMMAND,
        b"\0" * 20 + b"\0\0\0\x14any",
    ],
)
@pytest.mark.parametrize("ending", [".mgh", ".mgz"])
def test_what_follows_the_voxels_is_left_out(tmp_path: Path, tags: bytes, ending: str) -> None:
    whole = save(tmp_path / "a.mgh").read_bytes()[: 284 + values().nbytes] + tags
    path = tmp_path / f"b{ending}"
    path.write_bytes(gzip.compress(whole) if ending == ".mgz" else whole)
    assert np.array_equal(read_mgh(path).array, values())


@pytest.mark.parametrize("frames", [2, 5])
def test_a_frame_is_chosen_by_its_index(tmp_path: Path, frames: int) -> None:
    many = np.random.default_rng(0).integers(0, 99, (*SHAPE, frames)).astype("i2")
    path = save(tmp_path / "a.mgz", many)
    with pytest.raises(DataError, match=f"found {frames} .times or channels.; choose one of 0 to {frames - 1}"):
        read_volume(path)
    for channel in range(frames):
        assert np.array_equal(read_mgh(path, Reading(channel=channel)).array, many[..., channel])


REFUSED = [
    (0, b"\0\0\0\2", "Unknown MGH format version"),
    (4, b"\0\0\0\0", "every size must be 1 or more"),
    (4, b"\x7f\xff\xff\xff", "ends too early"),
    (20, b"\0\0\0\5", "has the type 5; allowed: 0, 1, 3, 4, 10"),
    (28, b"\0\0", "its header gives no voxel sizes and directions"),
    (30, b"\0\0\0\0", "allowed: finite and above 0"),
    (30, b"\x7f\xc0\0\0", "allowed: finite and above 0"),
    (78, b"\x7f\xc0\0\0", "Pxyz_c of its header is no place"),
]


@pytest.mark.parametrize(("at", "content", "told"), REFUSED)
def test_what_a_header_leaves_open_is_refused(tmp_path: Path, at: int, content: bytes, told: str) -> None:
    path = changed(save(tmp_path / "a.mgh"), at, content)
    with pytest.raises(DataError, match=told) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_directions_written_with_nibabel_mend_a_header_without_them(tmp_path: Path) -> None:
    path = changed(save(tmp_path / "a.mgh"), 28, b"\0\0")
    with pytest.raises(
        DataError, match=r"write them, e.g. in Python with nibabel: save\(MGHImage\(array, affine\), FILE"
    ):
        read_volume(path)
    save(path, np.array(nibabel.load(path).dataobj))
    assert np.array_equal(read_mgh(path).array, values())


@pytest.mark.parametrize(("believe", "edge"), [("orientation", 1.0), ("spacing", 0.5)])
def test_believe_decides_between_directions_and_edges(tmp_path: Path, believe: str, edge: float) -> None:
    path = save(tmp_path / "a.mgh", affine=np.diag([0.5, 0.5, 4.0, 1.0]))
    changed(path, 42, np.array([2, 0, 0], dtype=">f4").tobytes())
    with pytest.raises(DataError, match="Mdc and delta contradict each other"):
        read_volume(path)
    image = read_mgh(path, Reading(believe=believe))
    assert np.linalg.norm(image.affine[:3, :3], axis=0) == pytest.approx([edge, 0.5, 4])
