"""The tree of an experiment file (docs/design.md, configuration)."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from sam2ft.config.schema.base import Name, ReadOnlyDict, Section, section
from sam2ft.config.schema.datamodule import Datamodule, DatasetSource
from sam2ft.config.schema.evaluation import AskedResources, Evaluation, ExperimentInfo
from sam2ft.config.schema.module import Module
from sam2ft.config.schema.sweep import Sweep


class Experiment(Section):
    """One experiment: after loading there is no other place for a setting or a default."""

    experiment: ExperimentInfo = Field(description="what the experiment is called, and its seed")
    dataset: Annotated[Mapping[Name, DatasetSource], AfterValidator(ReadOnlyDict)] = Field(
        description="prepared stores by name", min_length=1
    )
    datamodule: Datamodule = section(Datamodule, "how slices become batches, and what is measured")
    module: Module = Field(description="the model, what of it trains, and how")
    eval: Evaluation = section(Evaluation, "how a checkpoint is evaluated")
    resources: AskedResources = section(AskedResources, "what one point asks of a cluster")
    sweep: Sweep | None = Field(None, description="points of the experiment; null: a single one")
