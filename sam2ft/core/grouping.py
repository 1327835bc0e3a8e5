"""Grouping of values by a key."""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def grouped(values: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Key -> the values that have it, both in the order of first appearance."""
    groups: dict[Key, list[Item]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
