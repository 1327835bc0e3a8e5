"""Key file of a dataset: the secret with which names and UIDs are hashed. It stays with the user, outside of stores."""

import hmac
import os
import secrets
import stat
import unicodedata
from pathlib import Path

from sam2ft.core.errors import DataError

_BYTES = 32


def read_key(path: Path) -> bytes:
    """The 32 bytes of a key file.

    Raises:
        DataError: there is no such file, or it is no key file.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such key file; bring it back, or name it in the dataset file (subject_key:)"
        ) from None
    except ValueError:
        key = b""
    if len(key) != _BYTES:
        raise DataError(
            f"{path}: is no key file; allowed: {2 * _BYTES} hexadecimal digits in one line; bring the right file back, "
            "or name it in the dataset file (subject_key:)"
        )
    return key


def write_key(path: Path, key: bytes | None = None) -> bytes:
    """Write a new key file that only its owner can read, and return its key, by default a random one.

    Raises:
        FileExistsError: it exists; no key is ever replaced.
    """
    key = secrets.token_bytes(_BYTES) if key is None else key
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii", newline="\n") as stream:
            stream.write(f"{key.hex()}\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)  # a part of a key is none
        raise
    return key


def others_can_read(path: Path) -> bool:
    """Whether the permissions of a file let others than its owner read it."""
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO))


def key_id(key: bytes) -> str:
    """16 hex digits that tell keys apart and do not reveal them: what a store records of its key."""
    return keyed_hash(key, "key id", "")[:16]


def keyed_hash(key: bytes, purpose: str, text: str) -> str:
    """Hexadecimal HMAC-SHA256 of a text: without the key nobody can tell which text it belongs to by trying.

    A name is the same in composed and decomposed Unicode, so that a subject keeps its id from one file system to
    another.

    Args:
        purpose: what the hash is for; the hashes of one text for two purposes cannot be linked.
    """
    plain = unicodedata.normalize("NFC", text)
    return hmac.new(key, f"sam2ft {purpose}\0{plain}".encode(errors="surrogateescape"), "sha256").hexdigest()
