"""Compilation of the image encoder's blocks by torch.compile: faster steps, and values that are rounded differently."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sam2ft.core.errors import ConfigError, StopRequestedError
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.model.encoder import block_levels
from sam2ft.model.segmenter import FinetunedSAM2

MOST_SHAPES = 64
"""Number of compiled forms: one per number of slices in a batch, with and without gradients. torch's own limit of 8 is
made for functions whose inputs change all the time."""


def compile_trunk(model: FinetunedSAM2, backend: str = "inductor") -> None:
    """Compile the blocks of the trunk at their first use with each number of slices; decoder and neck stay as they are.

    Weights keep their names, so checkpoints are those of a model that is not compiled. Low-rank updates,
    autocast and DistributedDataParallel work as without it. A shape is never left to plain execution:
    its values would be rounded differently from those of the others.

    Args:
        backend: "inductor", or "eager" for a trace of the blocks without generated code.
    """
    # DDP would cut the graph at its buckets, which is then compiled for one number of processes only. The gradients of
    # the trunk are averaged after its backward pass, those of the decoder during it.
    torch._dynamo.config.optimize_ddp = False
    torch._dynamo.config.recompile_limit = MOST_SHAPES
    model.block_levels = torch.compile(block_levels, fullgraph=True, dynamic=False, backend=backend)


@contextmanager
def stopped_compilation(stop: StopRequest) -> Iterator[None]:
    """Tell the end of a compiler as a stop where this process was asked to stop: the signal reaches its group.

    The training continues from its newest resume file. Of several processes one alone cannot stop: their error stays.

    Raises:
        StopRequestedError: the compilation failed after the request.
    """
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # its package takes a second to import

        if not isinstance(error, TorchDynamoException) or not stop.requested or torch.distributed.is_initialized():
            raise
        raise StopRequestedError("stopped as asked while the image encoder was compiled") from error


def refuse_without_compiler(device: torch.device) -> None:
    """Compile a sum for this device, which takes seconds: the first step would fail only after the data is loaded.

    There is no way back to plain execution: the key is part of the run's identity, and the values would be others.

    Raises:
        ConfigError: torch.compile does not work here; it contains torch's reason.
    """

    def plus_one(values: Tensor) -> Tensor:
        return values + 1

    try:
        torch.compile(plus_one, fullgraph=True, dynamic=False)(torch.zeros(8, device=device))
    except RuntimeError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ConfigError(
            f"module.compile: found true, but torch.compile does not work on this machine ({reason}); it needs a C++ "
            "compiler (g++, or the one that the variable CXX names) and Python's headers, on a GPU also Triton; load "
            "the compiler's module (slurm.modules of the site), or set module.compile: false"
        ) from None
