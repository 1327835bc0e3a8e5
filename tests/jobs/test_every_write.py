"""Every write of a run that is trained and evaluated asks first who holds the run.

Python tells an audit hook of each file that is opened, renamed or removed: so the writes are enumerated as they happen,
whichever module makes them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.core.files import read_json, write_json
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import execute_job
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.status import read_status

pytestmark = pytest.mark.sam2
ROOT = Path(__file__).parents[2]
# An attempt's own files, which no other one writes: its log, and an event file of tensorboard of its own.
OWN = ("logs/", "tensorboard/")

HOOKED = """
import json, os, sys
from pathlib import Path

run, plan, out = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3]
events = []

def inside(path):
    if not isinstance(path, (str, os.PathLike)):
        return None
    path = Path(os.path.abspath(os.fspath(path)))
    return str(path.relative_to(run)) if path.is_relative_to(run) else None

def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        name = inside(path)
        if name is not None and ".partial" not in name:
            writes = flags & (os.O_WRONLY | os.O_RDWR) if isinstance(flags, int) else False
            if writes or name == "claim.json":
                events.append(("open" if writes else "look", name))
    elif event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        name = inside(arguments[1] if event == "os.rename" else arguments[0])
        if name is not None and ".partial" not in name:
            events.append((event, name))

from sam2ft.jobs.job import main
sys.addaudithook(hook)
try:
    main([str(run.parent), plan, "0", "train_eval"])
finally:
    Path(out).write_text(json.dumps(events))
"""


@pytest.fixture(scope="module")
def settings() -> tuple[str, ...]:
    return ("module.num_epochs=1", "module.checkpoint.every_steps=1", "module.checkpoint.keep=1", "eval.qc_slices=1")


@pytest.mark.slow
def test_no_file_of_a_run_appears_without_a_look_at_the_claim(point_with, toy, settings, tmp_path):
    point = point_with(*settings)
    (plan,) = toy.folder.glob("runs/toy/plan-*.json")
    out = tmp_path / "events.json"
    command = [sys.executable, "-c", HOOKED, str(point.layout.folder), plan.stem.removeprefix("plan-"), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    logs = "".join(path.read_text() for path in point.layout.logs.glob("*"))
    assert done.returncode == 0, done.stderr + logs
    events = [(what, name) for what, name in json.loads(out.read_text()) if not name.startswith(OWN)]
    events = events[1 + [name for what, name in events if what == "os.rename"].index("claim.json") :]

    appeared = [name for what, name in events if what == "os.rename"]
    for written in ("status.json", "best.pt", ".safetensors", "history.csv", "identity.json", "_SUCCESS", "volume.csv"):
        assert any(name.endswith(written) for name in appeared), written
    assert any("/parts/" in name for name in appeared)
    assert any(name.endswith(".png") for name in appeared)
    assert not [name for what, name in events if what == "open"], "written in place: nobody could look in between"
    looked = True
    for what, name in events:
        if what == "os.rename":
            assert looked, f"{name} appeared without a look at claim.json"
        looked = what == "look" or (looked and what in ("os.remove", "os.rmdir", "shutil.rmtree"))
    removed = {name.split("/")[0] for what, name in events if what != "os.rename" and what != "look"}
    assert removed <= {"checkpoints", "eval", "requeue.json"}, removed


@pytest.mark.parametrize("of_which", ["checkpoints/", "status.json", "history.csv", "eval/"])
def test_an_attempt_that_is_replaced_while_it_writes_leaves_what_was_there(point_with, settings, monkeypatch, of_which):
    """Not when it looked before it began to write, which may have taken long, but between the sync and the rename."""
    point = point_with(*settings, "module.visualize=false")
    job = point.job(attempt=Attempt("20", 0, "n1", os.getpid(), "2026-01-01T00:00:00+00:00"))
    newer = Attempt("20", 1, "n2", 7, "2026-01-01T00:00:00+00:00")
    before: dict[str, bytes] = {}
    original, folder = os.fsync, job.layout.folder.resolve()

    def contents():
        paths = [path for path in folder.rglob("*") if path.is_file() and ".partial" not in path.parts]
        return {
            name: path.read_bytes() for path in paths if not (name := str(path.relative_to(folder))).startswith(OWN)
        }

    def fsync(descriptor):
        original(descriptor)
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if before or ".partial" not in path.parts or not path.is_relative_to(folder):
            return
        written = path.parent.parent.parent / path.name
        begun = job.layout.best.exists() or of_which != "status.json"
        if begun and str(written.relative_to(folder)).startswith(of_which):
            write_json(job.layout.claim, newer.to_json())
            before.update(contents())

    monkeypatch.setattr(os, "fsync", fsync)
    assert execute_job(job, StopFlag()) == 1
    assert before, "was not replaced"
    assert contents() == before
    assert read_json(job.layout.claim) == newer.to_json()
    assert read_status(job.layout).attempt == job.attempt
    assert not list(job.layout.folder.rglob("*.partial*"))
