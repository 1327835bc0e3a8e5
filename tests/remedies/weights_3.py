"""Remedies of files with weights that are of another kind, damaged, or of a training that diverged."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sam2ft.core.files import sha256_file
from sam2ft.model.files import foreign
from sam2ft.model.files.read import read_weight_file
from tests.remedies.conftest import refusal
from tests.remedies.registry import remedy


def _read(path: Path, weights: dict[str, torch.Tensor]) -> None:
    found = read_weight_file(path).tensors
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


@remedy("write it with torch.save")
def a_pickle_of_a_state_dict(tmp_path: Path) -> str:
    model, shown = torch.nn.Linear(2, 2), ""
    for protocol in (2, 4):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(dict(model.state_dict()), protocol))
        shown += refusal(lambda path=path: read_weight_file(path))
        torch.save({"model": pickle.loads(path.read_bytes())}, tmp_path / "new.pt")
        _read(tmp_path / "new.pt", model.state_dict())
    return shown


@remedy("save weights where it was made: torch.save", of="a TorchScript archive")
def an_archive_of_torchscript(tmp_path: Path) -> str:
    file, model = tmp_path / "model.pt", torch.nn.Linear(2, 2)
    torch.jit.script(model).save(str(file))
    shown = refusal(lambda: read_weight_file(file))
    torch.save({"model": torch.jit.load(file).state_dict()}, tmp_path / "new.pt")
    _read(tmp_path / "new.pt", dict(model.state_dict()))
    return shown


@remedy("save weights where it was made: torch.save", of="a program of torch.export", slow=True)
def a_program_of_torch_export(tmp_path: Path) -> str:
    file, model = tmp_path / "model.pt2", torch.nn.Linear(2, 2)
    torch.export.save(torch.export.export(model, (torch.ones(1, 2),)), file)
    shown = refusal(lambda: read_weight_file(file))
    torch.save({"model": torch.export.load(file).state_dict}, tmp_path / "new.pt")
    _read(tmp_path / "new.pt", model.state_dict())
    return shown


@remedy("use an earlier checkpoint of it")
def a_training_that_diverged(tmp_path: Path) -> str:
    shown = ""
    for bad in (float("nan"), float("inf"), float("-inf")):
        save_file({"w": torch.ones(3)}, tmp_path / "earlier.safetensors")
        save_file({"w": torch.tensor([1.0, bad, 1.0])}, tmp_path / "later.safetensors")
        shown += refusal(lambda: read_weight_file(tmp_path / "later.safetensors"))
        _read(tmp_path / "earlier.safetensors", {"w": torch.ones(3)})
    return shown


@remedy("save the merged model")
def an_adapter(tmp_path: Path) -> str:
    base, down, up = torch.ones(4, 4), torch.full((2, 4), 0.5), torch.full((4, 2), 2.0)
    name = "base_model.model.image_encoder.trunk.blocks.0.attn.qkv"
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, tmp_path / "adapter.safetensors")
    shown = refusal(lambda: read_weight_file(tmp_path / "adapter.safetensors"))
    merged = {"image_encoder.trunk.blocks.0.attn.qkv.weight": base + up @ down}
    save_file(merged, tmp_path / "merged.safetensors")
    _read(tmp_path / "merged.safetensors", merged)
    return shown


@remedy("run again when nothing writes it")
def a_file_that_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = tmp_path / "model.pt"
    torch.save({"model": {"w": torch.zeros(3)}}, path)

    def before_it_is_written(source: Path) -> str:
        digest = sha256_file(source)
        torch.save({"model": {"w": torch.ones(3)}}, source)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(foreign, "sha256_file", before_it_is_written)
        shown = refusal(lambda: read_weight_file(path))
    _read(path, {"w": torch.ones(3)})
    return shown


def _other_values(path: Path) -> None:
    """The values of a best.pt in another one, which has the digest of the first."""
    content = torch.load(path, weights_only=True)
    name = next(name for name, tensor in content["model"].items() if tensor.is_floating_point())
    content["model"][name] = content["model"][name] + 1
    torch.save(content, path)


@remedy("restore it from a copy", of="the sha256 of its content differs", slow=True)
@remedy("train its run again", of="the sha256 of its content differs", slow=True)
def a_best_checkpoint_with_other_values(finished: Any, trains: Callable[..., str], tmp_path: Path) -> str:
    best, shown = finished.layout.best, ""
    shutil.copy(best, tmp_path / "copy.pt")
    whole = sha256_file(best)
    for restored in (True, False):
        _other_values(best)
        shown += refusal(lambda: read_weight_file(best))
        if restored:
            shutil.copy(tmp_path / "copy.pt", best)
        else:
            trains()
        read_weight_file(best)
        assert sha256_file(best) == whole
    return shown
