"""What a site check says about GPUs, with what torch and the driver say given."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from sam2ft.slurm import gpu_check
from sam2ft.slurm.gpu_check import GpuFacts, gpu_facts, gpu_finding, read_gpu_facts, show_gpu_facts

H100 = (("NVIDIA H100", 90), ("NVIDIA H100", 90))


@pytest.mark.parametrize(
    ("facts", "result", "words"),
    [
        (GpuFacts("", None, "580.65"), "problem", "this torch is for CPUs; install the one of requirements/run.txt"),
        (
            GpuFacts("", "13.0", None),
            "unknown",
            "CUDA 13.0 needs the NVIDIA driver 580 or newer, and no driver answers here",
        ),
        (GpuFacts("", "13.0", "535.104"), "problem", "580 or newer, found 535.104; ask for a newer one, or name nodes"),
        (GpuFacts("", "12.8", "535.104"), "unknown", "535.104 is new enough for CUDA 12.8, but torch sees no GPU here"),
        (GpuFacts("", "13.0", "580.65", H100, 75), "ok", "torch sees 2 x NVIDIA H100 here, driver 580.65"),
        # With the package of CUDA for older drivers torch sees the GPUs, which decides.
        (GpuFacts("", "13.0", "535.104", H100, 75), "ok", "torch sees 2 x NVIDIA H100"),
        (
            GpuFacts("", "13.0", "580.65", (*H100, ("Tesla V100", 70)), 75),
            "problem",
            "Tesla V100 is older than the GPUs",
        ),
        (GpuFacts("", "99.0", None), "unknown", "torch needs a driver for CUDA 99.0"),
    ],
)
def test_each_case_is_one_line_with_what_to_do(facts: GpuFacts, result: str, words: str) -> None:
    found, text = gpu_finding(facts)
    assert found == result
    assert words in text
    assert "\n" not in text
    assert read_gpu_facts(f"module loaded\n\n{json.dumps(asdict(facts))}\n") == facts


@pytest.mark.parametrize("output", ["", "\n", "Welcome", "[]", "{}", '{"gpus": 3}', '{"gpus": [], "more": 1}'])
def test_other_output_is_no_answer(output: str) -> None:
    assert read_gpu_facts(output) is None


def test_the_facts_are_those_of_torch(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = SimpleNamespace(name="NVIDIA H100", major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _number: seen)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_75", "sm_90a", "compute_90"])
    monkeypatch.setattr(gpu_check, "driver_version", lambda: "580.65")
    assert gpu_facts().gpus == H100
    assert gpu_facts().oldest == 75
    show_gpu_facts()
    assert read_gpu_facts(capsys.readouterr().out) == gpu_facts()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (gpu_facts().gpus, gpu_facts().oldest, gpu_facts().cuda) == ((), None, torch.version.cuda)
