"""Peak memory use of training (GPU or resident set), which shows whether a larger batch would fit."""

import resource
import sys

import torch

# ru_maxrss is in KiB on Linux, in bytes on macOS (getrusage(2) of each).
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process so far: allocated by torch on a CUDA device, otherwise the resident set size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
