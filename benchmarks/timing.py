"""What the benchmarks share: the machine, repetitions in turn, medians and their ratio."""

import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch


def machine_line() -> str:
    """CPU, cores and versions; what a number means nothing without."""
    names = [line.partition(":")[2].strip() for line in _cpu_info() if line.startswith("model name")]
    features = {word for line in _cpu_info() if line.startswith("flags") for word in line.split()}
    bf16 = "with" if "amx_bf16" in features or "avx512_bf16" in features else "without"
    cores = len(os.sched_getaffinity(0))
    return (
        f"machine: {names[0] if names else platform.machine()}, {cores} cores ({bf16} bf16 instructions), "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def ratio_line(name: str, peer_s: Sequence[float], ours_s: Sequence[float], unit: str) -> str:
    """Medians of both, and the median of the ratios of neighbouring repetitions (they share the machine's mood)."""
    ratios = sorted(peer / ours for peer, ours in zip(peer_s, ours_s, strict=True))
    low, high = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
    peer_ms, ours_ms = (1000 * statistics.median(seconds) for seconds in (peer_s, ours_s))
    return (
        f"{name:26} peer {peer_ms:8.1f} ms   sam2ft {ours_ms:8.1f} ms per {unit}   "
        f"ratio {statistics.median(ratios):5.2f} (quartiles {low:.2f} to {high:.2f}, n {len(ratios)})"
    )


def say(text: str) -> None:
    print(text, flush=True)
