"""Output that cannot be written: a full disk behind `>`, a reader that has gone, a log without room."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.core.system.streams import LogStream

ROOT = Path(__file__).parents[3]
COMMAND = """
import sys
from sam2ft.core.command import run_command
def main():
    {body}
run_command(main)
"""


def command(body: str, **streams) -> subprocess.CompletedProcess[str]:
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = [sys.executable, "-c", COMMAND.format(body=body)]
    return subprocess.run(code, env=environment, text=True, check=False, **given)


@pytest.mark.parametrize(
    "body", ["print('x')", "print('x' * 100000)", "print('x', flush=True); print('y')", "sys.exit(print('x'))"]
)
def test_a_result_that_cannot_be_printed_ends_with_4_and_one_line(body):
    with open("/dev/full", "w") as full:
        done = command(body, stdout=full)
    assert done.returncode == 4
    assert done.stderr.startswith("standard output: full (no space left on device); ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "body", ["print('x', file=sys.stderr)", "print('x' * 100000, file=sys.stderr, flush=True)", "sys.stderr.write('x')"]
)
def test_messages_that_cannot_be_printed_do_not_change_the_end(body):
    with open("/dev/full", "w") as full:
        assert command(f"{body}; return 3", stderr=full).returncode == 3
        assert command(f"{body}; raise KeyboardInterrupt", stderr=full).returncode == 130


@pytest.mark.parametrize("body", ["print('x' * 10 ** 6)", "print('x')", "[print(k) for k in range(100000)]"])
def test_a_reader_that_has_gone_is_no_error(body):
    for streams in ("stdout", "stderr"):
        read, write = os.pipe()
        os.close(read)
        try:
            done = command(
                body if streams == "stdout" else body.replace(")", ", file=sys.stderr)", 1), **{streams: write}
            )
        finally:
            os.close(write)
        assert done.returncode == 0
        assert "Traceback" not in (done.stderr or "")
        assert "Broken" not in (done.stderr or "")


def test_a_defect_keeps_its_traceback():
    done = command("print('x'); {}['missing']")
    assert done.returncode == 1
    assert "KeyError" in done.stderr


def test_a_log_tells_once_that_it_is_not_complete_and_goes_on_when_there_is_room(tmp_path):
    told = []
    room = os.open("/dev/full", os.O_WRONLY)
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    stream = LogStream(log, told.append)
    print("µ before", file=stream)
    kept = os.dup(log)
    os.dup2(room, log)
    print("lost", file=stream)
    print("lost too", file=stream, flush=True)
    os.dup2(kept, log)
    print("after", file=stream)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "µ before\nafter\n"
    assert [error.errno for error in told] == [errno.ENOSPC]
    for descriptor in (room, log, kept):
        os.close(descriptor)
