"""A `sweep:` as the list of its points (docs/sweep.md). Pure: how values combine is judged here, not the values.

The product of the axes (sweep_axes.py), less `exclude`; then the points of `include` and `points`, once for each seed;
then `overrides`. What is wrong is collected, so that all of it can be said at once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

from sam2ft.config.schema.sweep import Sweep
from sam2ft.config.sweep.axes import SEED, Axis, axes_of, overrides, seed_rows
from sam2ft.config.sweep.conditions import holds, unknown_key_problem
from sam2ft.config.sweep.names import point_name, short_names, unique, value_name
from sam2ft.config.sweep.overrides import MISSING, Combination, Draft, Location, Misfit, value_at

MAX_POINTS = 100_000
BASELINE = "baseline"
_VALUES_SHOWN = 8


def combinations(sweep: Sweep, first_seed: int = 0) -> tuple[list[Combination], list[Misfit]]:
    """The points of a sweep in their order, each with a name of its own such as `lr=0.0001,seed=1`, and what misfits.

    `first_seed`: what a number of seeds is counted up from.
    """
    axes, misfits = axes_of(sweep, first_seed)
    building = _Building(misfits)
    unnamed = building.without_excluded(building.product(axes) if axes else [], sweep.exclude)
    seeds = seed_rows(sweep.seeds, first_seed) if sweep.seeds is not None else []
    unnamed += _seeded((overrides(entry, ("sweep", "include", str(i))) for i, entry in enumerate(sweep.include)), seeds)
    short = short_names(_keys_of(unnamed))
    names, points = [point_name(point, short) for point in unnamed], unnamed
    for name, entry in sweep.points.items():
        if name == BASELINE:
            building.misfit(("sweep", "points", name), "is the name of the untrained model's point; choose another")
        group = _seeded([overrides(entry, ("sweep", "points", name))], seeds)
        points += group
        names += [f"{name},seed={point[-1].value}" if len(group) > 1 else name for point in group]
    building.check_keys(points)
    points = building.overridden(points, sweep)
    return [Combination(*pair) for pair in zip(unique(names), points, strict=True)], building.found


def _seeded(points: Iterable[Draft], seeds: Sequence[Draft]) -> list[Draft]:
    """Each point with each seed; one that says its own seed as it is."""
    return [
        point + seed
        for point in points
        for seed in (seeds if seeds and all(override.key != SEED for override in point) else [()])
    ]


def _keys_of(points: Iterable[Draft]) -> list[str]:
    return list(dict.fromkeys(override.key for point in points for override in point))


@dataclass
class _Building:
    """The points of a sweep on their way, and what was found wrong."""

    _misfits: list[Misfit] = field(default_factory=list)

    @property
    def found(self) -> list[Misfit]:
        """Each once."""
        return list(dict.fromkeys(self._misfits))

    def misfit(self, location: Location, message: str) -> None:
        self._misfits.append(Misfit(location, message))

    def product(self, axes: Sequence[Axis]) -> list[Draft]:
        points: list[Draft] = [()]
        known: list[str] = []
        for axis in axes:
            if axis.condition is not None and not self._can_hold(axis.condition, (*axis.location, "if"), known, points):
                continue
            askable = self._askable_rows(axis, known)
            points = list(islice(chain.from_iterable(map(axis.extended, points)), MAX_POINTS + 1))
            if len(points) > MAX_POINTS:
                self.misfit(("sweep",), f"has more than {MAX_POINTS} points")
                return []
            self._check_all_set(axis, askable, points)
            known += [key for key in axis.keys if key not in known]
        return points

    def _can_hold(
        self, condition: Mapping[str, Any], location: Location, known: Sequence[str], points: Sequence[Draft]
    ) -> bool:
        """Whether a condition asks for known keys and holds for a point."""
        if message := unknown_key_problem(condition, known):
            self.misfit(location, message)
            return False
        if not any(holds(condition, point) for point in points):
            self.misfit(location, f"holds for no point; {_values_met(condition, points)}")
            return False
        return True

    def _askable_rows(self, axis: Axis, known: Sequence[str]) -> list[str]:
        """The conditional keys of an axis whose conditions ask for known keys."""
        keys, askable = axis.keys, []
        for key, condition in axis.conditions.items():
            if message := unknown_key_problem(condition, [*known, *keys[: keys.index(key)]]):
                self.misfit((*axis.location, key, "if"), message)
            else:
                askable.append(key)
        return askable

    def _check_all_set(self, axis: Axis, keys: Sequence[str], points: Iterable[Draft]) -> None:
        """Every one of these conditional keys is set by some point."""
        missing = set(keys)
        if missing:
            missing -= {override.key for point in points for override in point}
        for key in (key for key in keys if key in missing):
            self.misfit((*axis.location, key, "if"), "holds for no point")

    def without_excluded(self, points: list[Draft], excluded: Sequence[Mapping[str, Any]]) -> list[Draft]:
        known = _keys_of(points)
        left = points
        for index, condition in enumerate(excluded):
            # Against all points, so that one exclude does not depend on those before it.
            if self._can_hold(condition, ("sweep", "exclude", str(index)), known, points):
                left = [point for point in left if not holds(condition, point)]
        if points and not left:
            self.misfit(("sweep", "exclude"), f"leaves none of the {len(points)} points of the product")
        return left or points

    def check_keys(self, points: Iterable[Draft]) -> None:
        """No key of a point is set twice, or replaced by a later one that holds it."""
        for point in {tuple(override.key for override in point): point for point in points}.values():
            for position, override in enumerate(point):
                for earlier in point[:position]:
                    if earlier.key == override.key:
                        self.misfit(override.key_place, f"is also set by {'.'.join(earlier.key_place)}")
                    elif earlier.key.startswith(f"{override.key}."):
                        self.misfit(override.key_place, f"would replace {earlier.key}; write it before that key")

    def overridden(self, points: list[Draft], sweep: Sweep) -> list[Draft]:
        """The points with what `overrides` sets in those that match."""
        known = _keys_of(points)
        found = points
        for index, where in enumerate(sweep.overrides):
            location = ("sweep", "overrides", str(index))
            if not self._can_hold(where.condition, (*location, "if"), known, points):
                continue
            added = overrides(where.values, (*location, "set"))
            matches = [holds(where.condition, point) for point in points]
            self._check_added(added, [point for point, match in zip(points, matches, strict=True) if match])
            found = [_laid_over(point, added) if match else point for point, match in zip(found, matches, strict=True)]
        return found

    def _check_added(self, added: Draft, points: Iterable[Draft]) -> None:
        swept = {override.key: override.key_place for point in points for override in point}
        for override in added:
            for key, location in swept.items():
                if key == override.key or key.startswith(f"{override.key}."):
                    self.misfit(
                        override.location, f"would change {key}, which these points take from {'.'.join(location)}"
                    )


def _values_met(condition: Mapping[str, Any], points: Sequence[Draft]) -> str:
    """The values that points have where a condition asks: `module.optimizer.type is SGD, AdamW`."""
    found = []
    for key in condition:
        names = dict.fromkeys(value_name(value) for point in points if (value := value_at(point, key)) is not MISSING)
        more = ", ..." if len(names) > _VALUES_SHOWN else ""
        found.append(f"{key} is {', '.join(list(names)[:_VALUES_SHOWN])}{more}")
    return "; ".join(found)


def _laid_over(point: Draft, added: Draft) -> Draft:
    """A later override of the same key wins."""
    keys = {override.key for override in added}
    return (*(override for override in point if override.key not in keys), *added)
