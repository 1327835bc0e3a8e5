"""Schema of the sections `experiment:`, `eval:` (evaluation, protocol, prompt noise) and `resources:` (cluster)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import REQUIRED, Name, PathFromHere, Section, of_evaluation, of_training, plain, problem

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
InstanceMode = Literal["per_instance", "per_label"]
SeedSlice = Literal["largest", "middle"]


class ProtocolWords(NamedTuple):
    """How texts and pages speak of a protocol; `{key}`: a setting of `eval`, `{per}`: what has a prompt."""

    prompt: str
    """What the model is prompted with, for the methods text."""
    headline: str
    """What the numbers of an evaluation mean, in one sentence for everything that shows them."""


UPPER_BOUND = "an upper bound of what a user gets"
PROTOCOLS: Mapping[str, ProtocolWords] = {
    "box": ProtocolWords(
        "the bounding box of {per} in the reference",
        f"prompted with the reference's own box in every slice: {UPPER_BOUND}",
    ),
    "point": ProtocolWords(
        "the pixel deepest inside {per} of the reference",
        f"prompted with the point deepest inside the reference in every slice: {UPPER_BOUND}",
    ),
    "points": ProtocolWords(
        "{points_k} points inside {per} of the reference",
        f"prompted with points inside the reference in every slice: {UPPER_BOUND}",
    ),
    "mask": ProtocolWords(
        "the reference mask of {per}",
        "prompted with the reference mask itself: a high Dice does not show that the model finds the structure",
    ),
    "boxes_file": ProtocolWords(
        "the boxes of a detector",
        "prompted with the boxes of a detector, not of the reference: what a user of this detector gets",
    ),
    "propagate": ProtocolWords(
        "the box of {per} in one slice (the {propagate_seed} one), carried through the volume by the video predictor",
        "prompted with the reference's own box in one slice, chosen by the reference, and carried through the volume: "
        f"{UPPER_BOUND}",
    ),
}
"""Protocol -> its words. `evaluation/protocols/<protocol>.py` makes the prompts."""
MADE_ELSEWHERE = "masks made by another program: how it was prompted, if at all, is not known here"


def protocol_headline(name: str) -> str:
    """What numbers with this protocol mean, in one sentence; `name` is a protocol as tables name it.

    `box_jitter_per_label(px=5,seed=0)+nonempty` has the sentence of box with what its parameters change. A name that is
    no protocol is that of masks made by another program.
    """
    words, _, left_out = name.partition("+")
    kind, _, parameters = words.partition("(")
    per_label, jitter = kind.endswith("_per_label"), "_jitter" in kind
    kind = kind.removesuffix("_per_label").removesuffix("_jitter")
    if kind not in PROTOCOLS:
        return MADE_ELSEWHERE
    sentence = PROTOCOLS[kind].headline
    if jitter:
        moved = dict(part.split("=", 1) for part in parameters.rstrip(")").split(","))["px"]
        sentence = (
            "prompted in every slice with the reference's own box, its sides moved at random by up to "
            f"{moved} px: what a user gets whose boxes are as exact"
        )
    sentence += ", one prompt for all of a label" if per_label else ""
    return sentence + (", and only in slices that hold a label" if left_out else "")


def protocol_sentence(name: str) -> str:
    """The `protocol_headline` as a sentence of a text."""
    words = protocol_headline(name)
    return f"The model was {words}." if words.startswith("prompted") else f"{words[0].upper()}{words[1:]}."


class ExperimentInfo(Section):
    """Name, description and seed of an experiment."""

    name: Name = plain(REQUIRED, "folder under runs/ and first part of every run_id")
    description: str = plain("", "one sentence, shown in the report")
    seed: int = of_training(42, "seed of every random draw", ge=0, le=2**32 - 1)
    baseline: bool = plain(True, "also evaluate the model before fine-tuning, as the point named baseline")


class PromptNoise(Section):
    """Prompt-noise study: one evaluation per shift and seed; each slice is encoded once."""

    shifts: tuple[Count, ...] = of_evaluation(
        (0, 2, 5, 10, 20),
        "largest shifts of the sides of a box, in pixels of the original image",
        unit="px",
        min_length=1,
    )
    seeds: tuple[Count, ...] = of_evaluation((0, 1, 2), "seeds of these random shifts", min_length=1)


class Evaluation(Section):
    """How a checkpoint is evaluated."""

    split: Literal["train", "val", "test"] = of_evaluation("test", "split whose subjects are evaluated")
    checkpoint: Literal["best"] = of_evaluation(
        "best", "checkpoint of a run that is evaluated: the one of its best epoch"
    )
    instances: InstanceMode = of_evaluation(
        "per_instance", "one prompt per connected component, or one prompt for the whole label"
    )
    protocol: Literal[tuple(PROTOCOLS)] = of_evaluation(  # type: ignore[valid-type]  # the keys of the table
        "box", "how the model is prompted: it decides what the numbers mean (docs/evaluation.md)"
    )
    points_k: int = of_evaluation(3, "points per instance of protocol points", unit="points", ge=1)
    boxes_file: PathFromHere | None = plain(
        None,
        "CSV or JSON with the boxes of a detector, for protocol boxes_file; its content is part of the eval_id",
        validate_default=True,
    )
    propagate_seed: SeedSlice = of_evaluation("largest", "slice that is prompted with protocol propagate")
    bbox_shift: int = of_evaluation(
        0,
        "the sides of a box move at random by up to so many pixels of the original image; above 0, tables call "
        "protocol box box_jitter",
        unit="px",
        ge=0,
    )
    direction: Literal["outward", "both"] = of_evaluation(
        "outward", "direction in which bbox_shift and prompt_noise move a side of a box"
    )
    include_empty_slices: bool = of_evaluation(True, "also evaluate slices without a reference mask")
    missed_distance: Literal["diagonal"] | Positive = of_evaluation(
        "diagonal", "distance used for a missed or spurious tissue: the diagonal of the volume, or a number", unit="mm"
    )
    nsd_tolerance_mm: Positive = of_evaluation(1.0, "tolerance of the normalised surface Dice", unit="mm")
    prompt_chunk: int = plain(64, "prompts per call of the mask decoder", unit="prompts", ge=1)
    encode_batch: int = of_evaluation(
        1,
        "slices of a volume per call of the image encoder; more is faster on a GPU and changes the last digits",
        unit="slices",
        legacy=1,
        ge=1,
    )
    object_batch: int = of_evaluation(
        1,
        "objects of a slice per call of the model with protocol propagate; more is faster on a GPU and changes the "
        "last digits",
        unit="objects",
        legacy=1,
        ge=1,
    )
    precision: Literal["fp32", "bf16", "fp16"] = of_evaluation("bf16", "floating-point format of the model")
    qc_slices: int = plain(24, "number of pictures of predictions to draw", unit="slices", ge=0)
    plain_cells: bool = plain(
        False,
        "leave names in the tables of wide/ as they are; else an apostrophe in front keeps a spreadsheet from running "
        "those that begin like a formula",
    )
    dicom_seg: bool = plain(
        False, "also write predictions as DICOM-SEG; needs the DICOM series that the store was prepared from"
    )
    dicom_seg_kind: Literal["binary", "labelmap"] = plain(
        "binary",
        "segments of dicom_seg: binary (a frame per slice and label, which every program reads), or labelmap (a frame "
        "per slice with the ids of the labels; Label Map Segmentation of 2024)",
    )
    dicom_sources: tuple[PathFromHere, ...] = plain(
        (), "dataset files of the stores, which say where the originals and the key are, for dicom_seg"
    )
    prompt_noise: PromptNoise | None = Field(None, description="prompt-noise study; null: none")

    @field_validator("protocol", mode="before")
    @classmethod
    def _not_box_jitter(cls, value: object) -> object:
        if value == "box_jitter":
            raise problem(
                "box_jitter is the name in tables for protocol box with eval.bbox_shift > 0; set that instead"
            )
        return value

    @field_validator("boxes_file")
    @classmethod
    def _boxes_are_given(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        uses_boxes_file = info.data.get("protocol") == "boxes_file"
        if uses_boxes_file and value is None:
            raise problem("missing; protocol boxes_file needs it")
        if value is not None and "protocol" in info.data and not uses_boxes_file:
            raise problem("is used by protocol boxes_file only; leave the key out")
        return value

    @field_validator("bbox_shift", "prompt_noise")
    @classmethod
    def _boxes_are_moved(cls, value: int | PromptNoise | None, info: ValidationInfo) -> int | PromptNoise | None:
        protocol = info.data.get("protocol", "box")
        if value and protocol != "box":
            unused = shown_value(cls.model_fields[str(info.field_name)].default)
            raise problem(f"it moves boxes of protocol box, not of {protocol}; allowed: {unused}")
        return value

    @field_validator("object_batch")
    @classmethod
    def _objects_are_propagated(cls, value: int, info: ValidationInfo) -> int:
        protocol = info.data.get("protocol", "propagate")
        if value > 1 and protocol != "propagate":
            raise problem(f"it batches objects of protocol propagate, not of {protocol}; allowed: 1")
        return value

    @property
    def prompt_limit(self) -> str:
        """What the prompts mean for the results, as a sentence."""
        return protocol_sentence(self.protocol)

    @property
    def prompted_with(self) -> str:
        """What the model is prompted with, for the methods text."""
        per = "each connected component of each label" if self.instances == "per_instance" else "each label of a slice"
        return PROTOCOLS[self.protocol].prompt.format(per=per, **dict(self))


class PartialResources(Section):
    """Resources that change a request: those of the evaluation (else as for training), or those that a site prefers."""

    nodes: PositiveInt | None = plain(None, "nodes (machines)")
    tasks_per_node: PositiveInt | None = plain(None, "processes per node")
    gpus_per_node: Count | None = plain(None, "GPUs per node")
    cpus_per_task: PositiveInt | None = plain(None, "CPU cores per process")
    mem_gb: Positive | None = plain(None, "memory per node", unit="GB")
    hours: Positive | None = plain(None, "time limit of one allocation", unit="h")


class RequestedResources(Section):
    """Resources that one point requests from a cluster; a site preset fills in what the file does not give."""

    nodes: PositiveInt = plain(1, "nodes (machines)")
    tasks_per_node: PositiveInt | None = plain(None, "processes per node; null: one per GPU, or 1 without GPUs")
    gpus_per_node: Count = plain(1, "GPUs per node")
    cpus_per_task: PositiveInt = plain(8, "CPU cores per process")
    mem_gb: Positive = plain(64.0, "memory per node", unit="GB")
    hours: Positive = plain(12.0, "time limit of one allocation; a longer training continues in the next", unit="h")
    eval: PartialResources | None = Field(
        None, description="resources that differ for the evaluation, which is a separate job on a cluster; null: none"
    )
