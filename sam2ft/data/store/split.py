"""Train, validation and test split, always by subject. Random orders come from hashes, never from the file order."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json

SPLITS = ("train", "val", "test")
# Thirds are written as 0.333; the rest to 1 is distributed over the splits.
ROUNDING = 1e-3


def split_by_fractions(subjects: Iterable[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """subject -> split, drawn from `seed`; the sizes follow the largest remainder (12 at 0.5/0.17/0.33 -> 6/2/4).

    The same subjects give the same split, independent of their order.

    Raises:
        DataError: when fractions are outside 0..1 or do not add up to 1, or a split name is unknown.
    """
    if unknown := sorted(set(fractions) - set(SPLITS)):
        raise DataError(f"split: unknown {', '.join(unknown)}; allowed: {', '.join(SPLITS)}")
    if abs(sum(fractions.values()) - 1.0) > ROUNDING or min(fractions.values()) < 0:
        described = " + ".join(f"{name} {share:g}" for name, share in fractions.items())
        raise DataError(f"split: {described} = {sum(fractions.values()):g}; fractions are 0 to 1 and add up to 1")
    ordered = _shuffled(set(subjects), seed, "split")
    shares = [fractions.get(name, 0.0) for name in SPLITS]
    names = [name for name, size in zip(SPLITS, _sizes(len(ordered), shares), strict=True) for _ in range(size)]
    return dict(sorted(zip(ordered, names, strict=True)))


def _sizes(total: int, fractions: Sequence[float]) -> list[int]:
    quotas = [round(total * fraction / sum(fractions), 9) for fraction in fractions]
    sizes = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (sizes[i] - quotas[i], i))
    for i in by_remainder[: total - sum(sizes)]:
        sizes[i] += 1
    return sizes


def split_from_file(path: Path, subjects: Iterable[str]) -> dict[str, str]:
    """subject -> split from a JSON file `{"train": [subject, ...], "val": [...], "test": [...]}`; see `given_split`."""
    return given_split(read_json(path), subjects, where=str(path))


def given_split(splits: Any, subjects: Iterable[str], *, where: str) -> dict[str, str]:
    """subject -> split from a mapping split -> subjects, checked against the subjects that exist.

    Args:
        where: source of the mapping, for error messages.

    Raises:
        DataError: when a split name is unknown, or a subject is in two splits, in no split, or has no images.
    """
    if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
        raise DataError(f"{where}: expected a mapping split -> list of subjects")
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise DataError(f"{where}: unknown split {', '.join(unknown)}; allowed: {', '.join(SPLITS)}")
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if not isinstance(name, str):
                raise DataError(f"{where}: {split}: subject {name!r} is not text; write it in quotes")
            if split_of.get(name, split) != split:
                raise DataError(f"{where}: subject {name} is in two splits, {split_of[name]} and {split}")
            split_of[name] = split
    found = set(subjects)
    if missing := sorted(found - split_of.keys()):
        raise DataError(f"{where}: in no split: {_listed(missing)}; every subject found must be in one")
    if absent := sorted(split_of.keys() - found):
        raise DataError(f"{where}: no images were found for {_listed(absent)}")
    return dict(sorted(split_of.items()))


def nested_subjects(subjects: Iterable[str], limit: int | None, seed: int) -> tuple[str, ...]:
    """At most `limit` subjects (None: all), sorted. Subsets are nested: the 10 subjects of a seed are among its 20.

    Raises:
        DataError: when `limit` is below 1.
    """
    names = set(subjects)
    if limit is not None and limit < 1:
        raise DataError(f"max_subject_set: {limit}; allowed: full, or a number of subjects from 1")
    chosen = _shuffled(names, seed, "subset") if limit is not None else sorted(names)
    return tuple(sorted(chosen[:limit]))


def _shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    def key(name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{purpose}\0{seed}\0{name}".encode()).digest(), name

    return sorted(names, key=key)


def _listed(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
