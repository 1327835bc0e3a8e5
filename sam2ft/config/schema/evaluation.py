"""`experiment:`, `eval:` and `resources:`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from sam2ft.config.schema.base import REQUIRED, Name, PathFromHere, Section, leaf, problem

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class ExperimentInfo(Section):
    """What an experiment is called, and its seed."""

    name: Name = leaf(REQUIRED, "folder under runs/ and first part of every run_id", affects="nothing")
    description: str = leaf("", "one sentence for the report", affects="nothing")
    seed: int = leaf(42, "of every random draw", affects="training", ge=0, le=2**32 - 1)
    baseline: bool = leaf(True, "also evaluate the initial weights, as point baseline", affects="nothing")


class PromptNoise(Section):
    """Evaluate once per shift and seed, encoding each slice once."""

    shifts: tuple[Count, ...] = leaf(
        (0, 2, 5, 10, 20), "jitters of the box, original frame", affects="evaluation", unit="px", min_length=1
    )
    seeds: tuple[Count, ...] = leaf((0, 1, 2), "seeds of the jitter", affects="evaluation", min_length=1)


class Evaluation(Section):
    """How a checkpoint is evaluated."""

    split: Literal["train", "val", "test"] = leaf("test", "subjects that are evaluated", affects="evaluation")
    checkpoint: Literal["best"] = leaf("best", "which checkpoint of a run", affects="evaluation")
    instances: Literal["per_instance", "per_label"] = leaf(
        "per_instance", "one prompt per connected component, or one around all of a label", affects="evaluation"
    )
    protocol: Literal["box", "point", "points", "mask", "boxes_file", "propagate"] = leaf(
        "box", "how the model is prompted", affects="evaluation"
    )
    points_k: int = leaf(3, "points per instance of protocol points", affects="evaluation", unit="points", ge=1)
    boxes_file: PathFromHere | None = leaf(
        None,
        "CSV or JSON of a detector's boxes, for protocol boxes_file; in the identity by content",
        affects="nothing",
        validate_default=True,
    )
    propagate_seed: Literal["largest", "middle"] = leaf(
        "largest", "slice that protocol propagate prompts", affects="evaluation"
    )
    bbox_shift: int = leaf(
        0,
        "box jitter in the original frame; more than 0 makes box into box_jitter",
        affects="evaluation",
        unit="px",
        ge=0,
    )
    direction: Literal["outward", "both"] = leaf("outward", "where jitter moves a side", affects="evaluation")
    include_empty_slices: bool = leaf(True, "evaluate slices without reference too", affects="evaluation")
    missed_distance: Literal["diagonal"] | Positive = leaf(
        "diagonal",
        "distance that counts for a missed tissue: the volume's diagonal, or a number",
        affects="evaluation",
        unit="mm",
    )
    nsd_tolerance_mm: Positive = leaf(1.0, "tolerance of the surface Dice", affects="evaluation", unit="mm")
    prompt_chunk: int = leaf(64, "prompts decoded at once", affects="nothing", unit="prompts", ge=1)
    encode_batch: int = leaf(
        1,
        "slices of a volume encoded at once; more is faster on a GPU and moves the last digits",
        affects="evaluation",
        unit="slices",
        legacy=1,
        ge=1,
    )
    precision: Literal["fp32", "bf16", "fp16"] = leaf("bf16", "number format of the model", affects="evaluation")
    qc_slices: int = leaf(24, "pictures drawn", affects="nothing", unit="slices", ge=0)
    dicom_seg: bool = leaf(
        False,
        "also write predictions as DICOM-SEG, beside the DICOM series that the store was prepared from",
        affects="nothing",
    )
    prompt_noise: PromptNoise | None = Field(None, description="a prompt-noise study; null: none")

    @field_validator("protocol", mode="before")
    @classmethod
    def _not_box_jitter(cls, value: object) -> object:
        if value == "box_jitter":
            raise problem("box_jitter is how tables call protocol box with eval.bbox_shift > 0; set that instead")
        return value

    @field_validator("boxes_file")
    @classmethod
    def _boxes_are_given(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        asked = info.data.get("protocol") == "boxes_file"
        if asked and value is None:
            raise problem("missing; protocol boxes_file needs it")
        if value is not None and "protocol" in info.data and not asked:
            raise problem("is read by protocol boxes_file only; leave the key out")
        return value


class EvaluationResources(Section):
    """What the evaluation of a run asks of a cluster; null: as its training."""

    nodes: PositiveInt | None = leaf(None, "machines", affects="nothing")
    tasks_per_node: PositiveInt | None = leaf(None, "processes per machine", affects="nothing")
    gpus_per_node: Count | None = leaf(None, "GPUs per machine", affects="nothing")
    cpus_per_task: PositiveInt | None = leaf(None, "cores per process", affects="nothing")
    mem_gb: Positive | None = leaf(None, "memory per machine", affects="nothing", unit="GB")
    hours: Positive | None = leaf(None, "longest time of one allocation", affects="nothing", unit="h")


class AskedResources(Section):
    """What one point asks of a cluster; a site preset fills what a file does not give."""

    nodes: PositiveInt = leaf(1, "machines", affects="nothing")
    tasks_per_node: PositiveInt | None = leaf(
        None, "processes per machine; null: one per GPU, or 1 without GPUs", affects="nothing"
    )
    gpus_per_node: Count = leaf(1, "GPUs per machine", affects="nothing")
    cpus_per_task: PositiveInt = leaf(8, "cores per process", affects="nothing")
    mem_gb: Positive = leaf(64.0, "memory per machine", affects="nothing", unit="GB")
    hours: Positive = leaf(
        12.0, "longest time of one allocation; a longer training continues", affects="nothing", unit="h"
    )
    eval: EvaluationResources | None = Field(
        None, description="what differs for the evaluation, a job of its own on a cluster; null: nothing"
    )
