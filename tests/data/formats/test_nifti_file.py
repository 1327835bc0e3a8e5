"""NIfTI files: contradicting fields are refused, units are obeyed, damage is found."""

import gzip
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from sam2ft.config.schema.dataset import Reading
from sam2ft.core.errors import DataError
from sam2ft.data.formats.declared_size import declared_size
from sam2ft.data.formats.nifti_file import read_nifti
from sam2ft.data.images.volumes import read_volume

SHAPE = (7, 6, 5)


def values() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)


def turned(degrees: float, spacing: tuple[float, ...] = (0.5, 0.5, 3.0), origin: tuple[float, ...] = (1, 2, 3)):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def save(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, pixdim=None, array=None, unit="mm") -> Path:
    image = nibabel.Nifti1Image(values() if array is None else array, np.eye(4))
    image.header.set_zooms((0.5, 0.5, 3.0))
    image.header.set_qform(qform, 0 if qform is None else 1)
    image.header.set_sform(sform, 0 if sform is None else 1)
    if pixdim is not None:
        image.header["pixdim"][1:4] = pixdim
    image.header.set_xyzt_units(unit)
    # to_file would write the affine of the image into the header.
    header = image.header.copy()
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = header.binaryblock + b"\0" * 4 + image.dataobj.tobytes(order="F")
    path.write_bytes(gzip.compress(data, mtime=0) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    ("sform", "qform", "pixdim", "message"),
    [
        (turned(0, (0.5, 0.5, 0.8)), turned(0, (0.5, 0.5, 0.6)), None, r"0.5, 0.8\) mm against \(0.5, 0.5, 0.6\)"),
        (turned(0, (0.5, 0.5, 3.01)), turned(0), None, r"sform and qform \(pixdim\) contradict each other: spacing"),
        (turned(0), None, (0.5, 0.5, 2.9), r"sform and pixdim contradict each other: spacing .*3\) mm against .*2\.9"),
        (turned(1), turned(0), None, r"sform and qform contradict each other: directions differ by up to 0\.0175"),
        (turned(180), turned(0), None, r"directions differ by up to 2 \(cosines\)"),
        (turned(0), turned(0, origin=(1, 2, 3.5)), None, r"origin \(1, 2, 3\) mm against \(1, 2, 3\.5\) mm"),
    ],
    ids=["edge", "edge, little", "pixdim", "turned", "turned round", "moved"],
)
def test_fields_that_contradict_each_other_are_refused_naming_both(tmp_path, sform, qform, pixdim, message) -> None:
    path = save(tmp_path / "a.nii.gz", sform, qform, pixdim)
    with pytest.raises(DataError, match=rf"a\.nii\.gz: .*{message}.*believe: sform or believe: (qform|pixdim)"):
        read_volume(path)
    assert read_nifti(path, Reading(believe="sform")).affine == pytest.approx(sform, abs=1e-6)
    other = "qform" if qform is not None else "pixdim"
    found = read_nifti(path, Reading(believe=other))
    assert np.linalg.norm(found.affine[:3, :3], axis=0) == pytest.approx(
        pixdim or np.linalg.norm(qform[:3, :3], axis=0), abs=1e-6
    )
    assert found.notes[0].endswith(f"{other} is believed")


@pytest.mark.parametrize("degrees", [0, 17, 90, 135, 180])
def test_what_writers_round_is_no_contradiction(tmp_path: Path, degrees: float) -> None:
    path = save(tmp_path / "a.nii", turned(degrees) + 1e-6, turned(degrees))
    assert read_nifti(path).notes == ()


def test_pixdim_decides_spacings_alone(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(30), None, (0.5, 0.5, 2.5))
    assert read_nifti(path, Reading(believe="pixdim")).affine == pytest.approx(turned(30, (0.5, 0.5, 2.5)), abs=1e-6)
    path = save(tmp_path / "b.nii", turned(30), turned(0))
    with pytest.raises(DataError, match=r"directions differ .* believe: pixdim cannot decide this"):
        read_nifti(path, Reading(believe="pixdim"))


def test_a_quaternion_that_is_no_rotation_is_a_contradiction(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(0), turned(0))
    data = bytearray(path.read_bytes())
    data[256:268] = np.array([0.9, 0.9, 0.9], "<f4").tobytes()
    path.write_bytes(data)
    with pytest.raises(DataError, match="quaternion that is no rotation"):
        read_volume(path)
    assert read_nifti(path, Reading(believe="sform")).affine == pytest.approx(turned(0))


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 3.0), (1.0, 2.0, 3.0), (0.3, 0.4, 0.5)])
def test_without_both_codes_voxel_sizes_are_those_of_pixdim_with_a_note(tmp_path: Path, spacing) -> None:
    volume = read_volume(save(tmp_path / "a.nii", None, None, spacing))
    assert sorted(volume.geometry.spacing_zyx_mm) == pytest.approx(sorted(spacing))
    assert "sform_code and qform_code are both 0" in volume.notes[0]


@pytest.mark.parametrize(("unit", "factor"), [("micron", 0.001), ("meter", 1000), ("mm", 1), ("unknown", 1)])
@pytest.mark.parametrize("form", ["sform", "qform", "both", "none"])
def test_units_are_obeyed_in_every_field(tmp_path: Path, unit: str, factor: float, form: str) -> None:
    affine = turned(20, tuple(np.array([0.5, 0.75, 3]) / factor), tuple(np.array([1, 2, 3]) / factor))
    path = save(
        tmp_path / "a.nii",
        affine if form in ("sform", "both") else None,
        affine if form in ("qform", "both") else None,
        np.array([0.5, 0.75, 3]) / factor,
        unit=unit,
    )
    geometry = read_volume(path).geometry
    assert geometry.spacing_zyx_mm == pytest.approx((3, 0.75, 0.5), rel=1e-5)
    if form == "both":
        oracle = sitk.ReadImage(str(path))
        assert geometry.affine[:3, 3] == pytest.approx(np.array(oracle.GetOrigin()) * [-1, -1, 1], rel=1e-5)
        assert geometry.spacing_zyx_mm[::-1] == pytest.approx(oracle.GetSpacing(), rel=1e-5)


@pytest.mark.parametrize(
    ("edges", "noted"), [((0.5, 0.5, 60.0), True), ((0.005, 0.005, 0.02), True), ((0.01, 0.02, 50.0), False)]
)
def test_voxels_of_a_strange_size_are_noted(tmp_path: Path, edges: tuple[float, ...], noted: bool) -> None:
    notes = read_volume(save(tmp_path / "a.nii", turned(0, edges), None, edges)).notes
    assert bool(notes) == noted
    assert all("check the unit in its header (xyzt_units)" in note for note in notes)


@pytest.mark.parametrize("edges", [(500.0, 500.0, 3000.0), (1e-6, 1e-6, 1e-6), (1.0, 1.0, 1e6)])
def test_voxels_of_an_impossible_size_are_refused(tmp_path: Path, edges: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match=r"a\.nii: its voxels measure .* mm; allowed: .*xyzt_units"):
        read_volume(save(tmp_path / "a.nii", turned(0, edges), None, edges))


def test_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(0), None)
    data = bytearray(path.read_bytes())
    data[123] = 5
    path.write_bytes(data)
    with pytest.raises(DataError, match="xyzt_units have the unknown code 5"):
        read_volume(path)


@pytest.mark.parametrize(
    ("dtype", "slope", "intercept"), [("u1", 1 / 255, 0), ("i2", 0.5, -3), ("f4", 2, 1), ("i4", 0.25, 0), (">i2", 2, 0)]
)
def test_scaled_values_are_those_of_nibabel(tmp_path: Path, dtype: str, slope: float, intercept: float) -> None:
    image = nibabel.Nifti1Image((values() % 200).astype(dtype), turned(0))
    image.header.set_slope_inter(slope, intercept)
    nibabel.save(image, tmp_path / "a.nii.gz")
    wanted = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj)
    found = read_nifti(tmp_path / "a.nii.gz").array
    assert np.allclose(found, wanted, rtol=1e-6)
    assert found.dtype == (np.float64 if dtype == "i4" else np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_both_versions_and_byte_orders_are_read(tmp_path: Path, kind: type, order: str) -> None:
    image = kind(values(), turned(20), kind.header_class(endianness=order))
    image.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "a.nii")
    assert np.array_equal(read_nifti(tmp_path / "a.nii").array, values())
    assert declared_size(tmp_path / "a.nii")[1] == values().nbytes


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path, seed: int) -> None:
    path = save(tmp_path / "a.nii.gz", turned(0), turned(0))
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
    # Bytes 4 to 9 of gzip are its time, flags and system, which say nothing about the contents.
    place = int(rng.integers(10, len(data)))
    data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.nii\.gz: not a readable NIfTI file: (damaged \(CRC\)|it ends too early)"):
        read_volume(path)


def test_members_of_gzip_are_one_file_and_garbage_behind_them_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(0), turned(0))
    data = path.read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    assert np.array_equal(read_nifti(tmp_path / "b.nii.gz").array, values())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data) + b"garbage")
    with pytest.raises(DataError, match=r"damaged \(CRC\): Not a gzipped file"):
        read_volume(tmp_path / "b.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(data + b"more"))
    with pytest.raises(DataError, match=r"holds more than the 420 bytes of voxels"):
        read_volume(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("size", [0, 3, 100, 347, 351, 352, 700, 771])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, name: str, size: int) -> None:
    data = save(tmp_path / "whole.nii", turned(0), turned(0)).read_bytes()[:size]
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with pytest.raises(DataError, match=rf"{name}: .*(ends too early|does not start with|is empty|does not begin)"):
        read_volume(tmp_path / name)
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(data)[:-3])
    with pytest.raises(DataError, match=r"cut\.nii\.gz: "):
        read_volume(tmp_path / "cut.nii.gz")


def test_a_huge_size_in_a_header_costs_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(0), turned(0))
    data = bytearray(path.read_bytes())
    data[42:48] = np.array([20000, 20000, 20000], "<i2").tobytes()
    for name, content in (("b.nii", bytes(data)), ("b.nii.gz", gzip.compress(bytes(data)))):
        (tmp_path / name).write_bytes(content)
        assert declared_size(tmp_path / name)[1] == 2 * 20000**3
        with pytest.raises(DataError, match="declares 16000000000000 bytes of voxels, but the file ends too early"):
            read_volume(tmp_path / name)


def test_a_name_that_hides_the_compression_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", turned(0), None).rename(tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"is gzip-compressed; name it \.nii\.gz"):
        read_volume(tmp_path / "a.nii")


def test_damaged_headers_are_refusals_and_nothing_else(tmp_path: Path) -> None:
    whole = save(tmp_path / "a.nii", turned(0), turned(0)).read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, 352, 6):
            data[place] = int(rng.integers(256))
        (tmp_path / "b.nii").write_bytes(data)
        declared_size(tmp_path / "b.nii")
        with suppress(DataError):
            read_volume(tmp_path / "b.nii")


def test_a_note_says_what_was_believed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", turned(0), None, (0.5, 0.5, 2.9))
    volume = read_volume(path, reading=Reading(believe="sform"))
    assert volume.geometry.spacing_zyx_mm[0] == 3
    assert any(note.endswith("sform is believed") for note in volume.notes)
