"""Conditions of a sweep (`if`, `exclude`): test whether they hold for a point. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sam2ft.config.schema.arguments import did_you_mean
from sam2ft.config.sweep.overrides import MISSING, Override, value_at

_BOUNDS = frozenset({"min", "max"})


def holds(condition: Mapping[str, Any], overrides: Sequence[Override]) -> bool:
    """Whether a point sets every key of the condition to an allowed value; False for a key that it does not set."""
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
    """Whether a value of a condition is a range: `{min, max}`, `{min}` or `{max}`."""
    return (
        isinstance(allowed, Mapping)
        and bool(allowed)
        and allowed.keys() <= _BOUNDS
        and all(is_number(entry) for entry in allowed.values())
    )


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(left: Any, right: Any) -> bool:
    """Equality of values of a configuration: 1 equals 1.0, but 1 does not equal true."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(entry, right[key]) for key, entry in left.items())
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    return bool(left == right)


def unknown_key_problem(condition: Mapping[str, Any], known: Collection[str]) -> str | None:
    """Message about keys of a condition that no point sets, given the keys that points set; None if there are none."""
    unknown = [key for key in condition if not any(key == other or key.startswith(f"{other}.") for other in known)]
    if not unknown:
        return None
    names = ", ".join(f"{key}{did_you_mean(key, known)}" for key in unknown)
    return f"uses {names}, which no earlier part of the sweep sets; set: {', '.join(known) or 'nothing'}"
