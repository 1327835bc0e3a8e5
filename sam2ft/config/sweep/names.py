"""Short names of the keys, values and points of a sweep, such as `lr=0.0001,seed=1`."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from sam2ft.config.sweep.overrides import Override


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Dotted key -> its shortest ending that no other key has: `module.optimizer.lr` -> `lr`."""

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
    """A value as part of the name of a point: text unchanged, `{type: SGD, lr: 0.1}` as `SGD(lr=0.1)`."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        inner = ",".join(f"{key}={value_name(entry)}" for key, entry in value.items() if key != "type")
        return f"{value['type']}({inner})" if "type" in value and inner else str(value.get("type", f"({inner})"))
    if isinstance(value, tuple | list):
        return f"[{' '.join(value_name(entry) for entry in value)}]"
    return json.dumps(value)


def point_name(overrides: Iterable[Override], short: Mapping[str, str]) -> str:
    """Name of a point, such as `lr=0.0001,seed=1`; `base` for a point that changes nothing."""
    return ",".join(f"{short[entry.key]}={value_name(entry.value)}" for entry in overrides) or "base"


def unique(names: Sequence[str]) -> list[str]:
    """The names, with a number added to repeated ones: `lr=0.1`, `lr=0.1 (2)`."""
    seen: Counter[str] = Counter()
    taken = set(names)
    found = []
    for name in names:
        seen[name] += 1
        numbered = (f"{name} ({number})" for number in count(seen[name]))
        found.append(name if seen[name] == 1 else next(other for other in numbered if other not in taken))
        taken.add(found[-1])
    return found
