"""Exponential moving average (EMA) of the weights; when enabled, it is validated and exported instead."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


class WeightAverage:
    """EMA of the trained parameters: average <- decay * average + (1 - decay) * weights after every step."""

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self._model = model
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._trained()}
        """The averages by the model's parameter names."""

    def _trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, tensor) for name, tensor in self._model.named_parameters() if tensor.requires_grad)

    @torch.no_grad()
    def update(self) -> None:
        names, own = zip(*self._trained(), strict=True)
        # One launch for all tensors on a GPU; the values are those of a loop of lerp_.
        torch._foreach_lerp_([self.tensors[name] for name in names], list(own), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the model has the averages; its own weights are restored afterwards."""
        own = {name: tensor.detach().clone() for name, tensor in self._trained()}
        self._copy_in(self.tensors)
        try:
            yield
        finally:
            self._copy_in(own)

    @torch.no_grad()
    def _copy_in(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self._trained():
            tensor.copy_(tensors[name])

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])
