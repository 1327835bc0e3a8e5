"""One launcher at a time; a lock does not outlive its holder, and whoever waits learns who it is."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sam2ft.core.errors import DiskError, UserError, exit_code_of
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.sweeps.lock import locked, writable

HOLD = """\
import sys, time
from pathlib import Path
from sam2ft.sweeps.lock import locked
from sam2ft.runs.layout import ExperimentLayout
with locked(ExperimentLayout(Path(sys.argv[1]))):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_holder_is_named_and_its_lock_ends_with_it(tmp_path):
    layout = ExperimentLayout(tmp_path / "toy")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(layout.folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"another launcher .*process {other.pid} on .*since"), locked(layout, 0.1):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    began = time.monotonic()
    with locked(layout, 5):
        assert time.monotonic() - began < 2
    assert not layout.launcher.exists()


def test_a_folder_that_cannot_be_made_is_a_message_that_says_where(tmp_path):
    (tmp_path / "toy").write_text("a file in the way")
    with (
        pytest.raises(UserError, match=r"/toy: file exists; give another path"),
        locked(ExperimentLayout(tmp_path / "toy")),
    ):
        pass


@pytest.mark.parametrize(
    ("number", "kind", "code"), [(28, DiskError, 4), (122, DiskError, 4), (5, DiskError, 4), (13, UserError, 2)]
)
def test_full_broken_and_forbidden_file_systems_are_messages_with_their_exit_code(tmp_path, number, kind, code):
    with pytest.raises(kind, match=r"plan\.json: ") as caught, writable(tmp_path):
        raise OSError(number, os.strerror(number), str(tmp_path / "plan.json"))
    assert exit_code_of(caught.value) == code
    with pytest.raises(kind, match=f"{tmp_path}: "), writable(tmp_path):
        raise OSError(number, os.strerror(number))


def test_another_error_of_the_system_stays_a_defect(tmp_path):
    with pytest.raises(BrokenPipeError), writable(tmp_path):
        raise BrokenPipeError(32, "broken pipe")
