"""How much memory training has needed so far: what decides whether a larger batch would fit."""

import resource
import sys

import torch

# ru_maxrss is in KiB on Linux, in bytes on macOS (getrusage(2) of each).
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory of this process until now: what torch allocated on a CUDA device, else the resident set."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
