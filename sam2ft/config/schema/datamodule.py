"""Schema of the sections `dataset:` and `datamodule:`: stores, batches, augmentation (MONAI transforms) and metrics."""

from typing import ClassVar, Literal

from pydantic import PositiveInt

from sam2ft.config.schema.base import (
    REQUIRED,
    Arguments,
    ClassSection,
    PathFromHere,
    ReadOnly,
    ReadOnlyDict,
    Section,
    section,
    setting,
)


class DatasetSource(Section):
    """One prepared store."""

    store: PathFromHere = setting(REQUIRED, "folder written by launch/prepare.py", affects="nothing")


class Transform(ClassSection):
    """One MONAI random transform, applied to the image and its masks together."""

    table: ClassVar[str] = "transforms"
    type: str = setting(REQUIRED, "name of a MONAI array transform; further keys are its arguments", affects="training")
    constructor_arguments: Arguments = setting(ReadOnlyDict(), "arguments of the transform", affects="training")


class MetricSection(Section):
    """Metrics measured on masks, and the metadata used for them."""

    func: ReadOnly[bool] = setting(
        ReadOnlyDict(dice=True, iou=True),
        "names of built-in metrics, or package.module:name of your own metric, each true or false",
        affects="evaluation",
    )
    tissues: tuple[int, ...] | None = setting(
        None, "label ids on which biomarkers are measured; null: all to which a biomarker applies", affects="evaluation"
    )
    dicom_fields: tuple[str, ...] = setting(
        ("pixel_spacing", "slice_thickness", "rows", "columns"),
        "metadata fields passed to metrics",
        affects="evaluation",
    )
    representative_slice: bool = setting(
        True,
        "true: metrics use the metadata of the middle slice for all slices (metadata_for_ml); false: of each slice",
        affects="evaluation",
    )
    t2_upper_ms: float = setting(
        100.0,
        "largest T2 that is valid; larger values are fluid or failed fits",
        affects="evaluation",
        unit="ms",
        legacy=100.0,
        gt=0,
    )
    t1rho_upper_ms: float = setting(
        500.0,
        "largest T1rho that is valid; larger values are failed fits",
        affects="evaluation",
        unit="ms",
        legacy=500.0,
        gt=0,
    )
    sensitivity: bool = setting(
        False,
        "also measure biomarkers with the outline of the reference moved by half a pixel: adds the column sensitivity, "
        "takes ten times as long",
        affects="evaluation",
        legacy=False,
    )
    thickness_maps: bool = setting(
        False,
        "also write the cartilage thickness at every vertex of the bone, as .npz and as a coloured mesh (.ply)",
        affects="nothing",
    )


class Datamodule(Section):
    """Data module: how slices are batched, augmented and measured."""

    max_subject_set: Literal["full"] | PositiveInt = setting(
        "full",
        "full, or the number of subjects to use; subsets are nested and seeded",
        affects="training",
        unit="subjects",
    )
    balanced: bool = setting(False, "give every dataset the same weight in training", affects="training")
    bbox_shift: int = setting(
        5, "box jitter of training prompts, outward, in the original frame", affects="training", unit="px", ge=0
    )
    batch_size: int = setting(
        4,
        "slices per forward pass and rank; part of the run_id as slices_per_step",
        affects="nothing",
        unit="slices",
        ge=1,
    )
    num_workers: int = setting(4, "data loader processes per rank", affects="nothing", unit="processes", ge=0)
    augmentation: tuple[Transform, ...] = setting((), "MONAI transforms, in order", affects="training")
    num_classes: int | None = setting(
        None, "number of labels; if given, must equal the number of labels in the label table", affects="nothing", ge=1
    )
    stats_metadata_file: PathFromHere | None = setting(
        None, "file with slice metadata to use instead of the metadata of the store", affects="nothing"
    )
    metric: MetricSection = section(MetricSection, "which metrics are measured")
