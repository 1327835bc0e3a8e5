"""Which points of a sweep a condition holds for. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.config.sweep.overrides import MISSING, Override, value_at

_BOUNDS = frozenset({"min", "max"})


def holds(condition: Mapping[str, Any], overrides: Sequence[Override]) -> bool:
    """Whether every key of the condition has an allowed value in a point; one that the point does not set has none."""
    return all(_is_allowed(allowed, value_at(overrides, key)) for key, allowed in condition.items())


def _is_allowed(allowed: Any, value: Any) -> bool:
    if value is MISSING:
        return False
    if isinstance(allowed, tuple) and any(same(entry, value) for entry in allowed):
        return True
    if is_bounds(allowed):
        low, high = allowed.get("min", value), allowed.get("max", value)
        return is_number(value) and bool(low <= value <= high)
    return same(allowed, value)


def is_bounds(allowed: Any) -> bool:
    """Whether a value of a condition is `{min, max}`, or one of the two."""
    return (
        isinstance(allowed, Mapping)
        and bool(allowed)
        and allowed.keys() <= _BOUNDS
        and all(is_number(entry) for entry in allowed.values())
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Equal as values of a configuration: 1 and 1.0 are one, 1 and true are two."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(entry, right[key]) for key, entry in left.items())
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)


def unknown_key_problem(condition: Mapping[str, Any], known: Collection[str]) -> str | None:
    """What is wrong with a condition's keys, given the keys that the points set."""
    unknown = [key for key in condition if not any(key == other or key.startswith(f"{other}.") for other in known)]
    if not unknown:
        return None
    names = ", ".join(f"{key}{did_you_mean(key, known)}" for key in unknown)
    return f"asks for {names}, which nothing before it sets; set: {', '.join(known) or 'nothing'}"
