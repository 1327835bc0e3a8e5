"""NRRD files: contradicting fields are refused, units are obeyed, damage is found, segments are named."""

import bz2
import gzip
from contextlib import suppress
from pathlib import Path

import nrrd
import numpy as np
import pytest

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.declared_size import declared_size
from sam2ft.data.formats.nrrd_file import read_nrrd
from sam2ft.data.images.grids import Segment
from sam2ft.data.images.volumes import read_volume

SHAPE = (7, 6, 5)


def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)


def write(path: Path, data: bytes | None = None, encoding: str = "raw", **fields: str) -> Path:
    """A file with the fields of a plain volume of 0.5 x 0.5 x 3 mm, changed by `fields` (empty: left out)."""
    every = {
        "type": "int16",
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": "7 6 5",
        "space_directions": "(0.5,0,0) (0,0.5,0) (0,0,3)",
        "endian": "little",
        "encoding": encoding,
        "space_origin": "(1,2,3)",
        **fields,
    }
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in every.items() if value]
    head = "\n".join(["NRRD0005", *lines, "", ""]).encode("utf-8")
    path.write_bytes(head + (values().tobytes(order="F") if data is None else data))
    return path


PACK = {"gzip": gzip.compress, "bzip2": bz2.compress, "raw": bytes}


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("dtype", ["uint8", "<i2", ">i2", "<f4", ">f8", "<u8"])
def test_every_encoding_and_type_is_read_as_pynrrd_wrote_it(tmp_path: Path, encoding: str, dtype: str) -> None:
    array = (values() % 200).astype(dtype)
    header = {"space": "LPS", "space directions": np.diag([0.5, 0.5, 3]), "encoding": encoding}
    nrrd.write(str(tmp_path / "a.nrrd"), array, header, index_order="F")
    image = read_nrrd(tmp_path / "a.nrrd")
    assert np.array_equal(image.array, array)
    assert image.array.dtype.isnative
    assert image.affine == pytest.approx(np.diag([-0.5, -0.5, 3, 1]))
    assert declared_size(tmp_path / "a.nrrd")[1] == array.nbytes


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_voxels_in_a_file_of_their_own_are_read(tmp_path: Path, encoding: str) -> None:
    header = {"space": "LPS", "space directions": np.diag([0.5, 0.5, 3]), "encoding": encoding}
    nrrd.write(str(tmp_path / "a.nhdr"), values(), header, index_order="F")
    assert np.array_equal(read_nrrd(tmp_path / "a.nhdr").array, values())
    next(path for path in tmp_path.iterdir() if path.suffix != ".nhdr").unlink()
    with pytest.raises(DataError, match=r"a\.nhdr: .*No such file"):
        read_volume(tmp_path / "a.nhdr")


@pytest.mark.parametrize(
    ("unit", "factor"),
    [
        *(("um", 0.001), ("µm", 0.001), ("μm", 0.001), ("microns", 0.001), ("Micrometre", 0.001)),
        *(("cm", 10), ("m", 1000), ("mm", 1), ("", 1), ("millimeter", 1)),
    ],
)
def test_units_of_the_space_are_obeyed(tmp_path: Path, unit: str, factor: float) -> None:
    directions = "({:.9g},0,0) (0,{:.9g},0) (0,0,{:.9g})".format(*(np.array([0.5, 0.75, 3]) / factor))
    origin = "({:.9g},{:.9g},{:.9g})".format(*(np.array([1, 2, 3]) / factor))
    units = " ".join([f'"{unit}"'] * 3)
    volume = read_volume(
        write(tmp_path / "a.nrrd", space_directions=directions, space_origin=origin, space_units=units)
    )
    assert volume.geometry.spacing_zyx_mm == pytest.approx((3, 0.75, 0.5))
    assert volume.geometry.affine[:3, 3] == pytest.approx([-1, -2, 3])


def test_a_unit_in_latin_1_is_not_metres(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nrrd", space_directions="(500,0,0) (0,500,0) (0,0,3000)", space_units='"um" "um" "um"')
    path.write_bytes(path.read_bytes().replace(b"um", b"\xb5m"))
    assert read_volume(path).geometry.spacing_zyx_mm == pytest.approx((3, 0.5, 0.5))


@pytest.mark.parametrize("unit", ["inch", "px", "furlong", "s"])
def test_an_unknown_unit_is_refused(tmp_path: Path, unit: str) -> None:
    with pytest.raises(DataError, match=rf"a\.nrrd: space units: '{unit}' is an unknown unit; allowed: mm, um, cm, m"):
        read_volume(write(tmp_path / "a.nrrd", space_units=f'"{unit}" "{unit}" "{unit}"'))


def test_units_of_spacings_are_obeyed(tmp_path: Path) -> None:
    unplaced = {"space": "", "space_directions": "", "space_origin": ""}
    path = write(tmp_path / "a.nrrd", **unplaced, spacings="500 500 3", units='"um" "um" "mm"')
    volume = read_volume(path)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((3, 0.5, 0.5))
    assert "its header names no space; left-posterior-superior is assumed" in volume.notes


@pytest.mark.parametrize("spacings", ["0.5 0.5 2.9", "0.5 0.6 3", "3 0.5 0.5"])
def test_directions_and_spacings_that_contradict_each_other_are_refused(tmp_path: Path, spacings: str) -> None:
    path = write(tmp_path / "a.nrrd", spacings=spacings)
    with pytest.raises(DataError, match=r"directions and spacings .* \(0\.5, 0\.5, 3\) mm .*believe: orientation"):
        read_volume(path)
    edges = [float(edge) for edge in spacings.split()]
    for believe, wanted in (("orientation", [0.5, 0.5, 3]), ("spacing", edges)):
        found = read_nrrd(path, Reading(believe=believe))
        assert np.linalg.norm(found.affine[:3, :3], axis=0) == pytest.approx(wanted)
    assert read_volume(path, reading=Reading(believe="spacing")).notes[0].endswith("the spacings are believed")


@pytest.mark.parametrize("spacings", ["0.5 0.5 3", "0.50001 0.5 3", "nan nan nan"])
def test_directions_and_spacings_that_agree_are_read(tmp_path: Path, spacings: str) -> None:
    assert read_volume(write(tmp_path / "a.nrrd", spacings=spacings)).notes == ()


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_of_compressed_voxels_is_found(tmp_path: Path, encoding: str, seed: int) -> None:
    data = bytearray(PACK[encoding](values().tobytes(order="F")))
    rng = np.random.default_rng(seed)
    data[int(rng.integers(10, len(data)))] ^= 1 << int(rng.integers(8))
    with pytest.raises(DataError, match=r"a\.nrrd: not a readable NRRD file: (damaged \(CRC\)|it ends too early)"):
        read_volume(write(tmp_path / "a.nrrd", bytes(data), encoding))


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_less_and_more_than_the_header_declares_is_refused(tmp_path: Path, encoding: str) -> None:
    pack, whole = PACK[encoding], values().tobytes(order="F")
    for data, message in (
        (pack(whole[:-1]), "ends too early"),
        (pack(whole)[:-1], "ends too early"),
        (pack(whole + b"\0"), "holds more than the 420 bytes"),
        (pack(whole) + b"garbage", r"holds more than|damaged \(CRC\)"),
        (b"", "ends too early|it ends too early"),
    ):
        with pytest.raises(DataError, match=rf"a\.nrrd: .*({message})"):
            read_volume(write(tmp_path / "a.nrrd", data, encoding))


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_two_members_are_one_file(tmp_path: Path, encoding: str) -> None:
    pack, whole = PACK[encoding], values().tobytes(order="F")
    path = write(tmp_path / "a.nrrd", pack(whole[:99]) + pack(whole[99:]), encoding)
    assert np.array_equal(read_nrrd(path).array, values())


def test_a_bomb_stops_where_the_header_ends(tmp_path: Path) -> None:
    bomb = write(tmp_path / "a.nrrd", gzip.compress(bytes(300_000_000)), "gzip")
    with pytest.raises(DataError, match="holds more than the 420 bytes"):
        read_volume(bomb)
    with pytest.raises(DataError, match="declares 16000000000000 bytes of voxels, but the file ends too early"):
        read_volume(write(tmp_path / "b.nrrd", gzip.compress(b""), "gzip", sizes="20000 20000 20000"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sizes": "7 6"}, r"dimension 3 and sizes \(7, 6\)"),
        ({"sizes": "7 6 0"}, "every size must be 1 or more"),
        ({"type": "block"}, "holds block; expected one number per voxel"),
        ({"type": "quaternion"}, "not a readable NRRD file"),
        ({"encoding": "zrle"}, "has encoding zrle; allowed: raw, gzip"),
        ({"endian": ""}, "has endian 'none'; allowed: little, big"),
        ({"sizes": ""}, "its header lacks sizes"),
        ({"space_directions": "", "space_origin": ""}, "neither 'space directions' nor 'spacings'"),
        ({"space": "scanner-xyz"}, "space 'scanner-xyz'; allowed: left-posterior"),
        ({"data_file": "LIST"}, "lie in several files"),
        ({"space_directions": "(0.5,0,0) (0,0.5,0) (0,0.5,3)"}, "not at right angles"),
        ({"space_directions": "(0,0,0) (0,0.5,0) (0,0,3)"}, "voxel sizes"),
    ],
)
def test_headers_that_make_no_volume_are_refused(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.nrrd: .*{message}"):
        read_volume(write(tmp_path / "a.nrrd", **fields))


@pytest.mark.parametrize("content", [b"", b"\n", b"x", b"NRRD0005\n", b"NRRD0005\n\n", b"NRRD9999\ntype: int\n\n"])
def test_an_empty_or_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.nrrd: not a readable NRRD"):
        read_volume(tmp_path / "a.nrrd")
    assert declared_size(tmp_path / "a.nrrd") is None


def test_damaged_headers_are_refusals_and_nothing_else(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.nrrd").read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, 200, 4):
            data[place] = int(rng.integers(256))
        (tmp_path / "b.nrrd").write_bytes(data)
        declared_size(tmp_path / "b.nrrd")
        with suppress(DataError):
            read_volume(tmp_path / "b.nrrd")


def seg(path: Path, array: np.ndarray, segments: str, **fields: str) -> Path:
    header = "\n".join(segments.split("; "))
    sizes = " ".join(map(str, array.shape))
    made = write(path, array.tobytes(order="F"), type="uint8", dimension=str(array.ndim), sizes=sizes, **fields)
    made.write_bytes(made.read_bytes().replace(b"\n\n", b"\n" + header.encode() + b"\n\n", 1))
    return made


def test_segments_are_read_with_names_ids_and_values(tmp_path: Path) -> None:
    text = "Segment0_Name:=fémur; Segment0_ID:=S1; Segment0_LabelValue:=7; Segment0_Layer:=0; Segment1_Name:=Tibia"
    image = read_nrrd(seg(tmp_path / "a.seg.nrrd", np.zeros(SHAPE, np.uint8), text))
    assert image.segments == (Segment(1, "Tibia"), Segment(7, "fémur", "S1"))


@pytest.mark.parametrize("layers", [2, 3, 5])
def test_layers_of_overlapping_segments_are_refused_with_the_way_out(tmp_path: Path, layers: int) -> None:
    directions = "none (0.5,0,0) (0,0.5,0) (0,0,3)"
    array = np.ones((layers, *SHAPE), np.uint8)
    path = seg(tmp_path / "a.seg.nrrd", array, "Segment0_Name:=a; Segment1_Name:=b", space_directions=directions)
    with pytest.raises(DataError, match=rf"has {layers} layers of segments that overlap; .* export it as a labelmap"):
        read_volume(path)


def test_a_list_of_one_layer_is_that_layer(tmp_path: Path) -> None:
    array = np.arange(210, dtype=np.uint8).reshape(1, *SHAPE)
    directions = "none (0.5,0,0) (0,0.5,0) (0,0,3)"
    path = seg(tmp_path / "a.seg.nrrd", array, "Segment0_Name:=a", space_directions=directions)
    assert np.array_equal(read_nrrd(path).array, array[0])


def test_colours_are_refused(tmp_path: Path) -> None:
    directions = "none (0.5,0,0) (0,0.5,0) (0,0,3)"
    fields = {"type": "uint8", "dimension": "4", "sizes": "3 7 6 5", "space_directions": directions}
    path = write(tmp_path / "a.nrrd", bytes(630), **fields)
    with pytest.raises(DataError, match=r"has shape \(3, 7, 6, 5\); expected one 3-D volume"):
        read_volume(path)


@pytest.mark.parametrize(
    "kinds", ["RGB-color domain domain", "domain domain list", "space space time", "vector ??? ???"]
)
def test_three_axes_of_which_one_is_none_of_space_are_no_volume(tmp_path: Path, kinds: str) -> None:
    spacings = {"space": "", "space_directions": "", "space_origin": "", "spacings": "1 1 1"}
    wrong = next(axis for axis, kind in enumerate(kinds.split()) if kind not in ("domain", "space", "???"))
    with pytest.raises(DataError, match=f"by its kinds axis {wrong} .* is none of space"):
        read_volume(write(tmp_path / "a.nrrd", kinds=kinds, **spacings))
    mended = write(tmp_path / "b.nrrd", kinds="domain space ???", **spacings)
    assert np.array_equal(read_nrrd(mended).array, values())


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("skip", [1, 700, 100_000])
def test_bytes_are_skipped_after_they_were_decompressed(tmp_path: Path, encoding: str, skip: int) -> None:
    data = PACK[encoding](bytes(skip) + values().tobytes(order="F"))
    path = write(tmp_path / "a.nrrd", data, encoding, byte_skip=str(skip))
    assert np.array_equal(read_nrrd(path).array, values())
