"""Every kind of file: the same voxels at the same places, described by its header, damaged, as image and as mask."""

import random
import resource
from pathlib import Path

import numpy as np
import pytest
from fixtures.damage import cut, flip_bits, overwrite
from fixtures.formats import EDGES_ZYX, FORMATS, GIVEN, turned_affine

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError
from sam2ft.data.formats.declared_size import declared_size
from sam2ft.data.formats.readers import FORMATS as SHOWN
from sam2ft.data.formats.readers import READERS, companions_of, reader_of, volume_endings
from sam2ft.data.images.maps import read_map
from sam2ft.data.images.volumes import read_volume
from sam2ft.data.masks.read_masks import read_placed_mask

SHAPE = (7, 6, 5)
TYPES = ("u1", "i2", "u2", "f4")


def values(dtype: str) -> np.ndarray:
    drawn = np.random.default_rng(3).integers(0, 250, SHAPE)
    return (drawn - (100 if dtype in ("i2", "f4") else 0)).astype(dtype)


def suits(name: str, dtype: str) -> bool:
    return name != "png" or dtype in ("u1", "u2")


CASES = [(name, dtype) for name in FORMATS for dtype in TYPES if suits(name, dtype)]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_voxels_and_places_are_those_that_were_written(tmp_path: Path, name: str, dtype: str) -> None:
    given, affine = values(dtype), turned_affine()
    volume = read_volume(FORMATS[name].write(tmp_path, given, affine), reading=FORMATS[name].reading)
    assert volume.array_zyx.dtype == np.dtype(dtype)
    assert np.array_equal(volume.array_zyx, given.T)
    assert volume.geometry.spacing_zyx_mm == pytest.approx(EDGES_ZYX)
    assert volume.geometry.oriented == FORMATS[name].placed
    if FORMATS[name].placed:
        assert volume.geometry.affine == pytest.approx(affine, abs=1e-4)


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_the_header_alone_says_grid_and_bytes(tmp_path: Path, name: str, dtype: str) -> None:
    path = FORMATS[name].write(tmp_path, values(dtype), turned_affine())
    reader = reader_of(path)
    assert reader is not None
    found = reader.describe(path, FORMATS[name].reading)
    assert (found.num_voxels, found.num_bytes, found.channels) == (210, 210 * np.dtype(dtype).itemsize, 1)
    assert found.problems == ()
    assert np.linalg.norm(found.affine[:3, :3], axis=0) == pytest.approx(EDGES_ZYX[::-1])
    assert declared_size(path) == (210, found.num_bytes)


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if not one.placed])
def test_a_file_without_spacing_is_described_with_the_reason_why_it_is_refused(tmp_path: Path, name: str) -> None:
    path = FORMATS[name].write(tmp_path, values("u1"), turned_affine())
    reader = reader_of(path)
    assert reader is not None
    found = reader.describe(path, AS_IS)
    assert found.affine is None
    (problem,) = found.problems
    with pytest.raises(DataError) as caught:
        read_volume(path)
    assert str(caught.value) == f"{path}: {problem}"


@pytest.mark.parametrize("name", FORMATS)
def test_a_mask_in_a_file_of_any_kind_lies_on_its_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "mask").mkdir()
    form, affine = FORMATS[name], turned_affine()
    image = read_volume(form.write(tmp_path / "image", values("u2"), affine), reading=form.reading)
    labels = (values("u1") > 120).astype(np.uint8)
    mask = read_placed_mask(form.write(tmp_path / "mask", labels, affine), image, form.reading)
    assert np.array_equal(mask.array_zyx, labels.T)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "png"])
def test_a_map_in_a_file_of_any_kind_lies_on_its_image(tmp_path: Path, name: str) -> None:
    (tmp_path / "image").mkdir()
    (tmp_path / "map").mkdir()
    form, affine = FORMATS[name], turned_affine()
    image = read_volume(form.write(tmp_path / "image", values("u2"), affine), reading=form.reading)
    times = 20 + values("u1").astype("f4") / 4
    found = read_map(
        form.write(tmp_path / "map", times, affine), "t2", MapSource(), image.geometry, reading=form.reading
    )
    assert np.array_equal(found.values_zyx, times.T)
    assert found.facts["source"] == "file"


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_a_refusal_or_the_same_voxels(tmp_path: Path, name: str) -> None:
    form, given = FORMATS[name], values("u1" if name == "png" else "i2")
    path = form.write(tmp_path, given, turned_affine())
    files = sorted(one for one in tmp_path.rglob("*") if one.is_file())
    whole = {one: one.read_bytes() for one in files}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    draw = random.Random(7)
    refused, told = 0, []
    for turn in range(60):
        file = draw.choice(files)
        (flip_bits, cut, overwrite)[turn % 3](file, draw)
        harmless = file.read_bytes() == whole[file]
        try:
            found = read_volume(path, reading=form.reading).array_zyx
        except DataError as caught:
            refused += 1
            told.append(str(caught))
        else:
            # Voxels without a checksum can be others; never more or fewer of them, unless the header says so.
            assert harmless or not form.checked or np.array_equal(found, given.T) or _header_changed(name, turn)
            if turn % 3 == 1 and not harmless and name not in ("mgh",):
                assert np.array_equal(found, given.T), "a cut file gave other voxels"
        file.write_bytes(whole[file])
    assert refused >= 15
    assert all(str(path) in text and "\n" not in text for text in told)
    assert np.array_equal(read_volume(path, reading=form.reading).array_zyx, given.T)
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 500


def _header_changed(name: str, turn: int) -> bool:
    """A header without a checksum can say other sizes, signs or scales, in a file of compressed voxels as well."""
    return name in ("mha compressed", "mhd compressed", "pair compressed", "tiff") and turn % 3 != 1


def test_the_list_of_formats_is_that_of_the_readers() -> None:
    assert all(
        reader.kind in SHOWN and all(ending in SHOWN for ending in reader.endings) for reader in READERS.values()
    )
    assert len(set(volume_endings())) == sum(len(reader.endings) for reader in READERS.values())


@pytest.mark.parametrize("ending", volume_endings())
def test_every_ending_has_one_reader_in_any_case(tmp_path: Path, ending: str) -> None:
    for name in (f"a{ending}", f"A.B{ending.upper()}"):
        (tmp_path / name).write_bytes(b"")
        assert sum(reader.sniff(tmp_path / name) for reader in READERS.values()) == 1


@pytest.mark.parametrize("name", ["a.dcm", "a.vtk", "nii", "a.nii.txt"])
def test_other_files_have_no_reader(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    assert reader_of(tmp_path / name) is None


@pytest.mark.parametrize(
    ("name", "beside"), [("mha", []), ("mhd", ["a.raw"]), ("mhd compressed", ["a.zraw"]), ("pair", ["a.img"])]
)
def test_the_other_half_of_a_volume_is_known(tmp_path: Path, name: str, beside: list[str]) -> None:
    path = FORMATS[name].write(tmp_path, values("u1"), turned_affine())
    assert [one.name for one in companions_of(path)] == beside


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("channel", [1, 7])
def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, name: str, channel: int) -> None:
    path = FORMATS[name].write(tmp_path, values("u1"), turned_affine())
    reading = FORMATS[name].reading.model_copy(update={"channel": channel})
    with pytest.raises(DataError, match=f"chooses channel {channel}; allowed: 0, or leave the key out"):
        read_volume(path, reading=reading)


def test_the_choices_of_a_dataset_file_count_only_where_they_are_made() -> None:
    assert Reading().chosen == {}
    assert GIVEN.chosen == {"spacing_mm": EDGES_ZYX, "axes": "zyx"}
    assert Reading(array="a", mask_array="b", channel=2, mask_channel=3).of_masks.chosen == {"array": "b", "channel": 3}
    assert Reading(array="a", mask_array="b", channel=2, mask_channel=3).of_maps.chosen == {}
