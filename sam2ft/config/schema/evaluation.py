"""Schema of the sections `experiment:`, `eval:` (evaluation, protocol, prompt noise) and `resources:` (cluster)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import REQUIRED, Name, PathFromHere, Section, problem, setting

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
InstanceMode = Literal["per_instance", "per_label"]
SeedSlice = Literal["largest", "middle"]
PROTOCOLS = {
    "box": "the bounding box of {per} in the reference",
    "point": "the pixel deepest inside {per} of the reference",
    "points": "{points_k} points inside {per} of the reference",
    "mask": "the reference mask of {per}",
    "boxes_file": "the boxes of a detector",
    "propagate": "the box of {per} in one slice, carried through the volume by the video predictor",
}
"""Protocol -> what the model is prompted with, in the methods text; `{key}`: a setting of `eval`, `{per}`: what has a
prompt. `evaluation/protocols/<protocol>.py` makes the prompts."""


class ExperimentInfo(Section):
    """Name, description and seed of an experiment."""

    name: Name = setting(REQUIRED, "folder under runs/ and first part of every run_id", affects="nothing")
    description: str = setting("", "one sentence, shown in the report", affects="nothing")
    seed: int = setting(42, "seed of every random draw", affects="training", ge=0, le=2**32 - 1)
    baseline: bool = setting(
        True, "also evaluate the untrained initial weights, as the point named baseline", affects="nothing"
    )


class PromptNoise(Section):
    """Prompt-noise study: one evaluation per shift and seed; each slice is encoded once."""

    shifts: tuple[Count, ...] = setting(
        (0, 2, 5, 10, 20),
        "largest shifts of the box sides, original frame",
        affects="evaluation",
        unit="px",
        min_length=1,
    )
    seeds: tuple[Count, ...] = setting((0, 1, 2), "seeds of the jitter", affects="evaluation", min_length=1)


class Evaluation(Section):
    """How a checkpoint is evaluated."""

    split: Literal["train", "val", "test"] = setting("test", "split whose subjects are evaluated", affects="evaluation")
    checkpoint: Literal["best"] = setting("best", "which checkpoint of a run", affects="evaluation")
    instances: InstanceMode = setting(
        "per_instance", "one prompt per connected component, or one prompt for the whole label", affects="evaluation"
    )
    protocol: Literal[tuple(PROTOCOLS)] = setting("box", "how the model is prompted", affects="evaluation")  # type: ignore[valid-type]  # the keys of the table
    points_k: int = setting(3, "points per instance of protocol points", affects="evaluation", unit="points", ge=1)
    boxes_file: PathFromHere | None = setting(
        None,
        "CSV or JSON with the boxes of a detector, for protocol boxes_file; its content is part of the eval_id",
        affects="nothing",
        validate_default=True,
    )
    propagate_seed: SeedSlice = setting(
        "largest", "slice that is prompted with protocol propagate", affects="evaluation"
    )
    bbox_shift: int = setting(
        0,
        "box jitter in the original frame; above 0, protocol box is called box_jitter in tables",
        affects="evaluation",
        unit="px",
        ge=0,
    )
    direction: Literal["outward", "both"] = setting(
        "outward", "direction in which the jitter moves a side of the box", affects="evaluation"
    )
    include_empty_slices: bool = setting(True, "also evaluate slices without a reference mask", affects="evaluation")
    missed_distance: Literal["diagonal"] | Positive = setting(
        "diagonal",
        "distance used for a missed or spurious tissue: the diagonal of the volume, or a number",
        affects="evaluation",
        unit="mm",
    )
    nsd_tolerance_mm: Positive = setting(
        1.0, "tolerance of the normalised surface Dice", affects="evaluation", unit="mm"
    )
    prompt_chunk: int = setting(64, "prompts per call of the mask decoder", affects="nothing", unit="prompts", ge=1)
    encode_batch: int = setting(
        1,
        "slices of a volume per call of the image encoder; more is faster on a GPU and changes the last digits",
        affects="evaluation",
        unit="slices",
        legacy=1,
        ge=1,
    )
    precision: Literal["fp32", "bf16", "fp16"] = setting(
        "bf16", "floating-point format of the model", affects="evaluation"
    )
    qc_slices: int = setting(24, "number of pictures of predictions to draw", affects="nothing", unit="slices", ge=0)
    dicom_seg: bool = setting(
        False,
        "also write predictions as DICOM-SEG; needs the DICOM series that the store was prepared from",
        affects="nothing",
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

    @property
    def prompted_with(self) -> str:
        """What the model is prompted with, for the methods text."""
        per = "each connected component of each label" if self.instances == "per_instance" else "each label of a slice"
        return PROTOCOLS[self.protocol].format(per=per, **dict(self))


class PartialResources(Section):
    """Resources that change a request: those of the evaluation (else as for training), or those that a site prefers."""

    nodes: PositiveInt | None = setting(None, "nodes (machines)", affects="nothing")
    tasks_per_node: PositiveInt | None = setting(None, "processes per node", affects="nothing")
    gpus_per_node: Count | None = setting(None, "GPUs per node", affects="nothing")
    cpus_per_task: PositiveInt | None = setting(None, "CPU cores per process", affects="nothing")
    mem_gb: Positive | None = setting(None, "memory per node", affects="nothing", unit="GB")
    hours: Positive | None = setting(None, "time limit of one allocation", affects="nothing", unit="h")


class RequestedResources(Section):
    """Resources that one point requests from a cluster; a site preset fills in what the file does not give."""

    nodes: PositiveInt = setting(1, "nodes (machines)", affects="nothing")
    tasks_per_node: PositiveInt | None = setting(
        None, "processes per node; null: one per GPU, or 1 without GPUs", affects="nothing"
    )
    gpus_per_node: Count = setting(1, "GPUs per node", affects="nothing")
    cpus_per_task: PositiveInt = setting(8, "CPU cores per process", affects="nothing")
    mem_gb: Positive = setting(64.0, "memory per node", affects="nothing", unit="GB")
    hours: Positive = setting(
        12.0, "time limit of one allocation; a longer training continues in the next", affects="nothing", unit="h"
    )
    eval: PartialResources | None = Field(
        None, description="resources that differ for the evaluation, which is a separate job on a cluster; null: none"
    )
