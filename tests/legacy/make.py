"""Creates the legacy fixture of the current version, once per release: `python tests/legacy/make.py FOLDER` (on a CPU).

FOLDER becomes a working directory as a user of this version leaves it: a prepared store, an experiment `study` (two
points and a baseline, evaluated with every kind of table and reported) and an experiment `stopped` whose training was
stopped midway. It is packed as FOLDER.tar.xz, with the pickles of queued jobs beside it; test_legacy.py reads them with
every later version. The weights repeat a short pattern and few tensors are trained, so that the archive stays small.
"""

import os
import signal
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from submitit.core.utils import DelayedSubmission

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.images.maps import PreparedMap
from sam2ft.data.store.writer import PreparedVolume, StoreWriter
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.calibrate import calibrate
from sam2ft.jobs.job import run_point
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.model.segmenter import build_untrained
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import save_plan
from sam2ft.runs.resources.resources import local_resources
from sam2ft.sweeps.plan.plan import make_plan, write_configs
from sam2ft.sweeps.state.collect import aggregate_folder
from sam2ft.training.run import train
from sam2ft.training.watching.observers import CheckpointWriter

ROOT = Path(__file__).parents[2]
SPLITS = {"a": "train", "b": "train", "c": "val", "d": "test", "e": "test"}
STUDY = """\
experiment: {name: study, seed: 42}
dataset:
  knees: {store: data/knees}
datamodule:
  bbox_shift: 2
  batch_size: 2
  num_workers: 0
  metric:
    func: {dice: true, iou: true, precision: true, recall: true, hd: true, hd95: true, assd: true, nsd: true,
           hd95_surfel: true, assd_surfel: true, cartilagethickness: true, tissuevolume: true, t2: true}
module:
  sam2_model_cfg: sam2_nano
  sam2_checkpoint: weights/nano.safetensors
  image_size: 64
  trainable: {prompt_encoder: false, image_encoder: false, mask_decoder: {only: ["output_hypernetworks_mlps.0"]}}
  optimizer: {type: AdamW, lr: 1e-3}
  num_epochs: 2
  use_amp: false
  visualize: false
eval: {precision: fp32, qc_slices: 0, prompt_noise: {shifts: [0, 2], seeds: [0, 1]}}
resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 1, hours: 1}
sweep: {grid: {module.optimizer.lr: [1e-3, 1e-4]}}
"""
STOPPED = """\
extends: study.yaml
experiment: {name: stopped, baseline: false}
module: {num_epochs: 3}
sweep: null
"""
STOP_AFTER_STEP = 6
QUEUED = {
    "run": (run_point, ("runs/study", "0123456789ab", 0, "train_eval")),
    "report": (aggregate_folder, ("runs/study", "0123456789ab")),
    "calibrate": (calibrate, ("runs/study", ["0123456789abcdef"])),
}
"""Functions that are submitted by reference, as a queue keeps them."""


def write_store(folder: Path) -> None:
    """Five subjects of 4 slices of 64 x 64 pixels: a bone, cartilage on it, and a T2 map, with known positions."""
    labels = LabelTable((Label(1, "cartilage", interface="bone"), Label(2, "bone")))
    writer = StoreWriter(folder, "knees", "knee", labels, split_seed=7)
    keys = []
    for number, subject in enumerate(SPLITS):
        mask = np.zeros((4, 64, 64), dtype=np.uint8)
        mask[:, 30:50, 8:56] = 2
        mask[1:, 24 - number % 3 : 30, 12 : 50 + number] = 1
        noise = np.random.default_rng(number).integers(0, 9000, size=mask.shape)
        geometry = Geometry.axis_aligned(mask.shape, (3.0, 0.5, 0.75))
        per_slice: dict[str, Any] = {"pixel_spacing": [[0.5, 0.75]] * 4, "slice_thickness": [3.0] * 4}
        per_slice |= {"slice_spacing": [3.0] * 4, "rows": [64] * 4, "columns": [64] * 4}
        image = (mask.astype(np.uint16) * 20000 + noise).astype(np.uint16)
        maps = {"t2": PreparedMap(np.where(mask == 1, 30.0 + number, 45.0).astype(np.float32), None, {})}
        keys.append(VolumeKey("knees", subject, "image"))
        volume = PreparedVolume(keys[-1], geometry, image, mask, maps, (0.0, 1.0), per_slice, {})
        writer.write(volume, source="tests/legacy/make.py")
    writer.finish(keys, SPLITS)


def write_weights(path: Path) -> None:
    """A nano SAM 2 whose every tensor repeats 251 of its own random numbers."""
    tensors = {}
    for name, tensor in build_untrained("sam2_nano", image_size=64, seed=3).sam2_model.state_dict().items():
        flat = tensor.flatten()
        tensors[name] = flat[torch.arange(len(flat)) % min(len(flat), 251)].reshape(tensor.shape).contiguous()
    path.parent.mkdir()
    save_file(tensors, path)


def stop_a_training(experiment: Path) -> None:
    resolved = resolve(load_experiment(experiment), fill=local_resources)
    layout = ExperimentLayout.of(resolved.name)
    save_plan(layout, make_plan(resolved))
    write_configs(layout, resolved, [0])
    (run,) = resolved.runs
    stop, original = StopFlag(), CheckpointWriter.on_step

    def on_step(self: CheckpointWriter, event: Any, state: Any) -> None:
        original(self, event, state)
        if event.step == STOP_AFTER_STEP:
            stop.handle(signal.SIGTERM, None)

    CheckpointWriter.on_step = on_step  # type: ignore[method-assign]
    place, attempt = layout.run(run.planned.run_id), Attempt.current()
    claim(place, attempt)
    try:
        train(run.experiment, place, attempt, stop=stop, fresh=False, planned_world_size=1)
    except StopRequestedError:
        return
    raise SystemExit("the training was not stopped")


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True)
    os.chdir(folder)
    write_store(Path("data/knees"))
    write_weights(Path("weights/nano.safetensors"))
    Path("study.yaml").write_text(STUDY, encoding="utf-8")
    Path("stopped.yaml").write_text(STOPPED, encoding="utf-8")
    subprocess.run([sys.executable, str(ROOT / "launch/sweep.py"), "study.yaml", "--local", "1"], check=True)
    stop_a_training(Path("stopped.yaml"))
    version = metadata.version("sam2ft")
    for name, (function, arguments) in QUEUED.items():
        delayed = DelayedSubmission(function, *arguments)
        delayed.set_timeout(60, 0)
        delayed.dump(folder.with_name(f"{name}-{version}.pkl"))
    with tarfile.open(folder.with_name(f"{folder.name}.tar.xz"), "w:xz", preset=9) as archive:
        archive.add(folder, arcname="", filter=small)


def small(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Pictures, which every report draws anew where they are missing, and a cached program are left out."""
    path = Path(entry.name)
    return None if path.suffix == ".js" or (path.parent.name == "figures" and path.suffix != ".json") else entry


if __name__ == "__main__":
    main()
