"""Where a file that torch.save wrote holds its state dict, and what wrappers have put before its keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

CONTAINERS = ("model", "model_state_dict", "state_dict", "module", "net", "network")
"""Where programs keep a state dict: stock SAM 2 and MedSAM2, plain PyTorch, Lightning, DeepSpeed."""
PREFIXES = ("module.", "_orig_mod.", "sam2_model.", "model.", "sam2.", "sam.", "net.", "network.")
"""What wrappers put before every key: DataParallel, torch.compile, and modules that hold the model in an attribute."""
_SHOWN_KEYS = 8


@dataclass(frozen=True)
class Unwrapped:
    """A state dict, and what had to be taken off to find it."""

    tensors: dict[str, Tensor]
    path: tuple[str, ...] = ()
    """Keys that led to it: ("model",) in stock SAM 2's layout."""
    prefix: str = ""
    """What stood before every key."""

    @property
    def note(self) -> str | None:
        """In words, or None for stock SAM 2's layout as it is."""
        said = []
        if self.path != ("model",) and self.path:
            said.append(f"taken from {' > '.join(self.path)}")
        if self.prefix:
            said.append(f"the prefix {self.prefix!r} taken off {len(self.tensors)} keys")
        return "weights " + ", ".join(said) if said else None


def unwrapped(content: Any) -> Unwrapped | None:
    """The state dict in what a file holds; None when there is none (a mapping of names to tensors, not empty).

    A prefix is taken off only where every key has it: no key is ever dropped.
    """
    path: list[str] = []
    while not _is_state_dict(content):
        inner = [name for name in CONTAINERS if isinstance(content, Mapping) and isinstance(content.get(name), Mapping)]
        if not inner:
            return None
        path.append(inner[0])
        content = content[inner[0]]
    found, prefix = without_prefixes(content)
    return Unwrapped(found, tuple(path), prefix)


def without_prefixes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """(the tensors by their keys without known wrappers' prefixes, the prefixes as one text)."""
    taken = ""
    while prefix := next((known for known in PREFIXES if all(key.startswith(taken + known) for key in tensors)), None):
        taken += prefix
    return {key.removeprefix(taken): tensor for key, tensor in tensors.items()}, taken


def keys_of(content: Any) -> str:
    """What a file holds instead, for a message."""
    if not isinstance(content, Mapping):
        return type(content).__name__
    more = f" and {len(content) - _SHOWN_KEYS} more" if len(content) > _SHOWN_KEYS else ""
    return (", ".join(map(str, list(content)[:_SHOWN_KEYS])) or "nothing") + more


def _is_state_dict(content: Any) -> bool:
    return isinstance(content, Mapping) and bool(content) and all(isinstance(one, Tensor) for one in content.values())
