"""Which precision `use_amp` means."""

import pytest
import torch

from sam2ft.core.errors import CheckpointError
from sam2ft.model import precision
from sam2ft.model.precision import emulates, kept_precision, resolve_precision, text_of_kept

CPU = torch.device("cpu")


@pytest.mark.parametrize("amx", [False, True])
def test_what_is_named_is_obeyed_and_true_is_what_a_cpu_is_fastest_in(amx, monkeypatch):
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    named = [resolve_precision(choice, CPU) for choice in (False, "bf16", "fp16")]
    assert named == ["fp32", "bf16", "fp16"]
    assert resolve_precision(True, CPU) == ("bf16" if amx else "fp32")


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp16")])
def test_true_on_a_gpu_is_bf16_where_it_is_not_emulated(native, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: native or including_emulation)
    assert resolve_precision(True, torch.device("cuda")) == expected


def test_tf32_is_named_for_gpus_and_is_float32_on_a_cpu():
    assert resolve_precision("tf32", torch.device("cuda")) == "tf32"
    assert resolve_precision("tf32", CPU) == "fp32"


@pytest.mark.parametrize("device", [CPU, torch.device("cuda")])
@pytest.mark.parametrize("written", ["fp32", "tf32", "bf16", "fp16"])
def test_a_training_is_kept_in_its_precision_or_refused_where_that_does_not_exist(written, device):
    if (written, device) == ("tf32", CPU):
        with pytest.raises(CheckpointError, match=r"written in tf32, which only GPUs have.*--fresh"):
            kept_precision(written, device)
    else:
        assert kept_precision(written, device) == written


@pytest.mark.parametrize("native", [True, False])
def test_what_is_kept_is_said_with_what_this_device_would_choose(native, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: native or including_emulation)
    gpu = torch.device("cuda")
    said = text_of_kept("bf16", "fp16", gpu)
    assert said.startswith("the training continues in bf16, in which it was begun")
    assert ("only emulates" in said) == (not native) == emulates("bf16", gpu)
    assert said.endswith("it would be fp16")
    assert "emulates" not in text_of_kept("fp16", "fp32", CPU)
    assert not any(emulates(precision, gpu) for precision in ("fp32", "tf32", "fp16"))
