"""Points of a sweep: all combinations of its axes, with names (docs/sweep.md). Pure.

Order: the product of the axes (axes.py) without `exclude`; then the points of `include` and `points`, once per seed;
then `overrides`. Checks how values combine, not the values. Misfits are collected and reported together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from sam2ft.config.schema.sweep import Sweep
from sam2ft.config.sweep.axes import SEED, Axis, axes_of, overrides, seed_rows
from sam2ft.config.sweep.conditions import holds, unknown_key_problem
from sam2ft.config.sweep.names import point_name, short_names, unique, value_name
from sam2ft.config.sweep.overrides import MISSING, Combination, Draft, Location, SweepProblem, value_at

MAX_POINTS = 100_000
BASELINE = "baseline"
_VALUES_SHOWN = 8


def combinations(sweep: Sweep, first_seed: int = 0) -> tuple[list[Combination], list[SweepProblem]]:
    """The points of a sweep in order, each with a unique name such as `lr=0.0001,seed=1`, and the misfits found.

    Args:
        first_seed: first seed, if `sweep.seeds` is a number of seeds.
    """
    axes, misfits = axes_of(sweep, first_seed)
    builder = _PointBuilder(misfits)
    unnamed = builder.without_excluded(builder.product(axes) if axes else [], sweep.exclude)
    seeds = seed_rows(sweep.seeds, first_seed) if sweep.seeds is not None else []
    unnamed += _seeded((overrides(entry, ("sweep", "include", str(i))) for i, entry in enumerate(sweep.include)), seeds)
    short = short_names(_keys_of(unnamed))
    names, points = [point_name(point, short) for point in unnamed], unnamed
    for name, entry in sweep.points.items():
        if name == BASELINE:
            builder.misfit(("sweep", "points", name), "is the name of the untrained model's point; choose another name")
        group = _seeded([overrides(entry, ("sweep", "points", name))], seeds)
        points += group
        names += [f"{name},seed={point[-1].value}" if len(group) > 1 else name for point in group]
    builder.check_keys(points)
    points = builder.overridden(points, sweep)
    combined = [Combination(*pair) for pair in zip(unique(names), points, strict=True)]
    return combined, list(dict.fromkeys(builder.misfits))


def _seeded(points: Iterable[Draft], seeds: Sequence[Draft]) -> list[Draft]:
    """Each point with each seed; a point that sets its own seed is not changed."""
    return [
        point + seed
        for point in points
        for seed in (seeds if seeds and all(override.key != SEED for override in point) else [()])
    ]


def _keys_of(points: Iterable[Draft]) -> list[str]:
    return list(dict.fromkeys(override.key for point in points for override in point))


@dataclass
class _PointBuilder:
    """The steps that build the points of a sweep, and the misfits found."""

    misfits: list[SweepProblem]

    def misfit(self, location: Location, message: str) -> None:
        self.misfits.append(SweepProblem(location, message))

    def product(self, axes: Sequence[Axis]) -> list[Draft]:
        """The points of the product of the axes; none if there are more than MAX_POINTS."""
        points: list[Draft] = [()]
        known: list[str] = []
        for axis in axes:
            if axis.condition is not None and not self._can_hold(axis.condition, (*axis.location, "if"), known, points):
                continue
            conditional_keys = self._checked_condition_keys(axis, known)
            points = list(islice(chain.from_iterable(map(axis.extended, points)), MAX_POINTS + 1))
            if len(points) > MAX_POINTS:
                self.misfit(("sweep",), f"has more than {MAX_POINTS} points")
                return []
            self._check_all_set(axis, conditional_keys, points)
            known += [key for key in axis.keys if key not in known]
        return points

    def _can_hold(
        self, condition: Mapping[str, Any], location: Location, known: Sequence[str], points: Sequence[Draft]
    ) -> bool:
        """Whether a condition uses only known keys and holds for at least one point."""
        if message := unknown_key_problem(condition, known):
            self.misfit(location, message)
            return False
        if not any(holds(condition, point) for point in points):
            self.misfit(location, f"holds for no point; {_values_met(condition, points)}")
            return False
        return True

    def _checked_condition_keys(self, axis: Axis, known: Sequence[str]) -> list[str]:
        """The conditional keys of an axis whose conditions use only known keys."""
        keys, conditional_keys = axis.keys, []
        for key, condition in axis.conditions.items():
            if message := unknown_key_problem(condition, [*known, *keys[: keys.index(key)]]):
                self.misfit((*axis.location, key, "if"), message)
            else:
                conditional_keys.append(key)
        return conditional_keys

    def _check_all_set(self, axis: Axis, keys: Sequence[str], points: Iterable[Draft]) -> None:
        """Check that each of these conditional keys is set in at least one point."""
        missing = set(keys)
        if missing:
            missing -= {override.key for point in points for override in point}
        for key in (key for key in keys if key in missing):
            self.misfit((*axis.location, key, "if"), "holds for no point")

    def without_excluded(self, points: list[Draft], excluded: Sequence[Mapping[str, Any]]) -> list[Draft]:
        """The points for which no exclude condition holds."""
        known = _keys_of(points)
        left = points
        for index, condition in enumerate(excluded):
            # Checked against all points, so that one exclude does not depend on earlier ones.
            if self._can_hold(condition, ("sweep", "exclude", str(index)), known, points):
                left = [point for point in left if not holds(condition, point)]
        if points and not left:
            self.misfit(("sweep", "exclude"), f"excludes all {len(points)} points of the product")
        return left or points

    def check_keys(self, points: Iterable[Draft]) -> None:
        """Check that no key of a point is set twice, or replaced by a later key that contains it."""
        for point in {tuple(override.key for override in point): point for point in points}.values():
            for position, override in enumerate(point):
                for earlier in point[:position]:
                    if earlier.key == override.key:
                        self.misfit(override.key_place, f"is also set by {'.'.join(earlier.key_place)}")
                    elif earlier.key.startswith(f"{override.key}."):
                        self.misfit(override.key_place, f"would replace {earlier.key}; write it before that key")

    def overridden(self, points: list[Draft], sweep: Sweep) -> list[Draft]:
        """The points, with the keys of `overrides` set in those that match."""
        known = _keys_of(points)
        found = points
        for index, where in enumerate(sweep.overrides):
            location = ("sweep", "overrides", str(index))
            if not self._can_hold(where.condition, (*location, "if"), known, points):
                continue
            added = overrides(where.values, (*location, "set"))
            matches = [holds(where.condition, point) for point in points]
            self._check_added(added, [point for point, match in zip(points, matches, strict=True) if match])
            found = [_with_added(point, added) if match else point for point, match in zip(found, matches, strict=True)]
        return found

    def _check_added(self, added: Draft, points: Iterable[Draft]) -> None:
        swept = {override.key: override.key_place for point in points for override in point}
        for override in added:
            for key, location in swept.items():
                if key == override.key or key.startswith(f"{override.key}."):
                    self.misfit(
                        override.location, f"would change {key}, which is set in these points by {'.'.join(location)}"
                    )


def _values_met(condition: Mapping[str, Any], points: Sequence[Draft]) -> str:
    """Text with the values that points have for the keys of a condition: `module.optimizer.type is SGD, AdamW`."""
    found = []
    for key in condition:
        names = dict.fromkeys(value_name(value) for point in points if (value := value_at(point, key)) is not MISSING)
        more = ", ..." if len(names) > _VALUES_SHOWN else ""
        found.append(f"{key} is {', '.join(list(names)[:_VALUES_SHOWN])}{more}")
    return "; ".join(found)


def _with_added(point: Draft, added: Draft) -> Draft:
    """The point with `added`; a later override of the same key replaces the earlier one."""
    keys = {override.key for override in added}
    return (*(override for override in point if override.key not in keys), *added)
