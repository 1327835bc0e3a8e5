"""Remedies of file systems that take no more; the small disk is one of the test's, the limit of a file the system's."""

import errno
import os
import resource
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.core.system import path_errors
from sam2ft.core.system.path_errors import translated
from sam2ft.data.prepare.prepare import prepare_dataset
from tests.remedies.conftest import Raw, in_this_process
from tests.remedies.registry import remedy


@dataclass
class Disk:
    """A file system below `folder` whose state decides whether a write succeeds."""

    folder: Path
    number: int
    refuses: Callable[[Path], bool]

    def fsync(self, original: Callable[[int], None]) -> Callable[[int], None]:
        def fsync(descriptor: int) -> None:
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and self.refuses(self.folder):
                raise OSError(self.number, os.strerror(self.number))
            original(descriptor)

        return fsync


def _other(folder: Path) -> Path:
    return folder / "other-files"


def _crowded(folder: Path) -> bool:
    return _other(folder).is_dir() and any(_other(folder).iterdir())


def _locked(folder: Path) -> bool:
    return not folder.stat().st_mode & stat.S_IWUSR


def _fill(folder: Path) -> None:
    _other(folder).mkdir(exist_ok=True)
    (_other(folder) / "large").write_bytes(bytes(1000))


def _make_room(folder: Path) -> None:
    (_other(folder) / "large").unlink()


@dataclass(frozen=True)
class Trouble:
    number: int
    refuses: Callable[[Path], bool]
    begin: Callable[[Path], object]
    end: Callable[[Path], object]


def _read_only(folder: Path) -> None:
    path_errors.note_written()
    folder.chmod(0o555)


@remedy("make room", of="^make room$", case=Trouble(errno.ENOSPC, _crowded, _fill, _make_room))
@remedy("remove files there", case=Trouble(errno.EDQUOT, _crowded, _fill, _make_room))
@remedy("make it writable again", case=Trouble(errno.EROFS, _locked, _read_only, lambda folder: folder.chmod(0o755)))
def a_file_system_that_takes_nothing(raw: Raw, case: Trouble, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same command, once more, after what the message says was done."""
    monkeypatch.setattr(path_errors, "_WRITTEN", set())
    raw.prepare()
    raw.add("c")
    disk = Disk(raw.folder, case.number, case.refuses)
    case.begin(raw.folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk.fsync(os.fsync))
        shown = raw.prepare(code=4)
        assert raw.whole() == ["a", "b"], "what was there before stays"
        assert raw.prepare(code=4).count("\n") <= shown.count("\n")
        case.end(raw.folder)
        raw.prepare()
    assert raw.whole() == ["a", "b", "c"]
    return shown


@remedy("raise the limit", of="raise the limit or use another file system")
def a_limit_of_the_size_of_a_file(raw: Raw) -> str:
    raw.prepare()
    raw.add("c")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (200, 1, 60):
        # No command: what it prints goes into a file here, which has the limit as well.
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            with pytest.raises(OSError, match="large") as caught:
                prepare_dataset(load_dataset(raw.yaml), Path(), raw.store, lambda *_: None, in_this_process())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert caught.value.errno == errno.EFBIG
    raw.prepare()
    assert raw.whole() == ["a", "b", "c"]
    return str(translated(caught.value))


@remedy("give the path of a file", of="it is a folder")
def a_folder_in_the_place_of_a_file(raw: Raw) -> str:
    Path("split.json").mkdir()
    Path("right.json").write_text('{"train": ["a", "b"]}')
    raw.settings("{train: 1, val: 0, test: 0}", "{file: split.json}")
    shown = raw.prepare(code=2)
    raw.settings("{train: 1, val: 0, test: 0}", "{file: right.json}")
    raw.prepare()
    assert raw.whole() == ["a", "b"]
    return shown
