"""Permissions of new files: those of the umask, also where a library makes them private, and a umask for groups.

A folder that a group shares (`chmod g+s`) gives its group to what is made in it. The umask decides whether that group
may also write; `SAM2FT_UMASK=002` sets it for commands and jobs alike.
"""

import os
import re
import stat
from collections.abc import Mapping

from sam2ft.core.errors import UserError

VARIABLE = "SAM2FT_UMASK"
_NEW_FILE = 0o666
_ALL_OF_GROUP_AND_OTHERS = 0o077


def apply_umask(environment: Mapping[str, str] = os.environ) -> None:
    """Take over the umask of SAM2FT_UMASK, if it is set, for this process and all that it starts.

    Raises:
        UserError: it is no umask, or takes rights from the owner, without which nothing can be written.
    """
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return
    if not re.fullmatch("[0-7]{1,4}", text) or int(text, 8) > _ALL_OF_GROUP_AND_OTHERS:
        raise UserError(
            f"{VARIABLE}={text}: no umask; allowed: octal digits that leave the owner all rights, such as 002 (the "
            "group may write), 022 (others may read) or 077 (private)"
        )
    os.umask(int(text, 8))


def current_umask() -> int:
    """The umask of this process, read without changing it, because other threads may be making files."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
            found = re.search(r"^Umask:\s*([0-7]+)", stream.read(), re.MULTILINE)
    except OSError:
        found = None
    if found is not None:
        return int(found[1], 8)
    value = os.umask(0o077)  # not Linux
    os.umask(value)
    return value


def make_as_readable_as_new_files(descriptor: int) -> None:
    """Give an open file the permissions that the umask leaves a new one, if it has fewer; it loses none.

    Libraries that write a temporary file and rename it (safetensors) make it private, whatever the umask says.
    """
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    wanted = mode | (_NEW_FILE & ~current_umask())
    if wanted != mode:
        os.fchmod(descriptor, wanted)
