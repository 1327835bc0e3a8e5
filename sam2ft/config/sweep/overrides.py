"""Data types for one point of a sweep: the overrides (key, value, location) that it sets; and misfits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Location = tuple[str, ...]
"""Key path in the file, such as ("sweep", "grid", "module.optimizer.lr", "0")."""

MISSING: Final = object()
"""The value of a key that a point does not set."""


@dataclass(frozen=True, slots=True)
class Override:
    """One key that a point sets, and its value."""

    key: str
    """Dotted key, such as `module.optimizer.lr`."""
    value: Any
    location: Location
    """Key path of the value in the file."""

    @property
    def key_place(self) -> Location:
        """Key path of the key in the file; its value may be an entry of a list below it."""
        # `sweep.seeds` does not contain the key that it sets (experiment.seed).
        return self.location[: self.location.index(self.key) + 1] if self.key in self.location else self.location[:2]


Draft = tuple[Override, ...]
"""The overrides of an unfinished point."""


@dataclass(frozen=True, slots=True)
class Combination:
    """The overrides of one point, and its name."""

    name: str
    overrides: Draft


@dataclass(frozen=True)
class SweepProblem:
    """One problem of a sweep whose form is valid."""

    location: Location
    message: str


def value_at(overrides: Sequence[Override], key: str) -> Any:
    """The value that a point sets for a key, also inside a mapping that it sets; MISSING if it sets none."""
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
