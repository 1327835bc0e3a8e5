"""Folds of a store: the split of every subject in each of them (`folds` of store.json), for cross-validation.

`split` of a volume is that of fold 0. Subjects that were refused have folds too, so that they keep them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sam2ft.core.errors import DataError, listed
from sam2ft.data.store.split import SPLITS

Folds = Mapping[str, tuple[str, ...]]
"""Subject -> its split in fold 0, 1 and so on; empty where a store has no folds."""
ENTRY = "folds"
_SHOWN = 3


def folds_in(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The folds in the content of store.json, or in any mapping that has such an entry; empty without any.

    Raises:
        DataError: the entry is damaged.
    """
    entry = content.get(ENTRY, {})
    if not isinstance(entry, Mapping) or not all(isinstance(row, list) for row in entry.values()):
        raise DataError(f"{ENTRY}: damaged (not a list for each subject)")
    folds = {str(subject): tuple(map(str, row)) for subject, row in entry.items()}
    if len({len(row) for row in folds.values()}) > 1 or not {one for row in folds.values() for one in row} <= {*SPLITS}:
        raise DataError(f"{ENTRY}: damaged (splits other than {', '.join(SPLITS)}, or of unequal number)")
    return folds


def folds_entry(folds: Folds) -> Any:
    """`folds` of store.json, as a mapping to be merged into its content: empty where there are none."""
    return {ENTRY: {subject: list(folds[subject]) for subject in sorted(folds)}} if folds else {}


def num_folds(folds: Folds) -> int:
    """Number of the folds; 0 where there are none."""
    return len(next(iter(folds.values()), ()))


def split_in(folds: Folds, fold: int, subjects: Collection[str]) -> dict[str, str]:
    """subject -> split in one fold.

    Raises:
        DataError: there is no such fold, or it does not know a subject.
    """
    count = num_folds(folds)
    if not count:
        raise DataError(f"found {fold}, but the store has no folds; leave the key out, or prepare it with split.folds")
    if fold >= count:
        raise DataError(f"found {fold}; allowed: 0 to {count - 1}, the folds of the store")
    if unknown := sorted(set(subjects) - folds.keys()):
        raise DataError(f"found {fold}, but store.json has no folds of {listed(unknown, _SHOWN)}")
    return {subject: folds[subject][fold] for subject in subjects}
