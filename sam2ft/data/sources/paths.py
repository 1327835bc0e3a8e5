"""Paths as people write them: a name in another Unicode form is found, one in other letters is named, never taken."""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Names in folders, each of which is listed once."""

    _names: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    _forms: dict[Path, dict[str, list[str]]] = field(default_factory=dict)
    """Folder -> composed form of a name -> the names that have it."""

    def names(self, folder: Path) -> tuple[str, ...]:
        """Sorted names in a folder without hidden ones; none if it is no folder."""
        if folder not in self._names:
            listed = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            self._names[folder] = tuple(name for name in listed if not name.startswith("."))
        return self._names[folder]

    def beginning(self, folder: Path, start: str) -> tuple[str, ...]:
        """`names` that begin with `start`, without looking at the others: a mask is looked up for every image."""
        names = self.names(folder)
        first = bisect_left(names, start)
        last = bisect_right(names, start, lo=first, key=lambda name: name[: len(start)])
        return names[first:last]

    def found(self, path: Path) -> Path:
        """`path`, or the one existing path whose names differ from it only in the Unicode form of accents."""
        try:
            if path.exists() or path.parent == path:
                return path
        except OSError:  # a name that no file can have: whoever reads the volume refuses it alone
            return path
        parent = self.found(path.parent)
        if not parent.is_dir():
            return path
        same = self._composed_names(parent).get(_composed(path.name), [])
        return parent / same[0] if len(same) == 1 else path

    def _composed_names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._forms:
            forms = self._forms.setdefault(folder, {})
            for name in self.names(folder):
                forms.setdefault(_composed(name), []).append(name)
        return self._forms[folder]

    def near(self, path: Path) -> str:
        """Text `; X differs only in ...` for a path that does not exist, empty if nothing like it is there."""
        alike = [name for name in self.names(path.parent) if _folded(name) == _folded(path.name)]
        if not alike or path.name in alike:
            return ""
        return f"; {path.parent / alike[0]} is there: capital letters and blanks count in names"


def in_known_form(name: str, known: Collection[str]) -> str:
    """The one of `known` that differs from a name at most in the Unicode form of its accents; else the name itself."""
    if name in known:
        return name
    same = [one for one in known if _composed(one) == _composed(name)]
    return same[0] if len(same) == 1 else name


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return "".join(_composed(name).casefold().split())
