"""Series of decaying images: times from headers or in order of acquisition, and each way to be broken."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.dicom.relaxometry_series import read_echoes, read_spin_locks

Write = Callable[..., Path]
Edit = Callable[..., None]


@pytest.fixture
def echoes(tmp_path: Path, write_series: Write) -> Path:
    """Three slices at echoes of 10, 20 and 30 ms in one series, files named in an order unlike both."""
    folder = tmp_path / "echoes"
    for number in (3, 1, 2):

        def change(header, z: int, number: int = number) -> None:  # type: ignore[no-untyped-def]
            header.SeriesInstanceUID = "1.2.3"
            header.EchoTime, header.EchoNumbers, header.AcquisitionNumber = 10.0 * number, number, number
            header.PixelData = np.full((6, 8), 1000 * number + z, dtype="<u2").tobytes()

        written = write_series(tmp_path / f"one{number}", count=3, change=change)
        folder.mkdir(exist_ok=True)
        for path in written.iterdir():
            path.rename(folder / f"{4 - number}-{path.name}")
    return folder


def values(images_tzyx: np.ndarray) -> list[list[float]]:
    return images_tzyx[:, :, 0, 0].tolist()


def test_echoes_are_sorted_by_time_and_their_slices_by_position(echoes: Path) -> None:
    series = read_echoes(echoes)
    assert series.times_ms == (10, 20, 30)
    assert values(series.images_tzyx) == [[1000, 1001, 1002], [2000, 2001, 2002], [3000, 3001, 3002]]
    assert series.geometry.shape_zyx == (3, 6, 8)
    assert series.geometry.spacing_zyx_mm == (2.0, 0.5, 0.75)


def test_echoes_may_be_a_series_each(echoes: Path, edit: Edit) -> None:
    for path in echoes.iterdir():
        edit(path, SeriesInstanceUID=f"1.2.{path.name[0]}")
    assert read_echoes(echoes).times_ms == (10, 20, 30)


@pytest.mark.parametrize("beside", [0.001, 0.02, -0.05])
def test_times_of_one_echo_that_differ_by_their_rounding_are_one(echoes: Path, edit: Edit, beside: float) -> None:
    edit(next(echoes.glob("2-*3.dcm")), EchoTime=20.0 + beside)
    series = read_echoes(echoes)
    assert series.times_ms == (10, 20, 30)
    assert values(series.images_tzyx)[1] == [2000, 2001, 2002]


@pytest.mark.parametrize(("second", "third"), [(10.05, 30.0), (10.02, 10.04), (10.5, 11.0)])
def test_echoes_of_all_positions_are_never_joined(echoes: Path, edit: Edit, second: float, third: float) -> None:
    for path in echoes.iterdir():
        edit(path, EchoTime={"1": third, "2": second, "3": 10.0}[path.name[0]])
    assert read_echoes(echoes).times_ms == (10, second, third)


@pytest.mark.parametrize("time", [20.3, 19.8, 21.0])
def test_times_further_apart_are_two_echoes(echoes: Path, edit: Edit, time: float) -> None:
    edit(next(echoes.glob("2-*3.dcm")), EchoTime=time)
    with pytest.raises(DataError, match="EchoNumbers 2 has the EchoTime"):
        read_echoes(echoes)


def test_spin_locks_are_taken_in_the_order_of_acquisition(echoes: Path, edit: Edit) -> None:
    for path in echoes.iterdir():
        edit(path, EchoTime=4.0)
    series = read_spin_locks(echoes, (0.0, 10.0, 40.0))
    assert (series.times_ms, series.ordered_by) == ((0, 10, 40), "AcquisitionNumber")
    assert values(series.images_tzyx)[2] == [3000, 3001, 3002]


def test_the_order_is_that_of_the_first_attribute_that_tells_all_images_of_a_position_apart(
    echoes: Path, edit: Edit
) -> None:
    for path in echoes.iterdir():
        edit(path, AcquisitionNumber=1, EchoNumbers=1, SeriesNumber=int(path.name[0]))
    series = read_spin_locks(echoes, (0.0, 10.0, 40.0))
    assert series.ordered_by == "SeriesNumber"
    assert values(series.images_tzyx)[0] == [3000, 3001, 3002]


BROKEN = {
    "an echo is missing at a position": (
        lambda folder, edit: next(folder.glob("2-*1.dcm")).unlink(),
        "echo 20 ms is missing at 9.00 mm along the normal (position 3 of 3)",
    ),
    "an echo is there twice": (
        lambda folder, edit: [edit(path, EchoTime=10.0, EchoNumbers=1) for path in folder.glob("2-*3.dcm")],
        "echo 10 ms occurs 2 times at 5.00 mm",
    ),
    "two echoes have one time": (
        lambda folder, edit: [edit(path, EchoTime=10.0) for path in folder.glob("2-*")],
        "echo times do not increase: EchoNumbers 1 has 10 ms, 2 has 10 ms",
    ),
    "times fall": (
        lambda folder, edit: [edit(path, EchoTime=5.0) for path in folder.glob("1-*")],
        "EchoNumbers 2 has 20 ms, 3 has 5 ms",
    ),
    "one number, two times": (
        lambda folder, edit: [edit(path, EchoNumbers=1) for path in folder.glob("2-*")],
        "EchoNumbers 1 has the EchoTime",
    ),
    "another pixel size": (
        lambda folder, edit: [edit(path, PixelSpacing=[0.6, 0.6]) for path in folder.glob("2-*")],
        "mixed pixel spacings",
    ),
    "moved within the plane": (
        lambda folder, edit: [move(path, edit) for path in folder.glob("1-*")],
        "echo 10 ms and echo 30 ms are on different grids: corners lie up to 3 mm apart",
    ),
    "no time": (
        lambda folder, edit: edit(next(folder.glob("1-*")), EchoTime=None),
        "has no EchoTime; without it the time of the echo is unknown",
    ),
}  # fmt: skip


def move(path: Path, edit: Edit) -> None:

    x, y, z = pydicom.dcmread(path).ImagePositionPatient
    edit(path, ImagePositionPatient=[x + 3, y, z])


@pytest.mark.parametrize("case", BROKEN)
def test_echoes_that_are_no_train_are_refused_by_name(echoes: Path, edit: Edit, case: str) -> None:
    spoil, message = BROKEN[case]
    spoil(echoes, edit)
    with pytest.raises(DataError, match=re.escape(str(echoes)) + r".*" + re.escape(message)):
        read_echoes(echoes)


def test_spin_locks_that_do_not_fit_their_times_are_refused_by_name(echoes: Path, edit: Edit) -> None:
    with pytest.raises(DataError, match=r"3 images at 5\.00 mm along the normal, but spin_lock_ms names 4 times"):
        read_spin_locks(echoes, (0.0, 10.0, 40.0, 80.0))
    for path in echoes.iterdir():
        edit(path, AcquisitionNumber=1, EchoNumbers=1, InstanceNumber=1)
    with pytest.raises(DataError, match="no DICOM attribute gives the order of its images; tried Acq"):
        read_spin_locks(echoes, (0.0, 10.0, 40.0))


def test_echoes_that_are_all_numbered_1_are_told_apart_by_their_times(echoes: Path, edit: Edit) -> None:
    for path in echoes.iterdir():
        edit(path, EchoNumbers=1, SeriesInstanceUID=f"1.2.{path.name[0]}")
    assert read_echoes(echoes).times_ms == (10, 20, 30)
    for path in echoes.iterdir():
        edit(path, SeriesInstanceUID="1.2.3")
    assert read_echoes(echoes).times_ms == (10, 20, 30)


def test_numbers_of_echoes_need_not_continue_over_series(echoes: Path, edit: Edit) -> None:
    for path in echoes.iterdir():  # the series of the shortest time has number 2, the others 1
        first = path.name[0] == "3"
        edit(path, EchoNumbers=2 if first else 1, SeriesInstanceUID=f"1.2.{path.name[0]}")
    assert read_echoes(echoes).times_ms == (10, 20, 30)


@pytest.mark.parametrize("times", [(80.0, 0.0, 40.0), (40.0, 10.0, 0.0), (0.0, 10.0, 40.0)])
def test_spin_lock_times_have_the_order_of_acquisition_whatever_it_was(
    echoes: Path, edit: Edit, times: tuple[float, ...]
) -> None:
    for path in echoes.iterdir():
        edit(path, EchoTime=4.0)
    series = read_spin_locks(echoes, times)
    assert series.times_ms == tuple(sorted(times))
    first_acquired = series.times_ms.index(times[0])
    assert values(series.images_tzyx)[first_acquired] == [1000, 1001, 1002]


@pytest.mark.parametrize("kind", [["DERIVED", "PRIMARY", "M", "T2 MAP"], ["ORIGINAL", "PRIMARY", "T2MAP"], ["DERIVED"]])
def test_a_finished_map_is_no_decay(tmp_path: Path, write_series: Write, edit: Edit, kind: list[str]) -> None:
    folder = write_series(tmp_path / "map", count=3)
    for path in folder.iterdir():
        edit(path, ImageType=kind)
    with pytest.raises(DataError, match=r"a finished map.*sources\.maps\.<name>\.file, with its unit"):
        read_echoes(folder)


@pytest.mark.parametrize("name", ["e1.nii.gz", "e1.nii", "sub-01_echo-1.nii.gz"])
def test_echoes_in_nifti_are_no_dicom_and_need_their_times(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x1f\x8b")
    (tmp_path / "e1.json").write_text("{}")
    with pytest.raises(
        DataError, match=r"no DICOM file among 2 files; it holds NIfTI files.*EchoTime of the \.json file"
    ):
        read_echoes(tmp_path)


def test_only_voxels_that_are_padding_in_all_images_have_no_signal(echoes: Path) -> None:
    for path in echoes.iterdir():
        echo = 4 - int(path.name[0])
        pixels = np.full((6, 8), 100, dtype="<u2")
        pixels[0] = 0
        pixels[1] = 0 if echo == 3 else 100 // echo  # decayed to 0, which is the padding too
        header = pydicom.dcmread(path)
        header.add_new("PixelPaddingValue", "US", 0)
        header.PixelData = pixels.tobytes()
        header.save_as(path)
    images = read_echoes(echoes).images_tzyx
    assert np.isnan(images[:, :, 0]).all()
    assert images[:, 0, 1, 0].tolist() == [100, 50, 0]
