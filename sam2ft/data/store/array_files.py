"""Writing an array of a store: its bytes and their digest in one pass."""

import hashlib
from io import BytesIO
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 20


def write_npy(stream: IO[bytes], array: npt.NDArray[Any]) -> str:
    """Write what `np.save` writes; returns the sha256 of it.

    The digest is that of what was to be written, and not of what a file system gives back: damage shows at every
    reading, instead of being confirmed.

    Raises:
        ValueError: the array holds Python objects.
        OSError: the stream cannot be written.
    """
    array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        raise ValueError("arrays of Python objects are not stored")
    digest = hashlib.sha256()

    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    parts = [header.getbuffer()]
    contents = array.reshape(-1).view(np.uint8).data
    parts += [contents[start : start + _CHUNK] for start in range(0, len(contents), _CHUNK)]
    for part in parts:  # hashed while it is in the cache of the processor
        digest.update(part)
        stream.write(part)
    return digest.hexdigest()
