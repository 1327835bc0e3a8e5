"""Memory of a GPU, and peak memory use of training (GPU or resident set): whether a larger batch would fit."""

import resource
import sys

import torch

# ru_maxrss is in KiB on Linux, in bytes on macOS (getrusage(2) of each).
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def gpu_memory_bytes(device: torch.device) -> int | None:
    """The whole memory of a CUDA device in bytes; None for a CPU."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process so far: allocated by torch on a CUDA device, otherwise the resident set size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
