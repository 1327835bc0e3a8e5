"""Arrays of numpy: axes and spacing come from the dataset file, nothing is unpickled."""

import pickle
import zipfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.array_file import describe_array
from sam2ft.data.images.volumes import read_volume

SHAPE_ZYX = (5, 6, 7)
EDGES = (4.0, 0.75, 0.5)
GIVEN = Reading(spacing_mm=EDGES, axes="zyx")


def values(dtype: str = "i2") -> np.ndarray:
    return np.arange(np.prod(SHAPE_ZYX)).reshape(SHAPE_ZYX).astype(dtype)


def refused(path: Path, told: str, reading: Reading = GIVEN) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_volume(path, reading=reading)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("axes", ["".join(order) for order in permutations("xyz")])
@pytest.mark.parametrize("fortran", [False, True])
def test_axes_say_which_one_counts_slices(tmp_path: Path, axes: str, fortran: bool) -> None:
    array = values().transpose(["zyx".index(name) for name in axes])
    np.save(tmp_path / "a.npy", np.asfortranarray(array) if fortran else np.ascontiguousarray(array))
    refused(
        tmp_path / "a.npy", "nothing says which of its axes counts slices; give the order", Reading(spacing_mm=EDGES)
    )
    volume = read_volume(tmp_path / "a.npy", reading=Reading(spacing_mm=EDGES, axes=axes))
    assert np.array_equal(volume.array_zyx, values())
    assert volume.geometry.spacing_zyx_mm == pytest.approx(EDGES)
    assert volume.facts["slice_axis"]["axis"] == "slices"


@pytest.mark.parametrize("spacing", [(0.2, 3.0, 3.0), (1.0, 1.0, 1.0), (3.0, 1.0, 0.2)])
def test_the_slices_are_those_that_the_dataset_file_names_whatever_the_spacing(tmp_path: Path, spacing) -> None:
    np.save(tmp_path / "a.npy", values())
    volume = read_volume(tmp_path / "a.npy", reading=Reading(spacing_mm=spacing, axes="zyx"))
    assert np.array_equal(volume.array_zyx, values())
    assert volume.geometry.spacing_zyx_mm == pytest.approx(spacing)


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i4", ">i4", "<i8", "<f4", ">f4", "<f8", "<f2", "?"])
@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_numbers_of_every_type_are_read(tmp_path: Path, dtype: str, save) -> None:
    ending = "npy" if save is np.save else "npz"
    given = (values() % 2 if dtype == "?" else values()).astype(dtype)
    save(tmp_path / f"a.{ending}", given)
    found = read_volume(tmp_path / f"a.{ending}", reading=GIVEN).array_zyx
    assert np.array_equal(found, given)
    assert found.dtype.isnative


def test_one_of_several_arrays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, imgs=values(), gts=(values() > 9).astype("u1"), spacing=np.array([0.5, 0.75, 4]))
    refused(path, r"holds 3 arrays; name one in the dataset file with array: .images. and mask_array: .masks.")
    named = Reading(spacing_mm=EDGES, axes="zyx", array="imgs", mask_array="gts")
    assert np.array_equal(read_volume(path, reading=named).array_zyx, values())
    assert np.array_equal(read_volume(path, reading=named.of_masks).array_zyx, values() > 9)
    refused(path, "has no array of the name 'img' among its 3", named.model_copy(update={"array": "img"}))
    refused(path, r"has shape \(3,\); expected one 3-D volume", named.model_copy(update={"array": "spacing"}))
    assert sorted(np.load(path).files) == ["gts", "imgs", "spacing"]
    np.savez(tmp_path / "b.npz", imgs=np.load(path)["imgs"])
    assert np.array_equal(read_volume(tmp_path / "b.npz", reading=GIVEN).array_zyx, values())


@pytest.mark.parametrize("channels", [2, 3])
def test_a_channel_is_chosen_by_its_index(tmp_path: Path, channels: int) -> None:
    many = np.random.default_rng(1).integers(0, 99, (*SHAPE_ZYX, channels))
    np.save(tmp_path / "a.npy", many)
    refused(tmp_path / "a.npy", f"found {channels} .times or channels.")
    for channel in range(channels):
        reading = GIVEN.model_copy(update={"channel": channel})
        assert np.array_equal(read_volume(tmp_path / "a.npy", reading=reading).array_zyx, many[..., channel])


class Bomb:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", np.array([[[Bomb()]]], dtype=object))
    (tmp_path / "c.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "d.npz").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.npy", "b.npz"):
        refused(tmp_path / name, "holds no plain numbers .objects would need pickle, which is never used.")
    for name in ("c.npy", "d.npz"):
        refused(tmp_path / name, "not a readable numpy file: it does not begin as one")
    np.save(tmp_path / "a.npy", values())
    assert np.array_equal(read_volume(tmp_path / "a.npy", reading=GIVEN).array_zyx, values())


@pytest.mark.parametrize("array", [np.zeros((3, 4)), np.zeros((1, 2, 3, 4, 5)), np.float64(3)])
def test_other_shapes_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", "a.npy: ")


@pytest.mark.parametrize("dtype", ["c8", "U3", "M8[s]", [("a", "i4"), ("b", "f4")]])
def test_other_contents_are_refused(tmp_path: Path, dtype) -> None:
    np.save(tmp_path / "a.npy", np.zeros(SHAPE_ZYX, dtype=dtype))
    refused(tmp_path / "a.npy", "holds no plain numbers")


def header(text: str) -> bytes:
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[" * 5000,
        "{'descr': '<i2', 'fortran_order': False, 'shape': (99999999999, 2, 2)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (-1, 2, 2)}",
        "{'descr': '<i2', 'fortran_order': False, 'shape': (True, 2, 2)}",
        "{'descr': __import__('os'), 'fortran_order': False, 'shape': (1, 2, 2)}",
        "{'descr': '<i2000000000', 'fortran_order': False, 'shape': (1, 2, 2)}",
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.npy").write_bytes(header(text) + b"\0" * 64)
    refused(tmp_path / "a.npy", "a.npy: ")


def test_a_declared_size_beyond_the_file_costs_no_memory(tmp_path: Path) -> None:
    big = "{'descr': '<f8', 'fortran_order': False, 'shape': (30000, 30000, 3000)}"
    (tmp_path / "a.npy").write_bytes(header(big))
    assert describe_array(tmp_path / "a.npy", GIVEN).num_bytes == 30000 * 30000 * 3000 * 8
    refused(tmp_path / "a.npy", "ends too early|MemoryError")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", header(big))
    refused(tmp_path / "b.npz", "ends too early|MemoryError")
