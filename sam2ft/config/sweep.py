"""A `sweep:` as the list of its points. Pure: nothing is read or validated here but the sweep itself."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.config.base import frozen


@dataclass(frozen=True)
class Override:
    """One key of a point."""

    key: str
    """Dotted."""
    value: Any
    place: tuple[str, ...]
    """Where the value stands in the file: path of keys, such as ("sweep", "grid", "module.optimizer.lr", "0")."""


@dataclass(frozen=True)
class Combination:
    """The overrides of one point, and what people call it."""

    name: str
    overrides: tuple[Override, ...]


def grid_combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[Override, ...]]:
    """Every combination of the values of a grid: keys in file order, the last one changes fastest."""
    axes = [
        [Override(key, frozen(value), ("sweep", "grid", key, str(index))) for index, value in enumerate(values)]
        for key, values in grid.items()
    ]
    return itertools.product(*axes)


def combinations(sweep: Mapping[str, Any]) -> list[Combination]:
    """The points of a sweep in file order, each with a name of its own such as `lr=0.0001,seed=1`."""
    points = list(grid_combinations(sweep["grid"]))
    short = short_names(list(sweep["grid"]))
    names = [",".join(f"{short[entry.key]}={value_name(entry.value)}" for entry in point) for point in points]
    return [Combination(name, point) for name, point in zip(unique(names), points, strict=True)]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key's shortest ending that no other key shares: `module.optimizer.lr` -> `lr`."""

    def ending(key: str, length: int) -> str:
        return ".".join(key.split(".")[-length:])

    lengths = dict.fromkeys(keys, 1)
    while True:
        counted = Counter(ending(key, length) for key, length in lengths.items())
        shared = [key for key in keys if counted[ending(key, lengths[key])] > 1]
        longer = [key for key in shared if lengths[key] < key.count(".") + 1]
        if not longer:
            return {key: ending(key, length) for key, length in lengths.items()}
        for key in longer:
            lengths[key] += 1


def value_name(value: Any) -> str:
    """A value as a part of a point's name: text as it is, `{type: SGD, lr: 0.1}` as `SGD(lr=0.1)`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        inner = ",".join(f"{key}={value_name(entry)}" for key, entry in value.items() if key != "type")
        return f"{value['type']}({inner})" if "type" in value and inner else str(value.get("type", f"({inner})"))
    if isinstance(value, tuple | list):
        return f"[{' '.join(value_name(entry) for entry in value)}]"
    return json.dumps(value)


def unique(names: Sequence[str]) -> list[str]:
    """The names, each repeated one with a number: `lr=0.1`, `lr=0.1 (2)`."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
