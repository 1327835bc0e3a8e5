"""The devcluster itself: a second one beside that of the session, damaged and repaired, leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm

DEVCLUSTER = Path(__file__).parents[2] / "slurm" / "devcluster" / "devcluster.py"
DAEMONS = ["munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd-n1", "slurmd-n2", "slurmd-n3"]


class Second:
    """A cluster of its own in `folder`."""

    def __init__(self, folder: Path, port: int):
        self.folder = folder
        self.conf = folder / "slurm.conf"
        # Sockets need a short path: not pytest's.
        self.env = {**os.environ, "SAM2FT_DEVCLUSTER": str(folder), "SAM2FT_DEVCLUSTER_PORT": str(port)}

    def __call__(self, action: str) -> tuple[int, str]:
        with tempfile.TemporaryFile("w+") as stream:
            command = [sys.executable, str(DEVCLUSTER), action]
            done = subprocess.run(
                command, env=self.env, stdout=stream, stderr=subprocess.STDOUT, timeout=120, check=False
            )
            stream.seek(0)
            return done.returncode, stream.read()

    def pids(self) -> dict[str, int]:
        lines = [line.split() for line in self("status")[1].splitlines()]
        return {words[0]: int(words[2]) for words in lines if words[1:2] == ["process"]}

    def ask(self, *command: str) -> str:
        env = {**self.env, "SLURM_CONF": str(self.conf)}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True).stdout

    def processes(self) -> list[int]:
        """Everything that was started with its SLURM_CONF, jobs included."""
        found = []
        for folder in Path("/proc").iterdir():
            try:
                block = (folder / "environ").read_bytes().split(b"\0") if folder.name.isdecimal() else []
            except OSError:
                continue
            if f"SLURM_CONF={self.conf}".encode() in block:
                found.append(int(folder.name))
        return found


@pytest.fixture
def second(slurm):
    cluster = Second(
        Path(tempfile.mkdtemp(prefix="dc-", dir="/tmp")) / "c", int(os.environ["SAM2FT_DEVCLUSTER_PORT"]) + 10
    )
    yield cluster
    cluster("down")
    cluster.folder.parent.rmdir()


def test_up_repairs_and_down_leaves_nothing(slurm, second):
    system = {path: path.stat().st_mtime_ns for path in Path("/etc").rglob("*slurm*")}
    before = slurm.script("status")[1]
    code, text = second("up")
    assert code == 0, text
    first = second.pids()
    assert list(first) == DAEMONS

    # A job whose slurmd is killed, a database that is killed: what a crash leaves, with pid files that mean nothing.
    second.ask("sbatch", "--mem=50", "--output=/dev/null", "--nodelist=n1", "--wrap", "sleep 300")
    while "R" not in second.ask("squeue", "-h", "-o", "%t"):
        pass
    for name in ("slurmd-n1", "mariadbd", "slurmctld"):
        os.kill(first[name], signal.SIGKILL)
    assert second("up")[0] == 0
    repaired = second.pids()
    assert list(repaired) == DAEMONS
    assert {name for name in DAEMONS if repaired[name] != first[name]} >= {"slurmd-n1", "mariadbd", "slurmctld"}
    assert repaired["slurmd-n2"] == first["slurmd-n2"]
    assert second.ask("squeue", "-h", "-o", "%t").strip() == "R"

    os.kill(repaired["slurmd-n1"], signal.SIGKILL)
    code, text = second("down")
    assert code == 0, text
    assert second.processes() == []
    assert not second.folder.exists()
    assert second("down")[0] == 0
    # The other one, and the configuration of the system, are as they were.
    assert [line for line in slurm.script("status")[1].splitlines() if "process" in line] == [
        line for line in before.splitlines() if "process" in line
    ]
    assert {path: path.stat().st_mtime_ns for path in Path("/etc").rglob("*slurm*")} == system


def test_a_taken_port_is_named(slurm, second):
    second.env["SAM2FT_DEVCLUSTER_PORT"] = os.environ["SAM2FT_DEVCLUSTER_PORT"]
    code, text = second("up")
    assert code == 1
    assert f"port {second.env['SAM2FT_DEVCLUSTER_PORT']} of slurmctld is in use" in text
