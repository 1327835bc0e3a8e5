"""A `sweep:` as the list of its points. Pure: nothing is read or validated here but the sweep itself."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sam2ft.config.base import frozen
from sam2ft.config.sweep_names import short_names, unique, value_name


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
