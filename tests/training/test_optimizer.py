import re
import warnings
from typing import Any

import pytest
import torch
from fixtures.trainers import trainer_settings
from pydantic import ValidationError
from torch.optim import lr_scheduler

from sam2ft.config.schema.arguments import REFUSED, known_names
from sam2ft.config.schema.optimizer import Optimizer, Scheduler
from sam2ft.core.errors import ConfigError
from sam2ft.training.checkpoints.nested_state import pack, unpack
from sam2ft.training.optimizer import build_optimizer, chooses_fused, parameter_groups, restore_optimizer
from sam2ft.training.schedule import Schedule, build_scheduler
from sam2ft.training.state import TrainerContext
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
    refused = REFUSED["optimizers" if is_optimizer else "schedulers"]
    plateau = name == "ReduceLROnPlateau"
    arguments = {key: value for key, value in NEEDED.get(name, {}).items() if key != "total_steps"}
    if name in refused:
        with pytest.raises(ValidationError, match=f"{name} cannot be used: {re.escape(refused[name])}; allowed: "):
            (Optimizer if is_optimizer else Scheduler)(type=name, **arguments)
        return
    chosen = Optimizer(type=name, lr=0.01) if is_optimizer else Optimizer(type="SGD", lr=0.01, momentum=0.9)
    rule = None
    if not is_optimizer:
        by = {"interval": "epoch", "monitor": "val_loss"} if plateau else {"interval": interval}
        rule = Scheduler(type=name, warmup_steps=2, **by, **arguments)
    model, data, seen = two_convolutions(), toy_data(6, 2), recorder()
    before = [tensor.clone() for tensor in model.parameters()]
    optimizer = build_optimizer(model, chosen)
    schedule = build_scheduler(optimizer, rule, steps_per_epoch=3, num_epochs=2)
    settings = trainer_settings(num_epochs=2)
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


def test_a_configuration_can_name_every_optimizer_and_scheduler_of_torch_but_the_refused() -> None:
    for table, names in (("optimizers", OPTIMIZERS), ("schedulers", SCHEDULERS)):
        assert known_names(table) == [name for name in names if name not in REFUSED[table]]


@pytest.mark.parametrize("name", known_names("optimizers"))
def test_every_usable_optimizer_of_torch_resumes(name: str) -> None:
    model = tiny()
    optimizer = build_optimizer(model, Optimizer(type=name, lr=0.01))
    before = [tensor.clone() for tensor in model.parameters()]
    for _ in range(3):
        step(model, optimizer)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    other = build_optimizer(tiny(), Optimizer(type=name, lr=0.01))
    other.load_state_dict(unpack(*pack(optimizer.state_dict())))
    assert pack(other.state_dict())[1] == pack(optimizer.state_dict())[1]


@pytest.mark.parametrize("name", known_names("schedulers"))
def test_every_usable_scheduler_of_torch_advances_and_resumes(name: str) -> None:
    def make() -> tuple[torch.nn.Module, Schedule]:
        model = tiny()
        optimizer = build_optimizer(model, Optimizer(type="SGD", lr=0.1, momentum=0.9))
        monitor = {"monitor": "val_loss"} if name == "ReduceLROnPlateau" else {}
        choice = Scheduler(type=name, **NEEDED.get(name, {}), **monitor)
        return model, build_scheduler(optimizer, choice, steps_per_epoch=4, num_epochs=6)

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
    ("section", "given", "message"),
    [
        (Optimizer, {"type": "Adamw"}, 'found "Adamw" .did you mean AdamW'),
        (Optimizer, {"type": "SGD", "betas": [0.9, 0.9]}, "SGD takes no betas"),
        (Optimizer, {"lr_scale": {"decoder": 0.1}}, "image_encoder"),
        (Scheduler, {"type": "CosineAnnealingWarmRestarts", "T_max": 10}, "CosineAnnealingWarmRestarts needs T_0"),
        (Scheduler, {"type": "ReduceLROnPlateau"}, "needs it, such as val_loss"),
        (Scheduler, {"type": "StepLR", "step_size": 1, "monitor": "val_loss"}, "only ReduceLROnPlateau does"),
        (Scheduler, {"type": "Cosine"}, 'found "Cosine"'),
        (Scheduler, {"type": "OneCycleLR", "max_lr": 1.0, "epochs": 3}, "together with steps_per_epoch"),
    ],
)
def test_the_schema_refuses_what_no_optimizer_or_scheduler_takes(section: Any, given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        section(**given)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Optimizer(type="AdamW", betas=[0.9, 1.5]), "AdamW: Invalid beta parameter"),
        (Optimizer(lr_scale={"mask_decoder": 0.1}), "lr_scale.mask_decoder: nothing of this part is trained"),
    ],
)
def test_what_torch_and_the_model_do_not_take_is_refused(choice: Optimizer, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_optimizer(tiny(), choice)


def test_a_cycle_shorter_than_the_training_is_refused() -> None:
    choice = Scheduler(type="OneCycleLR", max_lr=1.0, total_steps=23, interval="step")
    with pytest.raises(ConfigError, match=r"total_steps: 23, but this training advances it 24 times .*at least 24"):
        build_scheduler(build_optimizer(tiny(), Optimizer(type="SGD")), choice, steps_per_epoch=4, num_epochs=6)


def test_values_that_a_scheduler_refuses_are_named() -> None:
    choice = Scheduler(type="CosineAnnealingWarmRestarts", T_0=0)
    with pytest.raises(ConfigError, match=r"module\.scheduler: CosineAnnealingWarmRestarts: .*T_0"):
        build_scheduler(build_optimizer(tiny(), Optimizer(type="SGD")), choice, steps_per_epoch=4, num_epochs=6)


@pytest.mark.parametrize("length", [{}, {"total_steps": 6}], ids=["untold", "told"])
def test_one_cycle_spans_the_training_s_steps(length: dict[str, int]) -> None:
    model = tiny()
    optimizer = build_optimizer(model, Optimizer(type="SGD"))
    choice = Scheduler(type="OneCycleLR", max_lr=1.0, interval="step", **length)
    schedule = build_scheduler(optimizer, choice, steps_per_epoch=2, num_epochs=3)
    for _ in range(6):
        step(model, optimizer)
        schedule.after_step()


def test_warm_up_scales_the_scheduled_rate_and_leaves_the_schedule_alone() -> None:
    model = tiny()
    optimizer = build_optimizer(model, Optimizer(type="SGD", lr=1.0))
    choice = Scheduler(type="ExponentialLR", gamma=0.5, interval="step", warmup_steps=4)
    schedule = build_scheduler(optimizer, choice, steps_per_epoch=9, num_epochs=1)
    used = []
    for number in range(6):
        with schedule.rates_of(number) as rates:
            step(model, optimizer)
        used += rates
        schedule.after_step()
    assert used == [1 * 0.25, 0.5 * 0.5, 0.25 * 0.75, 0.125, 0.0625, 0.03125]
    assert Schedule(optimizer).warmup_factor(0) == 1.0


def test_a_schedule_advances_without_warnings_before_the_first_update_of_a_process() -> None:
    optimizer = build_optimizer(tiny(), Optimizer(type="SGD"))
    schedule = build_scheduler(optimizer, Scheduler(type="StepLR", step_size=1), steps_per_epoch=1, num_epochs=1)
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


def rate_of(model: torch.nn.Module, choice: Optimizer) -> dict[str, tuple[float, Any]]:
    """Name -> (learning rate, weight decay or None for the optimizer's own)."""
    names = {id(tensor): name.removeprefix("sam2_model.") for name, tensor in model.named_parameters()}
    return {
        names[id(tensor)]: (group["lr"] * group["lr_scale"], group.get("weight_decay"))
        for group in parameter_groups(model, choice)
        for tensor in group["params"]
    }


def test_only_what_trains_gets_a_rate_and_parts_get_their_scale() -> None:
    rates = rate_of(Parts(), Optimizer(lr=1.0, lr_scale={"image_encoder": 0.1}))
    assert {name: rate for name, (rate, _) in rates.items() if name.endswith("weight")} == {
        "image_encoder.trunk.patch_embed.weight": 0.1,
        "image_encoder.trunk.blocks.0.weight": 0.1,
        "image_encoder.trunk.blocks.1.weight": 0.1,
        "image_encoder.neck.weight": 0.1,
        "sam_mask_decoder.weight": 1.0,
    }


def test_layer_decay_falls_from_the_last_block_to_the_patch_embedding() -> None:
    rates = rate_of(Parts(), Optimizer(lr=1.0, layer_decay=0.5))
    assert {name: rate for name, (rate, _) in rates.items() if name.endswith("weight")} == {
        "image_encoder.trunk.patch_embed.weight": 0.125,
        "image_encoder.trunk.blocks.0.weight": 0.25,
        "image_encoder.trunk.blocks.1.weight": 0.5,
        "image_encoder.neck.weight": 1.0,
        "sam_mask_decoder.weight": 1.0,
    }


def test_norms_and_biases_can_go_without_weight_decay() -> None:
    rates = rate_of(tiny(), Optimizer(no_decay_norms=True))
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


@pytest.mark.parametrize("name", known_names("schedulers"))
def test_every_schedule_keeps_the_proportions_of_parts_and_layers(name: str) -> None:
    """A tenth is a tenth at every step: no scheduler pulls a slow part up to a bound meant for the full rate."""
    section = Optimizer(type="SGD", lr=1.0, momentum=0.9, lr_scale={"image_encoder": 0.1}, layer_decay=0.5)
    model = Parts()
    optimizer = build_optimizer(model, section)
    monitor = {"monitor": "val_loss"} if name == "ReduceLROnPlateau" else {}
    arguments = BOUNDED[name] if name in BOUNDED else NEEDED.get(name, {})
    choice = Scheduler(type=name, warmup_steps=2, **arguments, **monitor)
    schedule = build_scheduler(optimizer, choice, steps_per_epoch=1, num_epochs=6)
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
    section = Optimizer(type="SGD", lr=1.0, lr_scale={"image_encoder": 0.1})
    optimizer, other = (build_optimizer(Parts(), section) for _ in range(2))
    other.load_state_dict(unpack(*pack(optimizer.state_dict())))
    with Schedule(other).rates_of(0) as rates:
        assert rates == [0.1, 1.0]


@pytest.mark.parametrize(
    ("section", "chosen"),
    [
        ({"type": "AdamW"}, True),
        ({"type": "Adam", "amsgrad": True}, True),
        ({"type": "SGD", "momentum": 0.9}, True),
        ({"type": "AdamW", "foreach": True}, False),
        ({"type": "AdamW", "fused": False}, False),
        ({"type": "AdamW", "fused": True}, False),  # said, and passed on as it is
        ({"type": "NAdam"}, False),  # has no such kernel
        ({"type": "Adafactor"}, False),
    ],
)
def test_one_kernel_is_chosen_on_gpus_only_and_where_nothing_was_said(section: dict[str, Any], chosen: bool) -> None:
    asked = Optimizer(lr=0.01, **section)
    assert chooses_fused(asked, "cuda") == chosen
    assert not chooses_fused(asked, "cpu")


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD"])
@pytest.mark.parametrize("began", [False, True])
@pytest.mark.parametrize("now", [False, True])
def test_an_optimizer_goes_on_as_it_was_saved(name: str, began: bool, now: bool) -> None:
    """Fused or not is a matter of rounding, so a file decides and not the device that it is read on."""
    ends = []
    for continued in (False, True):
        model = tiny()
        optimizer = build_optimizer(model, Optimizer(type=name, lr=0.1), fused=began)
        for _ in range(2):
            step(model, optimizer)
        if continued:
            saved = unpack(*pack({"optimizer": optimizer.state_dict()}))["optimizer"]
            optimizer = build_optimizer(model, Optimizer(type=name, lr=0.1), fused=now)
            restore_optimizer(optimizer, saved)
        for _ in range(3):
            step(model, optimizer)
        assert [bool(group["fused"]) for group in optimizer.param_groups] == [began]
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.parametrize(("began", "now"), [(False, True), (True, False), (True, True)])
def test_a_restored_optimizer_takes_scaled_gradients_whatever_it_was_built_for(began: bool, now: bool) -> None:
    """torch's scaler hands its scale to a fused optimizer; the updates that are not fused would refuse it."""
    ends = []
    for continued in (False, True):
        model = tiny()
        optimizer = build_optimizer(model, Optimizer(lr=0.1), fused=began)
        if continued:
            saved = optimizer.state_dict()
            optimizer = build_optimizer(model, Optimizer(lr=0.1), fused=now)
            restore_optimizer(optimizer, saved)
        scaler = torch.amp.GradScaler("cpu")
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(torch.arange(25.0).reshape(1, 1, 5, 5) / 25).square().mean()
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        ends.append(model.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
