"""Remedies of files that are given as weights: pointers, pages, cut copies, models of other programs."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam2ft.config.load_experiment import load_experiment
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.model.files import foreign
from sam2ft.model.files.read import read_weight_file
from sam2ft.model.weights import OFFICIAL
from sam2ft.tools.download_weights import download, main
from tests.remedies.conftest import refusal
from tests.remedies.downloads import _anything, _served
from tests.remedies.registry import remedy
from tests.tools.test_download_weights import Server

WEIGHTS = {"no_mem_embed": torch.ones(1, 1, 4), "image_encoder.trunk.pos_embed": torch.zeros(2, 3)}


def _saved(path: Path) -> Path:
    """What torch.save writes, as the official checkpoints are written."""
    torch.save({"model": WEIGHTS}, path)
    return path


def _made_weights(monkeypatch: pytest.MonkeyPatch, out: Path) -> Path:
    """What `make weights` puts into `out`; no network: the file was put into the folder that SAM2FT_WEIGHTS names."""
    official = OFFICIAL["sam2.1_hiera_tiny"].file_name
    staged = out.parent / "staged"
    staged.mkdir()
    _saved(staged / official)
    monkeypatch.setattr("sam2ft.tools.download_weights._is_of", lambda _: _anything)
    monkeypatch.setenv("SAM2FT_WEIGHTS", str(staged))
    assert main(["--out", str(out)]) == 0
    return out / official


def _onnx(path: Path) -> None:
    path.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.5.0")


def _of_transformers(path: Path) -> None:
    save_file({"vision_encoder.backbone.blocks.0.attn.qkv.weight": torch.zeros(1)}, path)


@remedy("`make weights` downloads the official ones", of="^`make weights` downloads")
@remedy("give the PyTorch checkpoint it was made from, or {}")
@remedy("give the .pt file of the same model: {}")
def files_that_are_no_sam2_of_pytorch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    made = _made_weights(monkeypatch, tmp_path / "weights")
    shown = refusal(lambda: read_weight_file(tmp_path / "none.pt"))
    for write in (_onnx, _of_transformers):
        path = tmp_path / "other.pt"
        write(path)
        shown += "\n" + refusal(lambda path=path: read_weight_file(path))
    for path in (made, _saved(tmp_path / "pytorch.pt")):
        assert read_weight_file(path).tensors.keys() == WEIGHTS.keys()
    return shown


@remedy("`make weights MODEL={}`", of="needs its weights (`make weights MODEL={}`)")
@remedy("`make weights` fetches the official ones")
def an_experiment_without_weights(toy: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    config = OFFICIAL["sam2.1_hiera_tiny"].config
    given = f"weights/{OFFICIAL['sam2.1_hiera_tiny'].file_name}"
    shown = ""
    for line in ("", f"  sam2_checkpoint: {given}\n"):
        toy.write(
            "  sam2_model_cfg: sam2_nano\n  sam2_checkpoint: weights/nano.safetensors\n",
            f"  sam2_model_cfg: {config}\n{line}",
        )
        shown += "\n" + refusal(lambda: resolve(load_experiment(toy.experiment)))
    _made_weights(monkeypatch, Path("weights"))
    assert len(resolve(load_experiment(toy.experiment)).runs) > 0
    return shown


@remedy("fetch it in its repository with `git lfs pull`")
def a_pointer_of_git_lfs(tmp_path: Path) -> str:
    """`git lfs pull` puts the file in the place of its pointer; it is a program of its own, whose work is done here."""
    content = _saved(tmp_path / "then.pt").read_bytes()
    for text in ("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n",
                 "version https://git-lfs.github.com/spec/v1"):  # fmt: skip
        path = tmp_path / "weights.pt"
        path.write_text(text)
        shown = refusal(lambda path=path: read_weight_file(path))
        path.write_bytes(content)
        read_weight_file(path)
    return shown


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


@remedy("copy it again", of="not a checkpoint that can be read safely ({} bytes)", case=("pt", lambda content: b"PK"))
@remedy("download it again", of="and use only checkpoints whose origin you trust", case=("pt", _half))
@remedy("download it again", of="^{}: not a checkpoint that can be read safely ({}); copy or download it again$",
        case=("safetensors", _half))  # fmt: skip
def a_checkpoint_that_was_not_copied_to_its_end(tmp_path: Path, case: tuple[str, Callable[[bytes], bytes]]) -> str:
    kind, damage = case

    def act(server: Server) -> str:
        original = tmp_path / f"original.{kind}"
        tensors = {**WEIGHTS, "much": torch.ones(3000)}
        torch.save({"model": tensors}, original) if kind == "pt" else save_file(tensors, original)
        path = tmp_path / f"weights.{kind}"
        path.write_bytes(damage(original.read_bytes()))
        shown = refusal(lambda: read_weight_file(path))
        path.write_bytes(original.read_bytes())
        assert read_weight_file(path).tensors.keys() == tensors.keys()
        path.write_bytes(damage(original.read_bytes()))
        path.unlink()
        server.content = original.read_bytes()
        download(server.url, path)
        assert read_weight_file(path).tensors.keys() == tensors.keys()
        return shown

    return _served(act)


@remedy("remove both files", of="{}... at the first download; remove both files")
@remedy("download again", of="recorded {}... at the first download")
def a_file_that_is_not_the_one_that_was_downloaded(tmp_path: Path) -> str:
    def act(server: Server) -> str:
        path = tmp_path / "model.pt"
        record = path.with_name("model.pt.json")
        server.content = _saved(tmp_path / "original.pt").read_bytes()
        download(server.url, path)
        torch.save({"model": {"other": torch.zeros(3)}}, path)
        shown = refusal(lambda: read_weight_file(path))
        path.unlink()
        record.unlink()
        download(server.url, path)
        assert read_weight_file(path).tensors.keys() == WEIGHTS.keys()
        return shown

    return _served(act)


@remedy("download it again", of="the process that read it was ended by {}")
def a_reading_that_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kernel ends a process of a file that needs too much; here a signal does, and a good copy is read."""
    path = _saved(tmp_path / "weights.pt")
    run = foreign.subprocess.run

    def ended(command: list[str], **options: Any) -> Any:
        return run([command[0], "-c", f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"], **options)

    with monkeypatch.context() as patch:
        patch.setattr(foreign.subprocess, "run", ended)
        shown = refusal(lambda: read_weight_file(path))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert read_weight_file(path).tensors.keys() == WEIGHTS.keys()
    return shown
