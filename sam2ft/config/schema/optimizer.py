"""Schema of optimizer, learning rate scheduler and early stopping (in `module:`)."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sam2ft.config.schema.base import REQUIRED, Arguments, ClassSection, ReadOnlyDict, Section, of_training, problem

Part = Literal["prompt_encoder", "image_encoder", "mask_decoder"]
Monitor = Literal[
    "val_loss", "val_dice", "val_seg", "val_ce", "val_iou", "train_loss", "train_seg", "train_ce", "train_iou"
]
Mode = Literal["min", "max"]
Positive = Annotated[float, Field(gt=0)]


def mode_of(monitor: str) -> Mode:
    """The direction in which a monitored value is better: "min" or "max"."""
    return "max" if monitor.endswith("_dice") else "min"


class Optimizer(ClassSection):
    """A torch.optim class by name; further keys are arguments of its constructor."""

    table: ClassVar[str] = "optimizers"
    type: str = of_training("AdamW", "name of a torch.optim class")
    constructor_arguments: Arguments = of_training(ReadOnlyDict(), "arguments of the optimizer")
    lr: float = of_training(1e-4, "learning rate", gt=0)
    lr_scale: Annotated[Mapping[Part, Positive], AfterValidator(ReadOnlyDict)] = of_training(
        ReadOnlyDict(), "factor on lr for single parts, for example {image_encoder: 0.1}", unit="1"
    )
    layer_decay: float | None = of_training(
        None,
        "layer-wise decay: factor on lr per block of the image encoder, from the last block to the first",
        gt=0,
        le=1,
    )
    no_decay_norms: bool = of_training(False, "no weight decay on norms and biases")

    @property
    def arguments(self) -> Mapping[str, Any]:
        return ReadOnlyDict({"lr": self.lr, **self.constructor_arguments})


class Scheduler(ClassSection):
    """A torch.optim.lr_scheduler class by name; further keys are arguments of its constructor."""

    table: ClassVar[str] = "schedulers"
    type: str = of_training(REQUIRED, "name of a torch.optim.lr_scheduler class")
    constructor_arguments: Arguments = of_training(ReadOnlyDict(), "arguments of the scheduler")
    interval: Literal["step", "epoch"] = of_training("epoch", "when the scheduler advances")
    monitor: Monitor | None = of_training(None, "value that ReduceLROnPlateau monitors", validate_default=True)
    warmup_steps: int = of_training(0, "steps of linear warm-up before the scheduler", unit="steps", ge=0)

    @classmethod
    def more_problems(cls, name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
        half = {"epochs", "steps_per_epoch"} & arguments.keys()
        if name == "OneCycleLR" and len(half) == 1 and "total_steps" not in arguments:
            return {
                half.pop(): "OneCycleLR takes epochs together with steps_per_epoch; leave out both to cover all epochs"
            }
        return {}

    @field_validator("interval")
    @classmethod
    def _plateau_by_epoch(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("type") == "ReduceLROnPlateau" and value != "epoch":
            raise problem(
                "found step; allowed: epoch (the value that ReduceLROnPlateau monitors is computed once per epoch)"
            )
        return value

    @field_validator("monitor")
    @classmethod
    def _plateau_alone_watches(cls, value: str | None, info: ValidationInfo) -> str | None:
        name = info.data.get("type")
        if name == "ReduceLROnPlateau" and value is None:
            raise problem("missing; ReduceLROnPlateau needs it, such as val_loss")
        if name not in (None, "ReduceLROnPlateau") and value is not None:
            raise problem(f"{name} monitors no value, only ReduceLROnPlateau does; leave the key out")
        if value is not None and info.data.get("constructor_arguments", {}).get("mode", "min") != mode_of(value):
            raise problem(f"{value} is better when {_BETTER[mode_of(value)]}; also set mode: {mode_of(value)}")
        return value


_BETTER = {"min": "smaller", "max": "larger"}


class EarlyStopping(Section):
    """Early stopping: when training ends before num_epochs, and which epoch is the best."""

    enabled: bool = of_training(True, "stop early; the best epoch is chosen by the same rule in both cases")
    monitor: Monitor = of_training(
        "val_loss", "value of an epoch by which the best epoch and the best point are chosen"
    )
    mode: Mode = of_training("min", "whether smaller (min) or larger (max) values are better", validate_default=True)
    patience: int = of_training(10, "epochs without improvement before stopping", unit="epochs", ge=1)
    min_delta: float = of_training(
        0.001, "an epoch is an improvement if it is better than the best epoch by more than this", ge=0
    )

    @field_validator("mode")
    @classmethod
    def _mode_fits(cls, value: str, info: ValidationInfo) -> str:
        monitor = info.data.get("monitor")
        if monitor is not None and value != mode_of(monitor):
            raise problem(f"{monitor} is better when {_BETTER[mode_of(monitor)]}; allowed: {mode_of(monitor)}")
        return value
