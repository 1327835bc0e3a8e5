"""Benchmark of cartilage thickness of one femur in 384 x 384 x 160 voxels against pyMSKT.

python benchmarks/bench_thickness.py [--peer-python ENV/bin/python] [--repetitions N]

pyMSKT needs an environment of its own: python -m venv ENV && ENV/bin/pip install mskt nibabel pydicom
Without --peer-python only sam2ft is measured.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timing import machine_line, say

from sam2ft.core.geometry import Geometry
from sam2ft.metrics.biomarkers.thickness import CartilageThicknessMetric
from sam2ft.metrics.measurement import MaskPair

SHAPE_ZYX, SPACING_ZYX_MM = (160, 384, 384), (0.7, 0.365, 0.365)
RADIUS_MM, THICKNESS_MM = 24.0, 2.5
CONDYLES_Z_MM, CENTRE_YX_MM = (33.1, 78.9), (72.3, 70.2)
PEER = Path(__file__).with_name("mskt_thickness.py")


def femur() -> npt.NDArray[np.uint8]:
    """Labels 1: cartilage, 2: bone. Two condyles (spheres) under a shaft, a shell of 2.5 mm on their lower half."""
    z, y, x = (
        np.arange(size, dtype=np.float32) * np.float32(step)
        for size, step in zip(SHAPE_ZYX, SPACING_ZYX_MM, strict=True)
    )
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    across = (y - CENTRE_YX_MM[0]) ** 2 + (x - CENTRE_YX_MM[1]) ** 2
    radius = np.minimum(*(np.sqrt((z - centre) ** 2 + across) for centre in CONDYLES_Z_MM))
    middle = sum(CONDYLES_Z_MM) / 2
    shaft = ((z - middle) ** 2 + (x - CENTRE_YX_MM[1]) ** 2 < 18**2) & (y < CENTRE_YX_MM[0] - 8)
    labels = np.zeros(SHAPE_ZYX, np.uint8)
    # 3 mm of bone without cartilage where the condyles meet: normals there would meet the other condyle's cartilage.
    labels[(radius < RADIUS_MM + THICKNESS_MM) & (y > CENTRE_YX_MM[0]) & (np.abs(z - middle) > 3)] = 1
    labels[(radius < RADIUS_MM) | shaft] = 2
    return labels


def ours(labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Every definition, for reference and prediction: the rays of a perfect prediction are computed again."""
    wall, cpu = time.perf_counter(), time.process_time()
    plate = labels == 1
    pair = MaskPair(plate, plate, Geometry.axis_aligned(SHAPE_ZYX, SPACING_ZYX_MM), bone_zyx=labels == 2)
    found = {one.definition: one.reference for one in CartilageThicknessMetric().measure(pair)}
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "mean_mm": found["ThCcAB"], "area_mm2": found["cAB"]}


def peer(python: str, labels: npt.NDArray[np.uint8], *options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        volume = Path(folder) / "volume.npz"
        np.savez(volume, labels=labels, spacing=np.array(SPACING_ZYX_MM))
        done = subprocess.run([python, str(PEER), str(volume), *options], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def line(name: str, runs: list[dict[str, Any]]) -> str:
    wall, cpu = (statistics.median(run[key] for run in runs) for key in ("wall_s", "cpu_s"))
    error = 100 * (runs[0]["mean_mm"] / THICKNESS_MM - 1)
    return (
        f"{name:28s} {wall:7.2f} s wall {cpu:7.2f} s CPU   mean {runs[0]['mean_mm']:.3f} mm ({error:+.1f} %), "
        f"covered {runs[0]['area_mm2']:.0f} mm2"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", metavar="FILE", help="python of an environment that has mskt")
    parser.add_argument("--repetitions", type=int, default=1, help="measurements of each side, alternating")
    given = parser.parse_args()
    labels = femur()
    say(machine_line())
    say(f"a shell of {THICKNESS_MM} mm, {np.count_nonzero(labels == 1)} voxels; medians of {given.repetitions}")
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(given.repetitions):
        if given.peer_python:
            found = peer(given.peer_python, labels)
            runs.setdefault(f"pyMSKT {found['version']}", []).append(found)
            runs.setdefault("pyMSKT, meshes not repaired", []).append(peer(given.peer_python, labels, "--bare"))
        runs.setdefault("sam2ft, both masks", []).append(ours(labels))
    for name, measured in runs.items():
        say(line(name, measured))
    if not given.peer_python:
        say("pyMSKT was not measured: --peer-python was not given")
        return
    own = runs["sam2ft, both masks"]
    for name, measured in list(runs.items())[:-1]:
        for clock in ("wall_s", "cpu_s"):
            ratio = statistics.median(a[clock] / b[clock] for a, b in zip(measured, own, strict=True))
            say(f"{name} / sam2ft, {clock.removesuffix('_s')}: {ratio:.1f}")


if __name__ == "__main__":
    main()
