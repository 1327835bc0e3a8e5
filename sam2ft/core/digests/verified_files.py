"""Files that are verified when they are read back: JSON that carries its digest, and any file with a digest beside it.

A file without a digest was written by a version before digests: it is read, and noted as unverified. What cannot be
read, but can be made again or left out, is told on stderr.
"""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sam2ft.core.digests.sealed import sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import indented_json, naming_read, replacing, sha256_file, verified_json, write_text

RUN = "run"
"""Entry of the JSON files of a run with its run_id."""
_UNVERIFIED: dict[Path, None] = {}
_TOLD: set[str] = set()


class OtherRunError(DataError):
    """A whole file of another run, in a folder that was copied or renamed."""


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object that carries its own digest, which `core.files.read_json` and `read_sealed_json` verify."""
    write_text(path, sealed_json(indented_json(value)))


def read_sealed_json(path: Path) -> Any:
    """The value of a JSON file of sam2ft.

    Raises:
        DataError: the file is missing, is not JSON, or differs from what was sealed.
    """
    value, is_sealed = verified_json(path)
    if not is_sealed:
        note_unverified(path)
    return value


def read_of_run(path: Path, run: str) -> Any:
    """`read_sealed_json` of a file in the folder of `run`, where it says whose it is (those of 0.1.0 do not).

    A file of another run has a valid digest, but its numbers are not of this run.

    Raises:
        DataError: as `read_sealed_json`.
        OtherRunError: the file names another run.
    """
    value = read_sealed_json(path)
    if isinstance(value, dict) and value.get(RUN, run) != run:
        raise OtherRunError(f"{path}: belongs to the run {value[RUN]}, not to {run}")
    return value


def write_with_digest(path: Path, data: bytes) -> None:
    """Write a file that cannot carry a digest itself (CSV), with its digest beside it in `<name>.sha256`.

    The digest file, in the format of sha256sum, is written first and keeps the digest of the present file as its second
    line, so that the file is verified at every moment, whenever the writer is killed.
    """
    lines = [hashlib.sha256(data).hexdigest()]
    if path.is_file():
        lines.append(sha256_file(path))
    write_text(digest_file(path), "".join(f"{line}  {path.name}\n" for line in dict.fromkeys(lines)))
    with replacing(path) as partial:
        partial.write_bytes(data)


def read_with_digest(path: Path) -> bytes:
    """The bytes of a file that `write_with_digest` wrote.

    Raises:
        DataError: it differs from its digest; read twice, because a writer may be replacing both files.
        FileNotFoundError: there is no such file.
    """
    for _ in range(2):
        with naming_read(path):
            data = path.read_bytes()
        try:
            with naming_read(digest_file(path)):
                lines = digest_file(path).read_text("ascii", "replace").splitlines()
            digests = [line.partition(" ")[0] for line in lines]
        except FileNotFoundError:
            note_unverified(path)
            return data
        if hashlib.sha256(data).hexdigest() in digests:
            return data
    raise DataError(
        f"{path}: damaged, or edited after it was written (its sha256 is not in {digest_file(path).name}); remove "
        f"{digest_file(path)} to accept it as it is"
    )


def digest_file(path: Path) -> Path:
    """The file beside `path` with its digest."""
    return path.with_name(f"{path.name}.sha256")


def note_unverified(path: Path) -> None:
    """Remember a file without a digest, which a version before digests wrote, for `unverified_note`."""
    _UNVERIFIED[path] = None


def unverified_files() -> tuple[Path, ...]:
    """Files that this process read without a digest, in the order in which they were read first."""
    return tuple(_UNVERIFIED)


def tell_damage(text: str) -> None:
    """Print a note to stderr about a damaged file that is made again or left out; the same note only once."""
    if text not in _TOLD:
        _TOLD.add(text)
        print(f"note: {text}", file=sys.stderr, flush=True)


def unverified_note() -> str | None:
    """One sentence about the files that this process read without a digest; None when there was no such file."""
    if not _UNVERIFIED:
        return None
    first, others = next(iter(_UNVERIFIED)), len(_UNVERIFIED) - 1
    more = f" and {others} more files" if others else ""
    return f"note: unverified, because it has no digest (of an earlier version, or edited and accepted): {first}{more}"
