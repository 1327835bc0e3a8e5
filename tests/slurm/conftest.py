"""A real Slurm on this machine, and a working directory with a small experiment for it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.store_writer import PreparedVolume, StoreWriter

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "slurm" / "devcluster" / "devcluster.py"

YAML = """\
experiment: {name: onslurm, seed: 42, baseline: false}
dataset:
  toy: {store: data/toy}
datamodule: {batch_size: 2, num_workers: 0, metric: {func: {dice: true}}}
module:
  sam2_model_cfg: sam2_nano
  sam2_checkpoint: weights/random.pt
  image_size: 256
  trainable: {prompt_encoder: false, image_encoder: false, mask_decoder: true}
  optimizer: {type: AdamW, lr: 1e-4}
  num_epochs: 1
  max_skipped_steps: 1
  visualize: false
  use_amp: false
eval: {precision: fp32, qc_slices: 0}
resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 3, hours: 0.2}
"""


@dataclass(frozen=True)
class Cluster:
    """The devcluster, and a folder from which experiments are submitted to it."""

    folder: Path

    def launch(self, script: str, *arguments: str, expect: int = 0) -> str:
        """Run a launch script as a user does; returns what it wrote to stdout."""
        command = [sys.executable, str(ROOT / "launch" / f"{script}.py"), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == expect, f"{command} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def ask(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def job(self, job: str) -> dict[str, str]:
        """`scontrol show job` as a mapping."""
        words = self.ask("scontrol", "-o", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, condition, seconds: float = 240) -> None:
        """Until `condition()` holds. Fails with the queue and the logs else."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = "\n".join(path.read_text() for path in self.folder.glob("runs/*/submissions/*/*.out"))
                pytest.fail(f"not reached in {seconds} s\n{self.ask('squeue', '-r')}\n{logs}")
            time.sleep(0.5)

    def wait_for_end(self, seconds: float = 240) -> None:
        self.wait(lambda: not self.ask("squeue", "-h").strip(), seconds)


def _devcluster(action: str, *options: str, check: bool = True) -> str:
    """Run the devcluster script. Its output goes to a file: daemons would keep a pipe open for ever."""
    log = Path(os.environ["DEVCLUSTER_LOG"])
    with log.open("w") as stream:
        command = [sys.executable, str(DEVCLUSTER), action, *options]
        done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, timeout=600, check=False)
    text = log.read_text()
    if check and done.returncode != 0:
        pytest.skip(f"no devcluster here: {text.strip().splitlines()[-1] if text.strip() else done.returncode}")
    return text


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Brings the devcluster up (installing Slurm where it is absent) and, if it was down before, down again."""
    if os.geteuid() != 0:
        pytest.skip("the devcluster needs root")
    before = dict(os.environ)
    os.environ["DEVCLUSTER_LOG"] = str(tmp_path_factory.mktemp("devcluster") / "log")
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_"))]:
        del os.environ[name]
    was_up = "not running" not in _devcluster("status")
    _devcluster("up", "--install")
    os.environ["SLURM_CONF"] = _devcluster("env").strip().removeprefix("export SLURM_CONF=").strip("'")
    yield
    if not was_up:
        _devcluster("down")
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def cluster(slurm: None, tmp_path: Path) -> Cluster:
    """An experiment `onslurm.yaml` with random weights in an empty folder, ready to be submitted."""
    import torch

    from sam2ft.model.segmenter import NANO, build_untrained

    (tmp_path / "weights").mkdir()
    model = build_untrained(NANO, image_size=256)
    torch.save({"model": model.sam2_model.state_dict()}, tmp_path / "weights" / "random.pt")
    _write_store(tmp_path / "data" / "toy")
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "sites").symlink_to(ROOT / "slurm" / "sites")
    (tmp_path / "onslurm.yaml").write_text(YAML)
    return Cluster(tmp_path)


def _write_store(folder: Path) -> None:
    """Subjects a in train, b in val, c in test; one volume of two slices each."""
    labels = LabelTable((Label(1, "block"),))
    writer = StoreWriter(folder, "toy", "none", labels, split_seed=7)
    mask = np.zeros((2, 32, 32), dtype=np.uint8)
    mask[:, 8:20, 8:20] = 1
    keys = [VolumeKey("toy", subject, "image") for subject in "abc"]
    for key in keys:
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
    writer.finish(keys, {"a": "train", "b": "val", "c": "test"})
