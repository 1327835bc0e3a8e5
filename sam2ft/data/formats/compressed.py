"""Reading the voxels of a file to the last byte and checksum, and never beyond the number of bytes of its header."""

import bz2
import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from sam2ft.core.errors import DataError, naming

CHUNK = 1 << 20
# One byte of deflate holds at most 1032 bytes (zlib, "Maximum Compression Factor"); other writers stay below.
MOST_PER_BYTE = {"gzip": 1032, "raw": 1}
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


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    if told is None and isinstance(error, ValueError | LookupError | TypeError):
        told = "a field of its header cannot be understood"
    return told or type(error).__name__


def decompressing(stream: IO[bytes], encoding: str) -> IO[bytes]:
    """`stream` as its decompressed contents; raises zlib.error, OSError or EOFError where a checksum does not hold.

    Args:
        encoding: raw, gzip or bzip2; all members of a file are read.
    """
    if encoding == "gzip":
        return gzip.GzipFile(fileobj=stream, mode="rb")  # type: ignore[return-value]  # is a binary stream
    return _Bzip2(stream) if encoding == "bzip2" else stream  # type: ignore[return-value]  # is a binary stream


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


def read_voxels(stream: IO[bytes], size: int, most: int | None = None) -> npt.NDArray[np.uint8]:
    """The `size` bytes that are left in a stream, checked to be all that is left.

    Args:
        most: the number of bytes that the stream can hold at most, when that is known.

    Raises:
        DataError: the stream has fewer bytes or more.
    """
    if most is not None and size > most:
        raise DataError(f"its header declares {size} bytes of voxels, but the file ends too early for them")
    # Memory that no byte is written to is not used: a wrong size costs nothing.
    voxels = np.empty(size, dtype=np.uint8)
    at = 0
    while found := stream.read(CHUNK):
        if at + len(found) > size:
            raise DataError(
                f"holds more than the {size} bytes of voxels that its header declares; header and voxels do not belong "
                "together, or bytes were appended"
            )
        voxels[at : at + len(found)] = np.frombuffer(found, dtype=np.uint8)
        at += len(found)
    if at < size:
        raise DataError(f"its header declares {size} bytes of voxels, but it ends too early, after {at}")
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
