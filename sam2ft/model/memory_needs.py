"""Memory of a training step on a GPU, by model, trained parts, LoRA, checkpointing, precision and batch. No torch.

The numbers of `MEASURED` are sizes of tensors, counted on fake CUDA tensors in bfloat16 at 1024 px with 8 prompts on
one slice: what the forward pass keeps for the backward pass (with flash attention, which keeps no matrix of attention),
and weights, gradients and moments in float32. Everything else is arithmetic on them. Not counted: the CUDA context, the
work space of libraries, temporary tensors and fragmentation, together `BESIDES_GIB`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.module import Lora, Module

GIB = 2**30
BESIDES_GIB = 1.5
"""Upper end of 1 to 1.5 GiB that a process needs besides what is counted here."""

_SIDE, _PROMPTS = 1024, 8
_FLOAT = 4  # bytes
_SHOWN = 3  # changes in a warning
_MILLION = 1e6


@dataclass(frozen=True)
class Measured:
    """Sizes of one model, in millions of parameters and in GiB for one slice of 1024 px in bfloat16."""

    encoder_m: float
    """Parameters of the image encoder; prompt encoder and mask decoder have 4.2 in every model."""
    all_m: float
    """Parameters of the whole model, memory attention included."""
    lora_m: float
    """Parameters of the low-rank updates per rank."""
    encoder: float
    """Kept by the encoder, where it is trained; with LoRA at most 0.04 less."""
    checkpointed: float
    """Kept by the encoder with activation checkpointing."""
    block: float
    """Kept by its largest block, which checkpointing computes again."""


DECODER_M = 4.2
DECODER, DECODER_MORE = 0.51, 0.06
"""Kept by decoder and loss for 8 prompts, and for each further prompt [GiB]; the same for all models."""

MEASURED: Mapping[str, Measured] = {
    "tiny": Measured(27.2, 39.0, 0.6 / 8, 1.20, 0.09, 0.27),
    "small": Measured(34.3, 46.1, 0.8 / 8, 1.44, 0.10, 0.27),
    "base+": Measured(69.1, 80.9, 1.3 / 8, 2.46, 0.17, 0.31),
    "large": Measured(212.7, 224.4, 3.6 / 8, 5.42, 0.33, 0.40),
}

FULL_PRECISION = {"encoder": 1.66, "decoder": 1.52}
"""Factor of float32 and TF32: half precision keeps some tensors in float32 too."""

_SUFFIXES = {"t": "tiny", "s": "small", "b+": "base+", "l": "large"}
_COPIES = {"Adagrad": 1, "ASGD": 1, "Adafactor": 1, "Rprop": 2}
_DEFAULT_COPIES = 2


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one process of a training needs on its GPU."""

    least: float
    """Weights, gradients, states of the optimizer and averages, of those parts that are trained as a whole."""
    state: float
    """The same, with all of a part of which some parameters are trained."""
    activations: float
    """What the forward pass keeps for the backward pass, at most."""

    @property
    def counted_gib(self) -> float:
        """State and activations, GiB."""
        return (self.state + self.activations) / GIB

    @property
    def total(self) -> float:
        """Bytes with `BESIDES_GIB`."""
        return self.state + self.activations + BESIDES_GIB * GIB


def needed(experiment: Experiment) -> MemoryNeed | None:
    """Return the `memory_need` of an experiment."""
    return memory_need(experiment.module, experiment.datamodule.batch_size)


def memory_need(module: Module, slices: int) -> MemoryNeed | None:
    """Return the memory of a training step with batches of `slices`, each with the largest number of instances.

    A part of which only some parameters are trained counts as a whole, except that with LoRA the parameters trained
    besides it are so few that they are left out. None for a model that was not measured (`sam2_nano`).
    """
    model = MEASURED.get(model_size(module.sam2_model_cfg) or "")
    if model is None:
        return None
    parts = {"image_encoder": model.encoder_m, "mask_decoder": DECODER_M}
    chosen = {part: getattr(module.trainable, part) for part in parts}
    whole = sum(parts[part] for part, choice in chosen.items() if choice is True)
    besides_lora = {"image_encoder"} if module.lora else set()
    most = sum(parts[part] for part, choice in chosen.items() if choice and part not in besides_lora)
    activations = slices * _activations(model, module)
    states = optimizer_copies(module.optimizer.type, module.optimizer.arguments)
    # Adafactor keeps rows and columns of a matrix, a small part of one value per parameter.
    fewest = 0 if module.optimizer.type == "Adafactor" else states
    return MemoryNeed(_state(model, module, whole, fewest), _state(model, module, most, states), activations)


def model_size(config: str) -> str | None:
    """Return the row of `MEASURED` for the name of a config of the sam2 package; None for any other model."""
    family, _, suffix = PurePosixPath(config).stem.rpartition("_hiera_")
    return _SUFFIXES.get(suffix) if family in ("sam2", "sam2.1") else None


def _state(model: Measured, module: Module, millions: float, states: int) -> float:
    """Bytes that do not depend on the batch, when `millions` of parameters are trained besides low-rank updates."""
    updates = model.lora_m * module.lora.rank if module.lora else 0.0
    copies = 1 + states + (module.ema is not None)
    return (model.all_m + updates + (millions + updates) * copies) * _MILLION * _FLOAT


def optimizer_copies(kind: str, arguments: Mapping[str, Any]) -> int:
    """Return the number of values that torch's optimizer `kind` stores per trained parameter.

    An optimizer without an entry in the table counts as two, like Adam.
    """
    if kind == "SGD":
        return 1 if arguments.get("momentum") else 0
    if kind == "RMSprop":
        return 1 + bool(arguments.get("momentum")) + bool(arguments.get("centered"))
    return _COPIES.get(kind, _DEFAULT_COPIES) + bool(arguments.get("amsgrad"))


def _activations(model: Measured, module: Module) -> float:
    """Bytes for one slice."""
    learns = module.lora is not None or bool(module.trainable.image_encoder)
    checkpointed = learns and module.activation_checkpointing
    encoder = 0.0 if not learns else model.checkpointed + model.block if checkpointed else model.encoder
    decoder = DECODER + DECODER_MORE * (module.prompts.max_instances_per_slice - _PROMPTS)
    full = module.use_amp in (False, "tf32")
    if full:
        encoder, decoder = encoder * FULL_PRECISION["encoder"], decoder * FULL_PRECISION["decoder"]
    return (encoder + decoder) * (module.image_size / _SIDE) ** 2 * GIB


# --- what is said about it --------------------------------------------------------------------------------------------


def memory_text(needs: list[MemoryNeed], gpu_bytes: int | None) -> str:
    """Return `memory: about X GiB of Y GiB per GPU` for the trainings of a plan, or of one run."""
    sizes = sorted(need.total / GIB for need in needs)
    first, last = f"{sizes[0]:.1f}", f"{sizes[-1]:.1f}"
    about = first if first == last else f"{first} to {last}"
    whole = "" if gpu_bytes is None else f" of {gpu_bytes / GIB:.1f} GiB"
    return f"memory: about {about} GiB{whole} per GPU"


def memory_warning(experiment: Experiment, gpu_bytes: int) -> str | None:
    """Return the text for a training that may not fit into a GPU, with changes that make it fit; None if it fits."""
    need = needed(experiment)
    if need is None or need.total <= gpu_bytes:
        return None
    return (
        f"a training step may need about {need.total / GIB:.1f} GiB, but a GPU here has {gpu_bytes / GIB:.1f} GiB; "
        f"{_remedy(experiment, gpu_bytes)}"
    )


def cannot_fit(experiment: Experiment, gpu_bytes: int) -> str | None:
    """Return the text for a training whose weights, gradients and optimizer alone exceed a GPU; None for any other."""
    need = needed(experiment)
    if need is None or need.least <= gpu_bytes:
        return None
    return (
        f"weights, gradients and {experiment.module.optimizer.type} alone need {need.least / GIB:.1f} GiB, but a GPU "
        f"here has {gpu_bytes / GIB:.1f} GiB; {_remedy(experiment, gpu_bytes)}"
    )


def _remedy(experiment: Experiment, gpu_bytes: int) -> str:
    fitting = [
        f"{name} (about {smaller.total / GIB:.1f} GiB)"
        for name, changed in _smaller(experiment)
        if (smaller := needed(changed)) is not None and smaller.total <= gpu_bytes
    ]
    if not fitting:
        return "use a smaller model (module.sam2_model_cfg) or image (module.image_size), or a larger GPU"
    return f"it fits with {', or with '.join(fitting[:_SHOWN])}"


def _smaller(experiment: Experiment) -> Iterator[tuple[str, Experiment]]:
    """Changes of settings that may need less memory: first those of the same run, then those that train less."""
    module, size = experiment.module, experiment.datamodule.batch_size
    in_parts = f"datamodule.batch_size: 1 and module.grad_accum: {size * module.grad_accum}"
    single = experiment.model_copy(
        update={
            "datamodule": experiment.datamodule.model_copy(update={"batch_size": 1}),
            "module": module.model_copy(update={"grad_accum": size * module.grad_accum}),
        }
    )
    can_save = not module.activation_checkpointing and not module.compile
    saves = can_save and (module.lora is not None or bool(module.trainable.image_encoder))
    checkpointing = "module.activation_checkpointing: true"
    if saves:
        yield checkpointing, _changed(experiment, activation_checkpointing=True)
    if size > 1:
        yield in_parts, single
    if saves and size > 1:
        yield f"{in_parts} and {checkpointing}", _changed(single, activation_checkpointing=True)
    also = f" and {in_parts}" if size > 1 else ""
    frozen = module.trainable.model_copy(update={"image_encoder": False})
    if module.lora is None and module.trainable.image_encoder is True:
        text = f"module.lora: {{rank: 8, alpha: 16}}, module.trainable.image_encoder: false{also}"
        changes: dict[str, Any] = {"lora": Lora(), "trainable": frozen}
        yield text, _changed(single, **changes)
        if can_save:
            yield f"{text} and {checkpointing}", _changed(single, activation_checkpointing=True, **changes)
    if module.trainable.image_encoder and (module.trainable.mask_decoder or module.trainable.prompt_encoder):
        changes = {"lora": None, "trainable": frozen, "activation_checkpointing": False}
        # Of a frozen encoder, neither would have an effect, so both are refused.
        without = " and module.lora: null" if module.lora else ""
        without += " and module.activation_checkpointing: false" if module.activation_checkpointing else ""
        yield f"module.trainable.image_encoder: false{without}{also}", _changed(single, **changes)
    if module.prompts.max_instances_per_slice > _PROMPTS:
        fewer = module.prompts.model_copy(update={"max_instances_per_slice": _PROMPTS})
        yield f"module.prompts.max_instances_per_slice: {_PROMPTS}{also}", _changed(single, prompts=fewer)


def _changed(experiment: Experiment, **keys: Any) -> Experiment:
    return experiment.model_copy(update={"module": experiment.module.model_copy(update=keys)})
