"""What was computed with: measured with what torch says about CUDA replaced, and read back as text."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.files import read_json
from sam2ft.distributed.ranks import ALONE, Ranks
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.runs import hardware
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.hardware import (
    EVALUATION,
    NOT_RECORDED,
    TRAINING,
    Computed,
    RankDevice,
    computed_in,
    hardware_texts,
    record_computed,
)
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.runs.provenance import COMPUTED, record_provenance, recorded_attempts
from sam2ft.training import build_trainer
from sam2ft.training.run import train

A100 = RankDevice("n1", "NVIDIA A100-SXM4-80GB", 79.2, "8.0", "580.65.06")
H100 = RankDevice("n2", "NVIDIA H100 80GB HBM3", 79.6, "9.0", "580.82.07")
ON_A100 = "NVIDIA A100-SXM4-80GB (79.2 GiB, compute capability 8.0, driver 580.65.06)"
ON_H100 = "NVIDIA H100 80GB HBM3 (79.6 GiB, compute capability 9.0, driver 580.82.07)"
BELOW: dict[str, Any] = {"cuda": "13.0", "cudnn": "9.24.0"}


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return ExperimentLayout(tmp_path / "toy").run("toy-0123456789abcdef")


@pytest.fixture
def attempt(layout: RunLayout) -> Attempt:
    attempt = Attempt.current()
    claim(layout, attempt)
    record_provenance(layout, attempt)
    return attempt


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Ranks:
    facts = SimpleNamespace(name=A100.name, total_memory=int(79.2 * 2**30), major=8, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: facts)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92400)
    monkeypatch.setattr(hardware, "driver_version", lambda: "580.65.06")
    return Ranks(device=torch.device("cuda", 0))


def test_an_attempt_says_what_each_stage_computed_with(layout: RunLayout, attempt: Attempt, fake_gpu: Ranks) -> None:
    assert recorded_attempts(layout)[0][COMPUTED] == []
    record_computed(layout, attempt, fake_gpu, stage=TRAINING, precision="bf16")
    record_computed(layout, attempt, fake_gpu, stage=EVALUATION, precision="fp32", eval_id="aaaaaaaaaaaa")
    record_computed(layout, attempt, fake_gpu, stage=EVALUATION, precision="fp16", eval_id="aaaaaaaaaaaa")
    record_computed(layout, attempt, ALONE, stage=EVALUATION, precision="bf16", eval_id="bbbbbbbbbbbb")
    (recorded,) = recorded_attempts(layout)
    training, evaluation, other = computed_in([recorded])
    assert training.text.startswith(f"1 x {ON_A100}, CUDA 13.0, cuDNN 9.24.0, bf16, TF32 o")
    assert (evaluation.eval_id, evaluation.precision) == ("aaaaaaaaaaaa", "fp16")
    assert other.text == "1 x CPU, bf16"
    assert training.devices[0].host == os.uname().nodename


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_the_settings_of_the_process_are_those_that_are_recorded(
    layout: RunLayout, attempt: Attempt, fake_gpu: Ranks, tf32: bool, deterministic: bool
) -> None:
    from sam2ft.distributed.arithmetic import deterministic_algorithms, float32_products

    try:
        float32_products("tf32" if tf32 else "ieee")
        deterministic_algorithms(wanted=deterministic)
        record_computed(layout, attempt, fake_gpu, stage=TRAINING, precision="fp32")
    finally:
        float32_products("ieee")
        deterministic_algorithms(wanted=False)
    (found,) = computed_in(recorded_attempts(layout))
    assert (found.tf32, found.deterministic) == (tf32, deterministic)
    ends = f"fp32, TF32 {'on' if tf32 else 'off'}{', deterministic algorithms' if deterministic else ''}"
    assert found.text.endswith(ends)


def test_a_driver_that_does_not_answer_leaves_the_rest(
    layout: RunLayout, attempt: Attempt, fake_gpu: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "driver_version", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: None)
    record_computed(layout, attempt, fake_gpu, stage=TRAINING, precision="fp16")
    (found,) = computed_in(recorded_attempts(layout))
    assert "compute capability 8.0, driver not recorded), CUDA 13.0, cuDNN not recorded, fp16" in found.text


@pytest.mark.parametrize(("number", "text"), [(92400, "9.24.0"), (90100, "9.1.0"), (8907, "8.9.7"), (None, None)])
def test_numbers_of_cudnn_are_versions(number: int | None, text: str | None) -> None:
    assert hardware._cudnn_text(number) == text


def test_an_attempt_that_was_not_recorded_gets_no_file(layout: RunLayout) -> None:
    record_computed(layout, Attempt.current(), ALONE, stage=TRAINING, precision="fp32")
    assert not layout.provenance.exists()


RANK = """
import sys
from pathlib import Path
from sam2ft.distributed.ranks import process_group
from sam2ft.runs import hardware
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.provenance import record_provenance
layout, attempt = RunLayout(Path(sys.argv[1])), Attempt.current()
with process_group(layout.folder, device="cpu", init_timeout_s=60) as ranks:
    name = ("NVIDIA A100", "NVIDIA H100")[ranks.rank]
    hardware._device = lambda _device: hardware.RankDevice(f"n{ranks.rank}", name, 79.2, "8.0", f"58{ranks.rank}.1")
    if ranks.is_main:
        record_provenance(layout, attempt)
    hardware.record_computed(layout, attempt, ranks, stage="training", precision="bf16")
"""


def test_two_types_of_gpus_in_one_job_are_both_listed(layout: RunLayout) -> None:
    layout.folder.mkdir(parents=True)
    step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(layout.folder)],
            env=os.environ | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "MASTER_ADDR": "127.0.0.1"},
        )
        for rank in "01"
    ]
    assert [rank.wait(timeout=100) for rank in ranks] == [0, 0]
    (found,) = computed_in(recorded_attempts(layout))
    assert [one.host for one in found.devices] == ["n0", "n1"]
    assert found.text == (
        "1 x NVIDIA A100 (79.2 GiB, compute capability 8.0, driver 580.1) and "
        "1 x NVIDIA H100 (79.2 GiB, compute capability 8.0, driver 581.1), bf16"
    )


def attempt_of(*computed: Computed) -> dict[str, Any]:
    """As JSON gives it back."""
    found: dict[str, Any] = json.loads(json.dumps({COMPUTED: [one.__dict__ for one in computed]}, default=vars))
    return found


def test_texts_of_several_runs_are_counted_and_the_most_frequent_is_first() -> None:
    two = Computed(TRAINING, "bf16", (A100, replace(A100, host="n9")), **BELOW)
    one = Computed(TRAINING, "fp16", (H100,), **BELOW, tf32=True, deterministic=True)
    scored = Computed(EVALUATION, "fp32", (RankDevice("n3", "CPU"),))
    runs = [[attempt_of(one)], [attempt_of(two), attempt_of(two)], [attempt_of(two, scored)], [{"code": {}}]]
    assert hardware_texts(runs, TRAINING) == (
        f"2 x {ON_A100}, CUDA 13.0, cuDNN 9.24.0, bf16, TF32 off (2 runs)",
        f"1 x {ON_H100}, CUDA 13.0, cuDNN 9.24.0, fp16, TF32 on, deterministic algorithms (1 run)",
        f"{NOT_RECORDED} (1 run)",
    )
    assert hardware_texts(runs[:3], EVALUATION) == ("1 x CPU, fp32 (1 run)",)
    assert hardware_texts(runs[3:], TRAINING) == (NOT_RECORDED,)
    assert hardware_texts([[attempt_of()]], TRAINING) == ()
    assert hardware_texts([], TRAINING) == ()


def test_a_run_that_was_continued_on_another_gpu_names_both() -> None:
    first, then = (Computed(TRAINING, "bf16", (device,), **BELOW) for device in (A100, H100))
    assert [text[:11] for text in hardware_texts([[attempt_of(first), attempt_of(then)]], TRAINING)] == [
        "1 x NVIDIA ",
        "1 x NVIDIA ",
    ]


@pytest.mark.parametrize(
    "entry", [None, 7, {}, {"stage": TRAINING}, {"stage": TRAINING, "devices": [3]}, {"devices": 1}]
)
def test_what_another_version_wrote_is_left_out_and_never_an_error(entry: Any) -> None:
    later = json.loads(json.dumps(attempt_of(Computed(TRAINING, "bf16", (A100,), **BELOW))[COMPUTED][0]))
    later["devices"][0]["power_w"] = later["clock"] = 400
    found = computed_in([{COMPUTED: [entry, later]}])
    assert [one.devices for one in found] == [(A100,)]


@pytest.mark.parametrize(
    "recorded",
    [
        None,
        5,
        "x",
        {"a": 1},
        [None],
        [{"stage": TRAINING, "precision": "fp32"}],
        [{"stage": TRAINING, "precision": "fp32", "devices": []}],
        [{"stage": TRAINING, "precision": "fp32", "devices": [{"host": "a", "name": "G", "memory_gib": "many"}]}],
    ],
)
def test_a_record_that_cannot_be_read_counts_as_not_recorded_and_is_never_left_out(recorded: Any) -> None:
    known = attempt_of(Computed(TRAINING, "bf16", (A100,), **BELOW))
    assert hardware_texts([[{COMPUTED: recorded}]], TRAINING) == (NOT_RECORDED,)
    assert f"{NOT_RECORDED} (1 run)" in hardware_texts([[known], [{COMPUTED: recorded}]], TRAINING)


def test_provenance_of_0_1_0_stays_readable(layout: RunLayout) -> None:
    attempt = Attempt.current()
    claim(layout, attempt)
    record_provenance(layout, attempt)
    value = read_json(layout.provenance)
    del value["attempts"][0][COMPUTED]
    write_sealed_json(layout.provenance, value)
    assert hardware_texts([recorded_attempts(layout)], TRAINING) == (NOT_RECORDED,)
    record_computed(layout, attempt, ALONE, stage=TRAINING, precision="fp32")
    assert hardware_texts([recorded_attempts(layout)], TRAINING) == ("1 x CPU, fp32",)


@pytest.mark.sam2
def test_a_run_of_a_job_records_its_training_and_its_evaluation(finished: Any) -> None:
    training, evaluation = computed_in(recorded_attempts(finished.layout))
    assert (training.stage, evaluation.stage, evaluation.eval_id) == (TRAINING, EVALUATION, finished.eval_id)
    assert evaluation.precision == finished.experiment.eval.precision
    assert [one.name for one in training.devices] == ["CPU"]


@pytest.mark.sam2
def test_a_training_that_is_continued_elsewhere_records_the_precision_that_it_keeps(
    point_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = point_with("module.use_amp=true", "module.num_epochs=1", "module.visualize=false")
    for chosen in ("fp32", "bf16"):  # by the first device, and by another one
        monkeypatch.setattr(build_trainer, "resolve_precision", lambda *_, chosen=chosen: chosen)
        attempt = point.attempt()
        record_provenance(point.layout, attempt)
        train(point.experiment, point.layout, attempt, stop=StopFlag(), fresh=False, planned_world_size=1)
    assert [one.precision for one in computed_in(recorded_attempts(point.layout))] == ["fp32", "fp32"]
