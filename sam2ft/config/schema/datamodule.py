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
    of_evaluation,
    of_training,
    plain,
    section,
)


class DatasetSource(Section):
    """One prepared store."""

    store: PathFromHere = plain(REQUIRED, "folder written by launch/prepare.py")
    fold: int | None = plain(
        None,
        "fold of the store (split.folds of its dataset file) that is val, while the others are train, from 0; null: as "
        "0; ids follow from the subjects in each split",
        ge=0,
    )


class Transform(ClassSection):
    """One MONAI random transform, applied to the image and its masks together."""

    table: ClassVar[str] = "transforms"
    type: str = of_training(REQUIRED, "name of a MONAI array transform; further keys are its arguments")
    constructor_arguments: Arguments = of_training(ReadOnlyDict(), "arguments of the transform")


class MetricSection(Section):
    """Metrics measured on masks, and the metadata used for them."""

    func: ReadOnly[bool] = of_evaluation(
        ReadOnlyDict(dice=True, iou=True),
        "names of built-in metrics, or package.module:name of your own metric, each true or false",
    )
    tissues: tuple[int, ...] | None = of_evaluation(
        None, "label ids on which biomarkers are measured; null: all to which a biomarker applies"
    )
    dicom_fields: tuple[str, ...] = of_evaluation(
        ("pixel_spacing", "slice_thickness", "rows", "columns"), "metadata fields passed to metrics"
    )
    representative_slice: bool = of_evaluation(
        True,
        "true: metrics use the metadata of the middle slice for all slices (metadata_for_ml); false: of each slice",
    )
    t2_upper_ms: float = of_evaluation(
        100.0, "largest T2 that is valid; larger values are fluid or failed fits", unit="ms", legacy=100.0, gt=0
    )
    t1rho_upper_ms: float = of_evaluation(
        500.0, "largest T1rho that is valid; larger values are failed fits", unit="ms", legacy=500.0, gt=0
    )
    sensitivity: bool = of_evaluation(
        False,
        "also measure biomarkers with the outline of the reference moved by half a pixel: adds the column sensitivity, "
        "takes ten times as long",
        legacy=False,
    )
    thickness_maps: bool = plain(
        False, "also write the cartilage thickness at every vertex of the bone, as .npz and as a coloured mesh (.ply)"
    )


class Datamodule(Section):
    """Data module: how slices are batched, augmented and measured."""

    max_subject_set: Literal["full"] | PositiveInt = of_training(
        "full",
        "number of training subjects of each store to use, or full: all; the first 5 are among the first 10",
        unit="subjects",
    )
    balanced: bool = of_training(False, "as many training slices of every dataset are used as of the largest one")
    bbox_shift: int = of_training(
        5,
        "the sides of a box that prompts the training move outward by up to so many pixels of the original image",
        unit="px",
        ge=0,
    )
    batch_size: int = plain(
        4,
        "slices that one process (one GPU) computes at a time; slices per step (this x grad_accum x processes) are "
        "part of the run_id",
        unit="slices",
        ge=1,
    )
    num_workers: int = plain(
        4, "processes that load slices for one GPU; 0: the training process loads them itself", unit="processes", ge=0
    )
    augmentation: tuple[Transform, ...] = of_training(
        (), "random changes of training slices: MONAI transforms, applied in this order"
    )
    num_classes: int | None = plain(
        None, "number of labels; if given, must equal the number of labels in the label table", ge=1
    )
    stats_metadata_file: PathFromHere | None = plain(
        None, "file with slice metadata to use instead of that of the store (docs/data.md)"
    )
    metric: MetricSection = section(MetricSection, "which metrics are measured")
