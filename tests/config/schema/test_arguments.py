# ruff: noqa: E501 (tables are read by column)
"""Arguments of torch and MONAI classes, checked without them; the recorded signatures are those installed."""

import subprocess
import sys
from typing import Any

import pytest

from sam2ft.config.generate import signatures as generator
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.arguments import (
    argument_problems,
    arguments_with_defaults,
    known_names,
    signatures,
    type_problem,
)
from sam2ft.core.errors import DataError


def with_scheduler(minimal: str, scheduler: str) -> str:
    return f"{minimal}  scheduler: {scheduler}\n"


def test_t_max_for_warm_restarts_says_whose_it_is_and_what_is_needed(
    write: Any, problems_of: Any, minimal: str
) -> None:
    text = with_scheduler(minimal, "{type: CosineAnnealingWarmRestarts, eta_min: 1e-5, T_max: 10}")
    found = problems_of(load_experiment, write(text))
    assert found == [
        "file.yaml:6: module.scheduler.T_max: CosineAnnealingWarmRestarts takes no T_max (CosineAnnealingLR does); "
        "CosineAnnealingWarmRestarts needs T_0; "
        "allowed: T_0, T_mult, eta_min, type, interval, monitor, warmup_steps",
        "file.yaml:6: module.scheduler.T_0: missing; CosineAnnealingWarmRestarts needs it (a whole number)",
    ]


@pytest.mark.parametrize(
    ("table", "name", "reason"),
    [
        ("optimizers", "LBFGS", "closure"),
        ("optimizers", "SparseAdam", "sparse gradients"),
        ("optimizers", "Muon", "2-D parameters"),
        ("schedulers", "LambdaLR", "Python function"),
        ("schedulers", "MultiplicativeLR", "Python function"),
        ("schedulers", "SequentialLR", "warmup_steps"),
        ("schedulers", "ChainedScheduler", "warmup_steps"),
        ("transforms", "Rand3DElastic", "use Rand2DElastic"),
        ("transforms", "RandSimulateLowResolution", "coarsen the masks"),
        ("transforms", "Resize", "the engine decides the grid"),
        ("transforms", "Flip", "every slice alike"),
        ("transforms", "NormalizeIntensity", "windowed to [0, 1] by prepare"),
    ],
)
def test_classes_that_do_not_fit_are_refused_with_the_reason(table: str, name: str, reason: str) -> None:
    message = type_problem(table, name)
    assert message is not None
    assert message.startswith(f"{name} cannot be used: ")
    assert reason in message
    assert name not in known_names(table)


@pytest.mark.parametrize(
    ("scheduler", "problem"),
    [
        ("{type: StepLR}", "module.scheduler.step_size: missing; StepLR needs it (a whole number)"),
        ("{type: StepLr, step_size: 1}", 'module.scheduler.type: found "StepLr" (did you mean StepLR?); allowed: '),
        ("{type: StepLR, step_size: 1.5}", "module.scheduler.step_size: found 1.5; allowed: a whole number (argument of StepLR)"),
        ("{type: StepLR, step_size: 1, last_epoch: 3}", "module.scheduler.last_epoch: cannot be given: the engine sets it"),
        ("{type: StepLR, step_size: 1, gama: 0.1}", "module.scheduler.gama: StepLR takes no gama (did you mean gamma?)"),
        ("{type: StepLR, step_size: 1, constructor: {}}", "module.scheduler.constructor: StepLR takes no constructor"),
        ("{type: StepLR, step_size: 1, monitor: val_loss}", "module.scheduler.monitor: StepLR monitors no value"),
        ("{type: ReduceLROnPlateau}", "module.scheduler.monitor: missing; ReduceLROnPlateau needs it, such as val_loss"),
        ("{type: ReduceLROnPlateau, monitor: val_los}", 'module.scheduler.monitor: found "val_los" (did you mean val_loss?)'),
        ("{type: ReduceLROnPlateau, monitor: val_dice}", "module.scheduler.monitor: val_dice is better when larger; also set mode: max"),
        ("{type: ReduceLROnPlateau, monitor: val_loss, interval: step}", "module.scheduler.interval: found step; allowed: epoch"),
        ("{type: ReduceLROnPlateau, monitor: val_loss, mode: mini}", 'module.scheduler.mode: found "mini"; allowed: min or max'),
        ("{type: OneCycleLR, max_lr: 0.1, epochs: 3}", "module.scheduler.epochs: OneCycleLR takes epochs together with"),
        ("{type: MultiStepLR, milestones: 3}", "module.scheduler.milestones: found 3; allowed: a list"),
        ("{type: MultiStepLR, milestones: [3, x]}", 'module.scheduler.milestones: found [3, "x"]; allowed: a list (in a list: a whole number)'),
        ("{step_size: 3}", "module.scheduler.type: missing; name of a torch.optim.lr_scheduler class"),
        ("StepLR", 'module.scheduler: found "StepLR"; allowed: a mapping'),
    ],
)  # fmt: skip
def test_arguments_of_schedulers(write: Any, problems_of: Any, minimal: str, scheduler: str, problem: str) -> None:
    found = problems_of(load_experiment, write(with_scheduler(minimal, scheduler)))
    assert any(text.startswith(f"file.yaml:6: {problem}") for text in found), found


@pytest.mark.parametrize(
    "scheduler",
    [
        "{type: ReduceLROnPlateau, monitor: val_loss}",
        "{type: ReduceLROnPlateau, monitor: val_dice, mode: max, min_lr: [1e-6]}",
        "{type: OneCycleLR, max_lr: 1e-3, total_steps: 100, interval: step}",
        "{type: MultiStepLR, milestones: [3, 6]}",
        "{type: CosineAnnealingLR, T_max: 10, warmup_steps: 20}",
        "{type: ExponentialLR, gamma: 1}",
        "null",
    ],
)
def test_schedulers_that_fit_are_taken(write: Any, minimal: str, scheduler: str) -> None:
    load_experiment(write(with_scheduler(minimal, scheduler)))


def test_loss_arguments_that_the_engine_decides_are_refused(write: Any, problems_of: Any, minimal: str) -> None:
    text = f"{minimal}  loss: {{seg_args: {{sigmoid: true}}, ce: FocalLoss, ce_args: {{gama: 2}}}}\n"
    found = problems_of(load_experiment, write(text))
    assert found[0].startswith("file.yaml:6: module.loss.seg_args.sigmoid: cannot be given: the engine sets it")
    assert found[1].startswith("file.yaml:6: module.loss.ce_args.gama: FocalLoss takes no gama (did you mean gamma?)")


def test_a_transform_is_bound_like_an_optimizer(write: Any, problems_of: Any, minimal: str) -> None:
    text = f"{minimal}datamodule:\n  augmentation:\n  - {{type: RandFlip, prop: 1}}\n  - {{type: RandFlop}}\n"
    found = problems_of(load_experiment, write(text))
    assert found[0].startswith("file.yaml:8: datamodule.augmentation.0.prop: RandFlip takes no prop (")
    assert found[1].startswith('file.yaml:9: datamodule.augmentation.1.type: found "RandFlop" (did you mean RandFlip?)')


@pytest.mark.parametrize("argument", ["maximize", "differentiable", "capturable"])
def test_optimizer_arguments_that_training_cannot_obey_are_refused(argument: str) -> None:
    for name in known_names("optimizers"):
        if argument in signatures()["optimizers"][name]:
            assert argument_problems("optimizers", name, {argument: True})[argument].startswith("cannot be given: ")


def test_booleans_are_no_numbers_and_whole_numbers_are() -> None:
    assert "lr" in argument_problems("optimizers", "SGD", {"lr": True})
    assert argument_problems("optimizers", "SGD", {"lr": 1, "momentum": 0.9, "nesterov": True, "foreach": None}) == {}


def test_arguments_that_act_are_the_given_ones_and_the_defaults_that_are_not_off() -> None:
    assert arguments_with_defaults("optimizers", "AdamW", {"weight_decay": 0.1}) == {
        "lr": 0.001,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "weight_decay": 0.1,
    }


def test_every_usable_class_has_only_arguments_that_yaml_can_give() -> None:
    for table in ("optimizers", "schedulers", "losses", "transforms"):
        for name in known_names(table):
            for key, entry in signatures()[table][name].items():
                assert "default" in entry or "default_text" in entry or entry["required"], (name, key)
                assert not (entry["required"] and not entry["kinds"]), f"{name} needs {key}, which YAML cannot give"


def test_unions_and_literals_become_kinds_of_values() -> None:
    assert generator._kinds("float | list[int | None] | None") == ["list", "null", "number"]
    assert generator._kinds("Callable[[float], float]") == []
    assert generator._kinds("Literal['min', 'max']") == ["string"]
    assert generator._item_kinds("tuple[float, float | None] | bool") == ["null", "number"]
    assert generator._item_kinds("Sequence[tuple[float, float] | int]") == ["integer", "list"]
    assert generator._choices("Literal['min', 'max'] | None") == ["min", "max"]


def test_the_shipped_signatures_and_schemas_are_current_and_a_stale_one_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("sys.argv", ["signatures", "--check"])
    generator.main()
    monkeypatch.setattr(generator, "FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["signatures"])
    generator.main()
    (tmp_path / "signatures.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["signatures", "--check"])
    with pytest.raises(DataError, match=r"signatures\.json: out of date; run `make schema`"):
        generator.main()


def test_loading_an_experiment_imports_neither_torch_nor_other_slow_packages() -> None:
    code = (
        "import sys; from pathlib import Path; from sam2ft.config.load_experiment import load_experiment;"
        "from sam2ft.config import identity, load_dataset;"
        "load_experiment(Path('experiments/lr_grid.yaml'));"
        "print(sorted({'torch', 'monai', 'numpy', 'pandas', 'scipy'} & sys.modules.keys()))"
    )
    root = generator.FOLDER.parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "argument", "reason"),
    [
        ("DiceLoss", "weight", "use seg_loss_weight and ce_loss_weight"),
        ("DiceCELoss", "label_smoothing", "several classes"),
        ("FocalLoss", "ignore_index", "leaves out a class"),
        ("DiceFocalLoss", "sigmoid", "the engine sets it"),
    ],
)
def test_what_means_nothing_for_one_class_is_refused_with_the_reason(name: str, argument: str, reason: str) -> None:
    message = argument_problems("losses", name, {argument: 1})[argument]
    assert message.startswith("cannot be given: ")
    assert reason in message
