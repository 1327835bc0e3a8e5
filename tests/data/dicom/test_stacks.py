"""Folders that hold more than one stack: what is told apart, what is chosen, and what is refused with the key."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    EncapsulatedPDFStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
)

from sam2ft.config.schema.dataset import Reading
from sam2ft.config.schema.series import SeriesChoice
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.choice import chosen_decay
from sam2ft.data.dicom.contents import images_in
from sam2ft.data.dicom.relaxometry_series import read_echoes
from sam2ft.data.dicom.series import read_series
from sam2ft.data.dicom.stacks import StackDescription, split_in_stacks
from sam2ft.data.images.volumes import read_volume

Writer = Callable[..., Path]
Add = Callable[..., Path]
SAGITTAL = [0, 1, 0, 0, 0, -1]
ACROSS: dict[str, Any] = {"ImageOrientationPatient": SAGITTAL, "ImagePositionPatient": lambda z: [3 * z, 0, 0]}


@pytest.fixture
def add(tmp_path: Path, write_series: Writer) -> Add:
    """add(**values): a stack with these attributes, in series 1.2.3, put into one folder; its path is returned."""
    folder, counts = tmp_path / "all", [0]

    def add_stack(count: int = 3, **values: Any) -> Path:
        counts[0] += 1

        def change(header: pydicom.FileDataset, z: int) -> None:
            header.SeriesInstanceUID, header.SeriesNumber = "1.2.3", 3
            header.PixelData = np.full((6, 8), 100 * counts[0] + z, dtype="<u2").tobytes()
            for keyword, value in values.items():
                setattr(header, keyword, value(z) if callable(value) else value)

        folder.mkdir(exist_ok=True)
        for path in write_series(tmp_path / f"part{counts[0]}", count=count, change=change).iterdir():
            # Names that say nothing: those of later stacks come first.
            shutil.copy(path, folder / f"{9 - counts[0]}{path.name}")
        return folder

    return add_stack


def stacks_of(folder: Path) -> list[StackDescription]:
    return split_in_stacks(images_in(folder).images)


def first_values(volume: Any) -> list[float]:
    return volume.array_zyx[:, 0, 0].tolist()


def chosen(**keys: Any) -> Reading:
    return Reading(series=SeriesChoice(**keys))


# Attributes of two stacks of one series -> a choice of the second one, and what the refusal proposes for the first.
TOLD_APART: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = {
    "echoes": ({"EchoTime": 10.0}, {"EchoTime": 20.0}, {"echo_ms": 20.0}, r"\{echo_ms: 10\}"),
    "magnitude and phase": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
        {"part": "phase"},
        r"\{part: magnitude\}",
    ),
    "Philips' parts": (
        {"ImageType": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "R_FFE", "R", "FFE"]},
        {"part": "real"},
        r"\{part: magnitude\}",
    ),
    "fat and water": (
        {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]},
        {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]},
        {"part": "water"},
        r"\{part: fat\}",
    ),
    "phases": (
        {"TemporalPositionIdentifier": 1},
        {"TemporalPositionIdentifier": 2},
        {"phase": 2},
        r"\{phase: 1\}",
    ),
    "acquisitions": ({"AcquisitionNumber": 4}, {"AcquisitionNumber": 7}, {"phase": 2}, r"\{phase: 1\}"),
    "triggers": (
        {"TriggerTime": lambda z: 10.0 + z},
        {"TriggerTime": lambda z: 310.0 + z},
        {"phase": 2},
        r"\{phase: 1\}",
    ),
    "flip angles": ({"FlipAngle": 5}, {"FlipAngle": 25}, {"tags": {"FlipAngle": 25}}, r"\{tags: \{FlipAngle: 5\}\}"),
    "b-values": (
        {"DiffusionBValue": 0.0},
        {"DiffusionBValue": 800.0},
        {"tags": {"DiffusionBValue": 800}},
        r"\{tags: \{DiffusionBValue: 0\}\}",
    ),
    "series": (
        {},
        {"SeriesInstanceUID": "1.2.4", "SeriesNumber": 4, "SeriesDescription": "pd_SAG fs"},
        {"description": "*pd_sag*"},
        r"\{number: 3\}",
    ),
    "planes of two series": (
        {},
        {
            "SeriesInstanceUID": "1.2.4",
            "ImageOrientationPatient": SAGITTAL,
            "ImagePositionPatient": lambda z: [z, 0, 0],
        },
        {"plane": "sagittal"},
        r"\{plane: sagittal\}",
    ),
}


@pytest.mark.parametrize("case", TOLD_APART)
def test_stacks_are_told_apart_and_one_is_read_by_its_choice(add: Add, case: str) -> None:
    first, second, choice, proposed = TOLD_APART[case]
    add(**first)
    folder = add(**second)
    assert [len(stack.images) for stack in stacks_of(folder)] == [3, 3]
    with pytest.raises(DataError, match=r"all: holds 2 stacks of images: \(1\) 3 .*choose one.*series: " + proposed):
        read_series(folder)
    assert sorted(first_values(read_series(folder, reading=chosen(**choice)))) == [200, 201, 202]
    assert "*" not in proposed


@pytest.mark.parametrize("case", TOLD_APART)
def test_what_a_refusal_proposes_gives_one_stack(add: Add, case: str) -> None:
    import re

    import yaml

    first, second, _, _ = TOLD_APART[case]
    add(**first)
    folder = add(**second)
    with pytest.raises(DataError) as caught:
        read_series(folder)
    found = re.search(r"such as series: (\{.*\})$", str(caught.value))
    assert found is not None
    keys = {key: float(value) if key == "echo_ms" else value for key, value in yaml.safe_load(found[1]).items()}
    listed = sorted(image.header.PixelData[0] for image in stacks_of(folder)[0].images)
    assert sorted(first_values(read_series(folder, reading=chosen(**keys)))) == listed


def test_several_keys_are_proposed_where_one_is_not_enough(add: Add) -> None:
    for echo_ms in (10.0, 20.0):
        for kind in ("M", "P"):
            folder = add(EchoTime=echo_ms, ImageType=["ORIGINAL", "PRIMARY", kind])
    with pytest.raises(DataError, match=r"holds 4 stacks.*series: \{part: magnitude, echo_ms: 10\}"):
        read_series(folder)
    assert first_values(read_series(folder, reading=chosen(part="phase", echo_ms=20.0))) == [400, 401, 402]


def test_a_choice_that_fits_nothing_lists_what_is_there_without_text_of_headers(add: Add) -> None:
    add(EchoTime=10.0)
    folder = add(EchoTime=20.0)
    for keys in ({"echo_ms": 15.0}, {"phase": 3}, {"description": "*flair*"}, {"number": 8}, {"part": "water"}):
        with pytest.raises(DataError, match=r"series.*\(1\) 3 axial images of 6 x 8 pixels.*echo 10 ms") as caught:
            read_series(folder, reading=chosen(**keys))
        for secret in ("Jane", "PID", "t2 sag", "Hospital"):
            assert secret not in str(caught.value)
    with pytest.raises(DataError, match=r"series\.tags names EchoNumer, which is no attribute"):
        read_series(folder, reading=chosen(tags={"EchoNumer": 1}))


def test_a_phase_that_lacks_a_slice_does_not_take_it_from_another_phase(add: Add) -> None:
    add(count=4, AcquisitionNumber=1)
    folder = add(count=4, AcquisitionNumber=2)
    (folder / "8002.dcm").unlink()  # slice 2 of the first acquisition
    assert [len(stack.images) for stack in stacks_of(folder)] == [3, 4]
    assert first_values(read_series(folder, reading=chosen(phase=2))) == [200, 201, 202, 203]
    with pytest.raises(DataError, match="1 missing slice"):
        read_series(folder, reading=chosen(phase=1))


@pytest.mark.parametrize("attribute", ["AcquisitionNumber", "EchoTime", "TriggerTime", "FlipAngle", "InstanceNumber"])
def test_what_varies_over_slices_does_not_split_a_stack(add: Add, attribute: str) -> None:
    folder = add(count=5, **{attribute: lambda z: 10 + z % 2})
    assert [len(stack.images) for stack in stacks_of(folder)] == [5]
    assert first_values(read_series(folder)) == [100, 101, 102, 103, 104]


def test_images_that_nothing_tells_apart_are_refused(add: Add) -> None:
    add()
    folder = add()
    (stack,) = stacks_of(folder)
    assert len(stack.images) == 6
    with pytest.raises(DataError, match=r"6 images at 3 positions.*duplicated, or two acquisitions are mixed"):
        read_series(folder)


LOCALIZERS: dict[str, list[dict[str, Any]]] = {
    "by its type": [{"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}],
    "by its planes": [
        ACROSS,
        {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": lambda z: [0, 3 * z, 0]},
    ],
}


@pytest.mark.parametrize("case", LOCALIZERS)
def test_a_localizer_is_left_out_with_a_note_unless_it_is_alone(add: Add, case: str) -> None:
    for values in LOCALIZERS[case]:
        folder = add(SeriesInstanceUID="1.2.9", SeriesNumber=1, **values)
    localizers = len(stacks_of(folder))
    assert all(stack.localizer for stack in stacks_of(folder))
    folder = add()
    volume = read_series(folder)
    assert first_values(volume)[0] == 100 * (localizers + 1)
    assert any("localizer" in note for note in volume.notes)


STRAYS: dict[str, Callable[[Path], Any]] = {
    "text": lambda folder: (folder / "notes.txt").write_text("hello"),
    "table": lambda folder: (folder / "Thumbs.db").write_bytes(b"\0\1\2"),
    "report": lambda folder: made(folder, EncapsulatedPDFStorage, drop=("PixelData", "Rows")),
    "screen": lambda folder: made(folder, SecondaryCaptureImageStorage, drop=("ImagePositionPatient",)),
    "colours": lambda folder: made(folder, ComputedRadiographyImageStorage, SamplesPerPixel=3),
    "radiograph": lambda folder: made(folder, ComputedRadiographyImageStorage, drop=("ImagePositionPatient",)),
    "dose": lambda folder: made(folder, RTDoseStorage, NumberOfFrames=2),
    "subfolder": lambda folder: shutil.copytree(folder, folder / "more"),
}


def made(folder: Path, kind: str, *, drop: tuple[str, ...] = (), **values: Any) -> None:
    header = pydicom.dcmread(next(folder.glob("*.dcm")))
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = kind
    header.SeriesInstanceUID = "1.2.99"
    for keyword in drop:
        delattr(header, keyword)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    header.save_as(folder / "000.dcm")


@pytest.mark.parametrize("case", STRAYS)
def test_files_that_are_no_images_of_a_series_are_left_out_with_a_note(add: Add, case: str) -> None:
    folder = add()
    expected = read_series(folder)
    STRAYS[case](folder)
    found = read_series(folder)
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert found.geometry == expected.geometry
    if case != "subfolder":
        assert any(note.startswith("left out, because they are no images of a series: ") for note in found.notes)
        with pytest.raises(DataError):
            read_series(folder, reading=Reading(folders="strict"))


DAMAGED: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(500)),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:140]),
    "no pixels": lambda path: edited(path, drop="PixelData"),
    "no position": lambda path: edited(path, drop="ImagePositionPatient"),
    "colours": lambda path: edited(path, SamplesPerPixel=3),
}


def edited(path: Path, drop: str = "", **values: Any) -> None:
    header = pydicom.dcmread(path)
    if drop:
        delattr(header, drop)
    for keyword, value in values.items():
        setattr(header, keyword, value)
    header.save_as(path)


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_slice_is_never_left_out_even_at_the_end(add: Add, case: str) -> None:
    folder = add(count=4)
    DAMAGED[case](folder / "8001.dcm")  # the last slice, whose absence no distance shows
    with pytest.raises(DataError, match=r"8001\.dcm"):
        read_series(folder)


def test_a_copy_is_left_out_and_another_image_of_its_number_is_not(add: Add) -> None:
    folder = add()
    expected = read_series(folder)
    shutil.copy(folder / "8002.dcm", folder / "copy of 8002.dcm")
    found = read_series(folder)
    assert np.array_equal(found.array_zyx, expected.array_zyx)
    assert any(note == "left out, because they are copies: copy of 8002.dcm" for note in found.notes)
    edited(folder / "copy of 8002.dcm", PixelData=b"\1" * 96)
    with pytest.raises(DataError, match="4 images at 3 positions"):
        read_series(folder)


def test_a_folder_without_files_of_its_own_stands_for_its_subfolders(add: Add, tmp_path: Path) -> None:
    folder = add()
    expected = read_series(folder)
    (tmp_path / "exam" / "a").mkdir(parents=True)
    for index, path in enumerate(sorted(folder.iterdir())):
        part = tmp_path / "exam" / "a" / str(index)
        part.mkdir()
        shutil.copy(path, part / "IM1")
    assert np.array_equal(read_volume(tmp_path / "exam").array_zyx, expected.array_zyx)
    with pytest.raises(DataError, match="a folder that holds folders only"):
        read_volume(tmp_path / "exam", reading=Reading(folders="strict"))


def test_a_decay_leaves_out_localizers_and_finished_maps_and_takes_one_part(add: Add) -> None:
    for echo_ms in (10.0, 20.0, 30.0):
        add(EchoTime=echo_ms, ImageType=["ORIGINAL", "PRIMARY", "M"])
    add(SeriesInstanceUID="1.2.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], PixelSpacing=[2, 2])
    folder = add(ImageType=["DERIVED", "PRIMARY", "T2 MAP"], EchoTime=10.0)
    series = read_echoes(folder)
    assert series.times_ms == (10, 20, 30)
    assert series.images_tzyx[:, 0, 0, 0].tolist() == [100, 200, 300]
    assert "left out: 3 images of localizers" in series.notes
    assert "left out: 3 images of finished maps" in series.notes
    for echo_ms in (10.0, 20.0, 30.0):
        add(EchoTime=echo_ms, ImageType=["ORIGINAL", "PRIMARY", "P"])
    with pytest.raises(DataError, match=r"magnitude and phase.*sources\.maps\.t2\.select: \{part: magnitude\}"):
        read_echoes(folder)
    for part, first in (("magnitude", 100), ("phase", 600)):
        images = read_echoes(folder, chosen(part=part)).images_tzyx
        assert images[:, 0, 0, 0].tolist() == [first, first + 100, first + 200]


def test_a_decay_in_two_planes_is_chosen_by_its_plane(add: Add) -> None:
    for echo_ms in (10.0, 20.0, 30.0):
        add(EchoTime=echo_ms)
        folder = add(EchoTime=echo_ms, SeriesInstanceUID="1.2.4", **ACROSS)
    with pytest.raises(DataError, match=r"holds 2 stacks.*sources\.maps\.t2\.select: \{plane: sagittal\}"):
        read_echoes(folder)
    assert read_echoes(folder, chosen(plane="sagittal")).images_tzyx[:, 0, 0, 0].tolist() == [202, 402, 602]
    with pytest.raises(DataError, match=r"select\.echo_ms chooses one image of a decay"):
        chosen_decay(folder, chosen(plane="sagittal", echo_ms=10.0), "sources.maps.t2.select")
    assert len(chosen_decay(folder, chosen(plane="sagittal"), "sources.maps.t2.select").images) == 9


def test_stacks_that_no_key_tells_apart_are_read_alone(add: Add, tmp_path: Path) -> None:
    folder = add(count=4)
    edited(folder / "8002.dcm", Rows=3, PixelData=b"\0" * 48)
    edited(folder / "8001.dcm", Rows=3, PixelData=b"\0" * 48)
    with pytest.raises(DataError, match=r"holds 2 stacks.*3 x 8.*6 x 8.*give the folder of one of them alone"):
        read_series(folder)
    (tmp_path / "alone").mkdir()
    for path in folder.glob("800[34].dcm"):
        shutil.copy(path, tmp_path / "alone")
    assert first_values(read_series(tmp_path / "alone")) == [100, 101]


def test_a_choice_in_strict_folders_is_refused() -> None:
    with pytest.raises(ValueError, match="chooses among several stacks, which folders: strict refuses"):
        Reading(folders="strict", series=SeriesChoice(number=3))
    for keys in ({"folders": "strict"}, {"series": SeriesChoice(number=3)}, {"folders": "strict", "series": {}}):
        assert Reading.model_validate(keys).folders == keys.get("folders", "tolerant")


@pytest.mark.parametrize("content", [b"", bytes(500), b"\x89PNG\0\1"])
def test_a_damaged_file_is_written_again_or_moved(add: Add, tmp_path: Path, content: bytes) -> None:
    folder = add()
    other = folder / "9.dcm"
    other.write_bytes(content)
    with pytest.raises(DataError, match=r"9\.dcm: not DICOM, though it is named as the DICOM files beside it"):
        read_series(folder)
    other.rename(tmp_path / "9.dcm")
    assert first_values(read_series(folder)) == [100, 101, 102]
    again = (folder / "8002.dcm").read_bytes()
    (folder / "8002.dcm").write_bytes(content)
    with pytest.raises(DataError, match=r"8002\.dcm: not DICOM"):
        read_series(folder)
    (folder / "8002.dcm").write_bytes(again)
    assert first_values(read_series(folder)) == [100, 101, 102]
