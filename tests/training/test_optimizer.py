import re
import warnings
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from sam2ft.config.schema.arguments import known_names, signatures, type_problem
from sam2ft.core.errors import ConfigError
from sam2ft.training.checkpoints.nested_state import pack, unpack
from sam2ft.training.optimizer import REFUSED_OPTIMIZERS, OptimizerChoice, build_optimizer, parameter_groups
from sam2ft.training.schedule import REFUSED_SCHEDULERS, Schedule, SchedulerChoice, build_scheduler
from sam2ft.training.state import TrainerContext, TrainerSettings
from sam2ft.training.trainer import Trainer

OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
)
SCHEDULERS = sorted(
    name
    for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type) and issubclass(kind, lr_scheduler.LRScheduler) and not name.startswith("_")
)
# What each scheduler cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "StepLR": {"step_size": 1},
    "MultiStepLR": {"milestones": [1, 1, 2]},
    "ExponentialLR": {"gamma": 0.5},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
    "OneCycleLR": {"max_lr": 0.2, "total_steps": 6},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 2},
    "ReduceLROnPlateau": {"patience": 0},
}


def tiny() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.GroupNorm(1, 2))


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.arange(25.0).reshape(1, 1, 5, 5) / 25).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", [*OPTIMIZERS, *SCHEDULERS])
def test_every_optimizer_and_scheduler_of_torch_trains_three_steps_or_is_refused_with_its_reason(
    two_convolutions: Any, plain_loss: Any, toy_data: Any, recorder: Any, name: str, interval: Any
) -> None:
    """Through the Trainer, three steps in each of two epochs; by name, as from a configuration."""
    is_optimizer = name in OPTIMIZERS
    refused = REFUSED_OPTIMIZERS if is_optimizer else REFUSED_SCHEDULERS
    plateau = name == "ReduceLROnPlateau"
    chosen = OptimizerChoice(name, lr=0.01) if is_optimizer else OptimizerChoice("SGD", 0.01, {"momentum": 0.9})
    arguments = {key: value for key, value in NEEDED.get(name, {}).items() if key != "total_steps"}
    rule = None
    if not is_optimizer:
        by = "epoch" if plateau else interval
        rule = SchedulerChoice(name, arguments, by, "val_loss" if plateau else None, warmup_steps=2)
    model, data, seen = two_convolutions(), toy_data(6, 2), recorder()
    before = [tensor.clone() for tensor in model.parameters()]
    if name in refused:
        with pytest.raises(ConfigError, match=rf"type: {name} cannot be used: {re.escape(refused[name])}"):
            build_scheduler(build_optimizer(model, chosen), rule, steps_per_epoch=3, num_epochs=2)
        return
    optimizer = build_optimizer(model, chosen)
    schedule = build_scheduler(optimizer, rule, steps_per_epoch=3, num_epochs=2)
    settings = TrainerSettings(num_epochs=2, seed=0)
    Trainer(model, plain_loss, optimizer, schedule, settings, TrainerContext(observer=seen)).fit(data.train, data.val)
    assert [event.skipped for event in seen.steps] == [False] * 6
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    rates = [event.learning_rates[0] for event in seen.steps]
    if is_optimizer:
        assert rates == [0.01] * 6
    elif interval == "step" and not plateau:
        assert len({rates[0] * 2, *rates[1:]}) > 1, "it advances with the steps"
    else:
        assert rates[0] == rates[1] / 2
        assert rates[1] == rates[2], "within an epoch only the warm-up changes it"


def test_what_is_refused_is_refused_alike_when_the_file_is_read() -> None:
    for table, refused in (("optimizers", REFUSED_OPTIMIZERS), ("schedulers", REFUSED_SCHEDULERS)):
        for name in {*signatures()[table]} & refused.keys():
            message = type_problem(table, name)
            assert message is not None
            assert message.startswith(f"{name} cannot be used: {refused[name]}; allowed: ")
        usable = OPTIMIZERS if table == "optimizers" else SCHEDULERS
        assert known_names(table) == [name for name in usable if name not in refused]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_of_torch_trains_or_is_refused_with_its_reason(name: str) -> None:
    model = tiny()
    if name in REFUSED_OPTIMIZERS:
        with pytest.raises(ConfigError, match=f"{name} cannot be used: it "):
            build_optimizer(model, OptimizerChoice(name))
        return
    optimizer = build_optimizer(model, OptimizerChoice(name, lr=0.01))
    before = [tensor.clone() for tensor in model.parameters()]
    for _ in range(3):
        step(model, optimizer)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    other = build_optimizer(tiny(), OptimizerChoice(name, lr=0.01))
    other.load_state_dict(unpack(*pack(optimizer.state_dict())))
    assert pack(other.state_dict())[1] == pack(optimizer.state_dict())[1]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_of_torch_advances_and_resumes_or_is_refused_with_its_reason(name: str) -> None:
    def make() -> tuple[torch.nn.Module, Schedule]:
        model = tiny()
        optimizer = build_optimizer(model, OptimizerChoice("SGD", lr=0.1, arguments={"momentum": 0.9}))
        monitor = "val_loss" if name == "ReduceLROnPlateau" else None
        choice = SchedulerChoice(name, NEEDED.get(name, {}), monitor=monitor)
        return model, build_scheduler(optimizer, choice, steps_per_epoch=4, num_epochs=6)

    if name in REFUSED_SCHEDULERS:
        with pytest.raises(ConfigError, match=f"{name} cannot be used: it "):
            make()
        return
    (model, whole), (half_model, half) = make(), make()
    rates = []
    for epoch in range(6):
        for one, schedule in ((model, whole), (half_model, half)):
            step(one, schedule.optimizer)
            schedule.after_epoch({"val_loss": 1.0})
        rates.append(whole.optimizer.param_groups[0]["lr"])
        if epoch == 2:
            kept = pack({"optimizer": half.optimizer.state_dict(), "scheduler": half.state_dict()})
            half_model, half = make()
            back = unpack(*kept)
            half.optimizer.load_state_dict(back["optimizer"])
            half.load_state_dict(back["scheduler"])
        assert half.optimizer.param_groups[0]["lr"] == rates[-1]
    assert len({0.1, *rates}) > 1


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (OptimizerChoice("Adamw"), "torch.optim has no optimizer 'Adamw'"),
        (OptimizerChoice("SGD", arguments={"betas": (0.9, 0.9)}), "SGD: .*'betas'"),
        (OptimizerChoice("AdamW", arguments={"betas": (0.9, 1.5)}), "AdamW: Invalid beta parameter"),
        (OptimizerChoice(lr_scale={"decoder": 0.1}), "unknown part 'decoder'; known: image_encoder"),
        (OptimizerChoice(lr_scale={"mask_decoder": 0.1}), "lr_scale.mask_decoder: nothing of this part is trained"),
    ],
)
def test_what_an_optimizer_does_not_take_is_refused(choice: OptimizerChoice, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer(tiny(), choice)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (SchedulerChoice("CosineAnnealingWarmRestarts", {"T_max": 10}), "CosineAnnealingWarmRestarts: .*'?T_0'?"),
        (SchedulerChoice("ReduceLROnPlateau"), "needs monitor"),
        (SchedulerChoice("StepLR", {"step_size": 1}, monitor="val_loss"), "only ReduceLROnPlateau monitors a value"),
        (SchedulerChoice("Cosine"), "no scheduler 'Cosine'"),
        (SchedulerChoice("OneCycleLR", {"max_lr": 1.0, "epochs": 3}), "OneCycleLR: You must define either total_steps"),
        (
            SchedulerChoice("OneCycleLR", {"max_lr": 1.0, "total_steps": 23}, interval="step"),
            "total_steps: 23, but this training advances it 24 times .*at least 24",
        ),
    ],
)
def test_what_a_scheduler_does_not_take_is_refused(choice: SchedulerChoice, message: str) -> None:
    optimizer = build_optimizer(tiny(), OptimizerChoice("SGD"))
    with pytest.raises(ConfigError, match=message):
        build_scheduler(optimizer, choice, steps_per_epoch=4, num_epochs=6)


@pytest.mark.parametrize("length", [{}, {"total_steps": 6}], ids=["untold", "told"])
def test_one_cycle_spans_the_training_s_steps(length: dict[str, int]) -> None:
    model = tiny()
    optimizer = build_optimizer(model, OptimizerChoice("SGD"))
    choice = SchedulerChoice("OneCycleLR", {"max_lr": 1.0} | length, interval="step")
    schedule = build_scheduler(optimizer, choice, steps_per_epoch=2, num_epochs=3)
    for _ in range(6):
        step(model, optimizer)
        schedule.after_step()


def test_warm_up_scales_the_scheduled_rate_and_leaves_the_schedule_alone() -> None:
    model = tiny()
    optimizer = build_optimizer(model, OptimizerChoice("SGD", lr=1.0))
    choice = SchedulerChoice("ExponentialLR", {"gamma": 0.5}, interval="step", warmup_steps=4)
    schedule = build_scheduler(optimizer, choice, steps_per_epoch=9, num_epochs=1)
    used = []
    for number in range(6):
        with schedule.rates_of(number) as rates:
            step(model, optimizer)
        used += rates
        schedule.after_step()
    assert used == [1 * 0.25, 0.5 * 0.5, 0.25 * 0.75, 0.125, 0.0625, 0.03125]
    assert Schedule(optimizer, warmup_steps=0).warmup_factor(0) == 1.0


def test_a_schedule_advances_without_warnings_before_the_first_update_of_a_process() -> None:
    optimizer = build_optimizer(tiny(), OptimizerChoice("SGD"))
    schedule = build_scheduler(optimizer, SchedulerChoice("StepLR", {"step_size": 1}), steps_per_epoch=1, num_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedule.after_epoch({})


class Parts(torch.nn.Module):
    """Names as in stock SAM 2, two blocks."""

    def __init__(self) -> None:
        super().__init__()
        trunk = torch.nn.Module()
        trunk.patch_embed = torch.nn.Linear(1, 1)
        trunk.blocks = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
        self.sam2_model = torch.nn.Module()
        self.sam2_model.image_encoder = torch.nn.Module()
        self.sam2_model.image_encoder.trunk = trunk
        self.sam2_model.image_encoder.neck = torch.nn.Linear(1, 1)
        self.sam2_model.sam_mask_decoder = torch.nn.Linear(1, 1)
        self.sam2_model.sam_prompt_encoder = torch.nn.Linear(1, 1).requires_grad_(False)


def rate_of(model: torch.nn.Module, choice: OptimizerChoice) -> dict[str, tuple[float, Any]]:
    """Name -> (learning rate, weight decay or None for the optimizer's own)."""
    names = {id(tensor): name.removeprefix("sam2_model.") for name, tensor in model.named_parameters()}
    return {
        names[id(tensor)]: (group["lr"] * group["lr_scale"], group.get("weight_decay"))
        for group in parameter_groups(model, choice)
        for tensor in group["params"]
    }


def test_only_what_trains_gets_a_rate_and_parts_get_their_scale() -> None:
    rates = rate_of(Parts(), OptimizerChoice(lr=1.0, lr_scale={"image_encoder": 0.1}))
    assert {name: rate for name, (rate, _) in rates.items() if name.endswith("weight")} == {
        "image_encoder.trunk.patch_embed.weight": 0.1,
        "image_encoder.trunk.blocks.0.weight": 0.1,
        "image_encoder.trunk.blocks.1.weight": 0.1,
        "image_encoder.neck.weight": 0.1,
        "sam_mask_decoder.weight": 1.0,
    }


def test_layer_decay_falls_from_the_last_block_to_the_patch_embedding() -> None:
    rates = rate_of(Parts(), OptimizerChoice(lr=1.0, layer_decay=0.5))
    assert {name: rate for name, (rate, _) in rates.items() if name.endswith("weight")} == {
        "image_encoder.trunk.patch_embed.weight": 0.125,
        "image_encoder.trunk.blocks.0.weight": 0.25,
        "image_encoder.trunk.blocks.1.weight": 0.5,
        "image_encoder.neck.weight": 1.0,
        "sam_mask_decoder.weight": 1.0,
    }


def test_norms_and_biases_can_go_without_weight_decay() -> None:
    rates = rate_of(tiny(), OptimizerChoice(no_decay_norms=True))
    assert {name: decay for name, (_, decay) in rates.items()} == {
        "0.weight": None, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0,
    }  # fmt: skip


# Every one with a bound on its rates, given as an absolute rate.
BOUNDED: dict[str, dict[str, Any]] = {
    "CosineAnnealingLR": {"T_max": 4, "eta_min": 0.5},
    "CosineAnnealingWarmRestarts": {"T_0": 3, "eta_min": 0.5},
    "OneCycleLR": {"max_lr": 8.0, "total_steps": 6},
    "CyclicLR": {"base_lr": 0.5, "max_lr": 2.0, "step_size_up": 2, "cycle_momentum": False},
    "ReduceLROnPlateau": {"patience": 0, "min_lr": 0.5},
    "PolynomialLR": {"total_iters": 9},
}


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name not in REFUSED_SCHEDULERS])
def test_every_schedule_keeps_the_proportions_of_parts_and_layers(name: str) -> None:
    """A tenth is a tenth at every step: no scheduler pulls a slow part up to a bound meant for the full rate."""
    section = OptimizerChoice("SGD", 1.0, {"momentum": 0.9}, lr_scale={"image_encoder": 0.1}, layer_decay=0.5)
    model = Parts()
    optimizer = build_optimizer(model, section)
    monitor = "val_loss" if name == "ReduceLROnPlateau" else None
    arguments = BOUNDED[name] if name in BOUNDED else NEEDED.get(name, {})
    schedule = build_scheduler(
        optimizer, SchedulerChoice(name, arguments, monitor=monitor, warmup_steps=2), steps_per_epoch=1, num_epochs=6
    )
    seen = set()
    for number in range(6):
        with schedule.rates_of(number) as rates:
            shares = [rate / rates[-1] for rate in rates]
        assert shares == pytest.approx([0.0125, 0.025, 0.05, 0.1, 1.0])
        assert schedule.largest_rate() == pytest.approx(rates[-1] / schedule.warmup_factor(number))
        seen.add(rates[-1])
        schedule.after_epoch({"val_loss": 1.0})
    assert len(seen) > 1


def test_the_scales_of_the_groups_come_back_with_a_resume_file() -> None:
    section = OptimizerChoice("SGD", 1.0, lr_scale={"image_encoder": 0.1})
    optimizer, other = (build_optimizer(Parts(), section) for _ in range(2))
    other.load_state_dict(unpack(*pack(optimizer.state_dict())))
    with Schedule(other).rates_of(0) as rates:
        assert rates == [0.1, 1.0]


def test_a_model_of_which_nothing_trains_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would be trained"):
        build_optimizer(tiny().requires_grad_(False), OptimizerChoice())
