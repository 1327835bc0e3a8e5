"""Stacks of pictures: the order of slices, grey alone, spacing of headers against that of the dataset file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import tifffile
from PIL import Image

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.picture_stack import describe_stack, is_stack
from sam2ft.data.images.volumes import read_volume

EDGES = (4.0, 0.75, 0.5)
GIVEN = Reading(spacing_mm=EDGES)
SHAPE = (3, 4, 5)


def values(dtype: str = "u2") -> np.ndarray:
    return np.arange(60).reshape(SHAPE).astype(dtype)


def save_pngs(folder: Path, names: list[str], array: np.ndarray | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, values("u1") if array is None else array, strict=True):
        Image.fromarray(pixels).save(folder / name)
    return folder


def refused(path: Path, told: str, reading: Reading = GIVEN) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_volume(path, reading=reading)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "names",
    [
        ["1.png", "2.png", "3.png"],
        ["slice9.png", "slice10.png", "slice11.png"],
        ["P12_s099.PNG", "P12_s100.PNG", "P12_s101.PNG"],
        ["a-2b-7.png", "a-2b-8.png", "a-2b-9.png"],
        ["0.png", "01.png", "002.png"],
    ],
)
def test_slices_are_in_the_order_of_their_numbers(tmp_path: Path, names: list[str]) -> None:
    volume = read_volume(save_pngs(tmp_path / "s", names), reading=GIVEN)
    assert np.array_equal(volume.array_zyx, values())
    assert volume.geometry.spacing_zyx_mm == pytest.approx(EDGES)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["1.png", "2.png", "4.png"], "pictures of the numbers 3 are missing among 1 to 4"),
        (["10.png", "20.png", "30.png"], "pictures of the numbers 11, 12, 13 and 15 more are missing"),
        (["1.png", "01.png", "2.png"], "two pictures of the number 1"),
        (["a1.png", "b2.png", "c3.png"], "do not give their order"),
        (["a.png", "b.png", "c.png"], "do not give their order"),
        (["1_1.png", "1_2.png", "2_1.png"], "do not give their order"),
        (["1.png", "2.png", "3.PNG"], "do not give their order"),
    ],
)
def test_names_that_do_not_give_one_order_are_refused(tmp_path: Path, names: list[str], told: str) -> None:
    refused(save_pngs(tmp_path / "s", names), told)


def test_a_missing_slice_is_added_and_even_gaps_are_numbered_anew(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "s", ["1.png", "2.png", "4.png"])
    refused(folder, "allowed: numbers without a gap; add them, or number the slices anew if they are evenly spaced")
    Image.fromarray(values("u1")[0]).save(folder / "3.png")
    assert read_volume(folder, reading=GIVEN).array_zyx.shape == (4, 4, 5)
    (folder / "3.png").unlink()
    (folder / "4.png").rename(folder / "3.png")
    assert np.array_equal(read_volume(folder, reading=GIVEN).array_zyx, values())


def test_a_folder_of_pictures_and_other_files_is_refused(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "s", ["1.png", "2.png", "3.png"])
    (folder / ".DS_Store").write_bytes(b"x")
    assert np.array_equal(read_volume(folder, reading=GIVEN).array_zyx, values())
    (folder / "notes.txt").write_text("x")
    refused(folder, "holds pictures, and files of other kinds: notes.txt")
    (folder / "notes.txt").unlink()
    tifffile.imwrite(folder / "4.tif", values()[0], photometric="minisblack")
    refused(folder, "do not give their order")


def test_slices_of_two_sizes_or_kinds_are_refused(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "s", ["1.png", "2.png", "3.png"])
    Image.fromarray(values()[0]).save(folder / "4.png")
    refused(folder, r"4.png: is a picture of 4 x 5 pixels, uint16, .* but 1.png is one of 4 x 5 pixels, uint8")
    Image.fromarray(np.zeros((4, 6), "u1")).save(folder / "4.png")
    refused(folder, "4.png: is a picture of 4 x 6 pixels")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colours_are_refused_until_they_are_grey(tmp_path: Path, mode: str) -> None:
    folder = save_pngs(tmp_path / "s", ["1.png", "2.png", "3.png"])
    Image.fromarray(values("u1")[1]).convert(mode).save(folder / "2.png")
    refused(folder, r"2\.png: is a PNG with .*; allowed: grey .*; export it as grey")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 5, 3), "u1"), photometric="rgb")
    refused(tmp_path / "a.tif", "is a TIFF with colours, .*; export it as grey")
    Image.open(folder / "2.png").convert("RGB").getchannel(0).save(folder / "2.png")
    assert np.array_equal(read_volume(folder, reading=GIVEN).array_zyx, values())
    tifffile.imwrite(tmp_path / "a.tif", tifffile.imread(tmp_path / "a.tif")[..., 0], photometric="minisblack")
    assert read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx.shape == SHAPE


@pytest.mark.parametrize("photometric", ["miniswhite", "palette"])
def test_grey_that_means_something_else_is_refused(tmp_path: Path, photometric: str) -> None:
    colours = {"colormap": np.zeros((3, 256), "u2")} if photometric == "palette" else {}
    tifffile.imwrite(tmp_path / "a.tif", values("u1"), photometric=photometric, **colours)
    refused(tmp_path / "a.tif", "a palette, transparency or inverted grey")


@pytest.mark.parametrize("turned", [2, 3, 4, 6, 8])
def test_rows_and_columns_that_a_tiff_says_are_turned_are_refused(tmp_path: Path, turned: int) -> None:
    for orientation in (turned, 1):
        tags = [(274, 3, 1, orientation, True)]
        tifffile.imwrite(tmp_path / "a.tif", values(), photometric="minisblack", extratags=tags, metadata=None)
        if orientation != 1:
            refused(tmp_path / "a.tif", "Orientation says that its rows or columns are turned")
    assert np.array_equal(read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx, values())


@pytest.mark.parametrize(
    ("function", "offset", "slope", "allowed"),
    [(0, -32768.0, 1.0, False), (0, 0.0, 2.0, False), (1, 0.0, 1.0, False), (0, 0.0, 1.0, True), (20, 5.0, 2.0, True)],
)
def test_values_that_imagej_calibrates_are_refused(tmp_path: Path, function, offset, slope, allowed) -> None:
    metadata = {"axes": "ZYX", "spacing": 4.0, "unit": "mm", "cf": function, "c0": offset, "c1": slope}
    tifffile.imwrite(tmp_path / "a.tif", values(), imagej=True, resolution=(2, 1 / 0.75), metadata=metadata)
    if allowed:
        assert np.array_equal(read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx, values())
        return
    refused(tmp_path / "a.tif", "has a calibration of its values by ImageJ")
    applied = (values() * slope + offset).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", applied, imagej=True, metadata={"axes": "ZYX"})
    assert np.array_equal(read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx, applied)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_deflate", "group3", "group4"])
def test_pixels_of_one_bit_are_0_and_1(tmp_path: Path, compression: str) -> None:
    bits = np.random.default_rng(0).random((4, 5, 9)) > 0.4
    first, *others = [Image.fromarray(slice_yx) for slice_yx in bits]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression=compression)
    volume = read_volume(tmp_path / "a.tif", reading=GIVEN)
    assert volume.array_zyx.dtype == np.uint8
    assert np.array_equal(volume.array_zyx, bits.astype(np.uint8))


def grey_png(path: Path, pixels: np.ndarray, bits: int) -> None:
    """A PNG of 1, 2 or 4 bits per pixel, which Pillow does not write."""
    rows = [np.packbits(((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype("u1").ravel()) for row in pixels]
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(body)),
        (b"IEND", b""),
    ]
    made = [struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c)) for name, c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_integers_of_a_png_are_kept_whatever_its_bits(tmp_path: Path, bits: int) -> None:
    given = np.random.default_rng(bits).integers(0, 2**bits, (4, 5))
    grey_png(tmp_path / "a.png", given, bits)
    assert np.array_equal(read_volume(tmp_path / "a.png", reading=GIVEN).array_zyx, given[None])


def test_every_flipped_bit_of_a_png_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(values()[0]).save(path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        refused(path, "a.png: ")
    path.write_bytes(whole + b"x")
    refused(path, "bytes follow its end")


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
@pytest.mark.parametrize(
    "more", [{}, {"compression": "deflate"}, {"bigtiff": True}, {"byteorder": ">"}, {"tile": (16, 16)}]
)
def test_pages_of_a_tiff_are_slices(tmp_path: Path, dtype: str, more: dict) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values(dtype), photometric="minisblack", **more)
    found = read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx
    assert np.array_equal(found, values(dtype))
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize("compressor", ["LZW", "PackBits", "Deflate"])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2"])
def test_compressions_that_tifffile_leaves_to_plugins_are_read(tmp_path: Path, compressor: str, dtype: str) -> None:
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.tif"))
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.Execute(SimpleITK.GetImageFromArray(values(dtype)))
    found = read_volume(tmp_path / "a.tif", reading=GIVEN).array_zyx
    assert np.array_equal(found, values(dtype))
    assert found.dtype == np.dtype(dtype)


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_tiff_that_lost_its_last_pages_is_refused(tmp_path: Path, pages: int) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for pixels in values():
            writer.write(pixels, contiguous=False, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        ends = [page.offset for page in tiff.pages] + [(tmp_path / "a.tif").stat().st_size]
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[: ends[pages] - 1])
    refused(tmp_path / "a.tif", "a.tif: ")


def imagej(path: Path, **more: object) -> Path:
    resolution = more.pop("resolution", (2, 1 / 0.75))
    tifffile.imwrite(path, values(), imagej=True, resolution=resolution, metadata={"axes": "ZYX", **more})
    return path


def ome(path: Path, **more: object) -> Path:
    tifffile.imwrite(path, values(), ome=True, photometric="minisblack", metadata={"axes": "ZYX", **more})
    return path


CARRIED = [
    (imagej, {"spacing": 4.0, "unit": "mm"}),
    (imagej, {"spacing": 4000.0, "unit": "um", "resolution": (0.002, 1 / 750)}),
    (imagej, {"spacing": 0.4, "unit": "cm", "resolution": (20, 1 / 0.075)}),
    (ome, {"PhysicalSizeX": 500, "PhysicalSizeY": 750, "PhysicalSizeZ": 4000}),
    (
        ome,
        {
            **{"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 750, "PhysicalSizeYUnit": "µm"},
            **{"PhysicalSizeZ": 0.4, "PhysicalSizeZUnit": "cm"},
        },
    ),
]


@pytest.mark.parametrize(("write", "fields"), CARRIED)
def test_a_header_that_gives_the_spacing_is_obeyed_or_contradicted_aloud(tmp_path: Path, write, fields) -> None:
    path = write(tmp_path / "a.ome.tif", **fields)
    for reading in (Reading(), GIVEN):
        volume = read_volume(path, reading=reading)
        assert volume.geometry.spacing_zyx_mm == pytest.approx(EDGES)
        assert np.array_equal(volume.array_zyx, values())
    other = Reading(spacing_mm=(4.0, 0.75, 0.51))
    refused(path, r"contradict each other: .4, 0.75, 0.5. against .4, 0.75, 0.51. mm .slices, rows, columns.", other)
    volume = read_volume(path, reading=other.model_copy(update={"believe": "spacing"}))
    assert volume.geometry.spacing_zyx_mm == pytest.approx((4.0, 0.75, 0.51))
    assert any("spacing_mm is believed" in note for note in volume.notes)


PARTLY = [(imagej, {"unit": "mm"}), (ome, {"PhysicalSizeX": 500, "PhysicalSizeY": 750})]
NOT = [(imagej, {"unit": "pixel"}), (imagej, {}), (imagej, {"spacing": 4.0}), (ome, {})]


@pytest.mark.parametrize(("write", "fields"), PARTLY)
def test_a_header_with_a_part_of_the_spacing_needs_the_dataset_file(tmp_path: Path, write, fields) -> None:
    path = write(tmp_path / "a.ome.tif", **fields)
    refused(path, r"gives only .\?, 0.75, 0.5. mm .slices, rows, columns. and does not say", Reading())
    assert read_volume(path, reading=GIVEN).geometry.spacing_zyx_mm == pytest.approx(EDGES)
    refused(path, "contradict each other", Reading(spacing_mm=(4, 0.5, 0.5)))


@pytest.mark.parametrize(("write", "fields"), NOT)
def test_a_header_without_a_unit_gives_no_spacing(tmp_path: Path, write, fields) -> None:
    path = write(tmp_path / "a.ome.tif", **fields)
    refused(path, "does not say how large its voxels are", Reading())
    assert read_volume(path, reading=GIVEN).geometry.spacing_zyx_mm == pytest.approx(EDGES)


@pytest.mark.parametrize("axes", ["ZCYX", "TZYX"])
def test_a_channel_of_a_stack_is_chosen(tmp_path: Path, axes: str) -> None:
    many = np.random.default_rng(2).integers(0, 99, (3, 2, 4, 5)).astype("u2")
    tifffile.imwrite(tmp_path / "a.tif", many, imagej=True, metadata={"axes": axes})
    count = 2 if axes == "ZCYX" else 3
    refused(tmp_path / "a.tif", f"found {count} .times or channels.")
    for channel in range(count):
        wanted = many[:, channel] if axes == "ZCYX" else many[channel]
        reading = GIVEN.model_copy(update={"channel": channel})
        assert np.array_equal(read_volume(tmp_path / "a.tif", reading=reading).array_zyx, wanted)
    described = describe_stack(tmp_path / "a.tif", GIVEN)
    assert (described.channels, described.num_voxels) == (count, 120)


def test_a_folder_with_several_pages_per_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for number in (1, 2):
        tifffile.imwrite(tmp_path / "s" / f"{number}.tif", values(), photometric="minisblack")
    refused(tmp_path / "s", "1.tif: has several pages")


def test_a_folder_is_a_stack_when_most_of_its_files_are_pictures(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "s", ["1.png", "2.png", "3.png"])
    assert is_stack(folder)
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(b"x")
    assert not is_stack(folder)
    (tmp_path / "e").mkdir()
    assert not is_stack(tmp_path / "e")
