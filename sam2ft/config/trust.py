"""Trust in files that can run code: who owns them and their folders, and who else can write them.

A configuration names classes and functions that are imported, a plan and a job file say which configurations run, and a
site file holds shell lines. Tables, stores and weights are read without trust: they hold no code.
"""

import functools
import grp
import os
import pwd
import shlex
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sam2ft.core.errors import ConfigError, UserError

VARIABLE = "SAM2FT_TRUST"
"""Environment variable: users and `@groups`, separated by commas, whose files run as one's own."""
ALLOWED = "allowed: files and folders of yours or of root that nobody else can write"
_PACKAGE = Path(__file__).parents[1]
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OF_FILE, _ACL_GROUP = 0x02, 0x04, 0x08
_MOST_LINKS = 40
_ROOT = 0


@dataclass(frozen=True)
class Trusted:
    """Users and groups whose files this process runs."""

    users: frozenset[int]
    groups: frozenset[int]


def refuse_untrusted(path: Path, what: str) -> None:
    """Refuse a file that someone else could have written, and that can run code. A missing file is not refused.

    The file, the folder that holds it, and both ends of a symbolic link count. They must belong to this process's user,
    to root, to the owner of the installed sam2ft (whose code runs already) or to a user in `SAM2FT_TRUST`, and nobody
    else may write them: not all users (except in a sticky folder such as /tmp), and no group but a user's private one
    or a group in `SAM2FT_TRUST`.

    Args:
        what: what the file is, for the message: "plan".

    Raises:
        UserError: owner, mode and remedy.
    """
    if (problem := _problem(path, what)) is not None:
        raise UserError(problem)


def is_trusted(path: Path) -> bool:
    """Whether `refuse_untrusted` accepts the path: for caches, which are made again instead."""
    return _problem(path, "file") is None


def _problem(path: Path, what: str) -> str | None:
    trusted = _trusted(os.environ.get(VARIABLE, ""), os.geteuid())
    for place, holds in _places(path):
        try:
            found = place.lstat() if place.is_symlink() and not holds else place.stat()
        except FileNotFoundError:
            return None
        if (problem := _problem_of(place, found, trusted, holds=holds)) is not None:
            words = f"folder of the {what} {path.name}" if holds else what
            return f"{place}: {words}, which can run code, {problem}"
    return None


def _places(path: Path) -> Iterator[tuple[Path, bool]]:
    """(path, whether it is the folder that holds the file) of the file and of all links to it."""
    for _ in range(_MOST_LINKS):
        yield path.parent, True
        yield path, False
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _problem_of(place: Path, found: os.stat_result, trusted: Trusted, *, holds: bool) -> str | None:
    """Who could have written the file, as the rest of a sentence with the remedy; None when it is trusted."""
    mode = stat.S_IMODE(found.st_mode)
    if not _owner_is_trusted(found.st_uid, trusted):
        name = _user(found.st_uid)
        return (
            f"belongs to user {name} (uid {found.st_uid}, mode {mode:04o}); {ALLOWED}: copy it to a folder of yours, "
            f"or set {VARIABLE}={name} if you trust this user"
        )
    # A link has no mode of its own, and in a sticky folder only its owner can replace a file.
    if stat.S_ISLNK(found.st_mode) or (holds and mode & stat.S_ISVTX):
        return None
    shown = shlex.quote(str(place))
    if mode & stat.S_IWOTH:
        return f"can be written by all users ({_mode_of(found)}); {ALLOWED}: chmod o-w {shown}"
    return _problem_of_group(place, found, trusted) if mode & stat.S_IWGRP else None


def _problem_of_group(place: Path, found: os.stat_result, trusted: Trusted) -> str | None:
    """The same for a file that its group, or users and groups of its access list, may write."""
    shown, owner = shlex.quote(str(place)), _mode_of(found)
    group_writes, users, groups = _writers(place)
    if group_writes:
        groups.append(found.st_gid)
    if others := [gid for gid in groups if gid not in trusted.groups and not _is_private(gid, trusted)]:
        name = _group(others[0])
        return (
            f"can be written by group {name} ({owner}); {ALLOWED}: chmod g-w {shown}, or set {VARIABLE}=@{name} if you "
            "trust all its members"
        )
    if strangers := [uid for uid in users if not _owner_is_trusted(uid, trusted)]:
        name = _user(strangers[0])
        return (
            f"can be written by user {name} ({owner}, access list); {ALLOWED}: setfacl -b {shown}, or set "
            f"{VARIABLE}={name} if you trust this user"
        )
    return None


def _mode_of(found: os.stat_result) -> str:
    return f"owner {_user(found.st_uid)}, mode {stat.S_IMODE(found.st_mode):04o}"


def _writers(place: Path) -> tuple[bool, list[int], list[int]]:
    """Whether the file's group may write, and other users and groups, by the POSIX access list if there is one.

    With such a list, the group bits of the mode are the upper bound of all its entries. The files of an NFSv4 server
    show only the mode.
    """
    try:
        raw = os.getxattr(place, _ACL)
    except OSError:
        return True, [], []
    entries = [(tag, number) for tag, permission, number in struct.iter_unpack("<HHI", raw[4:]) if permission & 0o2]
    return (
        any(tag == _ACL_GROUP_OF_FILE for tag, _ in entries),
        [number for tag, number in entries if tag == _ACL_USER],
        [number for tag, number in entries if tag == _ACL_GROUP],
    )


def _owner_is_trusted(uid: int, trusted: Trusted) -> bool:
    return uid in trusted.users or (bool(trusted.groups) and not trusted.groups.isdisjoint(_groups_of(uid)))


@functools.cache
def _trusted(text: str, own: int) -> Trusted:
    """Root, oneself, the owner of the installed package, and the users and groups of `SAM2FT_TRUST`.

    Raises:
        ConfigError: a name that is no user or group on this machine.
    """
    users, groups = {_ROOT, own}, set[int]()
    package = _PACKAGE.stat().st_uid
    # In a user namespace the files of all users of the host belong to one overflow user.
    if package != _overflow_uid():
        users.add(package)
    for name in filter(None, (part.strip() for part in text.split(","))):
        try:
            if name.startswith("@"):
                groups.add(int(name[1:]) if name[1:].isdecimal() else grp.getgrnam(name[1:]).gr_gid)
            else:
                users.add(int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid)
        except KeyError:
            kind = "group" if name.startswith("@") else "user"
            raise ConfigError(
                f"{VARIABLE}={text}: no {kind} {name.removeprefix('@')!r} on this machine; allowed: users and @groups, "
                "separated by commas, as names or numbers"
            ) from None
    return Trusted(frozenset(users), frozenset(groups))


def _overflow_uid() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return 65534


@functools.cache
def _is_private(gid: int, trusted: Trusted) -> bool:
    """Whether only a trusted user can be in the group: a group of the same name, which nobody else was added to.

    The rule of pam_umask and of Red Hat's shells. Members whose main group it is are not listed in the group database,
    so a group of another name may have any number of them.
    """
    try:
        group = grp.getgrgid(gid)
        owner = pwd.getpwnam(group.gr_name)
        members = [pwd.getpwnam(name).pw_uid for name in group.gr_mem]
    except KeyError:
        return False
    return owner.pw_gid == gid and all(_owner_is_trusted(uid, trusted) for uid in (owner.pw_uid, *members))


@functools.cache
def _groups_of(uid: int) -> frozenset[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
