"""MetaImage files: fields, types and channels as SimpleITK reads them, and what it would pass over is refused."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from fixtures.formats import LPS, sitk_image, turned_affine

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.mha_file import read_mha, voxel_file
from sam2ft.data.images.volumes import read_volume

SHAPE = (4, 3, 2)
HEADER = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "1 2 3",
    "ElementSpacing": "0.5 0.75 4",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def values(dtype: str = "<i2") -> np.ndarray:
    return np.arange(24).reshape(SHAPE).astype(dtype)


def header_text(**changed: str | None) -> bytes:
    fields = {**HEADER, **changed}
    last = fields.pop("ElementDataFile")
    lines = [f"{name} = {value}\n" for name, value in fields.items() if value is not None]
    return "".join([*lines, f"ElementDataFile = {last}\n"]).encode()


def save(path: Path, voxels: bytes | None = None, **changed: str | None) -> Path:
    body = values().tobytes(order="F") if voxels is None else voxels
    path.write_bytes(header_text(**changed) + body)
    return path


@pytest.mark.parametrize("name", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_numbers_of_every_type_are_those_of_simpleitk(tmp_path: Path, name: str, compressed: bool) -> None:
    low = -50 if name[0] != "u" else 0
    given = (np.arange(24).reshape(SHAPE) + low).astype(name)
    SimpleITK.WriteImage(sitk_image(given, turned_affine()), str(tmp_path / "a.mha"), compressed)
    image = read_mha(tmp_path / "a.mha")
    assert image.array.dtype == np.dtype(name)
    assert np.array_equal(image.array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.mha"))).T)


@pytest.mark.parametrize(
    "changed",
    [
        {"Offset": None, "Position": "1 2 3"},
        {"Offset": None, "Origin": "1 2 3"},
        {"TransformMatrix": None, "Rotation": "0 1 0 -1 0 0 0 0 1"},
        {"TransformMatrix": None, "Orientation": "0.8 0.6 0 -0.6 0.8 0 0 0 1"},
        {"TransformMatrix": "0 0 1 1 0 0 0 1 0"},
        {"BinaryData": None},
        {"CompressedData": None},
        {"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "False"},
        {"ElementType": "MET_USHORT"},
    ],
)
def test_every_name_of_a_field_is_read_as_simpleitk_reads_it(tmp_path: Path, changed: dict[str, str | None]) -> None:
    path = save(tmp_path / "a.mha", **changed)
    image, other = read_mha(path), SimpleITK.ReadImage(str(path))
    assert np.array_equal(image.array, SimpleITK.GetArrayFromImage(other).T)
    for index in ((0, 0, 0), (3, 0, 0), (0, 2, 0), (0, 0, 1), (3, 2, 1)):
        wanted = LPS @ [*other.TransformIndexToPhysicalPoint(index), 1]
        assert image.affine @ [*index, 1] == pytest.approx(wanted)


@pytest.mark.parametrize("msb", ["True", "1"])
def test_the_order_of_bytes_is_obeyed(tmp_path: Path, msb: str) -> None:
    path = save(tmp_path / "a.mha", values(">i2").tobytes(order="F"), BinaryDataByteOrderMSB=msb)
    assert np.array_equal(read_mha(path).array, values())


@pytest.mark.parametrize(("unit", "factor"), [("mm", 1), ("um", 1e-3), ("cm", 10), ("?", 1)])
def test_the_unit_of_lengths_is_obeyed(tmp_path: Path, unit: str, factor: float) -> None:
    affine = read_mha(save(tmp_path / "a.mha", DistanceUnits=unit)).affine
    assert np.linalg.norm(affine[:3, :3], axis=0) == pytest.approx(np.array([0.5, 0.75, 4]) * factor)
    assert affine[:3, 3] == pytest.approx(np.array([-1, -2, 3]) * factor)


REFUSED = [
    ({"ElementSpacing": None}, "has no ElementSpacing; voxel sizes are unknown"),
    ({"ElementSpacing": "0.5 0.75 0"}, "ElementSpacing has a length that is not above 0"),
    ({"ElementSpacing": "0.5 0.75"}, "ElementSpacing is not 3 numbers"),
    ({"ElementSpacing": "0.5 0.75 nan"}, "ElementSpacing is not 3 numbers"),
    ({"Offset": "1 2 x"}, "Offset is not 3 numbers"),
    ({"TransformMatrix": "1 0 0 0 1 0 0 0"}, "TransformMatrix is not 9 numbers"),
    ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "allowed: finite and above 0"),
    ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, r"contradict each other: steps of \(1, 1.5, 8\) mm against \(0.5, 0.75"),
    ({"TransformMatrix": "1 0 0 0.7 0.7 0 0 0 1"}, "contradict each other"),
    ({"DimSize": None}, "lacks DimSize"),
    ({"DimSize": "4 3 0"}, "every size must be 1 or more"),
    ({"DimSize": "4 3 3"}, "ends too early"),
    ({"DimSize": "4 3 1"}, "more than the 24 bytes"),
    ({"DimSize": "4 3 2000000000"}, "ends too early"),
    ({"NDims": "2", "DimSize": "4 6"}, "is a 2-D image without the depth"),
    ({"NDims": "7"}, "has 7 axes"),
    ({"ElementType": "MET_STRING"}, "has an ElementType that is no number"),
    ({"ElementType": "MET_UCHAR"}, "more than the 24 bytes"),
    ({"BinaryData": "False"}, "holds its voxels as text"),
    ({"CompressedData": "maybe"}, "CompressedData is neither True nor False"),
    *(({"HeaderSize": size}, f"its HeaderSize is {size}, but its header ends at") for size in ("1", "10", "4000")),
    ({"DistanceUnits": "parsec"}, "DistanceUnits are unknown; allowed: mm, um, cm"),
    ({"ElementToIntensityFunctionSlope": "2"}, "ElementToIntensityFunctionSlope, which programs read differently"),
    ({"ElementDataFile": "LIST"}, "its voxels lie in several files"),
    ({"ElementDataFile": "a%03d.raw 1 2 1"}, "its voxels lie in several files"),
]


@pytest.mark.parametrize(("changed", "told"), REFUSED)
def test_what_a_header_leaves_open_or_contradicts_is_refused(tmp_path: Path, changed: dict, told: str) -> None:
    path = save(tmp_path / "a.mha", **changed)
    with pytest.raises(DataError, match=told) as caught:
        read_volume(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("believe", "edges"), [("orientation", (1, 1.5, 8)), ("spacing", (0.5, 0.75, 4))], ids=["orientation", "spacing"]
)
def test_believe_decides_between_matrix_and_spacing(tmp_path: Path, believe: str, edges: tuple[float, ...]) -> None:
    path = save(tmp_path / "a.mha", TransformMatrix="2 0 0 0 2 0 0 0 2")
    image = read_mha(path, Reading(believe=believe))
    assert np.linalg.norm(image.affine[:3, :3], axis=0) == pytest.approx(edges)
    assert "is believed" in image.notes[0]
    with pytest.raises(DataError, match=r"believe: orientation .TransformMatrix. or believe: spacing"):
        read_mha(path, Reading(believe="qform"))


def test_without_a_matrix_the_orientation_is_unknown(tmp_path: Path) -> None:
    volume = read_volume(save(tmp_path / "a.mha", TransformMatrix=None))
    assert not volume.geometry.oriented
    assert "its orientation is unknown" in volume.notes[0]


def test_text_of_a_header_is_in_no_message(tmp_path: Path) -> None:
    for changed in ({"Offset": "DOE JANE 3"}, {"ElementDataFile": "../DOE^JANE.raw"}, {"DistanceUnits": "DOE"}):
        with pytest.raises(DataError) as caught:
            read_volume(save(tmp_path / "a.mha", **changed))
        assert "DOE" not in str(caught.value)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["a.raw", "voxels é 1.zraw", "./a.raw"])
def test_voxels_may_lie_in_a_file_beside_the_header(tmp_path: Path, name: str, compressed: bool) -> None:
    body = values().tobytes(order="F")
    (tmp_path / name).write_bytes(zlib.compress(body) if compressed else body)
    path = save(tmp_path / "a.mhd", b"", ElementDataFile=name, CompressedData=str(compressed))
    assert np.array_equal(read_mha(path).array, values())
    assert voxel_file(path) == tmp_path / name


@pytest.mark.parametrize("skip", [0, 5, -1])
def test_the_header_of_a_raw_file_is_skipped(tmp_path: Path, skip: int) -> None:
    (tmp_path / "a.raw").write_bytes(b"#" * (7 if skip == -1 else skip) + values().tobytes(order="F"))
    path = save(tmp_path / "a.mhd", b"", ElementDataFile="a.raw", HeaderSize=str(skip))
    assert np.array_equal(read_mha(path).array, values())


OUTSIDE: list[Callable[[Path], str]] = [
    lambda folder: "../a.raw",
    lambda folder: str(folder / "a.raw"),
    lambda folder: "sub/../../a.raw",
    lambda folder: "..\\a.raw",
    lambda folder: "C:a.raw",
    lambda folder: "..",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_voxels_are_never_read_from_another_folder(tmp_path: Path, name: Callable[[Path], str]) -> None:
    (tmp_path / "a.raw").write_bytes(values().tobytes(order="F"))
    (tmp_path / "in" / "sub").mkdir(parents=True)
    path = save(tmp_path / "in" / "a.mhd", b"", ElementDataFile=name(tmp_path))
    with pytest.raises(DataError, match="its ElementDataFile is a path; allowed: the name of a file beside it"):
        read_volume(path)
    # What the message says: moved beside it, with its name in the header, or saved as one file.
    (tmp_path / "in" / "a.raw").write_bytes(values().tobytes(order="F"))
    save(path, b"", ElementDataFile="a.raw")
    assert np.array_equal(read_mha(path).array, values())
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "one.mha"))
    assert np.array_equal(read_mha(tmp_path / "one.mha").array, values())


def test_voxels_that_are_not_there_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mhd", b"", ElementDataFile="gone.raw")
    with pytest.raises(DataError, match="is not beside it; copy it there"):
        read_volume(path)
    (tmp_path / "gone.raw").write_bytes(values().tobytes(order="F"))
    assert np.array_equal(read_mha(path).array, values())


@pytest.mark.parametrize("inner", [True, False], ids=["channels", "times"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_channel_is_chosen_by_its_index(tmp_path: Path, inner: bool, compressed: bool) -> None:
    many = np.random.default_rng(1).integers(0, 99, (3, 2, 3, 4), dtype=np.int16)  # times, z, y, x
    if inner:
        image = SimpleITK.GetImageFromArray(np.moveaxis(many, 0, -1), isVector=True)
    else:
        image = SimpleITK.JoinSeries([SimpleITK.GetImageFromArray(one) for one in many])
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"), compressed)
    with pytest.raises(
        DataError, match=r"shape \(4, 3, 2, 3\); expected one 3-D volume, found 3 .*choose one of 0 to 2"
    ):
        read_volume(tmp_path / "a.mha")
    for channel in range(3):
        found = read_mha(tmp_path / "a.mha", Reading(channel=channel))
        assert np.array_equal(found.array, many[channel].T)
    with pytest.raises(DataError, match="chooses channel 3; allowed: 0 to 2"):
        read_volume(tmp_path / "a.mha", reading=Reading(channel=3))


def test_one_channel_of_a_time_series_is_not_two_axes(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mha", b"\0" * 96, ElementNumberOfChannels="2")
    assert read_mha(path, Reading(channel=1)).array.shape == SHAPE
    twice = {"NDims": "4", "DimSize": "4 3 2 2", "ElementSpacing": "1 1 1 1", "Offset": "0 0 0 0"}
    matrix = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
    path = save(tmp_path / "b.mha", b"\0" * 192, ElementNumberOfChannels="2", TransformMatrix=matrix, **twice)
    with pytest.raises(DataError, match="has 2 channels at each of 2 times; expected one 3-D volume"):
        read_volume(path)
    path = save(tmp_path / "c.mha", b"\0" * 96, TransformMatrix="1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1", **twice)
    with pytest.raises(DataError, match="its fourth axis is not that of times or channels alone"):
        read_volume(path, reading=Reading(channel=0))


@pytest.mark.parametrize("more", [b"", b"\0", b"\0" * 400, b"x" * 9])
def test_bytes_after_compressed_voxels_are_refused(tmp_path: Path, more: bytes) -> None:
    body = zlib.compress(values().tobytes(order="F"))
    path = save(tmp_path / "a.mha", body + more, CompressedData="True")
    if not more:
        assert np.array_equal(read_mha(path).array, values())
        return
    with pytest.raises(DataError, match="bytes follow the end of its compressed voxels"):
        read_volume(path)


def resaved(path: Path) -> None:
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path))


def with_spacing(path: Path) -> None:
    image = SimpleITK.ReadImage(str(path))
    image.SetSpacing((0.5, 0.75, 4))
    SimpleITK.WriteImage(image, str(path))


def scaled(path: Path) -> None:
    image = SimpleITK.ReadImage(str(path))
    SimpleITK.WriteImage(image * 2, str(path))


REMEDIES = [
    ({"BinaryData": "False"}, "save it again, e.g. in Python with SimpleITK", resaved, 1),
    ({"ElementToIntensityFunctionSlope": "2"}, "apply it to the voxels and save them", scaled, 2),
    ({"ElementSpacing": None}, "write them, e.g. in Python with SimpleITK: image.SetSpacing", with_spacing, 1),
    ({"ElementSpacing": "0 0.75 4"}, "write it to its header", None, 1),
    ({"DistanceUnits": "inch"}, "write them to the header", None, 1),
    ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "mend its header", None, 1),
]


@pytest.mark.parametrize(("changed", "advice", "follow", "factor"), REMEDIES)
def test_what_a_refusal_advises_makes_the_file_readable(tmp_path: Path, changed, advice, follow, factor) -> None:
    body = values().reshape(-1, order="F")
    text = " ".join(str(number) for number in body).encode() + b"\n"
    path = save(tmp_path / "a.mha", text if "BinaryData" in changed else None, **changed)
    with pytest.raises(DataError, match=advice):
        read_volume(path)
    if follow is None:  # the header is edited
        save(path)
    else:
        follow(path)
    image = read_mha(path)
    assert np.array_equal(image.array, values() * factor)
    assert np.linalg.norm(image.affine[:3, :3], axis=0) == pytest.approx((0.5, 0.75, 4))


def test_voxels_in_several_files_are_saved_as_one(tmp_path: Path) -> None:
    names = []
    for z in range(2):
        (tmp_path / f"{z}.raw").write_bytes(values()[:, :, z].tobytes(order="F"))
        names.append(f"{z}.raw\n")
    path = save(tmp_path / "a.mhd", "".join(names).encode(), ElementDataFile="LIST")
    with pytest.raises(DataError, match=r"its voxels lie in several files .*; save it as one .mha file"):
        read_volume(path)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(tmp_path / "b.mha"))
    assert np.array_equal(read_mha(tmp_path / "b.mha").array, values())


def test_a_volume_of_several_may_be_saved_alone(tmp_path: Path) -> None:
    many = SimpleITK.JoinSeries([sitk_image(values() + number, turned_affine()) for number in range(3)])
    SimpleITK.WriteImage(many, str(tmp_path / "a.mha"))
    with pytest.raises(DataError, match=r"mask_channel: .masks., or save one alone"):
        read_volume(tmp_path / "a.mha")
    SimpleITK.WriteImage(many[:, :, :, 1], str(tmp_path / "b.mha"))
    assert np.array_equal(read_mha(tmp_path / "b.mha").array, values() + 1)


@pytest.mark.parametrize("depth", [3.0, 0.5])
def test_a_single_picture_gets_its_depth(tmp_path: Path, depth: float) -> None:
    flat = sitk_image(values(), np.diag([0.5, 0.75, 4, 1.0]))[:, :, 1]
    SimpleITK.WriteImage(flat, str(tmp_path / "a.mha"))
    with pytest.raises(DataError, match=r"2-D image without .*; write it, .* JoinSeries\(image, 0, depth_in_mm\)"):
        read_volume(tmp_path / "a.mha")
    SimpleITK.WriteImage(SimpleITK.JoinSeries([flat], 0, depth), str(tmp_path / "b.mha"))
    volume = read_volume(tmp_path / "b.mha")
    assert np.array_equal(volume.array_zyx, values()[:, :, 1:2].T)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((depth, 0.75, 0.5))
