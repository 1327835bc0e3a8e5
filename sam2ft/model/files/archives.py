"""Files that torch.save writes: the zip of today and the stream of before 1.6, with checksums. No torch.

torch does not check the checksums of a zip, so a flipped bit is a wrong weight; here every entry is checked.
"""

import errno
import io
import pickle
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam2ft.core.errors import CheckpointError
from sam2ft.model.files.inert import DTYPES, Storage, StoredTensor, load_inert

OWN = "sam2ft"
"""Key of the metadata in best.pt."""
# torch/serialization.py: MAGIC_NUMBER, PROTOCOL_VERSION
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_CHUNK = 2**20
_MOST_PICKLE_BYTES = 2**30
# About 100 bytes an entry, and an entry a tensor.
_MOST_DIRECTORY_BYTES = 2**23
# Tensors may share values (tied weights, strides of 0), but a small file does not declare a huge model.
_MOST_SHARING, _ROOM = 4, 2**26

DAMAGED = (
    pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, LookupError, ValueError, TypeError,
    AttributeError, AssertionError, OverflowError, RuntimeError,
)  # fmt: skip
"""What bytes that are no pickle of weights, or no zip, can raise."""


class TorchFile(ABC):
    """The content of a file with weights; storages are read when tensors are."""

    content: Any
    """Nested containers with StoredTensor as leaves."""
    ignored: list[str]
    """Names of classes whose values were left out."""
    has_checksums = False

    def __init__(self) -> None:
        self._storages: dict[str, bytearray] = {}

    @abstractmethod
    def _read(self, storage: Storage) -> bytearray:
        """The bytes of a whole storage."""

    def array(self, tensor: StoredTensor) -> npt.NDArray[Any]:
        """The values of a tensor, contiguous, as unsigned integers of their size."""
        storage = tensor.storage
        if storage.key not in self._storages:
            self._storages[storage.key] = self._read(storage)
        data = memoryview(self._storages[storage.key])[storage.start :][: storage.num_bytes]
        if len(data) < storage.num_bytes:
            raise pickle.UnpicklingError(f"it declares {storage.num_bytes} bytes for a tensor and holds {len(data)}")
        item = tensor.item_bytes
        values = np.frombuffer(data[: len(data) // item * item], f"<u{item}")[tensor.offset :]
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, values.dtype)
        steps = [step * item for step in tensor.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, tensor.shape, steps)).reshape(tensor.shape)


class TorchZip(TorchFile):
    """The zip that torch.save writes since 1.6.

    Raises:
        CheckpointError: a zip of something else.
        Exception: one of DAMAGED.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile):
        super().__init__()
        self._path, self._archive = path, archive
        self.has_checksums = all(hasattr(info, "CRC") for info in archive.infolist())
        names = archive.namelist()
        if len(set(names)) < len(names):
            raise zipfile.BadZipFile("it holds two entries of one name")
        for info in archive.infolist():
            if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                raise zipfile.BadZipFile(f"{info.filename} has two sizes")
        # Entries that share bytes would multiply what a small file takes in memory.
        if sum(info.compress_size for info in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("its entries overlap")
        self._folder = folder_of(path, names)
        if f"{self._folder}byteorder" in names and self._entry("byteorder") != b"little":
            raise CheckpointError(f"{path}: its values are big-endian; save it again on a little-endian machine")
        self.content, self.ignored, _ = load_inert(io.BytesIO(self._entry("data.pkl")))

    def _entry(self, name: str) -> bytes:
        info = self._archive.getinfo(self._folder + name)
        if info.file_size > _MOST_PICKLE_BYTES:
            raise zipfile.BadZipFile(f"{name} declares {info.file_size} bytes")
        return self._archive.read(info)

    def _read(self, storage: Storage) -> bytearray:
        info = self._archive.getinfo(f"{self._folder}data/{storage.key}")
        # Compressed entries are read in pieces, so that the limit of memory and not the declared size decides.
        return bytearray(self._archive.read(info))

    def check_others(self) -> None:
        """Check the entries that no tensor was read from.

        Raises:
            BadZipFile: naming an entry whose checksum is wrong.
        """
        read = {f"{self._folder}data/{key}" for key in self._storages}
        for info in self._archive.infolist():
            if info.filename not in read:
                with self._archive.open(info) as stream:
                    while stream.read(_CHUNK):
                        pass


class TorchStream(TorchFile):
    """The stream of pickles and raw storages that torch.save wrote before 1.6; it has no checksums."""

    def __init__(self, path: Path, stream: io.BufferedReader):
        super().__init__()
        if load_inert(stream).content != _MAGIC:
            raise CheckpointError(
                f"{path}: a pickle that torch.save did not write; load it where it was made, and write it with "
                'torch.save({"model": model.state_dict()}, FILE)'
            )
        protocol, system = load_inert(stream).content, load_inert(stream).content
        if protocol != _PROTOCOL or not isinstance(system, Mapping) or system.get("little_endian") is not True:
            raise pickle.UnpicklingError("a version of torch's file format that is not known")
        self.content, self.ignored, storages = load_inert(stream)
        self._stream, self._keys = stream, [str(key) for key in load_inert(stream).content]
        self._begin = stream.tell()
        self._sizes = {key: DTYPES[storage.dtype][1] for key, storage in storages.items()}

    def _read(self, storage: Storage) -> bytearray:
        self._stream.seek(self._begin)
        for key in self._keys:
            (count,) = struct.unpack("<q", self._stream.read(8))
            size = count * self._sizes.get(key, 0)
            if key not in self._sizes or count < 0:
                raise pickle.UnpicklingError("it holds values of no tensor")
            if key == storage.key:
                data = bytearray(self._stream.read(size))
                if len(data) < size:
                    raise EOFError("it is cut off")
                return data
            self._stream.seek(size, io.SEEK_CUR)
        raise pickle.UnpicklingError("it lacks the values of a tensor")


def folder_of(path: Path, names: list[str]) -> str:
    """The folder of a zip that holds torch's data.pkl, with a slash.

    Raises:
        CheckpointError: the zip is something else, which the message names.
    """
    folders = sorted({name[: -len("data.pkl")] for name in names if name == "data.pkl" or name.endswith("/data.pkl")})
    if any("/code/" in f"/{name}" or name.endswith("constants.pkl") for name in names):
        raise CheckpointError(
            f"{path}: a TorchScript archive, which is a program; save weights where it was made: "
            'torch.save({"model": torch.jit.load(FILE).state_dict()}, NEW)'
        )
    if any(name.endswith(("archive_format", "model.json", "serialized_exported_program.json")) for name in names):
        raise CheckpointError(
            f"{path}: a program of torch.export; save weights where it was made: "
            'torch.save({"model": torch.export.load(FILE).state_dict}, NEW)'
        )
    if len(folders) != 1 or folders[0].count("/") > 1:
        some = ", ".join(name[:60] for name in sorted(names)[:3]) or "nothing"
        raise CheckpointError(
            f"{path}: a zip file without weights of torch.save (it holds {some}); unpack it and give the checkpoint in "
            "it, if it holds one"
        )
    return folders[0]


class _Opening(io.FileIO):
    """A zip file whose directory is read, which zipfile does at once and before anything is known about it."""

    is_open = False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.is_open and size is not None and size > _MOST_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has {size} bytes")
        return super().read(size) or b""


@contextmanager
def zip_of(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip, whose entries outside of it are damage and no error of the disk.

    torch.save can leave checksums out (set_crc32_options): then all are 0, and none is checked.
    """
    try:
        with _Opening(path) as stream, zipfile.ZipFile(stream) as archive:
            stream.is_open = True
            if not any(info.CRC for info in archive.infolist()):
                for info in archive.infolist():
                    # zipfile checks an entry that has this attribute.
                    del info.CRC
            yield archive
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):
            raise
        raise zipfile.BadZipFile("its directory points outside of it") from None


@contextmanager
def opened(path: Path) -> Iterator[TorchFile]:
    """The content of a zip or stream of torch.save.

    Raises:
        CheckpointError: it is something else.
        Exception: one of DAMAGED.
    """
    with path.open("rb") as stream:
        if stream.read(4) == b"PK\x03\x04":
            with zip_of(path) as archive:
                yield TorchZip(path, archive)
        else:
            stream.seek(0)
            yield TorchStream(path, stream)


def refuse_huge(tensors: Mapping[str, StoredTensor], file_bytes: int) -> None:
    """Refuse tensors that together declare far more bytes than the file has.

    Raises:
        UnpicklingError: with both numbers.
    """
    declared = sum(tensor.num_bytes for tensor in tensors.values())
    if declared > _MOST_SHARING * file_bytes + _ROOM:
        raise pickle.UnpicklingError(f"its tensors declare {declared} bytes, the file has {file_bytes}")
