import logging
from collections import Counter, OrderedDict
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch

from sam2ft.core.errors import CheckpointError
from sam2ft.core.files import sha256_file
from sam2ft.model.weights import read_info, read_weights
from sam2ft.runs.layout import RunLayout
from sam2ft.training.checkpoints.checkpoint import (
    load_newest_resume,
    read_resume,
    resume_files,
    save_best,
    save_resume,
    stock_weights,
)
from sam2ft.training.checkpoints.nested_state import pack, unpack


def snapshot() -> dict[str, Any]:
    return {
        "model": OrderedDict(weight=torch.tensor([[1.5, -0.0], [9.0, 2.0]]), step=torch.tensor(3.0)),
        "halves": {"b": torch.tensor([1.0, 2.0], dtype=torch.bfloat16), "mask": torch.tensor([True, False])},
        "optimizer": {
            "state": {0: {"exp_avg": torch.tensor([1.0, inf, 3.0])}, 1: {}},
            "betas": (0.9, 0.999),
            "foreach": None,
        },
        "scheduler": {"milestones": Counter({5: 2, 9: 1}), "best": inf, "worst": -inf, "rates": [0.1, 1e-300]},
        "__tagged": {"__tuple__": 1},
        "name": "näme",
        "last": True,
    }


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return bool(torch.equal(first, second) and first.dtype == second.dtype)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return type(first) is type(second) and all(map(equal, first, second))
    return bool(first == second and type(first) is type(second))


def test_what_is_packed_comes_back_with_its_types() -> None:
    back = unpack(*pack(snapshot()))
    assert equal(back, {**snapshot(), "model": dict(snapshot()["model"])})
    assert isinstance(back["scheduler"]["milestones"], Counter)


def test_what_json_cannot_hold_is_refused_with_its_path() -> None:
    with pytest.raises(TypeError, match=r"optimizer\.hooks\.1: a set cannot be written"):
        pack({"optimizer": {"hooks": [1, {2}]}})


def test_a_resume_file_holds_the_snapshot_in_one_file(tmp_path: Path) -> None:
    path = RunLayout(tmp_path).resume(12)
    save_resume(path, snapshot(), keep=2)
    assert [file.name for file in path.parent.iterdir()] == ["000000012.safetensors"]
    assert equal(read_resume(path)["optimizer"], snapshot()["optimizer"])


def test_the_last_k_are_kept_and_leftovers_of_killed_writers_removed(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.checkpoints.mkdir()
    (layout.checkpoints / ".000000003.safetensors.77-ab.partial.safetensors").write_text("half")
    for step in (1, 2, 3):
        save_resume(layout.resume(step), {"step": step}, keep=2)
    assert [path.name for path in resume_files(layout.checkpoints)] == [
        "000000003.safetensors",
        "000000002.safetensors",
    ]
    assert len(list(layout.checkpoints.iterdir())) == 2


def test_a_flipped_bit_anywhere_in_the_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "5.safetensors"
    save_resume(path, {"weights": torch.arange(6.0), "state": {"epoch": 1}}, keep=1)
    whole = path.read_bytes()
    assert read_resume(path)["state"] == {"epoch": 1}
    # Every bit of the header's length and of the header's begin, and one bit of every other byte.
    flips = [(position, bit) for position in range(24) for bit in range(8)]
    flips += [(position, position % 8) for position in range(24, len(whole))]
    for position, bit in flips:
        changed = bytearray(whole)
        changed[position] ^= 1 << bit
        path.write_bytes(changed)
        try:
            assert equal(read_resume(path), {"weights": torch.arange(6.0), "state": {"epoch": 1}}), position
        except CheckpointError:
            continue
        # Only what carries no meaning may change unseen: padding of the header.
        assert whole[position : position + 1] == b" ", position


@pytest.mark.parametrize("value", [float("nan"), inf, -inf])
def test_a_newest_file_with_weights_that_are_not_finite_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    layout = RunLayout(tmp_path)
    save_resume(layout.resume(10), {"model": {"w": torch.ones(4)}, "optimizer": {"m": torch.tensor(inf)}}, keep=2)
    save_resume(layout.resume(20), {"model": {"w": torch.tensor([1.0, value])}}, keep=2)
    newest = load_newest_resume(layout.checkpoints)
    assert newest is not None
    assert newest.path == layout.resume(10)
    assert "000000020.safetensors: its model cannot be used: w holds values that are not finite" in caplog.text
    layout.resume(10).unlink()
    with pytest.raises(CheckpointError, match=r"--fresh .launch/train\.py. or --force .launch/sweep\.py."):
        load_newest_resume(layout.checkpoints)


def test_a_damaged_newest_file_falls_back_to_the_one_before_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = RunLayout(tmp_path)
    for step in (10, 20):
        save_resume(layout.resume(step), {"step": step, "tensor": torch.ones(4)}, keep=2)
    content = bytearray(layout.resume(20).read_bytes())
    content[-3] ^= 4
    layout.resume(20).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        newest = load_newest_resume(layout.checkpoints)
    assert newest is not None
    assert newest.path == layout.resume(10)
    assert newest.snapshot["step"] == 10
    assert "000000020.safetensors: damaged" in caplog.text
    assert "falling back to 000000010.safetensors" in caplog.text
    # Going on from step 10 must not remove it in favour of the damaged file of step 20.
    save_resume(layout.resume(11), {"step": 11, "tensor": torch.ones(4)}, keep=1)
    assert load_newest_resume(layout.checkpoints).snapshot["step"] == 11  # type: ignore[union-attr]  # see above


def test_a_truncated_file_and_one_of_another_version_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_resume(tmp_path / "7.safetensors", {"tensor": torch.ones(100)}, keep=1)
    whole = (tmp_path / "7.safetensors").read_bytes()
    (tmp_path / "7.safetensors").write_bytes(whole[:-9])
    with pytest.raises(CheckpointError, match=r"7\.safetensors: damaged"):
        read_resume(tmp_path / "7.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "8.safetensors", {"version": "99"})
    with pytest.raises(CheckpointError, match="version 99, this sam2ft reads version 1"):
        read_resume(tmp_path / "8.safetensors")


def test_when_no_file_verifies_training_does_not_silently_start_anew(tmp_path: Path) -> None:
    assert load_newest_resume(tmp_path) is None
    (tmp_path / "000000001.safetensors").write_text("nothing")
    with pytest.raises(CheckpointError, match="--fresh"):
        load_newest_resume(tmp_path)


def test_best_loads_with_weights_only_under_stock_names(tmp_path: Path) -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sam2_model = torch.nn.Linear(2, 1)

    model = Wrapper()
    save_best(tmp_path / "best.pt", stock_weights(model), {"run": "x-1", "epoch": 3})
    content = torch.load(tmp_path / "best.pt", weights_only=True)
    assert content.keys() == {"model", "sam2ft"}
    stock = torch.nn.Linear(2, 1)
    stock.load_state_dict(content["model"])
    assert torch.equal(stock.weight, model.sam2_model.weight)
    assert read_info(tmp_path / "best.pt") == {"run": "x-1", "epoch": 3}
    assert read_weights(tmp_path / "best.pt").keys() == {"weight", "bias"}
    # Equal content is an equal file: its digest can be compared.
    save_best(tmp_path / "again.pt", stock_weights(model), {"run": "x-1", "epoch": 3})
    assert sha256_file(tmp_path / "again.pt") == sha256_file(tmp_path / "best.pt")
