"""Remedies of files that were given as weights and hold them, or lie beside them."""

import bz2
import gzip
import json
import lzma
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from sam2ft.core.errors import CheckpointError
from sam2ft.model import weights
from sam2ft.model.files.archives import opened
from sam2ft.model.files.foreign import refuse_other_download
from sam2ft.model.files.read import read_weight_file
from sam2ft.tools.download_weights import download
from tests.remedies.conftest import refusal
from tests.remedies.downloads import _anything, _served
from tests.remedies.registry import remedy
from tests.tools.test_download_weights import Server

NAME = "image_encoder.trunk.pos_embed"


def _checkpoint(path: Path) -> Path:
    save_file({NAME: torch.arange(24.0)}, path)
    return path


def _reads(path: Path) -> bool:
    return bool(torch.equal(read_weight_file(path).tensors[NAME], torch.arange(24.0)))


@dataclass(frozen=True)
class Packed:
    """A way to pack files, and how it is undone."""

    pack: Callable[[Path, Path], object]
    """(checkpoint, packed file)"""
    unpack: Callable[[Path, Path], object]
    """(packed file, folder)"""


def _stream(codec: str) -> Packed:
    def pack(source: Path, target: Path) -> None:
        with pa.CompressedOutputStream(str(target), codec) as stream:
            stream.write(source.read_bytes())

    def unpack(source: Path, folder: Path) -> None:
        with pa.CompressedInputStream(str(source), codec) as stream:
            (folder / "a.safetensors").write_bytes(stream.read())

    return Packed(pack, unpack)


def _whole(compress: Callable[[bytes], bytes], expand: Callable[[bytes], bytes]) -> Packed:
    return Packed(
        lambda source, target: target.write_bytes(compress(source.read_bytes())),
        lambda source, folder: (folder / "a.safetensors").write_bytes(expand(source.read_bytes())),
    )


def _tar(source: Path, target: Path) -> None:
    with tarfile.open(target, "w") as archive:
        archive.add(source, "a.safetensors")


def _untar(source: Path, folder: Path) -> None:
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")


# The head of a 7z archive (7zFormat.txt): signature, version, checksum, and where its table of contents is. The files
# follow, as they are when they were stored without compression; no program that packs 7z is needed to read these.
_HEAD = struct.Struct("<6s2sIQQI")


def _seven(source: Path, target: Path) -> None:
    content = source.read_bytes()
    target.write_bytes(_HEAD.pack(b"7z\xbc\xaf\x27\x1c", b"\0\4", 0, len(content), 0, 0) + content)


def _seven_back(source: Path, folder: Path) -> None:
    content = source.read_bytes()
    length = _HEAD.unpack_from(content)[3]
    (folder / "a.safetensors").write_bytes(content[_HEAD.size :][:length])


IT = "give the checkpoint in it"


@remedy(IT, of="compressed by gzip", case=_whole(gzip.compress, gzip.decompress))
@remedy(IT, of="compressed by bzip2", case=_whole(bz2.compress, bz2.decompress))
@remedy(IT, of="compressed by xz", case=_whole(lzma.compress, lzma.decompress))
@remedy(IT, of="compressed by zstd", case=_stream("zstd"))
@remedy(IT, of="a 7z archive", case=Packed(_seven, _seven_back))
@remedy(IT, of="a tar archive", case=Packed(_tar, _untar))
def a_checkpoint_that_was_packed(tmp_path: Path, case: Packed) -> str:
    for name in ("weights.pt", "weights.safetensors", "weights"):
        folder = tmp_path / f"of-{name}"
        folder.mkdir()
        case.pack(_checkpoint(tmp_path / "own"), tmp_path / name)
        shown = refusal(lambda name=name: read_weight_file(tmp_path / name))
        case.unpack(tmp_path / name, folder)
        (inside,) = folder.iterdir()
        assert _reads(inside)
        assert _reads(inside.rename(tmp_path / name))
    return shown


@remedy("give the checkpoint in it, if it holds one")
def a_zip_of_other_files(tmp_path: Path) -> str:
    shown = ""
    for names in (("a.safetensors",), ("model/weights/a.safetensors", "README.md"), ("x/data.pkl/a.safetensors",)):
        path, folder = tmp_path / "weights.pt", tmp_path / names[0].replace("/", "-")
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.write(_checkpoint(tmp_path / "own"), name)

        def read(path: Path = path) -> None:
            with opened(path):
                pass

        shown = refusal(read)
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        assert _reads(next(folder.rglob("a.safetensors")))
    return shown


@remedy("give the checkpoint file in it")
def a_folder_as_weights(tmp_path: Path) -> str:
    for name in ("model.safetensors", "a.ckpt", "b.bin"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / "README.md").write_text("")
        _checkpoint(folder / name)
        shown = refusal(lambda folder=folder: read_weight_file(folder))
        assert _reads(folder / shown.rpartition("found ")[2].rstrip(")"))
    return shown


@remedy("give the weights themselves")
def a_text_beside_the_weights(tmp_path: Path) -> str:
    _checkpoint(tmp_path / "model.safetensors")
    for name, content in (
        ("config.json", {"architectures": ["Sam2Model"], "model_type": "sam2"}),
        ("model.safetensors.index.json", {"metadata": {}, "weight_map": {NAME: "model.safetensors"}}),
        ("list.json", ["model.safetensors"]),
    ):
        (tmp_path / name).write_text(json.dumps(content, indent=1))
        shown = refusal(lambda name=name: read_weight_file(tmp_path / name))
    assert _reads(tmp_path / "model.safetensors")
    return shown


@remedy("remove both files", of="recorded {}... at the first download")
def a_checkpoint_that_is_not_what_was_downloaded(tmp_path: Path) -> str:
    def act(server: Server) -> str:
        path = tmp_path / "model.pt"
        download(server.url, path, _anything)
        for content in (server.content[:-1], bytes(len(server.content)), b"another"):
            path.write_bytes(content)
            shown = refusal(lambda: refuse_other_download(path))
            path.unlink()
            path.with_name("model.pt.json").unlink()
            download(server.url, path, _anything)
            refuse_other_download(path)
        return shown

    return _served(act)


@remedy("install sam2ft again", of="the package came with")
def weights_of_the_package_that_are_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    whole = weights.nano_weights_path()

    def install() -> None:
        for path in (whole, whole.with_suffix(".json")):
            shutil.copy(path, tmp_path / path.name)

    install()
    copy = tmp_path / whole.name
    monkeypatch.setattr(weights, "nano_weights_path", lambda: copy)
    for damage in (lambda data: data[:-1], lambda data: b"", lambda data: data[:-1] + bytes([data[-1] ^ 1])):
        copy.write_bytes(damage(copy.read_bytes()))
        with pytest.raises(CheckpointError) as caught:
            weights.verified_nano_weights()
        install()
        assert weights.verified_nano_weights() == copy
    return str(caught.value)
