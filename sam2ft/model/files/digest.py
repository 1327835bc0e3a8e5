"""The digest of named tensors, and the search for values that are not finite. No torch at import."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sam2ft.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Part = tuple[str, str, tuple[int, ...], Any]
"""Name, dtype (`torch.float32`), shape and bytes of a tensor."""


def parts_digest(parts: Iterable[Part], text: str) -> str:
    """Hexadecimal sha256 of `text` and of each tensor's name, dtype, shape and bytes; `parts` in order of names."""
    digest = hashlib.sha256(f"{len(text)}:{text}".encode())
    for name, dtype, shape, data in parts:
        digest.update(f"|{name}|{dtype}|{shape}|".encode())
        digest.update(data)
    return digest.hexdigest()


def tensors_digest(tensors: Mapping[str, "Tensor"], text: str) -> str:
    """`parts_digest` of contiguous tensors on the CPU."""
    import torch

    named = ((name, tensors[name]) for name in sorted(tensors))
    return parts_digest(
        (
            (name, str(one.dtype), tuple(one.shape), one.reshape(-1).view(torch.uint8).numpy().data)
            for name, one in named
        ),
        text,
    )


def non_finite(tensors: Mapping[str, "Tensor"]) -> list[str]:
    """Names of the tensors that hold a NaN or an infinite value, sorted.

    Args:
        tensors: all on one device. Of a GPU one value per tensor is read, all at once; whole tensors stay there.
    """
    import torch

    named = sorted((name, one) for name, one in tensors.items() if one.is_floating_point() or one.is_complex())
    if not named:
        return []
    # A NaN or infinite value makes the sum one. The sum is several times faster than isfinite of every value; it can
    # also overflow, so it is only the first test.
    finite_sums = torch.stack([torch.isfinite(_with_arithmetic(one).sum()) for _, one in named]).tolist()
    return [
        name
        for (name, one), is_finite in zip(named, finite_sums, strict=True)
        if not is_finite and not bool(torch.isfinite(_with_arithmetic(one)).all())
    ]


def non_finite_text(tensors: Mapping[str, "Tensor"]) -> str | None:
    """`NAME holds values that are not finite (NaN or infinite), as do N other tensors`; None when all are finite."""
    names = non_finite(tensors)
    if not names:
        return None
    others = len(names) - 1
    also = f", as do{'es' if others == 1 else ''} {others} other tensor{'s' if others > 1 else ''}" if others else ""
    return f"{names[0]} holds values that are not finite (NaN or infinite){also}"


def refuse_non_finite(where: object, tensors: Mapping[str, "Tensor"]) -> None:
    """Refuse weights with a NaN or an infinite value: every prediction with them is meaningless.

    Raises:
        CheckpointError: naming the first such tensor and the number of others.
    """
    if problem := non_finite_text(tensors):
        raise CheckpointError(
            f"{where}: {problem}; allowed: finite weights; the training that wrote it has diverged: use an earlier "
            "checkpoint of it"
        )


def _with_arithmetic(tensor: "Tensor") -> "Tensor":
    """The tensor in a type with which torch can calculate: it has no arithmetic for most types of 8 bits."""
    return tensor.float() if tensor.element_size() == 1 else tensor
