"""An evaluation of many volumes needs the memory of an evaluation of few."""

import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = [pytest.mark.sam2, pytest.mark.slow]
SHAPE = (24, 192, 192)
CHILD = """
import resource, sys
from pathlib import Path
from sam2ft.evaluation.checkpoints import CheckpointRequest, evaluate_checkpoint
settings = ("eval.precision=fp32", "eval.qc_slices=4", "module.image_size=64")
settings += ("eval.prompt_noise={shifts: [3], seeds: [0]}",)
outcome = evaluate_checkpoint(CheckpointRequest(Path(sys.argv[1]), (Path(sys.argv[2]),), overrides=settings))
assert (outcome.folder / "_SUCCESS").is_file()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB
"""


def write_store(folder, num_volumes):
    """Volumes of 0.9 million voxels, each slice with three discs; all of them test."""
    from sam2ft.core.geometry import Geometry
    from sam2ft.core.keys import VolumeKey
    from sam2ft.core.labels import Label, LabelTable
    from sam2ft.data.store.writer import PreparedVolume, StoreWriter

    labels = LabelTable((Label(1, "left"), Label(2, "right")))
    writer = StoreWriter(folder, "many", "knee", labels, split_seed=1)
    y, x = np.indices(SHAPE[1:])
    slice_yx = sum(n * ((y - 60 * n) ** 2 + (x - 70) ** 2 < 400) for n in (1, 2)).astype(np.uint8)
    slice_yx[(y - 60) ** 2 + (x - 150) ** 2 < 400] = 1
    mask = np.repeat(slice_yx[None], SHAPE[0], axis=0)
    keys = [VolumeKey("many", f"s{number:02d}", "image") for number in range(num_volumes)]
    names = ("pixel_spacing", "slice_thickness", "slice_spacing", "rows", "columns")
    values = ([0.5, 0.5], 3.0, 3.0, SHAPE[1], SHAPE[2])
    slices = {name: [value] * SHAPE[0] for name, value in zip(names, values, strict=True)}
    for number, key in enumerate(keys):
        image = (mask.astype(np.int64) * 20000 + np.random.default_rng(number).integers(0, 9000, size=SHAPE)).astype(
            np.uint16
        )
        geometry = Geometry.axis_aligned(SHAPE, (3.0, 0.5, 0.5))
        writer.write(PreparedVolume(key, geometry, image, mask, {}, (0.0, 1.0), slices, {}), source="test")
    writer.finish(keys, {key.subject: "test" for key in keys})
    return folder


def test_forty_volumes_need_no_more_memory_than_two(toy):
    peaks = {}
    for num_volumes in (2, 40):
        store = write_store(toy.folder / "data" / f"many{num_volumes}", num_volumes)
        command = [sys.executable, "-c", CHILD, str(toy.weights), str(store)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks[num_volumes] = int(done.stdout.split()[-1])
    assert peaks[40] < 1.1 * peaks[2], f"peak {peaks[2] / 1024:.0f} MiB for 2 volumes, {peaks[40] / 1024:.0f} for 40"
    print(f"peak {peaks[2] / 1024:.0f} MiB for 2 volumes, {peaks[40] / 1024:.0f} for 40")
