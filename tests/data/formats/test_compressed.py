"""Decompression of gzip: what the standard library's own reader gives, whatever the members, reads and damage.

By python-isal, and by zlib where that is not installed.
"""

import gzip
import io
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from sam2ft.data.formats import compressed
from sam2ft.data.formats.compressed import CHUNK, decompressing


@pytest.fixture(autouse=True, params=["isal", "zlib"])
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "zlib":
        monkeypatch.setattr(compressed, "isal_zlib", None)
    elif compressed.isal_zlib is None:
        pytest.skip("needs python-isal (requirements/run.txt)")


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
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
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


def contents(data: bytes, encoding: str) -> bytes | None:
    """None: refused."""
    stream, found = decompressing(io.BytesIO(data), encoding), []
    try:
        while piece := stream.read(CHUNK):
            found.append(piece)
    except (zlib.error, OSError, EOFError, compressed.DataError):
        return None
    return b"".join(found)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("encoding", ["gzip", "zlib"])
def test_a_flipped_bit_is_refused_by_both_or_changes_nothing(
    seed: int, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 50, 2000, dtype=np.uint8).tobytes() + b"ab" * 500
    packed = gzip.compress(plain, 6) if encoding == "gzip" else zlib.compress(plain, 6)
    ends = [*range(20), *range(len(packed) - 10, len(packed)), *rng.integers(0, len(packed), 150).tolist()]
    flipped = [packed[:at] + bytes([packed[at] ^ (1 << int(rng.integers(8)))]) + packed[at + 1 :] for at in ends]
    found = [contents(data, encoding) for data in flipped]
    monkeypatch.setattr(compressed, "isal_zlib", None)
    assert found == [contents(data, encoding) for data in flipped]
    assert set(found) <= {None, plain}
    assert found.count(None) > 150


def with_flags(data: bytes, flags: int, extra: bytes = b"") -> bytes:
    """A member of gzip with other flags of its header, and what these announce."""
    return data[:3] + bytes([flags]) + data[4:10] + extra + data[10:]


@pytest.mark.parametrize(
    ("flags", "extra", "readable"),
    [
        (8, b"name.nii\0", True),
        (16, b"a comment\0", True),
        (4, b"\3\0abc", True),
        (4 + 8 + 16, b"\3\0abcname\0comment\0", True),
        (1, b"", True),
        (32, b"", False),
        (64, b"", False),
        (128, b"", False),
        (2, b"\0\0", False),  # a checksum of the header that is wrong
    ],
)
def test_headers_of_members_are_read_as_zlib_reads_them(flags: int, extra: bytes, *, readable: bool) -> None:
    first, second = gzip.compress(b"one", mtime=0), with_flags(gzip.compress(b"two" * 1000, mtime=0), flags, extra)
    assert contents(second, "gzip") == (b"two" * 1000 if readable else None)
    assert contents(first + second, "gzip") == (b"one" + b"two" * 1000 if readable else None)


@pytest.mark.parametrize("seed", range(3))
def test_the_contents_of_a_zlib_stream_are_read_in_pieces_of_any_size(seed: int) -> None:
    plain = b"".join(parts(seed))
    for packed in (zlib.compress(plain), gzip.compress(plain)):  # MetaIO reads both
        stream = decompressing(Dripping(packed, 8191), "zlib")  # type: ignore[arg-type]
        found = []
        while piece := stream.read(100_003):
            found.append(piece)
        assert b"".join(found) == plain


def test_who_reads_the_header_alone_decompresses_little() -> None:
    packed = io.BytesIO(gzip.compress(bytes(50 * CHUNK)))
    stream = decompressing(packed, "gzip")
    stream.read(348)
    assert packed.tell() <= CHUNK
    assert len(stream.peek()) <= CHUNK // 8  # type: ignore[attr-defined]
