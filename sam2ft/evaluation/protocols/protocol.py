"""Interface of a prompt protocol: prompts from a reference slice, or from a volume; the protocol of a section.

Everything is in the ORIGINAL frame until `prompts`. docs/evaluation.md has the table of protocols. No torch at import.
"""

from collections.abc import Collection, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.keys import SliceKey, VolumeKey
from sam2ft.core.prompts import Box, Prompts
from sam2ft.data.samples.instances import Instance, instances_of, label_boxes
from sam2ft.metrics.counts import LabelMap
from sam2ft.metrics.scoring import PromptedMask, Scene

if TYPE_CHECKING:
    import torch

    from sam2ft.data.samples.evaluation_slices import SliceView

# Jitter is independent of the training seed, so that runs stay comparable. A noise study varies it.
JITTER_SEED = 0
PREFETCH = 2
"""Number of slices that a thread reads, resizes and prompts while the model runs."""


class VolumeSource(Protocol):
    """One volume to evaluate."""

    @property
    def key(self) -> VolumeKey: ...
    @property
    def scene(self) -> Scene:
        """Geometry, labels, maps and metadata of the volume; the Tester sets `slices`."""

    @property
    def reference_zyx(self) -> LabelMap: ...
    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> "Iterator[SliceView]":
        """Yield the requested slices, in this order."""


class Jitter(NamedTuple):
    """Random shift of boxes in one pass over the prompts of a slice."""

    shift_px: int = 0
    seed: int = JITTER_SEED


class Target(NamedTuple):
    """One target of a prompt."""

    instance: Instance
    """Its mask is the reference; empty for a detected box without a reference instance."""
    box: Box | None
    """Box of the prompt; None when a detector missed the instance, which is then not prompted."""


class PromptProtocol:
    """How a model is prompted, with the settings of the section `eval`: here once per instance of each slice."""

    names_boxes: ClassVar[bool] = False
    """Whether instance rows contain the box of the prompt."""

    def __init__(self, section: Evaluation):
        self.section = section

    @classmethod
    def of(cls, experiment: Experiment) -> "PromptProtocol":
        """Return the protocol of an experiment, with the files that its settings name.

        Raises:
            DataError: a file cannot be read.
        """
        return cls(experiment.eval)

    @property
    def passes(self) -> tuple[Jitter, ...]:
        """The jitter of the evaluation, then those of its noise study, without duplicates."""
        return (Jitter(),)

    def parameters(self, _jitter: Jitter) -> list[str]:
        """Parameters in the name of a pass, such as `k=3`."""
        return []

    def name(self, jitter: Jitter | None = None) -> str:
        """Return the name in rows: box, box_jitter(px=5,seed=0), points(k=3), propagate(seed=largest), +nonempty.

        Args:
            jitter: jitter of a pass of a noise study; None: jitter of the evaluation itself.
        """
        moved = self.passes[0] if jitter is None else jitter
        parameters = self.parameters(moved)
        name = self.section.protocol + ("_jitter" if moved.shift_px else "")
        name += "_per_label" if self.section.instances == "per_label" else ""
        name += f"({','.join(parameters)})" if parameters else ""
        return name if self.section.include_empty_slices else f"{name}+nonempty"

    def is_prompted(self, _key: SliceKey, *, labelled: bool) -> bool:
        """Whether a slice has a prompt; `labelled`: whether its reference has a label."""
        return labelled

    def instances(
        self, mask_yx: LabelMap, label_ids: Collection[int], ids_yx: LabelMap | None = None
    ) -> list[Instance]:
        """Return the instances of a reference slice: every connected component, or each label as a whole.

        Args:
            ids_yx: ids of given instances, which then take the place of the components.
        """
        if self.section.instances == "per_instance":
            return instances_of(mask_yx, label_ids, ids_yx)
        return label_boxes(mask_yx, label_ids)

    def targets(
        self, _key: SliceKey, mask_yx: LabelMap, label_ids: Collection[int], ids_yx: LabelMap | None = None
    ) -> list[Target]:
        """Return the targets of a slice, by label, then number; `ids_yx` as in `instances`."""
        return [Target(instance, instance.box) for instance in self.instances(mask_yx, label_ids, ids_yx)]

    def moved(self, target: Target, _key: SliceKey, _jitter: Jitter) -> Target:
        """Return a target with the box that prompts it in one pass."""
        return target

    def prompts(self, targets: Sequence[Target], image_size: int) -> Prompts:
        """Return prompts (numpy, MODEL frame) for targets of one slice, all with a box, moved for one pass."""
        raise NotImplementedError


class VolumeProtocol(PromptProtocol):
    """Prompts a volume as a whole; what the base says of slices does not apply."""

    def predict(self, model: Any, volume: VolumeSource, device: "torch.device") -> tuple[LabelMap, list[PromptedMask]]:
        """Predict one volume with a FinetunedSAM2.

        Returns:
            (composed label map, masks of the prompts by slice, label and number).
        """
        raise NotImplementedError


def protocol_class(name: str) -> type[PromptProtocol]:
    """Return the class of a protocol (`eval.protocol`); it is `PROTOCOL` of the module with this name."""
    found: type[PromptProtocol] = import_module(f"{__package__}.{name}").PROTOCOL
    return found


def one_slice(targets: Sequence[Target], **arrays: Any) -> Prompts:
    """Return prompts of targets of a single slice."""
    return Prompts(np.zeros(len(targets), dtype=np.int64), **arrays)
