import os
import stat
from pathlib import Path

from sam2ft.slurm.queue import parse_squeue, read_queue

REAL = (Path(__file__).parent / "texts" / "squeue.txt").read_text()
"""As a Slurm 22.05 wrote it."""

TEXT = """\
17_0|RUNNING|None|n1
17_1|PENDING|Resources|
17_2|COMPLETED|None|n2
18|CONFIGURING|None|n[1-2]
19|PENDING|Dependency|
"""


def test_elements_and_plain_jobs_are_listed_by_id_and_ended_ones_left_out():
    queue = parse_squeue(TEXT)
    assert list(queue) == ["17_0", "17_1", "18", "19"]
    assert (queue["17_0"].state, queue["17_0"].nodes, queue["17_0"].waits) == ("RUNNING", "n1", False)
    assert queue["17_1"].waits
    assert queue["18"].waits
    assert queue["19"].reason == "Dependency"


def test_an_empty_queue_is_known_to_be_empty():
    assert parse_squeue("") == {}


def test_what_an_entry_waits_for_is_kept():
    queue = parse_squeue(REAL)
    assert queue["2_6"].dependency == "aftercorr:1_*(unfulfilled)"
    assert not queue["2_6"].stuck
    assert queue["4"].stuck
    assert queue["20"].reason == "ReqNodeNotAvail, UnavailableNodes:n3"
    assert (queue["1_4"].dependency, queue["1_4"].start, queue["1_4"].waits) == ("", "2026-11-23T21:19:35", False)
    # Its processes have ended, its node is being tidied up: not at work, not waiting, and not gone.
    assert queue["1_3"].state == "COMPLETING"


def test_the_queue_of_all_who_submitted_is_asked_for_in_one_call(tmp_path, monkeypatch):
    for name, text in (
        ("squeue", f'echo "$@" >> {tmp_path}/asked; echo "7|RUNNING|None|n1|(null)|N/A"'),
        ("sbatch", ""),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    assert list(read_queue({4242})) == ["7"]
    users = ",".join(str(user) for user in sorted({os.getuid(), 4242}))
    assert (tmp_path / "asked").read_text() == f"-h -r -u {users} -o %i|%T|%r|%N|%E|%S\n"
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert read_queue() is None
