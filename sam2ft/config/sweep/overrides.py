"""One point of a sweep: the keys it sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Location = tuple[str, ...]
"""Path of keys in the file, such as ("sweep", "grid", "module.optimizer.lr", "0")."""

MISSING: Final = object()
"""The value of a key that a point does not set."""


@dataclass(frozen=True, slots=True)
class Override:
    """One key of a point."""

    key: str
    """Dotted."""
    value: Any
    location: Location
    """Where the value stands in the file."""

    @property
    def key_place(self) -> Location:
        """Where the key stands in the file; its value may be one of a list below it."""
        # `sweep.seeds` does not name the key that it sets.
        return self.location[: self.location.index(self.key) + 1] if self.key in self.location else self.location[:2]


Draft = tuple[Override, ...]
"""A point in the making."""


@dataclass(frozen=True, slots=True)
class Combination:
    """The overrides of one point, and what people call it."""

    name: str
    overrides: Draft


@dataclass(frozen=True)
class Misfit:
    """What is wrong with a sweep that has the form of one."""

    location: Location
    message: str


def value_at(overrides: Sequence[Override], key: str) -> Any:
    """The value that a point gives a key, also inside a mapping that it sets; MISSING when it gives none."""
    for override in reversed(overrides):
        if override.key == key:
            return override.value
        if key.startswith(f"{override.key}."):
            return _inside(override.value, key[len(override.key) + 1 :].split("."))
    return MISSING


def _inside(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value
