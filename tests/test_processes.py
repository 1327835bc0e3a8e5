"""What a test leaves behind in its process is seen, named and set back."""

import locale
import os
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import SimpleITK

from tests.fixtures.processes import ProcessState, unchanged_process


def read_vtk() -> None:
    """The case that was met: ITK's reader of VTK sets the locale C for the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((2, 3, 4), np.int16)), f"{folder}/a.vtk")
        SimpleITK.ReadImage(f"{folder}/a.vtk")


def stand_in_a_folder_that_goes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


LEFT: dict[str, tuple[Callable[[], object], str]] = {
    "a new variable": (lambda: os.environ.update(LC_ALL="C"), "LC_ALL is 'C', was None"),
    "another value": (lambda: os.environ.update(PATH="/"), "PATH is '/', was "),
    "a variable less": (lambda: os.environ.pop("PATH"), "PATH is None, was "),
    "a folder": (lambda: os.chdir("/"), "the folder is '/', was "),
    "a folder that is gone": (stand_in_a_folder_that_goes, "the folder is 'one that is gone', was "),
    "a umask": (lambda: os.umask(0o177), "the umask is '177', was "),
    "a locale": (lambda: locale.setlocale(locale.LC_ALL, "C"), "the locale is 'C', was "),
    "a locale of a library": (read_vtk, "the locale is 'C', was "),
}


@pytest.fixture(autouse=True)
def a_locale_that_is_not_c() -> Iterator[None]:
    before = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_behind_is_named_and_set_back(kind: str) -> None:
    act, told = LEFT[kind]
    before = ProcessState.now()
    with pytest.raises(pytest.fail.Exception, match=rf"left behind in this process: {told}"), unchanged_process():
        act()
    assert ProcessState.now() == before


def test_nothing_is_said_of_what_was_set_back_or_of_what_libraries_set_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ProcessState.now()
    with unchanged_process(), monkeypatch.context() as patch:
        patch.setenv("PATH", "/")
        patch.chdir("/")
    assert ProcessState.now() == before
    with unchanged_process():
        monkeypatch.setenv("KMP_OF_A_LIBRARY", "1")
    assert os.environ["KMP_OF_A_LIBRARY"] == "1"
