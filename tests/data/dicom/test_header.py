"""Whatever a header holds, the answer is a number, nothing, or a DataError with file, attribute and value."""

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.header import guarded, number, numbers, text
from sam2ft.data.dicom.relaxometry_series import read_echoes, read_spin_locks
from sam2ft.data.dicom.series import read_series, read_source_images

Writer = Callable[..., Path]


def header_with(attribute: str, vr: str, value: bytes) -> Dataset:
    """A header that was read from a file with these bytes."""
    header = Dataset()
    tag = pydicom.tag.Tag(attribute)
    header._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    return header


def spoil(path: Path, attribute: str, vr: str, value: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = pydicom.dcmread(path)
        header._dict.update(header_with(attribute, vr, value)._dict)
        header.save_as(path)


@pytest.mark.parametrize(
    ("vr", "value", "found"),
    [
        ("DS", b"0.5 ", 0.5),
        ("DS", b" 12", 12),
        ("IS", b"1.5 ", 1.5),
        ("LO", b"2.50", 2.5),
        ("UN", b"7 ", 7),
        ("DS", b"", None),
        ("DS", b"  ", None),
        ("US", b"\x05\x00", 5),
    ],
)
def test_numbers_are_read_whatever_their_type_and_empty_is_absent(vr: str, value: bytes, found: float | None) -> None:
    assert number(header_with("EchoTime", vr, value), "EchoTime") == found


@pytest.mark.parametrize(
    ("vr", "value", "shown"),
    [
        ("DS", b"0,5 ", "0,5"),
        ("DS", b"10\\20 ", "10"),
        ("DS", b"nan ", "nan"),
        ("DS", b"inf ", "inf"),
        ("DS", b"1_0 ", "1_0"),
        ("LO", b"TE ten", "text of 6 characters"),
        ("FL", b"abc", "text of 3 characters"),
        ("DS", b"5\\", "5"),
        ("UN", b"\xff\xfe\x00", "text of 2 characters"),
    ],
)
def test_what_is_no_number_is_refused_with_attribute_and_value(vr: str, value: bytes, shown: str) -> None:
    with pytest.raises(DataError, match=r"EchoTime is .*allowed: one finite number") as caught:
        number(header_with("EchoTime", vr, value), "EchoTime")
    assert shown in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_number_of_values_counts() -> None:
    assert numbers(header_with("PixelSpacing", "DS", b"0.5\\0.75"), "PixelSpacing", 2) == (0.5, 0.75)
    with pytest.raises(DataError, match=r"PixelSpacing is '0.5'; allowed: 2 finite numbers"):
        numbers(header_with("PixelSpacing", "DS", b"0.5 "), "PixelSpacing", 2)
    assert text(header_with("Modality", "CS", b"M R "), "Modality") == "M R"


REQUIRED = ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "Rows", "Columns"]


@pytest.mark.parametrize("attribute", REQUIRED)
@pytest.mark.parametrize("value", [b"0,5\\0,5 ", b"", b"text", b"nan\\nan\\nan ", b"1e999 "])
def test_a_required_value_is_refused_with_file_attribute_and_value(
    tmp_path: Path, write_series: Writer, attribute: str, value: bytes
) -> None:
    folder = write_series(tmp_path / "s", count=3)
    spoil(folder / "002.dcm", attribute, "DS", value)
    with pytest.raises(DataError, match=rf"002\.dcm: .*{attribute}"):
        read_series(folder)


OPTIONAL = {"EchoTime": "TE", "RepetitionTime": "TR", "SliceThickness": "slice_thickness"}


@pytest.mark.parametrize(("attribute", "field"), OPTIONAL.items())
@pytest.mark.parametrize("value", [b"10\\20 ", b"0,5 ", b"text"])
def test_an_optional_value_is_left_out_with_a_note(
    tmp_path: Path, write_series: Writer, attribute: str, field: str, value: bytes
) -> None:
    folder = write_series(tmp_path / "s", count=3)
    spoil(folder / "002.dcm", attribute, "DS", value)
    volume = read_series(folder)
    assert volume.slices[field][1] is None
    assert None not in volume.slices[field][::2]
    (note,) = volume.notes
    shown = "text of 4 characters" if value == b"text" else f"'{value.decode().strip()}'"
    assert note.startswith(f"{attribute} is left out for 1 of 3 images: {attribute} is {shown}")
    assert "002.dcm" in note


def test_an_instance_number_is_whole_and_an_empty_one_is_no_note(tmp_path: Path, write_series: Writer) -> None:
    folder = write_series(tmp_path / "s", count=3)
    spoil(folder / "002.dcm", "InstanceNumber", "IS", b"1.5 ")
    spoil(folder / "001.dcm", "InstanceNumber", "IS", b"")
    volume = read_series(folder)
    assert volume.slices["instanceNumber"] == [1, None, None]
    assert len(volume.notes) == 1


def test_what_pydicom_raises_names_the_file_in_one_line() -> None:
    for error in (ValueError("a\nb"), KeyError("x"), RecursionError(), pydicom.errors.BytesLengthException("c")):
        with (
            pytest.raises(DataError, match=r"^f\.dcm: damaged DICOM file \([^\n]+\); export it again$"),
            guarded(Path("f.dcm")),
        ):
            raise error
    with pytest.raises(DataError, match=r"f\.dcm: cannot be read \(Permission denied\)"), guarded(Path("f.dcm")):
        raise PermissionError(13, "Permission denied")


VALUES = [
    b"",
    b"0,5 ",
    b"nan ",
    b"inf ",
    b"1\\2 ",
    b"1e400 ",
    b"abc ",
    b"\xff\xfe\0\1",
    b"-1",
    b"0 ",
    b"9" * 30,
    b"\0\0",
]
TYPES = ["DS", "IS", "LO", "US", "FD", "FL", "SQ", "UN", "OB", "CS", "UI"]


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_raise_nothing_but_a_data_error_of_one_line(
    tmp_path: Path, write_series: Writer, seed: int
) -> None:
    rng = random.Random(seed)
    made = {path: path.read_bytes() for path in write_series(tmp_path / "s", count=3).iterdir()}
    for _ in range(40):
        for path, content in made.items():
            path.write_bytes(content)
        _damage(rng.choice(sorted(made)), rng)
        for read in (read_series, read_source_images, read_echoes, lambda folder: read_spin_locks(folder, (0.0,))):
            refusal = _refusal(read, tmp_path / "s")
            assert "\n" not in refusal
            assert refusal == "" or str(tmp_path) in refusal


def _refusal(read: Callable[[Path], object], folder: Path) -> str:
    try:
        read(folder)
    except DataError as error:
        return str(error)
    return ""


def _damage(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    how = rng.choice(["flip", "cut", "value", "type"])
    if how in ("flip", "cut"):
        for _ in range(rng.randint(1, 6)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content if how == "flip" else content[: rng.randrange(len(content))])
        return
    element = rng.choice(list(pydicom.dcmread(path)))
    try:
        spoil(path, element.keyword, element.VR if how == "value" else rng.choice(TYPES), rng.choice(VALUES))
    except (ValueError, TypeError, AttributeError, KeyError, pydicom.errors.BytesLengthException):
        path.write_bytes(content[:200])  # pydicom cannot write this value


@pytest.mark.parametrize(
    ("attribute", "vr", "value", "count"),
    [
        ("EchoTime", "DS", b"12.5", 1),
        ("ImagePositionPatient", "DS", b"1\\-2.5\\3e1 ", 3),
        ("Rows", "US", b"\x01\x02", 1),
        ("InstanceNumber", "IS", b"7 ", 1),
        ("RescaleSlope", "FD", bytes(7) + b"@", 1),
        ("EchoTime", "DS", b"", 1),
    ],
)
def test_values_that_were_decoded_before_are_the_same(attribute: str, vr: str, value: bytes, count: int) -> None:
    decoded = header_with(attribute, vr, value)
    assert decoded[attribute] is not None  # pydicom decodes it here
    expected = numbers(decoded, attribute, count)
    for _ in range(2):
        header = header_with(attribute, vr, value)
        assert numbers(header, attribute, count) == expected
        header[attribute].value = 5 if count == 1 else [5] * count
        assert numbers(header, attribute, count) == (5.0,) * count


@pytest.mark.parametrize(("vr", "value"), [("DS", b"x"), ("US", b"\1\0\2\0"), ("FD", b"\0" * 6 + b"\xf0\x7f")])
def test_a_wrong_value_is_refused_every_time(vr: str, value: bytes) -> None:
    for _ in range(3):
        with pytest.raises(DataError, match="EchoTime is"):
            number(header_with("EchoTime", vr, value), "EchoTime")


@pytest.mark.parametrize("little", [True, False])
def test_the_byte_order_belongs_to_a_value(*, little: bool) -> None:
    header = Dataset()
    tag = pydicom.tag.Tag("Rows")
    header._dict[tag] = RawDataElement(tag, "US", 2, b"\1\0", 0, False, little)
    assert number(header, "Rows") == (1 if little else 256)


@pytest.mark.parametrize(
    ("attribute", "vr", "value", "found"),
    [
        ("SeriesInstanceUID", "UI", b"1.2.3\0", "1.2.3"),
        ("Modality", "CS", b"MR ", "MR"),
        ("BurnedInAnnotation", "CS", b"", ""),
        ("ImageType", "CS", b"ORIGINAL\\PRIMARY", "['ORIGINAL', 'PRIMARY']"),
    ],
)
def test_texts_that_were_decoded_before_are_the_same(attribute: str, vr: str, value: bytes, found: str) -> None:
    decoded = header_with(attribute, vr, value)
    assert decoded[attribute] is not None
    assert text(decoded, attribute) == found
    assert [text(header_with(attribute, vr, value), attribute) for _ in range(2)] == [found, found]
