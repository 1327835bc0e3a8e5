"""The real files of other projects: what is read is what other readers read, the rest is refused in one line."""

import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from sam2ft.core.errors import DataError
from sam2ft.data.images.volumes import read_volume
from sam2ft.tools.readings import Read, main, readings_below, table_of_readings

PAGE = Path(__file__).parents[2] / "docs" / "explain" / "files-read.md"
INSTALLED = {
    "pydicom": ("data/test_files", 20),
    "nibabel": ("tests/data", 7),
}
"""Package -> (folder of its files, number of files and series that are read)."""


def installed(package: str) -> Path:
    folder = Path(str(files(package))) / INSTALLED[package][0]
    if not folder.is_dir():
        pytest.skip(f"{package} is installed without its test files")
    return folder


@cache
def found(folder: Path) -> list[Read]:
    return readings_below(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", INSTALLED)
def test_installed_files_are_read_as_other_readers_do_or_refused_in_one_line(package: str) -> None:
    all_of_it = found(installed(package))
    assert [one for one in all_of_it if one.differs] == []
    read = [one for one in all_of_it if not one.problem]
    assert len(read) >= INSTALLED[package][1]
    assert {one.compared for one in read} <= {"nibabel", "SimpleITK"}
    for one in all_of_it:
        assert "\n" not in one.problem
        assert not re.search(r"Traceback|0x[0-9a-f]{6}|sam2ft\.", one.problem)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("package", INSTALLED)
def test_the_page_has_the_table_of_these_files(package: str) -> None:
    heading = f"### {package} {version(package)}\n"
    text = PAGE.read_text(encoding="utf-8")
    if heading not in text:
        pytest.skip(f"the page is about another version of {package}")
    assert heading + table_of_readings({"x": installed(package)}).partition("\n")[2].rstrip() in text


@pytest.mark.real
@pytest.mark.filterwarnings("ignore")
def test_every_shared_real_file_is_read_as_other_readers_do(real_data: Path) -> None:
    all_of_it = found(real_data)
    assert [one for one in all_of_it if one.problem or one.compared not in ("nibabel", "SimpleITK")] == []
    assert len(all_of_it) >= 15


def moved(image: SimpleITK.Image) -> None:
    image.SetOrigin((0, 0, 0.5))


def stretched(image: SimpleITK.Image) -> None:
    image.SetSpacing((1, 1, 2.5))


def changed(image: SimpleITK.Image) -> None:
    image[2, 1, 0] = 99


@pytest.mark.parametrize(
    ("change", "word"),
    [(moved, "landmarks differ by 0.5 mm"), (stretched, "spacings differ"), (changed, "1 voxels differ")],
)
def test_a_difference_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[SimpleITK.Image], None], word: str
) -> None:
    image = SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    image.SetSpacing((1, 1, 2))
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    (one,) = readings_below(tmp_path)
    assert (one.compared, one.spacing_zyx_mm, one.shape_zyx) == ("SimpleITK", (2, 1, 1), (3, 4, 5))
    own = read_volume(tmp_path / "a.mha")
    monkeypatch.setattr("sam2ft.tools.readings.read_volume", lambda *_, **__: own)
    change(image)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    (one,) = readings_below(tmp_path)
    assert one.differs
    assert word in one.compared


def test_what_is_not_read_is_a_row_per_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.vtk", "b.vtk", "c.nii"):
        (tmp_path / name).write_bytes(b"\0\1\2")
    main([f"mine={tmp_path}"])
    text = capsys.readouterr().out
    assert "### mine\n\n0 of 3 are read." in text
    assert "| a.vtk, b.vtk | unknown kind of file |" in text
    with pytest.raises(DataError, match="no such folder"):
        main([f"mine={tmp_path / 'none'}"])
