"""best.pt is verified, and checkpoints of other programs are read as torch would read them, but checked."""

import argparse
import json
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2ft.core.errors import CheckpointError
from sam2ft.model.files import foreign
from sam2ft.model.files.archives import OWN
from sam2ft.model.files.read import DIGEST, holds_own_metadata, read_weight_file
from sam2ft.training.checkpoints.checkpoint import save_best

INFO = {"run": "x-1", "epoch": 3, "value": 0.25, "labels": {"1": "näme"}}


def weights():
    return {
        "no_mem_embed": torch.arange(6, dtype=torch.float32).reshape(1, 2, 3),
        "a.half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "a.brain": torch.tensor([[1.5], [-2.0]], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
        "double": torch.tensor([1e-300], dtype=torch.float64),
    }


def equal(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype for name in first
    )


def best(folder: Path) -> Path:
    save_best(folder / "best.pt", weights(), INFO)
    return folder / "best.pt"


# --- best.pt ---------------------------------------------------------------------------------------------------------


def test_best_comes_back_with_its_metadata_and_without_a_process(tmp_path, monkeypatch):
    monkeypatch.setattr(foreign.subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    found = read_weight_file(best(tmp_path))
    assert equal(found.tensors, weights())
    assert found.info == INFO
    assert found.note is None
    assert len(json.loads(torch.load(tmp_path / "best.pt", weights_only=True)[OWN])[DIGEST]) == 64


def test_a_flipped_bit_anywhere_in_best_is_refused_or_changes_nothing(tmp_path, monkeypatch):
    """Every byte of the file, one of its bits each. A file whose flip hides that it is ours is read like a foreign one:
    in this process, as a child for each would take an hour."""

    def here(source: Path, target: Path, _digest: str) -> None:
        foreign.convert.convert(source, target)

    monkeypatch.setattr(foreign, "_convert", here)
    path = tmp_path / "best.pt"
    save_best(path, {"no_mem_embed": torch.arange(3.0), "b": torch.tensor([1], dtype=torch.int64)}, {"epoch": 3})
    whole = path.read_bytes()
    expected = read_weight_file(path)
    messages, harmless = [], 0
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            found = read_weight_file(path)
        except CheckpointError as error:
            messages.append(str(error))
        else:
            harmless += 1
            assert equal(found.tensors, expected.tensors), position
            assert found.info == expected.info, position
    assert len(messages) > len(whole) / 4
    assert not [text for text in messages if "\n" in text or "weights_only" in text]
    assert harmless, "padding and times of entries mean nothing"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_best_that_is_cut_off_is_refused(tmp_path, share):
    path = best(tmp_path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"best\.pt: not a checkpoint that can be read safely"):
        read_weight_file(path)


def rewritten(path: Path, change) -> None:
    """`path` with other content and right checksums of the zip."""
    content = torch.load(path, weights_only=True)
    change(content)
    with path.open("wb") as stream:
        torch.save(content, stream)


CHANGES = {
    "a value": lambda content: content["model"]["no_mem_embed"].add_(1e-6),
    "a name": lambda content: content["model"].update(other=content["model"].pop("count")),
    "a dtype": lambda content: content["model"].update(count=content["model"]["count"].to(torch.int32)),
    "a shape": lambda content: content["model"].update(flags=content["model"]["flags"].reshape(2, 1)),
    "the epoch": lambda content: content.update(sam2ft=content[OWN].replace('"epoch": 3', '"epoch": 4')),
    "a label": lambda content: content.update(sam2ft=content[OWN].replace("näme", "name")),
    "the digest": lambda content: content.update(
        sam2ft=content[OWN].replace(json.loads(content[OWN])[DIGEST], "0" * 64)
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_best_with_other_content_than_its_digest_is_refused(tmp_path, name):
    path = best(tmp_path)
    rewritten(path, lambda _: None)
    read_weight_file(path)
    rewritten(path, CHANGES[name])
    with pytest.raises(CheckpointError, match=r"damaged .the sha256 of its content differs"):
        read_weight_file(path)


def test_a_best_of_an_earlier_version_is_read_and_called_unverified_once(tmp_path, caplog):
    path = tmp_path / "best.pt"
    torch.save({"model": weights(), OWN: json.dumps(INFO)}, path)
    for _ in range(2):
        found = read_weight_file(path)
        assert equal(found.tensors, weights())
        assert found.info == INFO
    assert [record.getMessage().count("unverified") for record in caplog.records] == [1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_values_that_are_not_finite_are_refused_by_name(tmp_path, value, dtype):
    bad = {"good": torch.ones(3), "bad": torch.tensor([1, value]).to(dtype), "worse": torch.tensor(value)}
    for path in (tmp_path / "best.pt", tmp_path / "x.safetensors"):
        if path.suffix == ".pt":
            torch.save({"model": bad, OWN: "{}"}, path)
        else:
            save_file(bad, path)
        with pytest.raises(CheckpointError, match=r": bad holds values that are not finite .*, as does 1 other tensor"):
            read_weight_file(path)
    with pytest.raises(FloatingPointError, match="not written: bad holds"):
        save_best(tmp_path / "new.pt", bad, {})
    assert not (tmp_path / "new.pt").exists()


def test_large_finite_values_are_not_taken_for_infinite_ones(tmp_path):
    large = {"half": torch.full((9,), 6e4, dtype=torch.float16), "single": torch.full((9,), 3e38)}
    save_best(tmp_path / "best.pt", large, {})
    assert equal(read_weight_file(tmp_path / "best.pt").tensors, large)


# --- other programs --------------------------------------------------------------------------------------------------


def shared():
    base = torch.arange(12.0)
    return {"a": base[2:8].reshape(2, 3), "b": base.reshape(3, 4).t(), "c": base[::3], "d": base[5], "e": base}


CONTENTS = {
    "stock": lambda: {"model": weights()},
    "bare and ordered": lambda: OrderedDict(weights()),
    "parameters": lambda: {"state_dict": {"p": torch.nn.Parameter(torch.ones(2, 2)), "q": torch.zeros(1)}},
    "views of one storage": lambda: {"model": shared()},
    "expanded": lambda: {"model": {"e": torch.tensor([2.0]).expand(5, 3)}},
    "eight bits": lambda: {
        "model": {"f": torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn), "u": torch.tensor([3], dtype=torch.uint16)}
    },
    "harmless objects": lambda: {
        "model": weights(), "args": argparse.Namespace(lr=1), "best": np.float64(0.9), "path": Path("x"),
        "history": np.arange(4), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}, "dtype": torch.float16,
    },
    "a module of its own": lambda: {"model": weights(), "schedule": torch.nn.Linear(2, 2)},
    "attributes": lambda: {"model": {"w": with_attribute(torch.ones(2))}},
}  # fmt: skip


def with_attribute(tensor):
    tensor.mark = "x"
    return tensor


def inner(content):
    while not all(isinstance(one, torch.Tensor) for one in content.values()):
        content = content.get("model", content.get("state_dict"))
    return content


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_checkpoints_of_other_programs_are_read_as_torch_reads_them(tmp_path, name, zipped):
    content = CONTENTS[name]()
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    found = read_weight_file(tmp_path / "x.ckpt", tmp_path / "kept").tensors
    assert equal(found, {key: one.detach() for key, one in inner(content).items()})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_of_pickle_that_torch_writes_is_read(tmp_path, protocol):
    torch.save({"model": weights(), "args": argparse.Namespace(a=1)}, tmp_path / "x.pt", pickle_protocol=protocol)
    assert equal(read_weight_file(tmp_path / "x.pt").tensors, weights())


def test_a_file_is_opened_once_and_its_copy_is_verified(tmp_path, monkeypatch, caplog):
    source, kept = tmp_path / "x.pt", tmp_path / "kept"
    torch.save({"net": weights()}, source)
    first = read_weight_file(source, kept)
    (copy,) = kept.iterdir()
    assert copy.stem == foreign.sha256_file(source)
    with monkeypatch.context() as patch:
        patch.setattr(foreign.subprocess, "run", lambda *_, **__: pytest.fail("it was opened again"))
        again = read_weight_file(source, kept)
    assert equal(first.tensors, again.tensors)
    assert first.note == again.note == "weights read from net"
    whole = copy.read_bytes()
    for damaged in (
        whole[:-1],
        whole[:-1] + bytes([whole[-1] ^ 1]),
        whole.replace(b"read from net", b"read from nit"),
        b"",
    ):
        copy.write_bytes(damaged)
        caplog.clear()
        assert equal(read_weight_file(source, kept).tensors, weights())
        assert "it is made again from" in caplog.text
        assert copy.read_bytes() == whole
    copy.unlink()
    assert equal(read_weight_file(source, kept).tensors, weights())


def test_a_folder_for_copies_that_cannot_be_written_is_done_without(tmp_path, caplog):
    torch.save({"model": weights()}, tmp_path / "x.pt")
    (tmp_path / "kept").write_text("a file in the way")
    assert equal(read_weight_file(tmp_path / "x.pt", tmp_path / "kept").tensors, weights())
    assert "cannot be kept" in caplog.text


def test_flipped_bits_of_a_foreign_zip_are_found_by_its_checksums(tmp_path):
    source = tmp_path / "x.pt"
    torch.save({"model": {"w": torch.arange(1000.0)}, "optimizer": {"m": torch.arange(500.0)}}, source)
    with zipfile.ZipFile(source) as archive:
        starts = {info.filename.split("/", 1)[1]: info.header_offset for info in archive.infolist()}
    whole = source.read_bytes()
    for name in ("data/0", "data/1", "data.pkl"):
        changed = bytearray(whole)
        changed[starts[name] + 200] ^= 16
        source.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"not a checkpoint that can be read safely .*; copy or download it"):
            read_weight_file(source)


def test_files_without_checksums_are_read_and_called_unverified(tmp_path, caplog):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"model": weights()}, tmp_path / "zip.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    torch.save({"model": weights()}, tmp_path / "stream.pt", _use_new_zipfile_serialization=False)
    torch.save({"model": weights()}, tmp_path / "checked.pt")
    for name, unverified in (("zip.pt", True), ("stream.pt", True), ("checked.pt", False)):
        caplog.clear()
        assert equal(read_weight_file(tmp_path / name).tensors, weights())
        assert ("unverified" in caplog.text) is unverified


def test_a_file_that_differs_from_the_record_of_its_download_is_refused(tmp_path):
    source, record = tmp_path / "x.pt", tmp_path / "x.pt.json"
    torch.save({"model": weights()}, source)
    record.write_text(json.dumps({"url": "u", "size": 1, "sha256": foreign.sha256_file(source)}))
    read_weight_file(source)
    record.write_text(json.dumps({"url": "u", "size": 1, "sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match=r"x\.pt\.json recorded 000000000000"):
        read_weight_file(source)


# --- files made to do harm -------------------------------------------------------------------------------------------


def with_pickle(path: Path, source: Path, data: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """A copy of a zip of torch.save with another pickle."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    return path


@pytest.fixture
def plain(tmp_path):
    torch.save({"model": weights()}, tmp_path / "plain.pt")
    return tmp_path / "plain.pt"


def test_a_planted_pickle_does_not_run_in_any_format(tmp_path, plain):
    mark = tmp_path / "ran"
    payload = f"cposix\nsystem\n(S'touch {mark}'\ntR.".encode()
    with_pickle(tmp_path / "zip.pt", plain, payload)
    # The word that lets a file pass for ours decides only in which process it is read.
    with_pickle(tmp_path / "ours.pt", plain, payload[:-1] + b"0S'sam2ft'\n.")
    (tmp_path / "raw.pt").write_bytes(b"\x80\x02" + payload)
    for name in ("zip.pt", "ours.pt", "raw.pt"):
        with pytest.raises(CheckpointError, match=r"names posix\.system"):
            read_weight_file(tmp_path / name)
    assert not mark.exists()


def test_a_compressed_bomb_reaches_the_limit_of_the_child_and_not_of_this_process(tmp_path, plain):
    with zipfile.ZipFile(plain) as archive:
        data = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new, zipfile.ZipFile(plain) as old:
        for name in old.namelist():
            if name.endswith("data/0"):
                with new.open(name, "w", force_zip64=True) as stream:
                    for _ in range(1100):
                        stream.write(bytes(2**20))
            else:
                new.writestr(name, data if name.endswith("data.pkl") else old.read(name))
    assert path.stat().st_size < 10 * 2**20
    with pytest.raises(
        CheckpointError, match=r"bomb\.pt: not a checkpoint that can be read safely .*more than \d+ bytes"
    ):
        read_weight_file(path)


def test_tensors_that_declare_far_more_than_the_file_holds_are_refused(tmp_path):
    torch.save({"model": {"w": torch.tensor([1.0]).expand(10**6, 10**4)}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="its tensors declare 40000000000 bytes, the file has"):
        read_weight_file(tmp_path / "x.pt")
    torch.save({"model": {"w": torch.tensor([1.0]).expand(10**6, 10**4)}, OWN: "{}"}, tmp_path / "y.pt")
    assert holds_own_metadata(tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match="its tensors declare 40000000000 bytes, the file has"):
        read_weight_file(tmp_path / "y.pt")


def test_names_from_a_file_reach_a_message_as_one_line_of_text(tmp_path):
    torch.save({"\x1b[31mred\nnext": 1, "é": 2}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as caught:
        read_weight_file(tmp_path / "x.pt")
    assert "red next" in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_reading_that_takes_too_long_is_ended(plain, monkeypatch):
    monkeypatch.setattr(foreign, "_SECONDS", 0)
    with pytest.raises(CheckpointError, match="was not read within 0 s"):
        read_weight_file(plain)


def text_of_pickle(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def hostile_pickles():
    """Small pickles whose content is huge when it is hashed, shown, multiplied, copied or followed."""
    doubled = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    floats = b"(" + text_of_pickle("storage") + b"ctorch\nFloatStorage\n%s" + text_of_pickle("cpu") + b"K\x04tQ"
    number = b"\x8b" + struct.pack("<i", 2**20) + b"\x7f" * 2**20
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(%sK\x00(" + number + b"r\xff\x00\x00\x00" + b"j\xff\x00\x00\x00" * 31
    yield "key of tuples in tuples", b"%sNu." % doubled
    yield "key of a dictionary", text_of_pickle("k") + b"(%sNdu." % doubled
    yield "one item", text_of_pickle("k") + b"}%sNsu." % doubled
    yield "members of a set", text_of_pickle("k") + b"\x8f(%s\x90u." % doubled
    yield "members of a frozen set", text_of_pickle("k") + b"(%s\x91u." % doubled
    yield "name of a storage", text_of_pickle("k") + floats % doubled + b"u."
    yield (
        "shape of huge numbers",
        text_of_pickle("model")
        + b"}("
        + text_of_pickle("w")
        + tensor % (floats % text_of_pickle("0"))
        + b"t("
        + b"K\x01" * 32
        + b"t\x89}tRuu.",
    )
    yield "content of itself", text_of_pickle("model") + b"h\x00u."
    many = b"(" + b"N" * 200_000 + b"lq\x01"
    sizes = b"ctorch\nSize\nq\x02" + b"h\x02h\x01\x85R" * 50_000
    yield "one list for many sizes", text_of_pickle("k") + many + b"h\x01" + text_of_pickle("l") + b"(%slu." % sizes
    name = text_of_pickle("n" * 2**20) + b"q\x03"
    names = name + b"".join(b"h\x03" + text_of_pickle(str(i)) + b"\x93" for i in range(20_000))
    yield "long names", text_of_pickle("k") + b"(%slu." % names


READ_ALL = """
import resource, sys
from pathlib import Path
from sam2ft.core.errors import CheckpointError
from sam2ft.model.files.read import read_weight_file

resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))
for path in sys.argv[1:]:
    try:
        read_weight_file(Path(path))
    except CheckpointError as error:
        print(error, flush=True)
"""
"""A process for all of them, as starting it takes longer than reading."""


@pytest.mark.parametrize("own", [True, False])
def test_pickles_that_multiply_their_content_take_neither_time_nor_memory(tmp_path, own):
    """In a file that calls itself ours, which is read in this process, too."""
    paths, begin = [], text_of_pickle("sam2ft") + text_of_pickle("{}") if own else b""
    for name, content in hostile_pickles():
        paths.append(tmp_path / f"{name}.pt")
        with zipfile.ZipFile(paths[-1], "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x04}q\x00(" + begin + content)
            archive.writestr("archive/data/0", b"\0" * 16)
    done = subprocess.run([sys.executable, "-c", READ_ALL, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-500:]
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [str(path) for path in paths]
    assert "ended by" not in done.stdout


def test_a_directory_of_millions_of_entries_is_not_read(tmp_path):
    path = tmp_path / "entries.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x04}.")
    raw, count = path.read_bytes(), 200_000
    local = raw[: raw.index(b"PK\x01\x02")]
    entry = b"PK\x01\x02" + b"\x14\x03\x14\0" + b"\0" * 20 + struct.pack("<H", 7) + b"\0" * 16
    directory = b"".join(entry + b"%07d" % i for i in range(count))
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0, 0, len(directory), len(local), 0)
    path.write_bytes(local + directory + end)
    with pytest.raises(CheckpointError, match=f"its directory has {len(directory)} bytes"):
        read_weight_file(path)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = tmp_path / "shared.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x04}.")
        archive.writestr("a/data/0", b"\0" * 10_000)
    raw = path.read_bytes()
    start = raw.index(b"PK\x01\x02", 100)
    last = raw.rindex(b"PK\x01\x02")
    copies = b"".join(raw[last : raw.rindex(b"PK\x05\x06")].replace(b"a/data/0", b"a/data/%d" % i) for i in range(9))
    directory = raw[start:last] + copies
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 10, 10, len(directory), start, 0)
    path.write_bytes(raw[:start] + directory + end)
    with pytest.raises(CheckpointError, match="overlap"):
        read_weight_file(path)


@pytest.mark.parametrize("size", [2**23 + 1, 2**27, 2**39])
def test_a_header_of_safetensors_that_declares_far_too_much_is_not_read(tmp_path, size):
    path = tmp_path / "header.safetensors"
    path.write_bytes(struct.pack("<Q", size) + b'{"a":' + b" " * 100)
    with pytest.raises(CheckpointError, match=f"its header declares {size} bytes"):
        read_weight_file(path)
