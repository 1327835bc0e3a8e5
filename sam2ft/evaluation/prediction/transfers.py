"""Copies between host and device for which the host does not wait, and the order in which their results are used."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


def pinned(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor in pinned memory if `device` is a GPU: the host waits for a copy from other memory."""
    return tensor.pin_memory() if device.type == "cuda" else tensor


def to_host(tensor: Tensor) -> Tensor:
    """The tensor on the host; from a GPU into pinned memory, and complete only after an event recorded later.

    A copy into other memory makes the host wait for the GPU, even when it is asked not to.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu()
    held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return held.copy_(tensor, non_blocking=True)


def recorded(device: torch.device) -> torch.cuda.Event | None:
    """An event after everything that a GPU was asked for so far; None on the CPU, where everything is complete."""
    return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None


def delayed_by_one(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the same items, each only after the next item was created."""
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
