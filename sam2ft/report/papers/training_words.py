"""Words of the methods text for the settings of a training: parts, loss, optimizer, schedule, prompts, augmentation.

Every setting that is part of the identity of a training has its words here or in templates/papers/methods.md.j2, or a
reason in UNSAID: tests/report/papers/test_training_words.py changes each of them and looks for a change of the text.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sam2ft.config.schema.arguments import arguments_with_defaults
from sam2ft.config.schema.datamodule import Transform
from sam2ft.config.schema.model_names import NANO, model_name
from sam2ft.config.schema.module import Loss, Module, PromptMixture, TrainableOnly
from sam2ft.config.schema.optimizer import Optimizer, Scheduler
from sam2ft.core.prompts import main_kind
from sam2ft.report.papers.markdown import code_text, markdown_list
from sam2ft.report.papers.study import Study

UNSAID: Mapping[str, str] = {
    "module.early_stopping.mode": "follows from module.early_stopping.monitor, and the schema refuses any other value",
}
"""Setting that affects training -> why the methods text has no words for it."""

PARTS = {"image_encoder": "image encoder", "mask_decoder": "mask decoder", "prompt_encoder": "prompt encoder"}
PRECISIONS = {
    "fp32": "float32",
    "tf32": "float32 with products in TF32",
    "bf16": "bfloat16 (mixed precision)",
    "fp16": "float16 (mixed precision)",
}
"""Precision -> its words; of a training, loss and weights are in float32 in all of them."""
_LOSS_WORDS = {"DiceLoss": "Dice loss", "BCE": "binary cross-entropy", "iou": "error of the predicted IoU"}


def model_words(config: str) -> str:
    """The model of a configuration, for `We used {}`; an official one by its name."""
    name = model_name(config)
    if name == NANO:
        return (
            f"{code_text(NANO)}, a small model of sam2ft with the architecture of SAM 2 [@ravi2025sam2], for tests and "
            "demonstrations"
        )
    if name == config:
        return f"SAM 2 [@ravi2025sam2] in the configuration {code_text(config)}"
    return f"{'SAM 2.1' if name.startswith('sam2.1') else 'SAM 2'} [@ravi2025sam2], model {code_text(name)}"


def choice_sentences(study: Study) -> list[str]:
    """How many trainings there were, which one the text describes, and the seeds, as sentences."""
    trainings, seed = study.trainings, study.settings.experiment.seed
    if len(trainings) < 2:
        return [f"The seed was {seed}."]
    settings, seeds = markdown_list(map(code_text, study.trained_settings)), study.seeds
    several = f"the seeds {markdown_list(map(str, seeds))}"
    what = f"{study.num_combinations} combinations of {settings}" if settings else "the same settings"
    if len(seeds) > 1 and settings:
        what += f", with {several}"
    elif len(seeds) > 1:
        what += f" with {several}"
    finished = study.num_finished
    left = "" if finished == len(trainings) else f", of which {finished} finished"
    planned = "planned" if left else "made"
    point = trainings[0]
    extreme = "highest" if point.mode == "max" else "lowest"
    return [
        f"{len(trainings)} trainings were {planned}: {what}{left}.",
        f"The one with the {extreme} {code_text(point.monitor)} on the validation subjects was chosen (seed {seed}); "
        "the test subjects had no part in this choice.",
        "The intervals below are over subjects, not over seeds."
        if len(seeds) > 1
        else f"The seed was {seed} in all of them.",
    ]


def trained_parts(module: Module) -> list[str]:
    """What trains, a text per part: the whole part, its tensors with given names, or low-rank updates."""
    chosen = {name: getattr(module.trainable, name) for name in PARTS}
    found = [f"the {words}" for name, words in PARTS.items() if chosen[name] is True]
    for name, words in PARTS.items():
        if isinstance(only := chosen[name], TrainableOnly):
            found.append(f"the tensors of the {words} whose names match {_either(map(code_text, only.only))}")
    if module.lora is not None:
        rank, alpha = module.lora.rank, module.lora.alpha
        found.append(f"low-rank updates (rank {rank}, alpha {alpha:g}) of the image encoder [@hu2022lora]")
    return found


def loss_terms(loss: Loss) -> list[str]:
    """The terms of the loss with weight and arguments."""
    weights = (
        (loss.seg_loss_weight, loss.seg, loss.seg_args),
        (loss.ce_loss_weight, loss.ce, loss.ce_args),
        (loss.iou_weight, "iou", None),
    )
    found = []
    for weight, name, given in weights:
        values = {} if given is None else arguments_with_defaults("losses", name, given)
        if weight:
            found.append(f"{weight:g} x {_LOSS_WORDS.get(name, name)}{_in_brackets(values)}")
    return found


def optimizer_words(optimizer: Optimizer) -> str:
    """Class, rate and all effective arguments of the optimizer."""
    values = arguments_with_defaults(optimizer.table, optimizer.type, optimizer.constructor_arguments)
    values.pop("lr", None)
    cited = " [@loshchilov2019adamw]" if optimizer.type == "AdamW" else ""
    arguments = ", ".join([f"learning rate {optimizer.lr:g}", *_pairs(values)])
    return f"{optimizer.type}{cited} ({arguments})"


def rate_factors(optimizer: Optimizer) -> list[str]:
    """Sentences, without their ends, about learning rates and weight decay that differ between tensors."""
    found = [
        f"The learning rate of the {PARTS[part]} was {factor:g} times this"
        for part, factor in optimizer.lr_scale.items()
    ]
    if optimizer.layer_decay is not None:
        found.append(
            f"From the last block of the image encoder to its first the learning rate was multiplied by "
            f"{optimizer.layer_decay:g} per block"
        )
    if optimizer.no_decay_norms:
        found.append("Norms, biases and other vectors had no weight decay")
    return found


def schedule_words(scheduler: Scheduler | None) -> str:
    """How the learning rate changes, as a sentence without its end."""
    if scheduler is None:
        return "The learning rate was constant"
    values = arguments_with_defaults(scheduler.table, scheduler.type, scheduler.constructor_arguments)
    watched = f" watching {code_text(scheduler.monitor)}," if scheduler.monitor else ""
    text = (
        f"The learning rate followed {code_text(scheduler.type)}{_in_brackets(values)} of PyTorch,{watched} advanced "
        f"once per {scheduler.interval}, so that its lengths count {scheduler.interval}s"
    )
    if scheduler.warmup_steps:
        text += f"; over the first {scheduler.warmup_steps} steps it was scaled up linearly"
    return text


def prompt_words(prompts: PromptMixture, bbox_shift_px: int) -> str:
    """The kinds of prompts in training with their shares, and how each is drawn."""
    moved = {
        "box": f", each side moved outward by 0 to {bbox_shift_px} pixels at random" if bbox_shift_px else "",
        "mask": f", the outline moved by up to {bbox_shift_px} pixels at random" if bbox_shift_px else "",
    }
    kinds = {
        "box": f"boxes of the reference{{share}}{moved['box']}",
        "point": "points{share} drawn at random inside the reference",
        "mask": f"reference masks{{share}}{moved['mask']}",
    }
    shares = {kind: share for kind, share in prompts.shares.items() if share}
    text = [kinds[kind].format(share=f" ({share:.0%})" if len(shares) > 1 else "") for kind, share in shares.items()]
    return "; ".join(text)


def validation_prompt(prompts: PromptMixture) -> str:
    """The one kind of prompt in validation."""
    return {
        "box": "its tight box",
        "point": "the pixel deepest inside it",
        "mask": "its mask, the outline moved by the same draw in every epoch",
    }[main_kind(prompts.shares)]


def transform_words(transforms: Sequence[Transform]) -> list[str]:
    """The augmentations in order, with all effective arguments."""
    return [
        f"{code_text(one.type)}{_in_brackets(arguments_with_defaults(one.table, one.type, one.constructor_arguments))}"
        for one in transforms
    ]


def precision_words(recorded: Sequence[str], use_amp: object) -> str:
    """In what the model computed, for `in {}`: as recorded, else as the setting says.

    `true` and `tf32` depend on the device, so that without a record the text says what was asked for.
    """
    if recorded:
        return markdown_list(PRECISIONS.get(name, name) for name in recorded)
    if use_amp is True:
        return "the fastest precision of the device (which one was not recorded)"
    if use_amp == "tf32":
        return "float32 (products in TF32 where the device has it; whether it had was not recorded)"
    return PRECISIONS["fp32" if use_amp is False else str(use_amp)]


def _in_brackets(values: Mapping[str, Any]) -> str:
    return f" ({', '.join(_pairs(values))})" if values else ""


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{name} {_value(value)}" for name, value in values.items()]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})"
    return {True: "on"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _either(words: Iterable[str]) -> str:
    return " or ".join(words)
