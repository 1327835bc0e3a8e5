"""Schema of the section `module:`: SAM 2 model, trainable parts, LoRA, loss, prompts, EMA, checkpoints, W&B."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sam2ft.config.schema.arguments import (
    argument_problems,
    arguments_with_defaults,
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
    of_training,
    plain,
    problem,
    problems,
    section,
)
from sam2ft.config.schema.model_names import MODELS, NANO, model_hint
from sam2ft.config.schema.optimizer import EarlyStopping, Optimizer, Positive, Scheduler

PARTS = ("prompt_encoder", "image_encoder", "mask_decoder")
LossFrame = Literal["original", "decoder"]
Probability = Annotated[float, Field(ge=0, le=1)]


def _stock_model(name: str) -> str:
    """The config that a name stands for: ids, records and checkpoints hold the config alone, as they always did."""
    if name in MODELS:
        return MODELS[name]
    known = [NANO, *MODELS]
    if name != NANO and name not in signatures()["sam2_configs"]:
        raise problem(f"found {shown_value(name)}{model_hint(name, known)}; allowed: {', '.join(known)}")
    return name


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise problem(f"found {shown_value(text)}, not a regular expression: {error}") from None
    return text


class TrainableOnly(Section):
    """Selection of some parameters of a part of the model, by regular expressions."""

    only: tuple[Annotated[str, AfterValidator(_pattern)], ...] = of_training(
        REQUIRED,
        "regular expressions; a parameter of the part is trained if one of them matches anywhere in its name",
        min_length=1,
    )


class Trainable(Section):
    """Which parts of SAM 2 are trained: true, false, or {only: [regular expression, ...]}."""

    prompt_encoder: bool | TrainableOnly = of_training(False, "whether the prompt encoder is trained")
    image_encoder: bool | TrainableOnly = of_training(True, "whether the image encoder is trained")
    mask_decoder: bool | TrainableOnly = of_training(True, "whether the mask decoder is trained")


class Loss(Section):
    """Training loss: seg_loss_weight x region loss + ce_loss_weight x pixel loss (+ iou_weight x IoU head loss)."""

    seg: str = of_training("DiceLoss", "region loss: a MONAI loss by name, or BCE")
    seg_args: Arguments = of_training(ReadOnlyDict(), "arguments of the region loss", validate_default=True)
    ce: str = of_training("BCE", "pixel loss: BCE, or a MONAI loss by name")
    ce_args: Arguments = of_training(ReadOnlyDict(), "arguments of the pixel loss", validate_default=True)
    seg_loss_weight: float = of_training(0.5, "weight of the region loss", unit="1", ge=0)
    ce_loss_weight: float = of_training(0.5, "weight of the pixel loss", unit="1", ge=0)
    frame: LossFrame = of_training(
        "original",
        "grid on which the loss is computed: that of the slice, or that of the decoder output (image_size / 4)",
    )
    iou_weight: float = of_training(
        0.0, "weight of the loss of the IoU head (regression of the predicted IoU)", unit="1", ge=0
    )

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
            raise problem("all weights are 0, so nothing would be trained; allowed: at least one weight above 0")
        return self

    def identity_values(self) -> Mapping[str, Any]:
        args = {
            f"{key}_args": arguments_with_defaults("losses", getattr(self, key), getattr(self, f"{key}_args"))
            for key in ("seg", "ce")
        }
        return {**super().identity_values(), **args}


class PromptMixture(Section):
    """How instances are prompted in training: shares of the kinds of prompts."""

    box: Probability = of_training(1.0, "share of instances prompted with their box", unit="1")
    point: Probability = of_training(0.0, "share of instances prompted with a point inside", unit="1")
    mask: Probability = of_training(0.0, "share of instances prompted with a mask", unit="1")
    max_instances_per_slice: int = of_training(
        16, "largest number of instances used per slice; drawn at random from a slice with more", unit="instances", ge=1
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = self.box + self.point + self.mask
        if abs(total - 1) > 1e-6:
            raise problem(f"box {self.box:g} + point {self.point:g} + mask {self.mask:g} is {total:g}; allowed: 1")
        return self

    @property
    def shares(self) -> Mapping[str, float]:
        """Kind of prompt -> its share (core/prompts)."""
        return {"box": self.box, "point": self.point, "mask": self.mask}


class Ema(Section):
    """Exponential moving average (EMA) of the weights; it is evaluated instead of the weights."""

    decay: float = of_training(0.999, "share of the old average that stays at each step", unit="1", gt=0, lt=1)


class Lora(Section):
    """Low-rank adaptation (LoRA) of every linear layer in the blocks of the image encoder; merged into it on export."""

    rank: int = of_training(8, "rank of the update; at most the smallest dimension of any of these layers", ge=1)
    alpha: float = of_training(16.0, "scale of the update, which is multiplied by alpha / rank", gt=0)


class WandB(Section):
    """Weights & Biases logging."""

    mode: Literal["online", "offline"] = plain("online", "online, or offline: write to disk for a later wandb sync")
    project: str | None = plain(None, "project name; null: name of the experiment")


class Checkpoints(Section):
    """When a run writes a checkpoint from which it can be resumed."""

    every_minutes: Positive | None = plain(15.0, "longest time between two checkpoints", unit="min")
    every_steps: int | None = plain(None, "steps between two checkpoints", unit="steps", ge=1)
    every_epoch: bool = plain(False, "also write one after every epoch")
    keep: int = plain(2, "number of checkpoints to keep, the newest ones", ge=1)


class Module(Section):
    """The model, which parts of it are trained, and how."""

    sam2_model_cfg: Annotated[str, AfterValidator(_stock_model)] = of_training(
        REQUIRED,
        "the model: sam2_nano, or an official one by name, such as sam2.1_hiera_tiny (or its config in sam2)",
    )
    sam2_checkpoint: PathFromHere | None = plain(
        None,
        "file of the initial weights; its content, not its path, is part of the run_id; null: those of sam2_nano",
    )
    image_size: int = of_training(
        1024, "side of the square to which a slice is resized", unit="px", ge=64, multiple_of=32
    )
    lora: Lora | None = Field(None, description="low-rank adaptation (LoRA) of the image encoder; null: none")
    trainable: Trainable = section(Trainable, "which parts are trained", validate_default=True)
    loss: Loss = section(Loss, "loss that is minimised")
    optimizer: Optimizer = section(Optimizer, "optimizer that minimises the loss")
    scheduler: Scheduler | None = Field(None, description="learning rate schedule; null: constant")
    num_epochs: int = of_training(100, "largest number of passes over the training slices", unit="epochs", ge=1)
    use_amp: bool | Literal["fp16", "bf16", "tf32"] = of_training(
        "bf16",
        "precision of the computation: false is fp32, the others are mixed; true: bf16 if it is faster on the device, "
        "else fp16 (GPU) or fp32 (CPU); docs/training.md",
    )
    grad_accum: int = plain(
        1,
        "batches per optimizer step; slices per step (this x batch_size x processes) are part of the run_id",
        unit="batches",
        ge=1,
    )
    clip_grad: Positive | None = of_training(
        1.0, "largest norm of the gradient: a larger gradient is scaled down to it; null: never"
    )
    early_stopping: EarlyStopping = section(EarlyStopping, "early stopping, and choice of the best epoch")
    prompts: PromptMixture = section(PromptMixture, "how instances are prompted in training")
    ema: Ema | None = Field(None, description="exponential moving average (EMA) of the weights; null: none")
    max_skipped_steps: int = plain(
        10, "number of consecutive steps with a non-finite loss or gradient that ends the run", unit="steps", ge=1
    )
    deterministic: bool = of_training(
        False,
        "training on a GPU is repeatable to the last bit, which is slower; on a CPU it always is",
        legacy=False,
    )
    compile: bool = of_training(
        False,
        "compile the blocks of the image encoder: faster steps, but minutes of start-up and other rounding",
        legacy=False,
    )
    activation_checkpointing: bool = plain(
        False, "compute activations twice instead of keeping them: less memory, slower steps, the same gradients"
    )
    checkpoint: Checkpoints = section(Checkpoints, "when checkpoints for resuming are written")
    use_wandb: bool = plain(False, "log to Weights & Biases")
    wandb: WandB = section(WandB, "settings of Weights & Biases")
    visualize: bool = plain(True, "draw pictures of predictions during training")

    @field_validator("trainable")
    @classmethod
    def _something_trains(cls, value: Trainable, info: ValidationInfo) -> Trainable:
        lora = info.data.get("lora", True)
        if lora is None and not any(getattr(value, part) for part in PARTS):
            raise problem("no part is trained; allowed: true, or {only: [...]}, for at least one part")
        if isinstance(lora, Lora) and value.image_encoder is True:
            found = "found true, which trains the whole encoder, so that module.lora has no effect"
            message = f"{found}; allowed: false, or {{only: [...]}} for parameters trained besides the low-rank updates"
            raise problems({"image_encoder": message})
        return value

    @field_validator("use_amp", mode="before")
    @classmethod
    def _fp32_is_false(cls, value: Any) -> Any:
        # The most alike of the allowed words is tf32, which is another precision.
        if value == "fp32":
            raise problem('found "fp32"; allowed: false, which computes in fp32, or true, fp16, bf16, tf32')
        return value

    @field_validator("activation_checkpointing")
    @classmethod
    def _not_of_compiled_blocks(cls, value: bool, info: ValidationInfo) -> bool:
        # torch.compile takes no function of contexts for checkpointing; without it attention would have two dtypes.
        if value and info.data.get("compile"):
            raise problem(
                "found true beside module.compile: true, whose blocks cannot be computed again; allowed: false"
            )
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
