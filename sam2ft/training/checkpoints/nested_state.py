"""Serialisation of nested optimizer and scheduler state as named tensors and JSON, for a safetensors file.

torch's optimizer and scheduler states contain tuples, integer keys, infinities and MultiStepLR's Counter, which JSON
does not support; each is written as an object with one tag. A mapping that contains such a key is written as pairs.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

_TENSOR, _TUPLE, _PAIRS, _COUNTER, _FLOAT = "__tensor__", "__tuple__", "__pairs__", "__counter__", "__float__"


def pack(value: Any) -> tuple[dict[str, torch.Tensor], str]:
    """Split a nested value into tensors by dotted path and a JSON text of the rest.

    Raises:
        TypeError: with the path of a value of an unsupported type.
    """
    tensors: dict[str, torch.Tensor] = {}
    packed = _packed(value, "", tensors)
    return tensors, json.dumps(packed, allow_nan=False, ensure_ascii=False)


def unpack(tensors: Mapping[str, torch.Tensor], text: str) -> Any:
    """Restore the value that was given to `pack`."""
    return _unpacked(json.loads(text), tensors)


def _packed(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    match value:
        case torch.Tensor():
            tensors[path] = value
            packed: Any = {_TENSOR: path}
        case None | bool() | int() | str():
            packed = value
        case float():
            packed = value if math.isfinite(value) else {_FLOAT: repr(value)}
        case Counter():
            packed = {_COUNTER: [[key, count] for key, count in value.items()]}
        case Mapping():
            packed = _packed_mapping(value, path, tensors)
        case list() | tuple():
            items = [_packed(entry, _join(path, number), tensors) for number, entry in enumerate(value)]
            packed = {_TUPLE: items} if isinstance(value, tuple) else items
        case _:
            raise TypeError(f"{path or 'state'}: a {type(value).__name__} cannot be written to a checkpoint")
    return packed


def _packed_mapping(value: Mapping[Any, Any], path: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    entries = [(key, _packed(entry, _join(path, key), tensors)) for key, entry in value.items()]
    if all(isinstance(key, str) and not key.startswith("__") for key, _ in entries):
        return dict(entries)
    return {_PAIRS: [[_packed(key, f"{path} (key)", tensors), entry] for key, entry in entries]}


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _unpacked(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    match value:
        case list():
            found: Any = [_unpacked(entry, tensors) for entry in value]
        case {"__tensor__": name}:
            found = tensors[name]
        case {"__float__": text}:
            found = float(text)
        case {"__tuple__": items}:
            found = tuple(_unpacked(entry, tensors) for entry in items)
        case {"__counter__": pairs}:
            found = Counter(dict(pairs))
        case {"__pairs__": pairs}:
            found = {_unpacked(key, tensors): _unpacked(entry, tensors) for key, entry in pairs}
        case dict():
            found = {key: _unpacked(entry, tensors) for key, entry in value.items()}
        case _:
            found = value
    return found
