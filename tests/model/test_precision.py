"""Which precision `use_amp` means."""

import pytest
import torch

from sam2ft.model import precision
from sam2ft.model.precision import resolve_precision

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
