"""Errors of paths and file systems: whatever a library raises becomes one message, and a defect stays one."""

import errno
import gc
import io
import json
import os
import shutil
import subprocess
import zipfile

import nibabel
import numpy as np
import openpyxl
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sam2ft.core.errors import ClaimedError, DataError, DiskError, UserError, exit_code_of
from sam2ft.core.files import replacing, write_json, write_new
from sam2ft.core.system import path_errors
from sam2ft.core.system.path_errors import of_disk, translated

FULL = errno.ENOSPC, "full (no space left on device)"
QUOTA = errno.EDQUOT, "over quota (disk quota exceeded)"
BROKEN = errno.EIO, "I/O error (input/output error)"


@pytest.fixture(autouse=True)
def nothing_written(monkeypatch):
    monkeypatch.setattr(path_errors, "_WRITTEN", set())


@pytest.mark.parametrize(("number", "reason"), [FULL, QUOTA, BROKEN, (errno.EFBIG, "file too large")])
def test_a_failed_file_system_is_one_line_with_path_reason_what_is_kept_and_what_to_do(number, reason):
    error = translated(OSError(number, os.strerror(number), "data/x.npy"))
    assert isinstance(error, DiskError)
    assert str(error).startswith(f"data/x.npy: {reason}")
    assert "what was there before stays" in str(error)
    assert str(error).endswith("then run the same command again, it continues")
    assert "\n" not in str(error)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP])
def test_a_path_that_the_user_can_change_is_named_with_its_reason_and_ends_with_2(number):
    error = translated(OSError(number, os.strerror(number), "data/x.npy"))
    assert str(error).startswith(f"data/x.npy: {os.strerror(number).lower()}; ")
    assert exit_code_of(error) == 2


def test_read_only_at_the_start_can_be_fixed_and_later_the_file_system_has_failed(tmp_path):
    error = OSError(errno.EROFS, "Read-only file system", "a")
    assert exit_code_of(translated(error)) == 2
    assert of_disk(error), "the class of a run is disk both times"
    write_json(tmp_path / "a", 1)
    assert exit_code_of(translated(error)) == 4


def test_a_renamed_file_is_called_by_its_new_name():
    assert str(translated(OSError(errno.ENOSPC, "", "from", None, "to"))).startswith("to: full")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBADF, "Bad file descriptor"),
        OSError("no number"),
        TimeoutError(errno.ETIMEDOUT, "of a socket"),
        KeyError(28),
    ],
)
def test_another_error_is_a_defect(error):
    assert translated(error) is None
    assert not of_disk(error)


def test_the_own_errors_pass_through():
    for error in (DataError("x"), DiskError("y"), UserError("z")):
        assert translated(error) is error


# --- at the writer ----------------------------------------------------------------------------------------------------


class Broken(io.RawIOBase):
    """A stream that takes `room` bytes and then fails."""

    def __init__(self, number: int, room: int = 100):
        self._number, self._room = number, room

    def writable(self):
        return True

    def seekable(self):
        return True

    def seek(self, *_):
        return 0

    def tell(self):
        return 0

    def write(self, data):
        self._room -= len(memoryview(data).cast("B"))
        if self._room < 0:
            raise OSError(self._number, os.strerror(self._number))
        return len(memoryview(data).cast("B"))


def workbook(stream):
    book = openpyxl.Workbook()
    book.active["A1"] = 1
    book.save(stream)


WRITERS = {
    "torch": lambda stream: torch.save({"a": torch.zeros(500)}, stream),
    "numpy": lambda stream: np.save(stream, np.zeros(500)),
    "zip": lambda stream: zipfile.ZipFile(stream, "w").writestr("a", b"x" * 500),
    "npz": lambda stream: np.savez(stream, a=np.zeros(500)),
    "arrow": lambda stream: pq.write_table(pa.table({"a": list(range(900))}), pa.PythonFile(stream, "w")),
    "pillow": lambda stream: PIL.Image.effect_noise((60, 60), 9).save(stream, "PNG"),
    "nifti": lambda stream: nibabel.Nifti1Image(np.zeros((9, 9, 9)), np.eye(4)).to_stream(stream),
    "text": lambda stream: io.TextIOWrapper(io.BufferedWriter(stream)).write("x" * 99999),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("number", "reason"), [FULL, *(pytest.param(*other, marks=pytest.mark.slow) for other in (QUOTA, BROKEN))]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ZipFile.__del__ writes once more
def test_a_library_that_cannot_write_names_the_file_and_the_reason(tmp_path, writer, number, reason):
    path = tmp_path / "result"
    path.write_text("old")

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            WRITERS[writer](Broken(number))

    with pytest.raises(OSError, match=r"result") as caught:
        write()
    assert str(translated(caught.value)).startswith(f"{path}: {reason}")
    del caught
    gc.collect()  # here, where the complaint of ZipFile is expected
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), FULL[1]),
        (SafetensorError("Error while serializing: I/O error: Disk quota exceeded (os error 122)"), QUOTA[1]),
        (OSError("14400 requested and 6080 written"), BROKEN[1]),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), BROKEN[1]),
        (RuntimeError("basic_ios::clear: iostream error"), BROKEN[1]),
        (RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"), BROKEN[1]),
    ],
)
def test_a_writer_without_a_number_is_known_by_its_words(tmp_path, error, reason):
    def write():
        with replacing(tmp_path / "a"):
            raise error

    with pytest.raises(OSError, match="a") as caught:
        write()
    assert str(translated(caught.value)).startswith(f"{tmp_path / 'a'}: {reason}")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        ValueError("28"),
        TypeError("x"),
        DataError("own"),
        ClaimedError("own"),
        RuntimeError("CUDA error"),
        json.JSONDecodeError("x", "y", 0),
        MemoryError(),
    ],
)
def test_a_defect_in_a_block_that_writes_keeps_its_type(tmp_path, error):
    def write():
        with replacing(tmp_path / "a"):
            try:
                raise OSError(errno.ENOSPC, "handled")
            except OSError:
                # The OSError was dealt with; only a library's own type may stand for it.
                handled = True
            if handled:
                raise error

    with pytest.raises(type(error)) as caught:
        write()
    assert caught.value is error


def test_an_error_about_another_file_keeps_the_name_of_that_file(tmp_path):
    def write():
        with replacing(tmp_path / "a") as partial:
            shutil.copyfile(tmp_path / "missing", partial)

    with pytest.raises(FileNotFoundError, match="missing"):
        write()


def test_a_new_file_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"part\.json") as caught:
        write_new(tmp_path / "part.json", b"x")
    assert str(translated(caught.value)).startswith(f"{tmp_path / 'part.json'}: {QUOTA[1]}")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"a": torch.zeros(50000)}, path),
        lambda path: torch.save({"a": torch.zeros(50000)}, path),
        lambda path: np.save(path, np.zeros(50000)),
        lambda path: path.write_bytes(bytes(200000)),
    ],
    ids=["safetensors", "torch", "numpy", "bytes"],
)
def test_a_really_full_file_system_is_called_full_and_keeps_what_it_had(tmp_path, write):
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting")
    try:
        write_json(small / "kept", 1)
        for _ in range(2):
            path = small / "x.npy"

            def attempt(path=path):
                with replacing(path) as partial:
                    write(partial)

            with pytest.raises(OSError, match=r"x\.npy") as caught:
                attempt()
            assert str(translated(caught.value)).startswith(f"{path}: {FULL[1]}")
            assert [found.name for found in small.iterdir()] == ["kept"]
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)  # torch keeps the file open
