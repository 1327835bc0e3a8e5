"""Schema of an experiment file: the root with all sections (docs/design.md, configuration)."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from sam2ft.config.schema.base import Name, ReadOnlyDict, Section, section
from sam2ft.config.schema.datamodule import Datamodule, DatasetSource
from sam2ft.config.schema.evaluation import Evaluation, ExperimentInfo, RequestedResources
from sam2ft.config.schema.module import Module
from sam2ft.config.schema.sweep import Sweep


class Experiment(Section):
    """One experiment. After loading it contains every setting and default; there is no other source of them."""

    experiment: ExperimentInfo = Field(description="name, description and seed of the experiment")
    dataset: Annotated[Mapping[Name, DatasetSource], AfterValidator(ReadOnlyDict)] = Field(
        description="prepared stores by name", min_length=1
    )
    datamodule: Datamodule = section(Datamodule, "how slices are batched and augmented, and which metrics are measured")
    module: Module = Field(description="the model, which parts of it are trained, and how")
    eval: Evaluation = section(Evaluation, "how a checkpoint is evaluated")
    resources: RequestedResources = section(RequestedResources, "resources that one point requests from a cluster")
    sweep: Sweep | None = Field(None, description="points of the experiment; null: a single one")
