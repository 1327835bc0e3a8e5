"""Nothing that a pickle names is run or imported, and tensors come out as torch would read them."""

import argparse
import builtins
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.model.files.archives import DAMAGED
from sam2ft.model.files.inert import Inert, Storage, StoredTensor, load_inert


class Calls:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class SetsState:
    """A class whose state would be set by its own code."""

    def __setstate__(self, state):
        Path(state["mark"]).touch()


def gadgets(mark: str):
    """Payloads as attackers write them, each of which would make the file `mark`."""
    shell, code = f"touch {mark}", f"open({mark!r}, 'w')"
    quoted = shell.encode()
    yield "os.system", pickle.dumps(Calls(os.system, shell))
    yield "eval", pickle.dumps(Calls(builtins.eval, code))
    yield "exec", pickle.dumps(Calls(builtins.exec, code))
    yield "subprocess", pickle.dumps(Calls(subprocess.check_call, ["touch", mark]))
    yield "open", pickle.dumps(Calls(builtins.open, mark, "w"))
    yield "GLOBAL, protocol 0", b"cposix\nsystem\n(S'" + quoted + b"'\ntR."
    yield "GLOBAL of Python 2", b'c__builtin__\neval\n(S"' + code.replace('"', "'").encode() + b'"\ntR.'
    yield "INST", b"(S'" + quoted + b"'\niposix\nsystem\n."
    yield "OBJ", b"(cposix\nsystem\nS'" + quoted + b"'\no."
    yield (
        "NEWOBJ",
        b"\x80\x02csubprocess\nPopen\n(]X\x05\x00\x00\x00touchaX"
        + struct.pack("<I", len(mark))
        + mark.encode()
        + b"at\x81.",
    )
    yield "STACK_GLOBAL", b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(shell)]) + quoted + b"\x85R."
    yield (
        "BUILD",
        b"\x80\x02ctests_of_inert\nSetsState\n)\x81}X\x04\x00\x00\x00markX"
        + struct.pack("<I", len(mark))
        + mark.encode()
        + b"sb.",
    )
    yield "attribute of a class", b"\x80\x04\x8c\x09functools\x8c\x15partial.__class__.mro\x93)R."
    yield "numpy", b"cnumpy\nsave\n(S'" + mark.encode() + b"'\nI1\ntR."
    yield "torch", b"ctorch.hub\nload\n(S'" + mark.encode() + b"'\nS'x'\ntR."
    yield (
        "getattr",
        (b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'" + quoted + b"'\ntR."),
    )
    yield "EXT", b"\x80\x02\x82\x01."
    yield (
        "a stand-in changed by its state",
        (b"\x80\x02carbitrary\nThing\n}X\x07\x00\x00\x00__new__cposix\nsystem\nsb(S'" + quoted + b"'\nR."),
    )


@pytest.mark.parametrize("number", range(18))
def test_no_gadget_runs(tmp_path, number):
    mark = tmp_path / "ran"
    name, payload = list(gadgets(str(mark)))[number]
    try:
        content = load_inert(io.BytesIO(payload)).content
        assert isinstance(content, Inert), name
    except DAMAGED:
        pass
    assert not mark.exists(), name


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 7, 10])
def test_the_gadgets_are_gadgets(tmp_path, number):
    """In a process of its own, where the standard library's unpickler does what they say."""
    mark = tmp_path / "ran"
    _, payload = list(gadgets(str(mark)))[number]
    command = [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"]
    subprocess.run(command, input=payload, check=False, timeout=60, capture_output=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["os system", "builtins eval", "subprocess Popen", "shutil rmtree", "runpy run_path", "sys exit"]
)
def test_names_of_python_that_no_checkpoint_needs_are_refused_by_name(name):
    module, function = name.split()
    with pytest.raises(pickle.UnpicklingError, match=f"{module}.{function}"):
        load_inert(io.BytesIO(f"c{module}\n{function}\n.".encode()))


@pytest.mark.parametrize("protocol", range(6))
def test_harmless_values_beside_mappings_are_left_out_in_every_protocol(protocol):
    import collections
    import datetime
    import pathlib

    import numpy as np

    values = {
        "args": argparse.Namespace(lr=1e-4, out=pathlib.PurePosixPath("a")),
        "best": np.float64(0.9), "history": np.arange(3), "kind": np.dtype("f4"),
        "counts": collections.Counter("aab"), "when": datetime.datetime(2025, 1, 2), "parts": {1, 2},
        "lists": collections.defaultdict(list, a=[1]), "ordered": collections.OrderedDict(b=2), "epoch": 3,
    }  # fmt: skip
    content, ignored, _ = load_inert(io.BytesIO(pickle.dumps(values, protocol)))
    assert content.keys() == values.keys()
    assert content["epoch"] == 3
    assert content["lists"] == {"a": [1]}
    assert content["ordered"] == {"b": 2}
    assert isinstance(content["args"], Inert)
    assert isinstance(content["best"], Inert)
    assert "argparse.Namespace" in ignored


def test_classes_of_packages_that_are_not_there_become_stand_ins_of_any_shape():
    payloads = {
        "called": b"cnowhere.at.all\nThing\n(I1\nI2\ntR.",
        "with state": b"cnowhere\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sb.",
        "a list": b"\x80\x02cnowhere\nList\n)\x81(K\x01K\x02e.",
        "a mapping": b"\x80\x02cnowhere\nDict\n)\x81(K\x01K\x02u.",
        "a set": b"\x80\x04\x8c\x07nowhere\x8c\x03Set\x93)\x81(K\x01\x90.",
    }
    for name, payload in payloads.items():
        loaded = load_inert(io.BytesIO(payload))
        assert isinstance(loaded.content, Inert), name
        assert loaded.ignored[0].startswith("nowhere"), name
    assert "nowhere" not in sys.modules


def tensor_pickle(numel, offset, shape, strides):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", FLOAT, "0", "cpu", numel) if value is STORAGE else None

    import torch

    FLOAT = torch.FloatStorage
    STORAGE = object()
    stream = io.BytesIO()

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (STORAGE, offset, shape, strides, False, {})

    Pickler(stream, 2).dump(Tensor())
    return stream.getvalue()


def test_a_tensor_is_described_and_not_made():
    found = load_inert(io.BytesIO(tensor_pickle(10, 2, (2, 3), (3, 1)))).content
    assert found == StoredTensor(Storage("0", "float32", 40), "float32", 2, (2, 3), (3, 1))


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "strides"),
    [
        (10, 5, (2, 3), (3, 1)),
        (10, 0, (10**9,), (1,)),
        (10, -1, (2,), (1,)),
        (10, 9, (2,), (-1,)),
        (10, 0, (-2,), (1,)),
        (10, 0, (2, 3), (1,)),
        (10, 0, (1.5,), (1,)),
        (10, 0, (1,) * 40, (1,) * 40),
        (0, 0, (), ()),
    ],
)
def test_a_tensor_outside_of_its_storage_is_refused(numel, offset, shape, strides):
    with pytest.raises(DAMAGED):
        load_inert(io.BytesIO(tensor_pickle(numel, offset, shape, strides)))


def test_a_length_that_the_pickle_does_not_hold_takes_no_memory():
    for opcode in (b"\x96", b"\x8e", b"\x8d"):
        with pytest.raises(DAMAGED):
            load_inert(io.BytesIO(b"\x80\x05" + opcode + struct.pack("<Q", 2**40) + b"abc."))
    assert load_inert(io.BytesIO(b"\x80\x02K\x07r\xff\xff\xff\xff.")).content == 7, "the memo is a mapping"
