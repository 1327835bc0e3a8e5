"""Trainable and frozen parameters: the configured parts, without those that get no gradient from loss and prompts."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sam2ft.config.schema.module import Trainable
from sam2ft.core.errors import ConfigError
from sam2ft.core.prompts import Prompts, PromptShares, kinds_of, mixed_prompts
from sam2ft.model.lora import DOWN, UP, is_low_rank
from sam2ft.model.losses import SegmentationLoss
from sam2ft.model.precision import Precision, autocast, full_precision
from sam2ft.model.segmenter import FinetunedSAM2

# The modules of stock SAM 2 for the three parts of module.trainable.
PARTS = {"image_encoder": "image_encoder", "prompt_encoder": "sam_prompt_encoder", "mask_decoder": "sam_mask_decoder"}
# memory attention, memory encoder, object pointers and no_mem_embed: not trained on single slices
REST = "memory"
# first scale of torch's GradScaler
_SCALES: Mapping[Precision, float] = {"fp16": 2.0**16}
# low-rank updates of the image encoder; they have their own row in the report, not that of their part
LORA = "lora"


@dataclass(frozen=True)
class TrialBatch:
    """Reference masks of the trial step."""

    masks: tuple[Tensor, ...]


@dataclass(frozen=True)
class PartRow:
    """Numbers of parameters (scalars) of one part of the model."""

    part: str
    trained: int
    frozen: int
    """Not selected by the configuration."""
    unreachable: int
    """Selected, but without a gradient from the configured loss and prompts; frozen too."""


@dataclass(frozen=True)
class PartsReport:
    """Trained and frozen parameters per part; `str()` is the table printed when a run starts."""

    rows: tuple[PartRow, ...]
    unreachable: tuple[str, ...]
    """Names of the tensors that were selected but get no gradient."""
    reached: tuple[str, ...] = ()
    """Names of the tensors that are trained."""

    def __str__(self) -> str:
        cells = [("part", "trained", "frozen", "unreachable")]
        cells += [(row.part, f"{row.trained:,}", f"{row.frozen:,}", f"{row.unreachable:,}") for row in self.rows]
        table = [f"{part:<16}{trained:>14}{frozen:>14}{rest:>14}" for part, trained, frozen, rest in cells]
        return "\n".join([*table, *_listed(self.unreachable, self.reached)])


def _listed(unreachable: Sequence[str], reached: Sequence[str]) -> list[str]:
    """One line for each unreachable tensor, or for a module in which all selected tensors are unreachable."""
    modules: dict[str, int] = {}
    for name in unreachable:
        above = [f"{name[: dot.start()]}." for dot in re.finditer(r"\.", name)]
        whole = next((module for module in above if not any(other.startswith(module) for other in reached)), name)
        modules[whole] = modules.get(whole, 0) + 1
    return [f"unreachable: {module + '*' if module.endswith('.') else module} ({n})" for module, n in modules.items()]


def set_trainable(model: FinetunedSAM2, trainable: Trainable) -> None:
    """Set `requires_grad` for the tensors that `module.trainable` selects, and clear it for all others.

    Raises:
        ConfigError: when a pattern matches no tensor of its part.
    """
    model.requires_grad_(False)
    for part, module in PARTS.items():
        choice = getattr(trainable, part)
        whole = model.sam2_model.get_submodule(module)
        if isinstance(choice, bool):
            whole.requires_grad_(choice)
            continue
        tensors = dict(whole.named_parameters())
        for pattern in choice.only:
            if not (matches := [name for name in tensors if re.search(pattern, name)]):
                such = ", ".join(sorted(tensors)[:3])
                raise ConfigError(
                    f"module.trainable.{part}.only: {pattern!r} matches none of its tensors, such as {such}"
                )
            for name in matches:
                tensors[name].requires_grad_(True)


def freeze_unreachable(
    model: FinetunedSAM2, loss: SegmentationLoss, prompts: PromptShares, precision: Precision = "fp32"
) -> PartsReport:
    """Freeze selected tensors that get no gradient, or only zeros, from a step with each configured kind of prompt.

    A trial step on synthetic slices decides this instead of a list of names, so that it holds for every configuration,
    loss and version. Otherwise AdamW would apply weight decay to tensors without a gradient, and DDP would wait for
    gradients that are never computed. Call this after `lora.add_low_rank`: an update is reachable when its weight is.

    Args:
        precision: of the training, so that the trial step needs no more memory than a training step; the memory that it
            took on a GPU is given back, and the peak is counted anew.

    Returns:
        The numbers of trained and frozen parameters, and the names of the unreachable tensors.

    Raises:
        ConfigError: when none of a part's selected tensors gets a gradient.
    """
    named = dict(model.sam2_model.named_parameters())
    wanted = {name: tensor for name, tensor in named.items() if tensor.requires_grad}
    reached = _reached(model, loss, prompts, wanted, precision)
    _forget_memory(model.mean_c11.device)
    unreachable = tuple(name for name in wanted if name not in reached)
    sizes: dict[str, Counter[str]] = {part: Counter() for part in (*PARTS, LORA, REST)}
    for name, tensor in named.items():
        fate = "trained" if name in reached else "unreachable" if name in wanted else "frozen"
        sizes[LORA if is_low_rank(name) else part_of(name) or REST][fate] += tensor.numel()
    shown = {part: of for part, of in sizes.items() if of or part != LORA}
    rows = tuple(PartRow(part, of["trained"], of["frozen"], of["unreachable"]) for part, of in shown.items())
    for row in rows:
        if row.unreachable and not row.trained:
            key = f"module.{row.part}" if row.part == LORA else f"module.trainable.{row.part}"
            raise ConfigError(
                f"{key}: selected for training, but the configured prompts and loss give it no gradient; "
                "set it to false, or configure prompts or a loss that depend on it"
            )
    for name in unreachable:
        named[name].requires_grad_(False)
    return PartsReport(rows, unreachable, tuple(name for name in wanted if name in reached))


def part_of(name: str) -> str | None:
    """The part of a parameter, with or without the prefix `sam2_model.`; None for a parameter in no part."""
    top = name.removeprefix("sam2_model.").partition(".")[0]
    return next((part for part, module in PARTS.items() if module == top), None)


def _forget_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _reached(
    model: FinetunedSAM2,
    loss: SegmentationLoss,
    shares: PromptShares,
    wanted: Mapping[str, nn.Parameter],
    precision: Precision,
) -> set[str]:
    """Names of the tensors that get a gradient from some kind of prompt; no weight, gradient or seed changes."""
    names, tensors = list(wanted), list(wanted.values())
    reached: set[str] = set()
    device = model.mean_c11.device
    generator = torch.Generator().manual_seed(0)
    side = model.image_size
    # One slice, so that the trial step needs less memory than a training step.
    images = torch.rand((1, 1, side, side), generator=generator).to(device)
    mask = torch.zeros((1, side, side), dtype=torch.bool, device=device)
    mask[:, side // 4 : side // 2, side // 4 : side * 3 // 4] = True
    batch = TrialBatch((mask,))
    for prompts in _dry_prompts(shares, side, device):
        with autocast(device, precision):
            logits, iou = model(images, prompts)
        # fp16 could underflow to zero, so the loss is scaled as in training.
        values = loss(full_precision(logits), full_precision(iou), batch)["loss"].sum() * _SCALES.get(precision, 1.0)
        if not values.requires_grad:
            continue
        gradients = torch.autograd.grad(values, tensors, allow_unused=True)
        got = {name: one for name, one in zip(names, gradients, strict=True) if one is not None}
        # Read at once: the host would wait for a GPU for every tensor.
        numbers = torch.stack([one.count_nonzero() for one in got.values()]).tolist() if got else []
        reached |= {name for name, number in zip(got, numbers, strict=True) if number}
    # The gradient of `down` passes through `up`, which is zero until the first step.
    return reached | {name for name in names if name.endswith(DOWN) and name.removesuffix(DOWN) + UP in reached}


def _dry_prompts(shares: PromptShares, side: int, device: torch.device) -> Iterable[Prompts]:
    """One prompt of each configured kind, as in training (data/samples/instances)."""
    kinds = kinds_of(shares)
    corners = np.array([[side / 4, side / 4, side * 3 / 4 - 1, side / 2 - 1]], dtype=np.float32)
    inside = np.array([[side / 2, side / 3]], dtype=np.float32)
    masks = np.broadcast_to(np.linspace(-8, 8, side // 4, dtype=np.float32), (1, 1, side // 4, side // 4))
    for kind in kinds:
        prompts = mixed_prompts(kinds, [kind], np.arange(1), corners, inside, masks)
        yield prompts.map(lambda array: torch.tensor(array, device=device))
