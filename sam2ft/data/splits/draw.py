"""The balanced draw: units (a subject, or a group of subjects) are given one by one to the part that lacks them most.

This is minimisation as in clinical trials (Pocock and Simon 1975), without chance in the choice: it works for any
shares, for units of any size and beside subjects that have a part already. scikit-learn's StratifiedGroupKFold has
neither shares nor memory: one subject more, and it deals all of them anew.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass

Part = str
_ALL: Hashable = ()
_WEIGHT_OF_CLASS = 2
"""Of a class against the total: more than 1, so that equal parts differ by at most one subject of a class."""


@dataclass(frozen=True)
class Unit:
    """Subjects that go to the same part."""

    name: str
    subjects: tuple[str, ...]
    allowed: frozenset[Part]
    """Parts that it may go to."""


def balanced_draw(
    units: Sequence[Unit],
    shares: Mapping[Part, float],
    classes: Mapping[str, Sequence[str]],
    seed: int,
    kept: Mapping[str, Part],
) -> dict[str, Part]:
    """subject -> part, of the subjects of `units` and of `kept`.

    With equal parts, one stratum and units of one subject, the numbers of two parts differ by at most one, in total and
    in every class. No part with a share stays empty as long as there are units enough.

    Args:
        shares: part -> its share; they are scaled to a sum of 1. A part with share 0 gets nothing.
        classes: subject -> its class of each stratum; a subject of `kept` may be absent.
        kept: subject -> part of those that are not drawn. They count.
    """
    counts = {part: Counter[Hashable]() for part in shares}
    for subject, part in kept.items():
        if part in counts:
            counts[part].update(_features(classes.get(subject, ())))
    seen = sum(counts.values(), Counter[Hashable]())
    found, waiting = dict(kept), sorted(units, key=lambda unit: _order(unit, classes, seed))
    for number, unit in enumerate(waiting):
        own = Counter(feature for subject in unit.subjects for feature in _features(classes.get(subject, ())))
        seen += own
        part = _lacking_most(own, seen, counts, shares, _open_parts(unit, counts, shares, len(waiting) - number))
        counts[part] += own
        found |= dict.fromkeys(unit.subjects, part)
    return dict(sorted(found.items()))


def _features(classes: Sequence[str]) -> list[Hashable]:
    """What is counted of a subject: itself, its class of each stratum, and their combination."""
    features: list[Hashable] = [_ALL, *enumerate(classes)]
    return features if len(classes) < 2 else [*features, tuple(classes)]


def _order(unit: Unit, classes: Mapping[str, Sequence[str]], seed: int) -> tuple[int, list[Sequence[str]], bytes, str]:
    """The largest first, because the small ones level what is left; then by class, and in it by the seed."""
    own = sorted(tuple(classes.get(subject, ())) for subject in unit.subjects)
    drawn = hashlib.sha256(f"split\0{seed}\0{unit.name}".encode()).digest()
    return -len(unit.subjects), [*own], drawn, unit.name


def _open_parts(
    unit: Unit, counts: Mapping[Part, Counter[Hashable]], shares: Mapping[Part, float], left: int
) -> list[Part]:
    """Parts that a unit may go to; those alone that are empty, where no more units are left than they need."""
    parts = [part for part in shares if part in unit.allowed and shares[part] > 0] or [
        part for part in shares if part in unit.allowed
    ]
    empty = [part for part in shares if shares[part] > 0 and not counts[part]]
    return [part for part in parts if part in empty] or parts if len(empty) >= left else parts


def _lacking_most(
    own: Counter[Hashable],
    seen: Counter[Hashable],
    counts: Mapping[Part, Counter[Hashable]],
    shares: Mapping[Part, float],
    parts: Collection[Part],
) -> Part:
    """The part whose sum of squares of deviations from the shares a unit makes least; of equal ones the first."""
    total = sum(shares.values())

    def lack(part: Part) -> float:
        share = shares[part] / total
        each = (_weight(one) * count * (share * seen[one] - counts[part][one]) for one, count in own.items())
        return round(sum(each), 9)  # so that the last bits decide nothing

    return max(parts, key=lack)


def _weight(feature: Hashable) -> int:
    return 1 if feature == _ALL else _WEIGHT_OF_CLASS
