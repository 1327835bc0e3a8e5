"""A real Slurm on this machine, and one working directory from which experiments are submitted to it.

The cluster is brought up once, with a MaxArraySize of 5 and three cores per node, in a folder and on ports of its own:
a devcluster that somebody uses is left alone. SAM2FT_DEVCLUSTER_KEEP=1 leaves it up for the next call; with
SAM2FT_DEVCLUSTER_REQUIRED=1 (CI) a cluster that cannot be had is a failure, not a reason to skip.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from sam2ft.config.schema.model_names import NANO
from sam2ft.core.files import read_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.runs.attempt.status import RunStatus, read_status
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.sweeps.submit.records import Record, elements_of, records_of

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "slurm" / "devcluster" / "devcluster.py"
MAX_ARRAY = 5
PLACES = Path.home() / ".cache" / "sam2ft-devcluster-tests"
SESSIONS = 8
"""That many calls of these tests may run at the same time, each with a cluster."""
FIRST_PORT, PORTS = 26917, 20

YAML = """\
experiment: {{name: {name}, seed: 42, baseline: false}}
dataset:
  toy: {{store: data/toy}}
datamodule: {{batch_size: {batch_size}, num_workers: 0, metric: {{func: {{dice: true, iou: true}}}}}}
module:
  sam2_model_cfg: sam2_nano
  sam2_checkpoint: weights/random.pt
  image_size: 256
  trainable: {{prompt_encoder: false, image_encoder: false, mask_decoder: true}}
  optimizer: {{type: AdamW, lr: 1e-4}}
  early_stopping: {{enabled: false}}
  num_epochs: {num_epochs}
  max_skipped_steps: 1
  visualize: false
  use_amp: false
eval: {{precision: fp32, qc_slices: 0}}
resources: {{{resources}}}
"""
RESOURCES = "nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 3, hours: 0.5"
SITE = """\
site: {{name: {name}}}
slurm: {{partition: main, stop_lead_s: 10, max_restarts: {max_restarts}{more}}}
report: {{mem_gb: 2, hours: 0.2}}
"""
# Name, restarts, other options.
SITES = (
    ("tests", 20, ""),
    ("norestart", 0, ""),
    ("asleep", 0, ", setup: [sleep 600]"),
    ("slow start", 0, """, container: 'sh -c "sleep 600"'"""),
    ("n1n2", 20, ", exclude: n3"),
    ("n3", 20, ", exclude: 'n1,n2'"),
)
SUBJECTS = {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "test", "g": "test", "h": "test"}


@dataclass(frozen=True)
class Slurm:
    """The devcluster of this session, and questions to it."""

    log: Path
    max_array: int = MAX_ARRAY

    def run(self, *command: str, timeout: float = 60) -> str:
        """One of Slurm's commands, which has to succeed."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def queue(self) -> dict[str, str]:
        """Job or element -> Slurm's state, of everything in the queue."""
        return dict(line.split() for line in self.run("squeue", "-h", "-r", "-o", "%i %T").splitlines())

    def job(self, name: str) -> dict[str, str]:
        """`scontrol show job` as a mapping."""
        words = self.run("scontrol", "-o", "show", "job", name).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def accounted(self, *jobs: str) -> dict[str, dict[str, str]]:
        """State, ExitCode, Start and End of jobs, and of the elements of arrays, that have left the queue.

        Accounting is seconds behind the queue.
        """
        fields = ("JobID", "State", "ExitCode", "Start", "End")
        end = time.monotonic() + 60
        while True:
            text = self.run("sacct", "-X", "-P", "-n", "-j", ",".join(jobs), "-o", ",".join(fields))
            rows = [dict(zip(fields, line.split("|"), strict=True)) for line in text.splitlines()]
            if time.monotonic() > end or not {row["State"] for row in rows} & {"PENDING", "RUNNING", "REQUEUED"}:
                return {row["JobID"]: row for row in rows}
            time.sleep(0.5)

    def script(self, action: str, *options: str) -> tuple[int, str]:
        """Run devcluster.py. Its output goes to a file: daemons would keep a pipe open for ever."""
        with self.log.open("w") as stream:
            command = [sys.executable, str(DEVCLUSTER), action, *options]
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, timeout=600, check=False)
        return done.returncode, self.log.read_text()

    def up(self) -> None:
        """Start again what does not run."""
        code, text = self.script("up")
        assert code == 0, text

    def kill(self, name: str) -> None:
        """kill -9 of a daemon."""
        lines = [line.split() for line in self.script("status")[1].splitlines()]
        pid = next(int(words[2]) for words in lines if words[:2] == [name, "process"])
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Experiment:
    """An experiment file in the working directory of the tests, and what became of it."""

    slurm: Slurm
    folder: Path
    name: str

    @property
    def yaml(self) -> str:
        return f"{self.name}.yaml"

    @property
    def layout(self) -> ExperimentLayout:
        return ExperimentLayout.of(self.name, self.folder / "runs")

    @property
    def runs(self) -> tuple[RunLayout, ...]:
        """In the order of the newest plan."""
        return tuple(self.layout.run(run["run_id"]) for run in self.plan["runs"])

    @property
    def plan(self) -> dict[str, Any]:
        return read_json(self.layout.plan(self.records[-1].plan))

    @property
    def records(self) -> tuple[Record, ...]:
        return records_of(self.layout)

    def named(self, name: str) -> RunLayout:
        """The run of a point."""
        return self.layout.run(next(run["run_id"] for run in self.plan["runs"] if run["points"][0]["name"] == name))

    def job(self, run: RunLayout, stage: str = "train", submission: int | None = None) -> str:
        """Slurm's id of the job that does a stage of a run (the last one that was submitted)."""
        elements = [element for element in elements_of(self.layout)[run.run_id] if element.stage == stage]
        if submission is not None:
            elements = [element for element in elements if element.submission == submission]
        return elements[-1].job

    def launch(self, script: str, *arguments: str, expect: int = 0, env: Mapping[str, str] | None = None) -> str:
        """Run a launch script as a user does; returns what it wrote to stdout."""
        command = [sys.executable, str(ROOT / "launch" / f"{script}.py"), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == expect, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def sweep(self, *arguments: str, site: str = "tests", expect: int = 0) -> str:
        return self.launch("sweep", self.yaml, "--site", site, *arguments, expect=expect)

    def states(self) -> list[dict[str, Any]]:
        """The table of launch/status.py."""
        return json.loads(self.launch("status", self.yaml, "--json"))

    def coverage(self) -> dict[str, Any]:
        return read_json(self.layout.folder / "report" / "coverage.json")

    def status(self, place: RunLayout) -> RunStatus | None:
        """What a run says."""
        return read_status(place)

    def step(self, place: RunLayout) -> int:
        """Step of a run that is training now; -1 of any other."""
        status = read_status(place)
        return (status.step or 0) if status is not None and status.state == "training" else -1

    def attempts(self, place: RunLayout) -> list[str]:
        """`<job>-<restart>` of every attempt that opened its log."""
        return sorted(path.stem for path in place.logs.glob("*.log") if ".rank" not in path.name)

    def wait_for_progress(self, place: RunLayout, restart: int) -> None:
        """Until the run has made a step after that restart (before it, status.json shows the step that was saved)."""
        self.wait(lambda: self.status(place).attempt.restart >= restart)
        saved = self.status(place).step
        self.wait(lambda: self.step(place) > saved)

    def logs(self) -> str:
        """The end of everything that the jobs printed, for a test that failed."""
        paths = [*self.layout.folder.glob("submissions/*/*.out"), *self.layout.folder.glob("*/logs/*.log")]
        return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted(paths))

    def wait(self, condition: Callable[[], bool], seconds: float = 240) -> None:
        """Until `condition()` holds. Fails with the queue and the logs else."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"not reached in {seconds} s\n{self.slurm.run('squeue', '-r')}\n{self.logs()}")
            time.sleep(0.3)

    def wait_for_end(self, seconds: float = 300) -> None:
        self.wait(lambda: not self.slurm.queue(), seconds)


# --- the cluster ------------------------------------------------------------------------------------------------------


@contextmanager
def _own_place() -> Iterator[dict[str, str]]:
    """Folder and ports that no other session uses; the lock ends with this process, whatever becomes of it."""
    for number in range(SESSIONS):
        # The script locks the parent of a cluster's folder.
        folder = PLACES / str(number) / "home"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder.parent, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            yield {
                "SAM2FT_DEVCLUSTER": str(folder / "c"),
                "SAM2FT_DEVCLUSTER_PORT": str(FIRST_PORT + PORTS * number),
                "SAM2FT_DEVCLUSTER_MAX_ARRAY": str(MAX_ARRAY),
                "SAM2FT_DEVCLUSTER_CPUS": "3",
            }
        finally:
            os.close(descriptor)
        return
    _without(f"{SESSIONS} other sessions hold {PLACES}")


def _without(reason: str) -> NoReturn:
    if os.environ.get("SAM2FT_DEVCLUSTER_REQUIRED") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Brought up (installing what is absent), and down again at the end. Skips where that cannot be."""
    if os.geteuid() != 0:
        _without("the devcluster needs root")
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        del os.environ[name]
    keep = os.environ.get("SAM2FT_DEVCLUSTER_KEEP") == "1"
    cluster = Slurm(tmp_path_factory.mktemp("devcluster") / "log")
    try:
        with _own_place() as place:
            os.environ.update(place)
            # One that a session left which was killed.
            if not keep:
                cluster.script("down")
            code, text = cluster.script("up", "--install")
            if code != 0:
                cluster.script("down")
                _without(f"no devcluster here: {text.strip().splitlines()[-1] if text.strip() else code}")
            os.environ["SLURM_CONF"] = cluster.script("env")[1].strip().removeprefix("export SLURM_CONF=").strip("'")
            if keep:
                cluster.run("scancel", "-u", str(os.getuid()))
            yield cluster
            if not keep:
                code, text = cluster.script("down")
                assert code == 0, text
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a store, random weights and sites."""
    import torch

    from sam2ft.model.segmenter import build_untrained

    folder = tmp_path_factory.mktemp("work")
    (folder / "weights").mkdir()
    model = build_untrained(NANO, image_size=256)
    torch.save({"model": model.sam2_model.state_dict()}, folder / "weights" / "random.pt")
    _write_store(folder / "data" / "toy")
    sites = folder / "slurm" / "sites"
    sites.mkdir(parents=True)
    for name, max_restarts, more in SITES:
        (sites / f"{name}.yaml").write_text(SITE.format(name=name, max_restarts=max_restarts, more=more))
    return folder


@pytest.fixture(scope="session")
def experiment(slurm: Slurm, workplace: Path) -> Callable[..., Experiment]:
    """Makes `<name>.yaml` in the working directory, ready to be submitted; `more` is YAML text, such as a sweep."""

    def make(
        name: str, more: str = "", *, num_epochs: int = 1, batch_size: int = 2, resources: str = RESOURCES
    ) -> Experiment:
        text = YAML.format(name=name, num_epochs=num_epochs, batch_size=batch_size, resources=resources)
        (workplace / f"{name}.yaml").write_text(text + more)
        return Experiment(slurm, workplace, name)

    return make


def _write_store(folder: Path) -> None:
    """One volume of two slices per subject, with a block that lies a little elsewhere in each."""
    labels = LabelTable((Label(1, "block"),))
    writer = StoreWriter(folder, "toy", "none", labels, split_seed=7)
    keys = [VolumeKey("toy", subject, "image") for subject in SUBJECTS]
    for number, key in enumerate(keys):
        mask = np.zeros((2, 32, 32), dtype=np.uint8)
        mask[:, 8 : 20 + number // 2, 8 : 16 + number] = 1
        writer.write(
            PreparedVolume(
                key=key,
                geometry=Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.5)),
                image_zyx=mask.astype(np.uint16) * 40000 + ord(key.subject),
                mask_zyx=mask,
                maps={},
                window=(0.0, 1.0),
                slices={"rows": [32, 32], "columns": [32, 32]},
                subject_fields={},
            ),
            source="test",
        )
    writer.finish(keys, SUBJECTS)
