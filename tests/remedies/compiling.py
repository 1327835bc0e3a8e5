"""Remedies of a compiled encoder, and of a step that needs more memory than a GPU has."""

from pathlib import Path
from typing import Any

import pytest
from fixtures.compilers import without_compiler

from sam2ft.config.load_experiment import load_experiment
from sam2ft.model.memory_needs import GIB, memory_warning
from tests.remedies.conftest import Desk
from tests.remedies.registry import remedy


@remedy("set module.compile: false", of="module.compile: found true")
def a_machine_without_a_compiler(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    command = "launch/train.py toy.yaml --set module.visualize=false --set module.num_epochs=1"
    with without_compiler():
        shown = desk.refused(command, "--set", "module.compile=true")
        desk.works(command, "--set", "module.compile=false")
    return shown


@remedy("use a smaller model", of="use a smaller model (module.sam2_model_cfg)")
def no_change_makes_the_step_fit(toy: Any) -> str:
    """Large, of which even the decoder alone needs 2.9 GiB with all that a process needs besides."""

    def warned(*overrides: str) -> str | None:
        gpus = ("module.image_size=1024", "module.use_amp=bf16", "datamodule.batch_size=1", *overrides)
        return memory_warning(load_experiment(Path("toy.yaml"), gpus).experiment, int(2.8 * GIB))

    config = "module.sam2_model_cfg=configs/sam2.1/sam2.1_hiera_{}.yaml".format
    shown = warned(config("l"))
    assert shown is not None
    assert warned(config("t"), "module.prompts.max_instances_per_slice=8") is None
    assert warned(config("l"), "module.image_size=256") is None
    return shown
