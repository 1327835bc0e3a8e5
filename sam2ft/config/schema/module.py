"""`module:`: the model, what of it trains, and how."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sam2ft.config.schema.arguments import (
    argument_problems,
    did_you_mean,
    resolved,
    shown_value,
    signatures,
    type_problem,
)
from sam2ft.config.schema.base import (
    REQUIRED,
    Arguments,
    PathFromHere,
    ReadOnlyDict,
    Section,
    leaf,
    problem,
    problems,
    section,
)
from sam2ft.config.schema.optimizer import EarlyStopping, Optimizer, Positive, Scheduler

NANO = "sam2_nano"
PARTS = ("prompt_encoder", "image_encoder", "mask_decoder")
Probability = Annotated[float, Field(ge=0, le=1)]


def _stock_model(name: str) -> str:
    known = [NANO, *signatures()["sam2_configs"]]
    if name not in known:
        raise problem(f"found {shown_value(name)}{did_you_mean(name, known)}; allowed: {', '.join(known)}")
    return name


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise problem(f"found {shown_value(text)}, not a regular expression: {error}") from None
    return text


class TrainableOnly(Section):
    """Some parameters of a part."""

    only: tuple[Annotated[str, AfterValidator(_pattern)], ...] = leaf(
        REQUIRED,
        "regular expressions; a parameter of the part trains when one of them is found in its name",
        affects="training",
        min_length=1,
    )


class Trainable(Section):
    """Which parts of SAM 2 train: true, false, or {only: [regular expression, ...]}."""

    prompt_encoder: bool | TrainableOnly = leaf(False, "whether the prompt encoder trains", affects="training")
    image_encoder: bool | TrainableOnly = leaf(True, "whether the image encoder trains", affects="training")
    mask_decoder: bool | TrainableOnly = leaf(True, "whether the mask decoder trains", affects="training")


class Loss(Section):
    """seg_loss_weight x region loss + ce_loss_weight x pixel loss (+ iou_weight x IoU head loss)."""

    seg: str = leaf("DiceLoss", "region loss: a MONAI loss by name, or BCE", affects="training")
    seg_args: Arguments = leaf(ReadOnlyDict(), "its arguments", affects="training", validate_default=True)
    ce: str = leaf("BCE", "pixel loss: BCE, or a MONAI loss by name", affects="training")
    ce_args: Arguments = leaf(ReadOnlyDict(), "its arguments", affects="training", validate_default=True)
    seg_loss_weight: float = leaf(0.5, "weight of the region loss", affects="training", unit="1", ge=0)
    ce_loss_weight: float = leaf(0.5, "weight of the pixel loss", affects="training", unit="1", ge=0)
    frame: Literal["original", "decoder"] = leaf(
        "original", "grid of the loss: the slice's own, or the decoder's (image_size / 4)", affects="training"
    )
    iou_weight: float = leaf(0.0, "weight of the regression of the predicted IoU", affects="training", unit="1", ge=0)

    @field_validator("seg", "ce")
    @classmethod
    def _known_loss(cls, value: str) -> str:
        if message := type_problem("losses", value):
            raise problem(message)
        return value

    @field_validator("seg_args", "ce_args")
    @classmethod
    def _bound(cls, value: Mapping[str, Any], info: ValidationInfo) -> Mapping[str, Any]:
        name = info.data.get(str(info.field_name).removesuffix("_args"))
        if name is not None and (found := argument_problems("losses", name, value)):
            raise problems(found)
        return value

    @model_validator(mode="after")
    def _something_is_weighted(self) -> Self:
        if self.seg_loss_weight == self.ce_loss_weight == self.iou_weight == 0:
            raise problem("all weights are 0, nothing would be learnt; allowed: at least one weight more than 0")
        return self

    def identity_values(self) -> Mapping[str, Any]:
        args = {
            f"{key}_args": resolved("losses", getattr(self, key), getattr(self, f"{key}_args")) for key in ("seg", "ce")
        }
        return {**super().identity_values(), **args}


class PromptMixture(Section):
    """How instances are prompted in training."""

    box: Probability = leaf(1.0, "share of instances prompted by their box", affects="training", unit="1")
    point: Probability = leaf(0.0, "share prompted by a point inside", affects="training", unit="1")
    mask: Probability = leaf(0.0, "share prompted by a mask", affects="training", unit="1")
    max_instances_per_slice: int = leaf(
        16, "instances used of a slice that has more, drawn at random", affects="training", unit="instances", ge=1
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = self.box + self.point + self.mask
        if abs(total - 1) > 1e-6:
            raise problem(f"box {self.box:g} + point {self.point:g} + mask {self.mask:g} is {total:g}; allowed: 1")
        return self


class Ema(Section):
    """An exponential moving average of the weights, evaluated in their place."""

    decay: float = leaf(0.999, "share kept of the average per step", affects="training", unit="1", gt=0, lt=1)


class Lora(Section):
    """Low-rank updates of every linear layer of the image encoder's blocks, merged into it on export."""

    rank: int = leaf(
        8, "rank of the update, at most the smallest side of any of these layers", affects="training", ge=1
    )
    alpha: float = leaf(16.0, "scale of the update; it is multiplied by alpha / rank", affects="training", gt=0)


class WandB(Section):
    """Weights & Biases."""

    mode: Literal["online", "offline"] = leaf(
        "online", "offline: written to disk for a later wandb sync", affects="nothing"
    )
    project: str | None = leaf(None, "project name; null: the experiment's name", affects="nothing")


class Checkpoints(Section):
    """When a run writes the file it can be resumed from."""

    every_minutes: Positive | None = leaf(15.0, "longest time between two", affects="nothing", unit="min")
    every_steps: int | None = leaf(None, "steps between two", affects="nothing", unit="steps", ge=1)
    every_epoch: bool = leaf(False, "also after every epoch", affects="nothing")
    keep: int = leaf(2, "how many are kept, the newest ones", affects="nothing", ge=1)


class Module(Section):
    """The model, what of it trains, and how."""

    sam2_model_cfg: Annotated[str, AfterValidator(_stock_model)] = leaf(
        REQUIRED, "config of the sam2 package by name, or sam2_nano", affects="training"
    )
    sam2_checkpoint: PathFromHere | None = leaf(
        None, "initial weights, in the identity by content; null: those shipped with sam2_nano", affects="nothing"
    )
    image_size: int = leaf(
        1024, "side of the square a slice is resized to", affects="training", unit="px", ge=64, multiple_of=32
    )
    lora: Lora | None = Field(None, description="low-rank training of the image encoder; null: none")
    trainable: Trainable = section(Trainable, "which parts train", validate_default=True)
    loss: Loss = section(Loss, "what is minimised")
    optimizer: Optimizer = section(Optimizer, "how it is minimised")
    scheduler: Scheduler | None = Field(None, description="how the learning rate changes; null: it does not")
    num_epochs: int = leaf(100, "passes over the training slices", affects="training", unit="epochs", ge=1)
    use_amp: bool | Literal["fp16", "bf16"] = leaf(
        "bf16",
        "mixed precision; true: bf16 where the device is faster so, else fp16 (GPU), fp32 (CPU)",
        affects="training",
    )
    grad_accum: int = leaf(
        1, "batches per step; enters a run's identity as slices_per_step", affects="nothing", unit="batches", ge=1
    )
    clip_grad: Positive | None = leaf(1.0, "largest norm of the gradient; null: not clipped", affects="training")
    early_stopping: EarlyStopping = section(EarlyStopping, "when training ends early")
    prompts: PromptMixture = section(PromptMixture, "how instances are prompted in training")
    ema: Ema | None = Field(None, description="averaged weights; null: none")
    max_skipped_steps: int = leaf(
        10, "steps in a row with a non-finite loss or gradient that end the run", affects="nothing", unit="steps", ge=1
    )
    activation_checkpointing: bool = leaf(False, "recompute activations to save memory", affects="nothing")
    checkpoint: Checkpoints = section(Checkpoints, "when a run can be resumed from")
    use_wandb: bool = leaf(False, "log to Weights & Biases", affects="nothing")
    wandb: WandB = section(WandB, "how to log there")
    visualize: bool = leaf(True, "draw pictures of predictions during training", affects="nothing")

    @field_validator("trainable")
    @classmethod
    def _something_trains(cls, value: Trainable, info: ValidationInfo) -> Trainable:
        lora = info.data.get("lora", True)
        if lora is None and not any(getattr(value, part) for part in PARTS):
            raise problem("no part trains; allowed: true, or {only: [...]}, for at least one part")
        if isinstance(lora, Lora) and value.image_encoder is True:
            found = "found true, which trains the whole encoder and leaves module.lora nothing to do"
            message = f"{found}; allowed: false, or {{only: [...]}} for what trains besides its low-rank updates"
            raise problems({"image_encoder": message})
        return value

    @field_validator("early_stopping", "scheduler")
    @classmethod
    def _monitored_term_exists(
        cls, value: EarlyStopping | Scheduler | None, info: ValidationInfo
    ) -> EarlyStopping | Scheduler | None:
        monitor, loss = getattr(value, "monitor", None), info.data.get("loss")
        if monitor is not None and monitor.endswith("_iou") and loss is not None and loss.iou_weight == 0:
            raise problems({"monitor": f"{monitor} is not logged while module.loss.iou_weight is 0"})
        return value
