"""Decompression of gzip: what the standard library's own reader gives, whatever the members, reads and damage."""

import gzip
import io
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from sam2ft.data.formats.compressed import CHUNK, decompressing


@cache
def parts(seed: int) -> list[bytes]:
    """Contents that are compressed well, badly, not at all, and longer than a chunk."""
    rng = np.random.default_rng(seed)
    return [
        bytes(rng.integers(0, 256, 3000, dtype=np.uint8)),
        b"",
        b"\0" * (3 * CHUNK + 7),
        bytes(rng.integers(0, 4, CHUNK + 1, dtype=np.uint8)),
        b"x",
    ]


@cache
def members(seed: int, padding: bytes = b"") -> bytes:
    levels = np.random.default_rng(seed).integers(0, 10, 5)
    return (
        padding.join(gzip.compress(one, int(level)) for one, level in zip(parts(seed), levels, strict=True)) + padding
    )


class Dripping(io.RawIOBase):
    """A file that gives a few bytes at a time."""

    def __init__(self, data: bytes, size: int):
        self._stream, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        found = self._stream.read(min(self._size, len(buffer)))
        buffer[: len(found)] = found
        return len(found)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("padding", [b"", b"\0" * 5])
@pytest.mark.parametrize("size", [1 << 30, 8191])
def test_all_members_are_read_in_pieces_of_any_size(seed: int, padding: bytes, size: int) -> None:
    data = members(seed, padding)
    assert gzip.decompress(data) == b"".join(parts(seed))
    stream = decompressing(Dripping(data, size), "gzip")  # type: ignore[arg-type]
    found = [stream.read(4), stream.read(344)]
    while piece := stream.read(CHUNK):
        found.append(piece)
    assert b"".join(found) == b"".join(parts(seed))
    assert len(found[1]) == 344


def cut(data: bytes) -> bytes:
    return data[:-1]


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def other_length(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def other_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def garbage(data: bytes) -> bytes:
    return data + b"garbage"


def begun_member(data: bytes) -> bytes:
    return data + b"\0\0" + gzip.compress(b"x")[:6]


def half_magic(data: bytes) -> bytes:
    return data + b"\x1f"


@pytest.mark.parametrize("damage", [cut, half, other_length, other_checksum, garbage, begun_member, half_magic])
@pytest.mark.parametrize("seed", range(3))
def test_what_gzip_refuses_is_refused(seed: int, damage: Callable[[bytes], bytes]) -> None:
    data = damage(gzip.compress(parts(seed)[3]))
    refusals = (EOFError, zlib.error, gzip.BadGzipFile)
    with pytest.raises(refusals):
        gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    with pytest.raises(refusals):
        decompressing(io.BytesIO(data), "gzip").read()


def test_garbage_that_follows_is_named_as_by_gzip() -> None:
    with pytest.raises(gzip.BadGzipFile, match=r"Not a gzipped file \(b'ga'\)"):
        decompressing(io.BytesIO(garbage(gzip.compress(b"x"))), "gzip").read()
