"""Arithmetic of this process on a GPU: products of float32, and algorithms that give the same result every time."""

import os
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def float32_products(kind: Literal["ieee", "tf32"]) -> None:
    """Compute float32 products of this process on a GPU in IEEE float32 or in TF32 (10 bits of mantissa).

    Both are said, because torch convolves in TF32 by default, and NGC images set TORCH_ALLOW_TF32_CUBLAS_OVERRIDE.
    """
    torch.backends.cuda.matmul.allow_tf32 = kind == "tf32"
    torch.backends.cudnn.allow_tf32 = kind == "tf32"


def deterministic_algorithms(*, wanted: bool) -> None:
    """Choose algorithms whose results are the same in every execution on a GPU; call it before the first product there.

    Without this, gradients of attention (flash and memory-efficient kernels), of cuDNN's convolutions and of
    interpolation are added in an arbitrary order. An operation without such an algorithm warns once and goes on
    (pytorch.org, notes on reproducibility).
    """
    if wanted:
        # With any other workspace cuBLAS may choose another algorithm in every call. It reads this when it starts.
        if os.environ.get(_WORKSPACE) not in (":4096:8", ":16:8"):
            os.environ[_WORKSPACE] = ":4096:8"
        _warn_once()
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False


def _warn_once() -> None:
    """Show each of torch's warnings of an operation once: parts of a step reset Python's own record of what was shown.

    Hence not by a filter of `warnings`, which rests on that record.
    """
    if not isinstance(warnings.showwarning, _ShowOnce):
        warnings.showwarning = _ShowOnce(warnings.showwarning)


class _ShowOnce:
    """What shows warnings (`warnings.showwarning`), except those of deterministic algorithms that were shown before."""

    def __init__(self, stock: Callable[..., None]):
        self._stock, self._shown = stock, set[str]()

    def __call__(self, message: Warning | str, *place: Any, **more: Any) -> None:
        text = str(message)
        if text in self._shown:
            return
        if "deterministic" in text:
            self._shown.add(text)
        self._stock(message, *place, **more)
