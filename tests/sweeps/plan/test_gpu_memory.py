"""What a plan says about the memory of its GPUs: a line, warnings, refusals, or nothing."""

from dataclasses import replace

import pytest

from sam2ft.core.errors import ProblemsError, UserError
from sam2ft.slurm.site import load_site
from sam2ft.sweeps import sweep as sweep_module
from sam2ft.sweeps.plan.estimate import SweepTarget
from sam2ft.sweeps.plan.gpu_memory import MemoryCheck, check_memory
from sam2ft.sweeps.sweep import SweepRequest, sweep

GIB = 2**30
# Tiny, 2 slices of 16 instances: 2 x (1.2 + 0.51 + 8 x 0.06), 0.5 of weights and optimizer, 1.5 besides.
ON_GPU = ("resources.gpus_per_node=1", "module.image_size=1024", "module.trainable.image_encoder=true")


@pytest.fixture
def gpu(monkeypatch):
    """This machine has one GPU of so many GiB."""

    def install(gib):
        monkeypatch.setattr(sweep_module, "visible_gpus", lambda _: ("GPU-1",))
        monkeypatch.setattr(sweep_module, "least_gpu_memory", lambda _: None if gib is None else int(gib * GIB))

    return install


def asked(workplace, *overrides, **settings):
    return SweepRequest(
        workplace.experiment, **({"local": 1, "dry_run": True, "overrides": (*ON_GPU, *overrides)} | settings)
    )


@pytest.mark.parametrize(
    ("gib", "line"), [(79.2, "memory: about 6.4 GiB of 79.2 GiB per GPU"), (None, "memory: about 6.4 GiB per GPU")]
)
def test_a_plan_says_what_a_step_needs_and_what_a_gpu_has(workplace, gpu, capsys, gib, line):
    gpu(gib)
    assert sweep(asked(workplace)) == 0
    shown = capsys.readouterr().err
    assert line in shown
    assert "may need" not in shown


def test_a_step_that_may_not_fit_is_a_warning_with_what_helps(workplace, gpu, capsys):
    gpu(6)
    assert sweep(asked(workplace)) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "lr=0.001, lr=0.0001: a training step may need about 6.4 GiB, but a GPU here has 6.0 GiB; it fits" in shown
    assert "with module.activation_checkpointing: true (about " in shown


def test_what_cannot_fit_is_refused_before_anything_is_written(workplace, gpu, capsys):
    gpu(0.4)
    for dry_run in (True, False):
        with pytest.raises(UserError, match=r"alone need 0\.5 GiB, but a GPU here has 0\.4 GiB.*nothing was started"):
            sweep(asked(workplace, dry_run=dry_run))
    assert not list(workplace.layout.folder.glob("plan-*.json"))


@pytest.mark.parametrize("overrides", [("module.sam2_model_cfg=sam2_nano",), ()])
def test_without_a_measured_model_or_a_gpu_nothing_is_said(workplace, gpu, monkeypatch, capsys, overrides):
    gpu(0.1)
    if not overrides:
        monkeypatch.setattr(sweep_module, "visible_gpus", lambda _: ())
    assert sweep(asked(workplace, *overrides)) == 0
    assert "memory:" not in capsys.readouterr().err


def test_points_with_the_same_text_are_named_together(workplace):
    (first, *_) = workplace.resolved(ON_GPU).runs
    trainings = {f"p{number}": first.experiment for number in range(6)}
    check = check_memory(trainings, 6 * GIB)
    assert len(check.warnings) == 1
    assert check.warnings[0].startswith("p0, p1, p2, p3 and 2 more points: a training step may need")
    assert check_memory({}, 6 * GIB) == MemoryCheck()
    assert check_memory(trainings, None) == replace(MemoryCheck(), line=check_memory(trainings, None).line)


@pytest.mark.parametrize(
    ("text", "expected"), [("", None), ("gpu_memory_gb: 16", int(16e9)), ("gpu_memory_gb: 40.5", int(40.5e9))]
)
def test_a_site_says_the_memory_of_its_smallest_gpu_as_data_sheets_do(tmp_path, text, expected):
    (tmp_path / "a.yaml").write_text(f"site: {{name: a}}\nslurm: {{partition: gpu, {text}}}\n")
    assert SweepTarget(load_site("a", tmp_path), None).gpu_bytes == expected


@pytest.mark.parametrize("text", ["gpu_memory_gb: 0", "gpu_memory_gb: -3", "gpu_memory_gb: many"])
def test_a_memory_that_is_none_is_refused_with_its_key(tmp_path, text):
    (tmp_path / "a.yaml").write_text(f"site: {{name: a}}\nslurm: {{{text}}}\n")
    with pytest.raises(ProblemsError, match=r"slurm\.gpu_memory_gb"):
        load_site("a", tmp_path)
