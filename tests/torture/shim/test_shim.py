"""The shim sees the writes of Python, Rust and C++, and disturbs the one that is asked for."""

import errno
import sys
from pathlib import Path

import pytest

from torture.shim.shim import Action, Fault, Shim, built

WRITERS = {
    "python": "with open(path, 'wb') as stream: stream.write(b'x' * 5000)",
    "copy": "import shutil; shutil.copyfile(sys.executable, path)",
    "safetensors": "import numpy; from safetensors.numpy import save_file; save_file({'a': numpy.zeros(900)}, path)",
    "arrow": "import pyarrow, pyarrow.parquet as p; p.write_table(pyarrow.table({'a': [1, 2]}), path)",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def shim(library: Path, tmp_path: Path) -> Shim:
    return Shim(library, tmp_path / "control")


def program(text: str, path: Path) -> list[str]:
    return [sys.executable, "-c", f"import sys\npath = {str(path)!r}\n{text}"]


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_of_each_library_is_seen_and_fails_as_told(shim, watched, writer, number):
    command = program(WRITERS[writer], watched / "file")
    assert shim.run(command, watched).code == 0
    seen = [call.function for call in shim.calls()]
    assert shim.hits == 0
    assert shim.count == len(seen)
    moves = [name for name in seen if "write" in name or "sendfile" in name or "copy" in name]
    assert moves, seen
    (watched / "file").unlink()
    ended = shim.run(command, watched, Fault(at=seen.index(moves[0]) + 1, number=number))
    assert ended.code == 1
    assert shim.hits >= 1
    # A library may report its own words, but never success.
    assert f"rror {number}" in ended.err or f"rrno {number}" in ended.err, ended.err


def test_nothing_outside_of_the_folder_counts(shim, watched, tmp_path):
    for path in (tmp_path / "beside", tmp_path / "watched2", Path("/dev/null")):
        assert shim.run(program(WRITERS["python"], path), watched, Fault(at=1)).code == 0
        assert shim.count == 0


def test_once_and_from_then_on(shim, watched):
    text = """
for name in 'abc':
    try:
        open(path + name, 'xb').close()
    except OSError as error:
        print(name, error.errno)
"""
    assert shim.run(program(text, watched / "f"), watched, Fault(at=2, once=True)).out == f"b {errno.ENOSPC}\n"
    for path in watched.iterdir():
        path.unlink()
    assert shim.run(program(text, watched / "f"), watched, Fault(at=2)).out == f"b {errno.ENOSPC}\nc {errno.ENOSPC}\n"
    for path in watched.iterdir():
        path.unlink()
    chosen = Fault(at=1, number=errno.EROFS, function="open", file="fc")
    assert shim.run(program(text, watched / "f"), watched, chosen).out == f"c {errno.EROFS}\n"


@pytest.mark.parametrize(
    ("action", "size", "code"),
    [
        (Action.FAIL, 0, 1),
        (Action.SHORT, 2500, 1),
        (Action.KILL_BEFORE, 0, -9),
        (Action.KILL_INSIDE, 2500, -9),
        (Action.KILL_AFTER, 5000, -9),
    ],
)
def test_what_is_on_disk_after_each_action(shim, watched, action, size, code):
    path = watched / "file"
    ended = shim.run(program(WRITERS["python"], path), watched, Fault(at=1, action=action, function="write"))
    assert ended.code == code
    assert path.stat().st_size == size


def test_children_go_on_counting_and_the_shim_can_be_told_anew_while_a_process_runs(shim, watched):
    child = f"import subprocess; subprocess.run([sys.executable, '-c', \"open('{watched}/inner', 'x')\"], check=True)"
    assert shim.run(program(child + "; open(path, 'x')", watched / "outer"), watched).code == 0
    assert [Path(call.path).name for call in shim.calls()] == ["inner", "outer"]


READERS = {
    "python": "open(path, 'rb').read()",
    "json": "import json; json.load(open(path))",
    "copy": "import shutil; shutil.copyfile(path, '/dev/null')",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("first", ["open", "content"])
def test_reads_fail_when_they_are_asked_for_and_writes_do_not_count_then(shim, watched, reader, first):
    (watched / "file").write_text('"' + "1" * 10_000 + '"')
    command = program(f"open(path + '2', 'wb').write(b'x')\n{READERS[reader]}", watched / "file")
    assert shim.run(command, watched, Fault(reads=True)).code == 0
    seen = {call.function.removesuffix("64") for call in shim.calls()}
    assert "open" in seen
    assert seen & {"read", "sendfile", "copy_file_range"}
    assert {Path(call.path).name for call in shim.calls()} == {"file"}
    at = 1 if first == "open" else 1 + next(k for k, call in enumerate(shim.calls()) if "open" not in call.function)
    ended = shim.run(command, watched, Fault(at=at, number=errno.EIO, reads=True))
    assert ended.code == 1
    assert f"rrno {errno.EIO}" in ended.err
    assert (watched / "file2").read_text() == "x"
