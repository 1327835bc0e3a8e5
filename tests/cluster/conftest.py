"""A working directory with a small store, a weights file and an experiment of two points and a baseline."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.cluster.adopt import adopt
from sam2ft.cluster.chain import wanted_of
from sam2ft.cluster.evidence import look_for
from sam2ft.cluster.partitions import ArrayLimits
from sam2ft.cluster.plan import make_plan
from sam2ft.cluster.site import Site, load_site
from sam2ft.cluster.standing import Retry, reconcile, to_submit
from sam2ft.cluster.submit import Submitted, submit
from sam2ft.cluster.sweep import locked
from sam2ft.config.experiment import load_experiment
from sam2ft.core.files import write_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.layout import ExperimentLayout, RunLayout
from sam2ft.data.store_writer import PreparedVolume, StoreWriter
from sam2ft.run.claim import Attempt
from sam2ft.run.planned import Plan, PlannedPoint, PlannedRun, Resources, save_plan
from sam2ft.run.preflight import ResolvedSweep, resolve
from sam2ft.run.status import RunStatus

YAML = """\
experiment: {name: toy, seed: 42}
dataset:
  toy: {store: data/toy}
datamodule: {batch_size: 2, num_workers: 0, metric: {func: {dice: true}}}
module:
  sam2_model_cfg: configs/sam2.1/sam2.1_hiera_t.yaml
  sam2_checkpoint: weights/tiny.pt
  image_size: 256
  trainable: {prompt_encoder: false, image_encoder: false, mask_decoder: true}
  optimizer: {type: AdamW, lr: 1e-4}
  num_epochs: 2
resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 1, hours: 1}
sweep:
  grid:
    module.optimizer.lr: [1e-3, 1e-4]
"""


@dataclass(frozen=True)
class Workplace:
    """The working directory of a test."""

    folder: Path

    @property
    def experiment(self) -> Path:
        return self.folder / "toy.yaml"

    @property
    def layout(self) -> ExperimentLayout:
        return ExperimentLayout.of("toy")

    def resolved(self, overrides: Sequence[str] = (), **settings: Any) -> ResolvedSweep:
        return resolve(load_experiment(self.experiment, overrides), **settings)

    def plan(self, overrides: Sequence[str] = (), *, fresh: bool = False) -> Plan:
        return make_plan(self.resolved(overrides), fresh=fresh)

    def run(self, run: PlannedRun) -> RunLayout:
        return self.layout.run(run.run_id)

    def write_status(self, run: PlannedRun, state: str, attempt: Attempt, **values: Any) -> None:
        """What a run would say of itself."""
        values = {"heartbeat": attempt.started} | values
        status = RunStatus(state=state, attempt=attempt, **values)  # type: ignore[arg-type]  # any state, for tests
        write_json(self.run(run).status, status.to_json())

    def finish(self, run: PlannedRun, attempt: Attempt) -> None:
        """Leave what a run that is done leaves: its status and the success of its evaluations."""
        self.write_status(run, "done", attempt, trained=not run.baseline, best_sha256="b")
        for eval_id in run.eval_ids:
            write_json(self.run(run).evaluation(eval_id).success, {"checkpoint_sha256": "b", "tables": {}})


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    write_store(tmp_path / "data" / "toy")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "tiny.pt").write_bytes(b"weights")
    (tmp_path / "toy.yaml").write_text(YAML)
    return Workplace(tmp_path)


def write_store(folder: Path) -> None:
    """Subjects a, b in train, c in val, d in test; one volume of two slices each, labels 1 and 5."""
    labels = LabelTable((Label(1, "cartilage", interface="bone"), Label(5, "bone")))
    writer = StoreWriter(folder, "toy", "knee", labels, split_seed=7)
    keys = [VolumeKey("toy", subject, "image") for subject in "abcd"]
    for key in keys:
        mask = np.zeros((2, 8, 8), dtype=np.uint8)
        mask[:, 2:5, 2:5] = 1
        image = np.full(mask.shape, ord(key.subject), dtype=np.uint16)
        writer.write(
            PreparedVolume(
                key=key,
                geometry=Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.5)),
                image_zyx=image,
                mask_zyx=mask,
                maps={},
                window=(0.0, 1.0),
                slices={"rows": [8, 8], "columns": [8, 8]},
                subject_fields={},
            ),
            source="test",
        )
    writer.finish(keys, {"a": "train", "b": "train", "c": "val", "d": "test"})


@pytest.fixture
def attempt() -> Callable[..., Attempt]:
    """attempt(job="local", restart=0, host="elsewhere", pid=1): somebody who works on a run, just now."""

    def make(job: str = "local", restart: int = 0, host: str = "elsewhere", pid: int = 1) -> Attempt:
        now = Attempt.current({}).started
        return Attempt(job, restart, host, pid, now)

    return make


FAKE_SLURM = Path(__file__).with_name("fake_slurm.py")
SITE = """\
site: {name: here}
slurm: {partition: gpu, account: lab, constraint: a100, max_parallel: 4, stop_lead_s: 120, setup: [ulimit -n 4096]}
"""
CPU = Resources(nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1, mem_gb=1.0, hours=1.0)


def planned_runs(count: int, resources: Resources = CPU, *, first: int = 0, evaluation: Resources | None = None) -> Any:
    """Runs of points, as a plan holds them; nothing of them is on disk."""
    return tuple(
        PlannedRun(
            index=index,
            run_id=f"toy-{index:016x}",
            stage="train_eval",
            baseline=False,
            points=(PlannedPoint(f"p{index}", (), f"{index:012x}"),),
            resources=resources,
            eval_resources=evaluation or resources,
        )
        for index in range(first, first + count)
    )


@dataclass(frozen=True)
class FakeSlurm:
    """A Slurm on PATH whose jobs never start; tests/cluster/fake_slurm.py says what its switches are."""

    folder: Path
    """Of the programs and of what they keep."""
    layout: ExperimentLayout
    site: Site

    def set(self, switch: str, text: str) -> None:
        (self.folder / switch).write_text(text)

    @property
    def calls(self) -> list[str]:
        """Job names of all sbatch calls, refused ones included."""
        path = self.folder / "calls"
        return path.read_text().split() if path.is_file() else []

    @property
    def jobs(self) -> list[tuple[str, int, str]]:
        """(id, elements or 0 for a plain job, dependency) of every job that was ever made, in their order."""
        path = self.folder / "queue"
        lines = [line.split("|") for line in path.read_text().splitlines()] if path.is_file() else []
        return [(job, int(count), depends) for job, _, count, depends in lines]

    def script(self, job: str) -> str:
        return (self.folder / f"script-{job}").read_text()

    def remove(self, *jobs: str) -> None:
        """Let jobs end."""
        with (self.folder / "gone").open("a") as stream:
            stream.write(" ".join(jobs) + "\n")

    def sweep(
        self, plan: Plan, *, max_array_size: int = 5, retry: Retry | None = None, site: Site | None = None
    ) -> Submitted:
        """What launch/sweep.py does for a plan, from its lock on."""
        with locked(self.layout):
            adopt(self.layout)
            evidence = look_for(self.layout)
            standings = reconcile(self.layout, plan, evidence)
            save_plan(self.layout, plan)
            chosen = to_submit(standings, retry=retry, force=plan.fresh)
            wanted = wanted_of(self.layout, plan, standings, chosen, evidence.queue)
            return submit(self.layout, plan, wanted, site or self.site, ArrayLimits(max_array_size))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """A working directory on a fake cluster."""
    monkeypatch.chdir(tmp_path)
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "fake"
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun"):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{FAKE_SLURM.read_text()}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("sam2ft.cluster.adopt.SETTLE_S", 0.0)
    monkeypatch.setattr("sam2ft.cluster.sbatch.PAUSES_S", (0.0, 0.0))
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "here.yaml").write_text(SITE)
    return FakeSlurm(folder, ExperimentLayout.of("toy"), load_site("here", tmp_path / "sites"))


@pytest.fixture
def runs_of() -> Callable[..., tuple[PlannedRun, ...]]:
    """runs_of(count, resources=CPU, first=0, evaluation=None): planned runs from nothing."""
    return planned_runs
