"""The files below a folder: links that lead back, closed folders and special files end nothing and are told."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

STORE = "store.json"


@dataclass
class Walked:
    """What lies below a folder."""

    root: Path
    folders: dict[Path, list[Path]] = field(default_factory=dict)
    """Folder -> its files, both sorted; without hidden ones."""
    unreadable: list[tuple[Path, str]] = field(default_factory=list)
    """(file or folder, reason)."""
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    """Folders that were not entered, with the reason."""
    hidden: int = 0
    """Hidden files and folders."""

    @property
    def num_files(self) -> int:
        return sum(map(len, self.folders.values()))


def walked(root: Path) -> Walked:
    """All files below a folder. Folders are entered once, whatever links lead to them; stores are left out."""
    found = Walked(root)
    entered: set[tuple[int, int]] = set()
    for folder in _below(root, found, entered):
        files = []
        for path in _entries(folder, found):
            if (kind := _kind(path, found)) == "file":
                files.append(path)
            elif kind == "other":
                found.unreadable.append((path, "is no file and no folder"))
        found.folders[folder] = files
    return found


def _below(folder: Path, found: Walked, entered: set[tuple[int, int]]) -> Iterator[Path]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            status = here.stat()
        except OSError as error:
            found.unreadable.append((here, error.strerror or "cannot be read"))
            continue
        if (identity := (status.st_dev, status.st_ino)) in entered:
            found.left_out.append((here, "a link to a folder that was looked through already"))
            continue
        entered.add(identity)
        if (here / STORE).is_file():
            found.left_out.append((here, "a prepared store"))
            continue
        yield here
        # The last one is taken next: sorted downwards, they come in the order of their names.
        waiting += sorted((path for path in _entries(here, Walked(here)) if _is_folder(path)), reverse=True)


def _entries(folder: Path, found: Walked) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        found.unreadable.append((folder, error.strerror or "cannot be read"))
        return []
    shown = [name for name in names if not name.startswith(".") and name != "__MACOSX"]
    found.hidden += len(names) - len(shown)
    return [folder / name for name in shown]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError:
        return False


def _kind(path: Path, found: Walked) -> str:
    """file, folder, other; empty: it cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        reason = "a link that leads nowhere" if path.is_symlink() else error.strerror or "cannot be read"
        found.unreadable.append((path, reason))
        return ""
    if stat.S_ISREG(mode):
        return "file"
    return "folder" if stat.S_ISDIR(mode) else "other"
