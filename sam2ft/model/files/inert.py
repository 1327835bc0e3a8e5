"""Reading of a pickle whose code cannot run: every class and function that it names becomes a stand-in without effect.

A checkpoint is a pickle of nested containers, whose tensors are descriptions of where their bytes lie. All that such a
pickle can make Python do is look up names (`find_class`) and call, extend and set the state of what was looked up. Here
the few names that describe tensors and mappings lead to functions of this module, which compute nothing but such
descriptions, and every other name leads to `Inert`, which accepts everything and keeps nothing. Nothing is imported,
and no class of another package is ever made: this is "Restricting Globals" of the Python documentation (library/pickle)
without exceptions.

Why not `torch.load(weights_only=True)`: it refuses a whole file for one argparse.Namespace beside the weights, does not
read protocols 3 to 5, takes any tensor size that a file declares, and was open to remote code until torch 2.6
(CVE-2025-32434, GHSA-53q9-r3pm-6pq6). Its list of allowed globals (`add_safe_globals`) would have to name real classes,
whose `__setstate__` then runs.

The interpreter's unpickler in Python is used and not the one in C: its memory is bounded by the size of the pickle. So
is its time, because nothing is done twice that a pickle can refer to many times: keys that are not plain values are
neither hashed nor shown, and mappings are copied a limited number of times.
"""

import io
import pickle
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple, NoReturn

DTYPES = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2),
    "int64": ("I64", 8), "int32": ("I32", 4), "int16": ("I16", 2), "int8": ("I8", 1), "uint8": ("U8", 1),
    "uint16": ("U16", 2), "uint32": ("U32", 4), "uint64": ("U64", 8), "bool": ("BOOL", 1),
    "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1),
}  # fmt: skip
"""torch's name of a dtype -> its name in safetensors, and the bytes of a value."""
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
}  # fmt: skip
_MOST_DIMENSIONS = 32
_MOST_COPIED = 2**22
_LONGEST_NAME = 1000
_PLAIN = (str, int, float, bytes, bool, type(None))

# Modules of Python itself whose values lie beside weights in checkpoints that are what they seem to be.
_HARMLESS = frozenset((
    "_codecs", "argparse", "array", "collections", "copy_reg", "copyreg", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "logging", "pathlib", "pathlib._local", "random", "re", "typing", "uuid", "zoneinfo",
))  # fmt: skip
_HARMLESS_NAMES = frozenset((
    "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "getattr", "int", "list", "object", "range",
    "set", "slice", "str", "tuple", "type", "SimpleNamespace", "MappingProxyType",
))  # fmt: skip
_BUILTINS = frozenset(("builtins", "__builtin__", "types"))


class Inert:
    """Stand-in for a value that is neither a tensor nor a mapping: takes everything, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __repr__(self) -> str:
        return "(no text)"

    def __setstate__(self, _state: Any) -> None: ...

    def __setitem__(self, _key: Any, _value: Any) -> None: ...

    def append(self, _value: Any) -> None:
        """Keep nothing."""

    def extend(self, _values: Any) -> None:
        """Keep nothing."""

    def add(self, _value: Any) -> None:
        """Keep nothing."""


class PlainMapping(dict[Any, Any]):
    """A mapping of any kind (OrderedDict, defaultdict): its entries, without other state."""

    __slots__ = ()

    def __setstate__(self, _state: Any) -> None: ...


@dataclass(frozen=True)
class Named:
    """A name that describes tensors: a dtype, a kind of storage, the class Tensor."""

    name: str

    def __setstate__(self, _state: Any) -> None: ...

    def __call__(self, *_: Any) -> Inert:
        return Inert()


@dataclass(frozen=True)
class Storage:
    """Bytes in the file that tensors are cut from."""

    key: str
    dtype: str
    num_bytes: int
    """As declared; compared with the file when it is read."""
    start: int = 0
    """First byte of a view of the storage `key`."""

    def __setstate__(self, _state: Any) -> None: ...


@dataclass(frozen=True)
class StoredTensor:
    """Where the values of a tensor lie: storage, first value, shape and strides in values."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __setstate__(self, _state: Any) -> None: ...

    @property
    def item_bytes(self) -> int:
        return DTYPES[self.dtype][1]

    @property
    def num_bytes(self) -> int:
        return prod(self.shape) * self.item_bytes


class _Function:
    """A function of this module in the place of one of torch; the pickle can call it but not change it."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]):
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise pickle.UnpicklingError("it changes a function")

    def __setstate__(self, _state: Any) -> None: ...

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any, dtype: str | None = None) -> Any:
    """A tensor of torch._utils._rebuild_tensor and _v2: what it needs must lie inside its storage.

    torch itself would enlarge the storage to what the file declares, with values that nobody wrote.
    """
    if not isinstance(storage, Storage):
        return Inert()
    if len(shape) != len(strides) or len(shape) > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError("the shape of a tensor is not one")
    numbers = (offset, *shape, *strides)
    if not all(type(n) is int and n <= sys.maxsize for n in numbers):
        raise pickle.UnpicklingError("the shape of a tensor is not one")
    found = StoredTensor(storage, dtype or storage.dtype, offset, tuple(shape), tuple(strides))
    last = offset + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
    end = (last + 1) * found.item_bytes if prod(shape) else 0
    if min(numbers) < 0 or end > storage.num_bytes:
        raise pickle.UnpicklingError(
            f"a tensor of shape {tuple(shape)} does not fit into its {storage.num_bytes} bytes"
        )
    return found


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
) -> Any:
    if not isinstance(dtype, Named) or dtype.name not in DTYPES:
        return Inert()
    return _tensor(storage, offset, shape, strides, dtype=dtype.name)


def _from_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor with attributes; a subclass of Tensor can hold anything."""
    plain = isinstance(kind, Named) and kind.name in ("Tensor", "Parameter") and isinstance(function, _Function)
    return function(*arguments) if plain else Inert()


def _size(sizes: Any = (), *_: Any) -> Any:
    if len(sizes) > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError("the shape of a tensor is not one")
    return tuple(sizes)


def _kept(tensor: Any, *_: Any) -> Any:
    return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_tensor),
    ("torch._utils", "_rebuild_tensor_v3"): _Function(_tensor_v3),
    ("torch._utils", "_rebuild_parameter"): _Function(_kept),
    ("torch._utils", "_rebuild_parameter_with_state"): _Function(_kept),
    ("torch._tensor", "_rebuild_from_type_v2"): _Function(_from_type),
    ("torch", "Size"): _Function(_size),
    ("torch", "Tensor"): Named("Tensor"),
    ("torch._tensor", "Tensor"): Named("Tensor"),
    ("torch.nn.parameter", "Parameter"): Named("Parameter"),
    ("collections", "OrderedDict"): PlainMapping,
    ("collections", "defaultdict"): _Function(lambda *_: PlainMapping()),
    ("builtins", "dict"): PlainMapping,
    ("__builtin__", "dict"): PlainMapping,
    **{("torch", name): Named(name) for name in (*_STORAGES, *DTYPES)},
    ("torch.storage", "UntypedStorage"): Named("UntypedStorage"),
}


class _Unpickler(pickle._Unpickler):
    def __init__(self, stream: io.BufferedIOBase | io.BytesIO):
        super().__init__(stream, encoding="utf-8", errors="replace")
        self.ignored: set[str] = set()
        self.storages: dict[str, Storage] = {}
        self._num_copied = 0

    def copies(self, arguments: Any) -> None:
        """Count the items of what a call may copy: one long list can be given to many calls."""
        self._num_copied += sum(len(one) for one in arguments if isinstance(one, list | dict | tuple))
        if self._num_copied > _MOST_COPIED:
            raise pickle.UnpicklingError("it copies its content more often than weights need")

    def _instantiate(self, kind: Any, arguments: Any) -> None:
        self.copies(arguments)
        super()._instantiate(kind, arguments)  # type: ignore[misc]

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a name; UnpicklingError for one of Python itself that no checkpoint needs."""
        if len(module) + len(name) > _LONGEST_NAME:
            raise pickle.UnpicklingError("it names something that is longer than any name")
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if not _may_lie_beside_weights(module, name):
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which other programs would run; weights need no such thing"
            )
        self.ignored.add(f"{module}.{name}")
        return Inert

    def persistent_load(self, pid: Any) -> Any:
        """A storage, as torch.save writes it: ("storage", kind, key, location, number of values[, view]).

        Before 1.6 a class of a module was written as ("module", class, file, source).
        """
        if isinstance(pid, tuple) and pid[:1] == ("module",):
            return Inert
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
            raise pickle.UnpicklingError("it holds a reference that torch.save does not write")
        kind, key, _, count = pid[1:5]
        if not isinstance(kind, Named) or kind.name not in _STORAGES or type(count) is not int or count < 0:
            return Inert()
        if not isinstance(key, str | int) or count > sys.maxsize:
            raise pickle.UnpicklingError("it holds a reference that torch.save does not write")
        dtype = _STORAGES[kind.name]
        item = DTYPES[dtype][1]
        whole = self.storages.setdefault(str(key), Storage(str(key), dtype, count * item))
        if len(pid) == 5 or pid[5] is None:
            return whole
        _, offset, size = pid[5]
        if not all(type(number) is int for number in (offset, size)) or not 0 <= offset <= offset + size <= count:
            raise pickle.UnpicklingError("a view of a storage lies outside of it")
        return replace(whole, num_bytes=size * item, start=offset * item)


def _bounded_bytearray(unpickler: Any) -> None:
    """BYTEARRAY8 without the allocation of its declared size, which needs no bytes in the file."""
    (size,) = struct.unpack("<Q", unpickler.read(8))
    if size > sys.maxsize or len(unpickler.read(size)) < size:
        raise pickle.UnpicklingError("it is cut off")
    unpickler.append(Inert())


def _counted_call(unpickler: Any) -> None:
    """REDUCE."""
    unpickler.copies(unpickler.stack[-1])
    pickle._Unpickler.load_reduce(unpickler)  # type: ignore[attr-defined]


def _key(key: Any) -> Any:
    """A key that is a plain value: to hash tuples in tuples takes a time exponential in their depth."""
    return key if isinstance(key, _PLAIN) and not (isinstance(key, int) and abs(key) > sys.maxsize) else Inert()


def _set_item(unpickler: Any) -> None:
    """SETITEM."""
    unpickler.stack[-2] = _key(unpickler.stack[-2])
    pickle._Unpickler.load_setitem(unpickler)  # type: ignore[attr-defined]


def _set_items(unpickler: Any) -> None:
    """SETITEMS, as SETITEM."""
    items = unpickler.stack
    items[::2] = [_key(key) for key in items[::2]]
    pickle._Unpickler.load_setitems(unpickler)  # type: ignore[attr-defined]


def _dict(unpickler: Any) -> None:
    """DICT, as SETITEM."""
    items = unpickler.pop_mark()
    unpickler.append(dict(zip(map(_key, items[::2]), items[1::2], strict=True)))


def _empty_set(unpickler: Any) -> None:
    """EMPTY_SET: a set holds no weights, and would hash its members."""
    unpickler.append(Inert())


def _frozen_set(unpickler: Any) -> None:
    """FROZENSET, as EMPTY_SET."""
    unpickler.pop_mark()
    unpickler.append(Inert())


def _add_items(unpickler: Any) -> None:
    """ADDITEMS: to a set, which keeps nothing."""
    unpickler.pop_mark()


_Unpickler.dispatch = {
    **pickle._Unpickler.dispatch,
    pickle.BYTEARRAY8[0]: _bounded_bytearray, pickle.REDUCE[0]: _counted_call, pickle.SETITEM[0]: _set_item,
    pickle.SETITEMS[0]: _set_items, pickle.DICT[0]: _dict, pickle.EMPTY_SET[0]: _empty_set,
    pickle.FROZENSET[0]: _frozen_set, pickle.ADDITEMS[0]: _add_items,
}  # fmt: skip


class Loaded(NamedTuple):
    """What a pickle holds."""

    content: Any
    """Nested containers with StoredTensor, plain values and Inert as leaves."""
    ignored: list[str]
    """Names of the classes and functions that became stand-ins."""
    storages: dict[str, Storage]
    """All storages by key, also those whose tensors were left out."""


def load_inert(stream: io.BufferedIOBase | io.BytesIO) -> Loaded:
    """The next pickle of a stream.

    Raises:
        UnpicklingError: a name or a tensor is refused. Bytes that are no pickle raise this or nearly any other error.
    """
    unpickler = _Unpickler(stream)
    content = unpickler.load()
    return Loaded(content, sorted(unpickler.ignored), unpickler.storages)


def _may_lie_beside_weights(module: str, name: str) -> bool:
    if module in _BUILTINS:
        return name in _HARMLESS_NAMES
    if "." in name and module.partition(".")[0] in sys.stdlib_module_names:
        return False
    return module in _HARMLESS or module.partition(".")[0] not in (*sys.stdlib_module_names, "__builtin__", "commands")
