"""Reading of lock files (requirements/*.txt of `make lock`): exact versions, the platforms they are for, sha256."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from sam2ft.core.errors import DataError


@dataclass(frozen=True)
class Pin:
    """One package of a lock file."""

    name: str
    """Canonical name (PEP 503)."""
    version: str
    wanted_here: bool
    """Whether this Python and platform install it."""
    sha256: tuple[str, ...]
    """Digests of the files that may be installed, one per wheel or source archive."""


def read_lock(path: Path) -> dict[str, Pin]:
    """The packages of a lock file by canonical name, in the order of the file.

    Raises:
        DataError: a line is no exact version (`name==version`) with at least one sha256.
    """
    pins = {}
    logical = path.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    for line in (text.split(" #")[0].strip() for text in logical):
        if line and not line.startswith("#"):
            pin = _pin(line, path)
            pins[pin.name] = pin
    return pins


def _pin(line: str, path: Path) -> Pin:
    statement, *hashes = re.split(r"\s+--hash=sha256:", line)
    try:
        requirement = Requirement(statement)
    except InvalidRequirement as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{path}: {statement!r} is no requirement ({first}); write the file with `make lock`") from None
    exact = [one.version for one in requirement.specifier if one.operator == "=="]
    if len(exact) != 1 or not hashes:
        raise DataError(
            f"{path}: {requirement.name} has no exact version with sha256, as all of a lock have; run `make lock`"
        )
    marker = requirement.marker
    return Pin(
        canonicalize_name(requirement.name),
        exact[0],
        marker is None or marker.evaluate(),
        tuple(map(str.strip, hashes)),
    )
