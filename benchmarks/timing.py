"""Timing of benchmarks: description of the machine, stopwatch, medians and ratios of alternating repetitions."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch


def machine_line() -> str:
    """CPU, cores and versions, which every measured value needs."""
    names = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    features = {word for line in _cpu_info() if line.startswith("flags") for word in line.split()}
    bf16 = ", ".join(name for name in ("avx512_bf16", "amx_bf16") if name in features) or "no bf16"
    cores = len(os.sched_getaffinity(0))
    return (
        f"machine: {names[0] if names else platform.machine()}, {cores} cores ({bf16} instructions), "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def ratio_line(name: str, peer_s: Sequence[float], ours_s: Sequence[float], unit: str) -> str:
    """Medians of both, and the median of the ratios of neighbouring repetitions (measured under the same load)."""
    ratios = sorted(peer / ours for peer, ours in zip(peer_s, ours_s, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
    peer_ms, ours_ms = (1000 * statistics.median(seconds) for seconds in (peer_s, ours_s))
    return (
        f"{name:26} peer {peer_ms:8.1f} ms   sam2ft {ours_ms:8.1f} ms per {unit}   "
        f"ratio {statistics.median(ratios):5.2f} (quartiles {low:.2f} to {high:.2f}, n {len(ratios)})"
    )


class Stopwatch(NamedTuple):
    """Wall seconds and CPU seconds of this process; CPU seconds depend little on other work of the machine."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> "Stopwatch":
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> "Stopwatch":
        now = self.now()
        return Stopwatch(now.wall_s - self.wall_s, now.cpu_s - self.cpu_s)


def throughput_line(name: str, peer: Sequence[Stopwatch], ours: Sequence[Stopwatch], num_slices: int) -> str:
    """Slices per second of both (wall time), and how much faster ours is in wall and in CPU time."""
    rates = [num_slices / statistics.median(each.wall_s for each in side) for side in (peer, ours)]
    wall = spread([a.wall_s / b.wall_s for a, b in zip(peer, ours, strict=True)])
    cpu = spread([a.cpu_s / b.cpu_s for a, b in zip(peer, ours, strict=True)])
    return (
        f"{name:32} plain {rates[0]:7.3f}   sam2ft {rates[1]:7.3f} slices/s   ratio {wall}, of CPU seconds {cpu}"
        f"   n {len(ours)}"
    )


def spread(ratios: Sequence[float]) -> str:
    """Median and quartiles of the ratios of neighbouring repetitions."""
    ordered = sorted(ratios)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{statistics.median(ordered):4.2f} ({low:.2f} to {high:.2f})"


def product_line() -> str:
    """Speed of matrix products in each type on this machine: the upper bound of the gain by bf16."""
    side, found = 1024, {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.rand((side, side)).to(dtype)
        seconds = []
        for _ in range(8):
            started = time.perf_counter()
            matrix @ matrix
            seconds.append(time.perf_counter() - started)
        found[dtype] = 2 * side**3 / min(seconds) / 1e9
    fp32, bf16 = found.values()
    return f"matrix products: {fp32:.0f} GFLOP/s in fp32, {bf16:.0f} in bf16 ({bf16 / fp32:.2f} of it)"


def say(text: str) -> None:
    print(text, flush=True)
