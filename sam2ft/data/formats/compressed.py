"""Reading the voxels of a file to the last byte and checksum, and never beyond the number of bytes of its header."""

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from sam2ft.core.errors import DataError, naming

isal_zlib: Any = None
with suppress(ImportError):  # an environment of before, or a platform without it
    isal_zlib = import_module("isal.isal_zlib")

_ISAL_ERRORS: tuple[type[Exception], ...] = () if isal_zlib is None else (isal_zlib.error,)
CHUNK = 1 << 20
# Window of zlib with the header of gzip (zlib.h, inflateInit2), and how a member of such a file begins.
_GZIP_BITS, _GZIP_MAGIC, _GZIP_HEADER = 16 + zlib.MAX_WBITS, b"\x1f\x8b", 10
_BEGINNING, _BUFFER = 1 << 12, 1 << 16
# One byte of deflate holds at most 1032 bytes (zlib, "Maximum Compression Factor"); other writers stay below.
MOST_PER_BYTE = {"gzip": 1032, "zlib": 1032, "raw": 1}
# Whatever the libraries raise on a header or on contents that make no sense.
DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    StopIteration,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


@contextmanager
def refusing_damage(path: Path, kind: str, *own: type[Exception]) -> Iterator[None]:
    """Turn whatever a library raises on damaged contents into a DataError that names the file.

    Args:
        kind: what the file was taken for, such as NIfTI.
        own: errors of the library that reads this kind, which are no built-in ones.
    """
    try:
        with naming(path):
            yield
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable {kind} file: damaged (CRC): {error}; copy it again") from None
    except EOFError:
        raise DataError(f"{path}: not a readable {kind} file: it ends too early; copy it again") from None
    except DAMAGED + own as error:
        # Not the text of the error: libraries quote what they cannot read, which may be a person's name. nibabel's
        # errors of a header name its codes and no text.
        reason = " ".join(str(error).split()) if isinstance(error, HeaderDataError) else _reason(error)
        raise DataError(f"{path}: not a readable {kind} file ({reason}); export or copy it again") from None


def not_readable(kind: str, why: str) -> DataError:
    """The refusal of a file whose contents are none of its kind, or damaged."""
    return DataError(f"not a readable {kind} file: {why}; copy it again")


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    if told is None and isinstance(error, ValueError | LookupError | TypeError):
        told = "a field of its header cannot be understood"
    return told or type(error).__name__


def decompressing(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """`stream` as its decompressed contents; raises zlib.error, OSError or EOFError where a checksum does not hold.

    Args:
        encoding: raw, gzip, bzip2 or zlib (one stream); all members of a gzip or bzip2 file are read.
    """
    if encoding == "zlib":
        return _Zlib(stream)  # type: ignore[return-value]  # is a binary stream
    if encoding == "gzip":
        # Larger reads go past its buffer, and who looks at the header alone decompresses little more.
        return io.BufferedReader(_Gzip(stream), _BUFFER)  # type: ignore[type-var]  # is a raw stream
    return _Bzip2(stream) if encoding == "bzip2" else stream  # type: ignore[return-value]  # is a binary stream


class _Inflate:
    """zlib.decompressobj for gzip or zlib wrappers, by python-isal where it is installed: in a third of the time.

    What begins wrong, zlib refuses: isal lets flags pass that no writer knows yet.
    """

    def __init__(self, bits: int):
        self._bits, self._begun = bits, isal_zlib is None
        self._by: Any = (isal_zlib or zlib).decompressobj(bits)

    @property
    def eof(self) -> bool:
        return bool(self._by.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._by.unused_data)

    @property
    def unconsumed_tail(self) -> bytes:
        return bytes(self._by.unconsumed_tail)

    def decompress(self, given: bytes, most: int) -> bytes:
        """At most `most` bytes of the contents; zlib.error where they are damaged."""
        if not self._begun:
            self._begun = True
            zlib.decompressobj(self._bits).decompress(given[:_BEGINNING], 1)
        try:
            return bytes(self._by.decompress(given, most))
        except _ISAL_ERRORS as error:
            raise zlib.error(str(error)) from None


class _Gzip(io.RawIOBase):
    """Like gzip.GzipFile, which feeds zlib 8 KB at a time and computes the checksum beside it: takes half of its time.

    All members of a file are read; zeros may follow the last one.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream, self._given = stream, b""
        self._member = _Inflate(_GZIP_BITS)
        self._between = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
        while True:
            given = self._given or self._stream.read(CHUNK)
            if not given:
                if self._between:
                    return 0
                raise EOFError
            if self._between and not (given := given.lstrip(b"\0")):
                self._given = b""
                continue
            if self._between and len(given) < _GZIP_HEADER:
                given += self._stream.read(CHUNK)
            if self._between and not given.startswith(_GZIP_MAGIC):
                raise gzip.BadGzipFile(f"Not a gzipped file ({given[:2]!r})")
            found = self._member.decompress(given, len(buffer))
            self._between = False
            self._given = self._member.unconsumed_tail
            if self._member.eof:
                self._given, self._member, self._between = self._member.unused_data, _Inflate(_GZIP_BITS), True
            if found:
                buffer[: len(found)] = found
                return len(found)


class _Bzip2(io.RawIOBase):
    """Like bz2.BZ2File, which ignores whatever follows the last stream of a file, but refuses such bytes."""

    def __init__(self, stream: IO[bytes]):
        self._stream, self._member = stream, bz2.BZ2Decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
        while True:
            if self._member.eof:
                rest = self._member.unused_data or self._stream.read(CHUNK)
                if not rest:
                    return 0
                self._member = bz2.BZ2Decompressor()
            else:
                rest = self._stream.read(CHUNK) if self._member.needs_input else b""
                if not rest and self._member.needs_input:
                    raise EOFError
            try:
                found = self._member.decompress(rest, len(buffer))
            except (OSError, ValueError) as error:
                raise zlib.error(str(error)) from None
            if found:
                buffer[: len(found)] = found
                return len(found)


class _Zlib(io.RawIOBase):
    """The contents of one zlib stream, at whose end the file must end."""

    def __init__(self, stream: IO[bytes]):
        # 32: zlib and gzip headers are both recognised, as MetaIO does.
        self._stream, self._inflate = stream, _Inflate(32 + zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]  # any writable buffer
        while not self._inflate.eof:
            given = self._inflate.unconsumed_tail or self._stream.read(CHUNK)
            found = self._inflate.decompress(given, len(buffer))
            if found:
                buffer[: len(found)] = found
                return len(found)
            if not given and not self._inflate.eof:
                raise EOFError
        if self._inflate.unused_data or self._stream.read(1):
            raise DataError("bytes follow the end of its compressed voxels; it is damaged, copy it again")
        return 0


def read_voxels(stream: IO[bytes], size: int, most: int | None = None, *, most_after: int = 0) -> npt.NDArray[np.uint8]:
    """The `size` bytes that are left in a stream, checked to be all that is left.

    Args:
        most: the number of bytes that the stream can hold at most, when that is known.
        most_after: the number of bytes that may follow the voxels, which are read to the checksum and left out.

    Raises:
        DataError: the stream has fewer bytes or more.
    """
    if most is not None and size > most:
        raise DataError(f"its header declares {size} bytes of voxels, but the file ends too early for them")
    # Memory that no byte is written to is not used: a wrong size costs nothing.
    voxels = np.empty(size, dtype=np.uint8)
    room, at = voxels.data, 0
    while at < size and (found := stream.readinto(room[at : at + CHUNK])):  # type: ignore[attr-defined]
        at += found
    if at < size:
        raise DataError(f"its header declares {size} bytes of voxels, but it ends too early, after {at}")
    while rest := stream.read(CHUNK):
        if (most_after := most_after - len(rest)) < 0:
            raise DataError(
                f"holds more than the {size} bytes of voxels that its header declares; header and voxels do not belong "
                "together, or bytes were appended"
            )
    return voxels


def most_bytes(path: Path, encoding: str) -> int | None:
    """The number of bytes that a file of its size can hold at most; None: no useful limit."""
    factor = MOST_PER_BYTE.get(encoding)
    return None if factor is None else factor * path.stat().st_size


def as_array(voxels: npt.NDArray[np.uint8], dtype: np.dtype, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Bytes as numbers of `dtype` (of any byte order) in an array of `shape` whose first axis runs fastest."""
    numbers = voxels.view(dtype)
    if not dtype.isnative:
        numbers = numbers.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return numbers.reshape(shape, order="F")
