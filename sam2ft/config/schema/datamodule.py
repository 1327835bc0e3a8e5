"""`dataset:` and `datamodule:`: what is read, how it is batched and augmented, what is measured."""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from sam2ft.config.schema.base import (
    REQUIRED,
    Arguments,
    OpenSection,
    PathFromHere,
    ReadOnly,
    ReadOnlyDict,
    Section,
    leaf,
    section,
)


class DatasetSource(Section):
    """One prepared store."""

    store: PathFromHere = leaf(REQUIRED, "folder that launch/prepare.py made", affects="nothing")


class Transform(OpenSection):
    """One MONAI random transform, applied to the image and its masks together."""

    table: ClassVar[str] = "transforms"
    type: str = leaf(REQUIRED, "name of a MONAI array transform; further keys are its arguments", affects="training")
    constructor_arguments: Arguments = leaf(ReadOnlyDict(), "arguments of the transform", affects="training")


class MetricSection(Section):
    """What is measured on masks, and from which metadata."""

    func: ReadOnly[bool] = leaf(
        ReadOnlyDict(dice=True, iou=True),
        "metric names of the factory, or package.module:name of your own, each true or false",
        affects="evaluation",
    )
    tissues: tuple[int, ...] | None = leaf(
        None, "label ids that biomarkers are measured on; null: all that a biomarker fits", affects="evaluation"
    )
    dicom_fields: tuple[str, ...] = leaf(
        ("pixel_spacing", "slice_thickness", "rows", "columns"),
        "metadata fields handed to metrics",
        affects="evaluation",
    )
    representative_slice: bool = leaf(
        True,
        "metrics are handed the middle slice's metadata for all slices (metadata_for_ml), or each slice's own",
        affects="evaluation",
    )
    t1rho_upper_ms: float = leaf(
        500.0, "longest T1rho that is no failed fit", affects="evaluation", unit="ms", legacy=500.0, gt=0
    )
    sensitivity: bool = leaf(
        False,
        "measure biomarkers also with the reference's outline moved by half a pixel: column sensitivity, ten times "
        "the time",
        affects="evaluation",
        legacy=False,
    )
    thickness_maps: bool = leaf(
        False,
        "also write cartilage thickness at every vertex of the bone, as .npz and as a coloured mesh (.ply)",
        affects="nothing",
    )


class Datamodule(Section):
    """How slices become batches."""

    max_subject_set: Literal["full"] | PositiveInt = leaf(
        "full", "full, or how many subjects to use; subsets are nested and seeded", affects="training", unit="subjects"
    )
    balanced: bool = leaf(False, "give every dataset the same weight in training", affects="training")
    bbox_shift: int = leaf(
        5, "box jitter of training prompts, outward, in the original frame", affects="training", unit="px", ge=0
    )
    batch_size: int = leaf(
        4,
        "slices per forward pass and rank; enters a run's identity as slices_per_step",
        affects="nothing",
        unit="slices",
        ge=1,
    )
    num_workers: int = leaf(4, "loader processes per rank", affects="nothing", unit="processes", ge=0)
    augmentation: tuple[Transform, ...] = leaf((), "MONAI transforms, in order", affects="training")
    num_classes: int | None = leaf(
        None, "number of labels; must equal the label table's count when given", affects="nothing", ge=1
    )
    stats_metadata_file: PathFromHere | None = leaf(
        None, "slice metadata to use instead of the store's own", affects="nothing"
    )
    metric: MetricSection = section(MetricSection, "what is measured")
