"""Axes of a sweep: grid, zip, list, random, when and seeds. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sam2ft.config.schema.sweep import Axes, Random, Sweep
from sam2ft.config.sweep.conditions import holds
from sam2ft.config.sweep.draws import draws
from sam2ft.config.sweep.overrides import Draft, Location, Override, SweepProblem
from sam2ft.config.sweep.ranges import values_of

SEED = "experiment.seed"


@dataclass(frozen=True)
class Axis:
    """One axis of a sweep: alternative rows, of which each point takes one."""

    rows: Sequence[Draft]
    location: Location
    condition: Mapping[str, Any] | None = None
    """Points for which it does not hold do not have this axis."""
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Key -> condition for setting it; the condition may use keys that come earlier in the row."""

    @property
    def keys(self) -> list[str]:
        """Dotted keys that the axis sets, each once."""
        return list(dict.fromkeys(override.key for row in self.rows for override in row))

    def extended(self, point: Draft) -> Iterator[Draft]:
        """The points that result from extending one point by this axis."""
        if self.condition is not None and not holds(self.condition, point):
            yield point
        elif not self.conditions:
            yield from (point + row for row in self.rows)
        else:
            yield from (self._conditional(point, row) for row in self.rows)

    def _conditional(self, point: Draft, row: Draft) -> Draft:
        for override in row:
            condition = self.conditions.get(override.key)
            if condition is None or holds(condition, point):
                point = (*point, override)
        return point


def axes_of(sweep: Sweep, first_seed: int) -> tuple[list[Axis], list[SweepProblem]]:
    """Axes of a sweep in order (grid, zip, list, random, when, seeds; the last changes fastest), and its misfits."""
    axes, misfits = _axes(sweep, ("sweep",))
    if sweep.random is not None:
        axes.append(_random_axis(sweep.random))
    for index, when in enumerate(sweep.when):
        inner, more = _axes(when, ("sweep", "when", str(index)), when.condition)
        axes += inner
        misfits += more
    if sweep.seeds is not None and (axes or not (sweep.include or sweep.points)):
        axes.append(Axis(seed_rows(sweep.seeds, first_seed), ("sweep", "seeds")))
    return axes, misfits


def _axes(
    given: Axes, location: Location, condition: Mapping[str, Any] | None = None
) -> tuple[list[Axis], list[SweepProblem]]:
    axes, misfits = [], []
    for key, values in (given.grid or {}).items():
        column = _column(key, values_of(values), (*location, "grid", key))
        axes.append(Axis([(override,) for override in column], location, condition))
    if given.zip is not None:
        columns = [_column(key, values_of(values), (*location, "zip", key)) for key, values in given.zip.items()]
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(f"{column[0].key} has {len(column)}" for column in columns)
            misfits.append(
                SweepProblem((*location, "zip"), f"lists of different length: {lengths}; allowed: the same length")
            )
        axes.append(Axis(list(zip(*columns, strict=False)), location, condition))
    if given.list is not None:
        rows = [overrides(entry, (*location, "list", str(index))) for index, entry in enumerate(given.list)]
        axes.append(Axis(rows, location, condition))
    return axes, misfits


def _column(key: str, values: Sequence[Any], location: Location) -> list[Override]:
    return [Override(key, value, (*location, str(index))) for index, value in enumerate(values)]


def overrides(values: Mapping[str, Any], location: Location) -> Draft:
    """The overrides of a mapping of dotted keys to values, as part of a point."""
    return tuple(Override(key, value, (*location, key)) for key, value in values.items())


def _random_axis(search: Random) -> Axis:
    location = ("sweep", "random", "parameters")
    columns = [[Override(key, value, (*location, key)) for value in drawn] for key, drawn in draws(search).items()]
    conditions = {key: draw.condition for key, draw in search.parameters.items() if draw.condition is not None}
    return Axis(list(zip(*columns, strict=True)), location, conditions=conditions)


def seed_rows(seeds: int | Sequence[int], first_seed: int) -> list[Draft]:
    """One row per seed; a number of seeds is counted up from `first_seed`."""
    values = range(first_seed, first_seed + seeds) if isinstance(seeds, int) else seeds
    return [(Override(SEED, value, ("sweep", "seeds", str(index))),) for index, value in enumerate(values)]


def swept_keys(sweep: Sweep) -> dict[str, Location]:
    """Every dotted key that a sweep sets -> the first location that sets it."""
    found: dict[str, Location] = {}
    for part, location in [
        (sweep, ("sweep",)),
        *((when, ("sweep", "when", str(index))) for index, when in enumerate(sweep.when)),
    ]:
        for name, grid in (("grid", part.grid), ("zip", part.zip)):
            _note(found, grid or {}, (*location, name))
        for index, entry in enumerate(part.list or ()):
            _note(found, entry, (*location, "list", str(index)))
    if sweep.random is not None:
        _note(found, sweep.random.parameters, ("sweep", "random", "parameters"))
    if sweep.seeds is not None:
        found.setdefault(SEED, ("sweep", "seeds"))
    for index, entry in enumerate(sweep.include):
        _note(found, entry, ("sweep", "include", str(index)))
    for name, entry in sweep.points.items():
        _note(found, entry, ("sweep", "points", name))
    for index, where in enumerate(sweep.overrides):
        _note(found, where.values, ("sweep", "overrides", str(index), "set"))
    return found


def _note(found: dict[str, Location], keys: Mapping[str, Any], location: Location) -> None:
    for key in keys:
        found.setdefault(key, (*location, key))
