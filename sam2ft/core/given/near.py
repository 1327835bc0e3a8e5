"""Paths where there is nothing: what the user most likely meant, among the names that are there."""

import difflib
import os.path
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

_LEAST_LETTERS = 3
_LIKENESS = 0.75
_MOST_ENTRIES = 2000
"""Entries of a folder that are compared."""


def near_path(path: Path, usual: Sequence[Path] = ()) -> Path | None:
    """An existing path that is written almost like `path`, which does not exist; None without one.

    The first part of `path` that is not there is compared with the entries of its folder: another case, another ending
    or a few other letters, never another number (`p1` is not `p2`). Then its name is looked for in the folders `usual`.
    """
    missing = next((part for part in (*reversed(path.parents), path) if not os.path.lexists(part)), None)
    if missing is None:
        return None
    if (found := _alike(missing.name, missing.parent)) is not None:
        whole = found / path.relative_to(missing)
        return whole if os.path.lexists(whole) else found
    alone = (_alike(path.name, folder) for folder in usual if folder.is_dir())
    return next((found for found in alone if found is not None), None)


def near_name(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is written almost like `name`; None without one."""
    wanted = _stem(name)
    stems = {other: _stem(other) for other in names if other != name}
    same = [other for other, stem in stems.items() if stem == wanted]
    if same or sum(letter.isalpha() for letter in wanted) < _LEAST_LETTERS:
        # Among the same names, the one with the nearest ending.
        return min(same, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other), default=None)
    likely = [other for other, stem in stems.items() if _digits(stem) == _digits(wanted)]
    ratios = {other: difflib.SequenceMatcher(None, wanted, stems[other]).ratio() for other in likely}
    best = max(ratios, key=lambda other: (ratios[other], other), default="")
    return best if ratios.get(best, 0.0) >= _LIKENESS else None


def _alike(name: str, folder: Path) -> Path | None:
    try:
        entries = sorted(entry.name for entry in islice(folder.iterdir(), _MOST_ENTRIES))
    except OSError:
        return None
    visible = [entry for entry in entries if not entry.startswith(".")]
    found = name if name in visible else near_name(name, visible)
    return None if found is None else folder / found


def _stem(name: str) -> str:
    """A name without its ending and its case; a version such as 2.1 is no ending."""
    return re.sub(r"(\.[a-z][a-z0-9]*)+$", "", name.lower())


def _digits(text: str) -> list[str]:
    return re.findall(r"\d+", text)
