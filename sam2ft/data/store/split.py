"""Train, validation and test split, always by subject. Random orders come from hashes, never from the file order."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam2ft.core.errors import DataError, listed, naming
from sam2ft.core.files import read_json

SPLITS = ("train", "val", "test")
_SHOWN = 10


def split_by_fractions(
    subjects: Iterable[str], fractions: Mapping[str, float], seed: int, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """subject -> split, drawn from `seed`; the sizes follow the largest remainder (12 at 0.5/0.17/0.33 -> 6/2/4).

    The same subjects give the same split, independent of their order. Thirds are written as 0.333; the rest to 1 is
    distributed over the splits.

    Args:
        kept: subject -> split of the subjects that have one already, which none of them leaves. The others are drawn in
            the order of the seed, each for the split that then lacks most of its size in the whole cohort.
    """
    names = set(subjects)
    splits = {name: split for name, split in (kept or {}).items() if name in names}
    ordered = _shuffled(names - splits.keys(), seed, "split")
    sizes = _sizes(len(names), [fractions[name] for name in SPLITS])
    lacking = {name: size - list(splits.values()).count(name) for name, size in zip(SPLITS, sizes, strict=True)}
    if not splits:
        drawn = [name for name, size in lacking.items() for _ in range(size)]
        return dict(sorted(zip(ordered, drawn, strict=True)))
    for subject in ordered:
        splits[subject] = max(SPLITS, key=lambda name: lacking[name])  # of equal ones the first
        lacking[splits[subject]] -= 1
    return dict(sorted(splits.items()))


def _sizes(total: int, fractions: Sequence[float]) -> list[int]:
    quotas = [round(total * fraction / sum(fractions), 9) for fraction in fractions]
    sizes = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda i: (sizes[i] - quotas[i], i))
    for i in by_remainder[: total - sum(sizes)]:
        sizes[i] += 1
    return sizes


def split_from_file(
    path: Path,
    subjects: Iterable[str],
    stored: Iterable[str] = (),
    called: Callable[[str], str] = str,
    shown: Callable[[str], str] = str,
    fold: int | None = None,
) -> dict[str, str]:
    """subject -> split from a JSON file `{"train": [subject, ...], "val": [...], "test": [...]}`, or a list of such.

    Args:
        subjects: the subjects found, each of which must be in the file.
        stored: further subjects that may be in it, because they were found before.
        called: name of a subject in the file -> its name in the store.
        shown: name of a found subject in the store -> what a message calls it, so that its user finds it.
        fold: number of the entry of the list.

    Raises:
        DataError: when a split name is unknown, or a subject is in two splits, in no split, or has no images.
    """
    splits = _chosen_fold(path, read_json(path), fold)
    if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
        raise DataError(f"{path}: expected a mapping split -> list of subjects")
    if unknown := sorted(set(splits) - set(SPLITS)):
        raise DataError(f"{path}: unknown split {', '.join(unknown)}; allowed: {', '.join(SPLITS)}")
    split_of: dict[str, str] = {}
    for split, names in splits.items():
        for given in names:
            if not isinstance(given, str):
                raise DataError(f"{path}: {split}: subject {given!r} is not text; write it in quotes")
            with naming(path):
                name = called(given)
            if split_of.get(name, split) != split:
                raise DataError(f"{path}: subject {given} is in two splits, {split_of[name]} and {split}")
            split_of[name] = split
    found = set(subjects)
    if missing := sorted(found - split_of.keys()):
        raise DataError(
            f"{path}: in no split: {listed([*map(shown, missing)], _SHOWN)}; every subject found must be in one"
        )
    if absent := sorted(split_of.keys() - found - set(stored)):
        raise DataError(f"{path}: no images were found for {listed(absent, _SHOWN)}")
    return dict(sorted(split_of.items()))


def folds_from_file(
    path: Path,
    subjects: Iterable[str],
    stored: Iterable[str] = (),
    called: Callable[[str], str] = str,
    shown: Callable[[str], str] = str,
) -> list[dict[str, str]]:
    """`split_from_file` of every fold of a list of them.

    Raises:
        DataError: as `split_from_file`, or the file is no list of folds, or they do not name the same subjects.
    """
    folds = read_json(path)
    if not isinstance(folds, list) or not folds:
        raise DataError(f"{path}: is no list of folds, and split.fold is all; leave split.fold out")
    found, known = [*subjects], [*stored]
    splits = [split_from_file(path, found, known, called, shown, number) for number in range(len(folds))]
    for number, split_of in enumerate(splits):
        if missing := sorted({name for one in splits for name in one} - split_of.keys()):
            raise DataError(f"{path}: fold {number} does not name {listed(missing, _SHOWN)}, which another fold names")
    return splits


def _chosen_fold(path: Path, splits: Any, fold: int | None) -> Any:
    """The fold of a list of them; what is no list as it is."""
    if isinstance(splits, list) and splits and all(isinstance(one, dict) and "train" in one for one in splits):
        if fold is None or fold >= len(splits):
            found = "" if fold is None else f", split.fold is {fold}"
            raise DataError(
                f"{path}: looks like the {len(splits)} folds of nnU-Net (a list){found}; choose one with split.fold: 0 "
                f"to {len(splits) - 1}"
            )
        return splits[fold]
    if fold is not None:
        raise DataError(f"{path}: is no list of folds, and split.fold is {fold}; leave split.fold out")
    return splits


def moved_note(kept: Mapping[str, str], split_of: Mapping[str, str]) -> list[str]:
    """One sentence that names the subjects of `kept` that `split_of` moves to another split; none without such ones."""
    moved = [
        f"{subject} ({split} -> {split_of[subject]})"
        for subject, split in sorted(kept.items())
        if split_of.get(subject, split) != split
    ]
    if not moved:
        return []
    return [
        f"split.file moves stored subjects: {listed(moved, _SHOWN)}; evaluations made before saw them in the old split"
    ]


def kept_note(kept: Mapping[str, str], split_of: Mapping[str, str], fractions: Mapping[str, float]) -> list[str]:
    """One sentence where kept splits leave the cohort more than one subject away from its shares; else none."""
    found = [list(split_of.values()).count(name) for name in SPLITS]
    wanted = _sizes(len(split_of), [fractions[name] for name in SPLITS])
    if not kept or max(abs(one - other) for one, other in zip(found, wanted, strict=True)) <= 1:
        return []
    shown = (", ".join(f"{name} {size}" for name, size in zip(SPLITS, sizes, strict=True)) for sizes in (found, wanted))
    return [
        "{} subjects; the shares ask for {}: stored subjects keep their split; prepare into a new folder to draw "
        "all again, or name every subject in split.file".format(*shown)
    ]


def nested_subjects(subjects: Iterable[str], limit: int | None, seed: int) -> tuple[str, ...]:
    """At most `limit` subjects (None: all), sorted. Subsets are nested: the 10 subjects of a seed are among its 20."""
    names = set(subjects)
    chosen = _shuffled(names, seed, "subset") if limit is not None else sorted(names)
    return tuple(sorted(chosen[:limit]))


def _shuffled(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    def key(name: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{purpose}\0{seed}\0{name}".encode()).digest(), name

    return sorted(names, key=key)
