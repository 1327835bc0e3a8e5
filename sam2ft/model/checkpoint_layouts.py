"""State dict layouts of checkpoint files: the entry with the state dict, and key prefixes that wrappers add."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sam2ft.core.errors import listed

CONTAINERS = ("model", "model_state_dict", "state_dict", "module", "net", "network")
"""Keys under which programs store a state dict: stock SAM 2 and MedSAM2, plain PyTorch, Lightning, DeepSpeed."""
PREFIXES = ("module.", "_orig_mod.", "sam2_model.", "model.", "sam2.", "sam.", "net.", "network.")
"""Key prefixes that wrappers add: DataParallel, torch.compile, and modules with the model in an attribute."""
_MOST_CONTAINERS = 8
SHOWN_KEYS = 8
"""Number of keys that an error message names."""


Values = TypeVar("Values")
"""What a state dict holds: tensors, or descriptions of where they lie."""


@dataclass(frozen=True)
class Unwrapped(Generic[Values]):
    """A state dict, with the containers and the key prefix that were removed to find it."""

    tensors: dict[str, Values]
    path: tuple[str, ...] = ()
    """Keys of the nested containers: ("model",) in stock SAM 2's layout."""
    prefix: str = ""
    """The prefix removed from every key."""

    @property
    def note(self) -> str | None:
        """What was removed, as text; None for stock SAM 2's own layout."""
        notes = []
        if self.path != ("model",) and self.path:
            notes.append(f"read from {' > '.join(self.path)}")
        if self.prefix:
            notes.append(f"the prefix {self.prefix!r} removed from {len(self.tensors)} keys")
        return "weights " + ", ".join(notes) if notes else None


def unwrapped(content: Any, kind: type[Values]) -> Unwrapped[Values] | None:
    """Find the state dict (a non-empty mapping of names to `kind`) in the content of a file; None without one.

    A prefix is removed only when every key has it, so no key is ever dropped.
    """
    path: list[str] = []
    while not _is_state_dict(content, kind):
        inner = [name for name in CONTAINERS if isinstance(content, Mapping) and isinstance(content.get(name), Mapping)]
        # A content that holds itself has no end.
        if not inner or len(path) == _MOST_CONTAINERS:
            return None
        path.append(inner[0])
        content = content[inner[0]]
    found, prefix = without_prefixes(content)
    return Unwrapped(found, tuple(path), prefix)


def without_prefixes(tensors: Mapping[str, Values]) -> tuple[dict[str, Values], str]:
    """The tensors with known wrapper prefixes removed from their keys, and the removed prefixes as one string."""
    removed = ""
    for _ in range(_MOST_CONTAINERS):
        removed += next((known for known in PREFIXES if all(key.startswith(removed + known) for key in tensors)), "")
    return {key.removeprefix(removed): tensor for key, tensor in tensors.items()}, removed


def keys_of(content: Any) -> str:
    """The first keys of a file's content, or its type, for an error message."""
    if not isinstance(content, Mapping):
        return type(content).__name__
    return listed([str(key) for key in content], SHOWN_KEYS) or "nothing"


def _is_state_dict(content: Any, kind: type) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(name, str) and isinstance(one, kind) for name, one in content.items())
    )
