"""Column definitions of the CSV tables: names, types, units and descriptions. `rows.py` combines them into tables."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number"]


@dataclass(frozen=True)
class Column:
    """One column: its type, its unit and a description of its content."""

    name: str
    kind: Kind
    description: str
    unit: str = ""


def text_column(name: str, description: str) -> Column:
    """A column of text."""
    return Column(name, "text", description)


def integer_column(name: str, description: str, unit: str = "") -> Column:
    """A column of integers; empty cells are None."""
    return Column(name, "integer", description, unit)


def number_column(name: str, description: str, unit: str = "") -> Column:
    """A column of floats; an empty cell is a value that does not exist."""
    return Column(name, "number", description, unit)


STAMP = (
    text_column("run", "run_id of the run that made the prediction"),
    text_column("eval", "eval_id: hash of the settings and the data of the evaluation"),
)
DATASET = text_column("dataset", "name of the prepared store")
SUBJECT_VOLUME = (
    text_column("subject", "the person; splits and statistics are by subject"),
    text_column("volume", "one 3-D image of the subject"),
)
SPLIT_PROTOCOL = (
    text_column("split", "train, val or test"),
    text_column("protocol", "how the model was prompted, with its parameters"),
)
SLICE = integer_column("slice", "0-based index along the slice normal")
LABEL = (
    integer_column("label", "integer of the label in the mask"),
    text_column("label_name", "name of the label in the label table"),
)
INSTANCE = integer_column(
    "instance", "1-based number of the connected component, or id of the given instance; empty: the whole tissue"
)
COUNTS = (
    integer_column("tp", "pixels in both masks"),
    integer_column("fp", "pixels only in the prediction"),
    integer_column("fn", "pixels only in the reference"),
)
TN = integer_column("tn", "pixels in neither mask")
OVERLAP = (
    number_column("dice", "2 tp / (2 tp + fp + fn)", "1"),
    number_column("iou", "tp / (tp + fp + fn)", "1"),
)
RATES = (
    number_column("precision", "tp / (tp + fp)", "1"),
    number_column("recall", "tp / (tp + fn)", "1"),
)
DISTANCES = (
    number_column("hd_mm", "Hausdorff distance of the voxel boundaries; empty unless the metric is enabled", "mm"),
    number_column("hd95_mm", "95th percentile of the Hausdorff distance, the larger of both directions", "mm"),
    number_column("assd_mm", "average symmetric distance of the voxel boundaries", "mm"),
    number_column(
        "nsd",
        "normalised surface Dice: share of both boundaries that lies within eval.nsd_tolerance_mm of the other",
        "1",
    ),
)
STATUS = text_column(
    "status",
    "ok: in both masks; absent: in neither mask (ratios empty, not counted); missed: only in the reference; "
    "spurious: only in the prediction",
)
BIOMARKER = (
    text_column("biomarker", "cartilagethickness, tissuevolume, tissueheight, t1rho or t2"),
    text_column("definition", "which value of the biomarker (docs/biomarkers.md)"),
    text_column("unit", "mm, mm2, mm3, mL, ms, percent or 1"),
)
PAIR = (
    number_column("reference", "value measured on the reference mask; empty: no value"),
    number_column("prediction", "value measured on the predicted mask; empty: no value"),
    number_column("difference", "prediction - reference"),
    integer_column("n_reference", "number of voxels, rays or instances used for the reference value"),
    integer_column("n_prediction", "number of voxels, rays or instances used for the prediction value"),
    text_column("dz_source", "positions, slice_spacing or slice_thickness: source of the distance between slices"),
    STATUS,
)
VOLUME_KEY = (*STAMP, DATASET, *SUBJECT_VOLUME, *SPLIT_PROTOCOL)
GLOBAL_KEY = (*STAMP, DATASET, *SPLIT_PROTOCOL)
MEASURE = text_column("measure", "column of volume.csv that is summarised")
NOISE = (
    integer_column("shift_px", "largest shift of the sides of a box by the jitter", "px"),
    integer_column("seed", "seed of the jitter; empty without a shift"),
)
VOLUME_MEASURES = (
    *COUNTS,
    TN,
    *OVERLAP,
    number_column("dice_slice_mean", "mean of slice Dice over slices whose status is not absent", "1"),
    number_column("iou_slice_mean", "mean of slice IoU over slices whose status is not absent", "1"),
    number_column("volume_reference_mm3", "volume of the reference", "mm3"),
    number_column("volume_prediction_mm3", "volume of the prediction", "mm3"),
    *DISTANCES,
    integer_column("num_slices", "number of evaluated slices"),
    STATUS,
)
NUM_SPECKS = integer_column(
    "num_specks",
    "number of components of either mask that are too small to be instances (docs/biomarkers.md), never averaged; no "
    "such column in files of version 0.1.0",
)
SUMMARY = (
    integer_column("n", "number of subjects in the mean"),
    integer_column("n_absent", "volumes in which the label is in neither mask, not counted"),
    integer_column("n_missed", "volumes in which the label was missed, counted as 0"),
    integer_column("n_spurious", "volumes in which the label was predicted but is not in the reference, counted as 0"),
    number_column("mean", "mean over subjects"),
    number_column("sd", "standard deviation over subjects (n - 1)"),
    number_column("median", "median over subjects"),
    number_column("q25", "first quartile"),
    number_column("q75", "third quartile"),
    number_column("ci_low", "95 % confidence interval of the mean by bootstrap over subjects, lower end"),
    number_column("ci_high", "upper end of the same interval"),
)


def estimate_column(name: str, description: str, unit: str = "") -> tuple[Column, ...]:
    """Columns of a number and of the ends of its 95 % confidence interval."""
    return (
        number_column(name, description, unit),
        number_column(f"{name}_ci_low", f"95 % confidence interval of {name}, lower end", unit),
        number_column(f"{name}_ci_high", "upper end of the same interval", unit),
    )


AGREEMENT = (
    integer_column("n", "number of subjects with both values"),
    integer_column("n_missed", "volumes in which the tissue was missed"),
    integer_column("n_spurious", "volumes in which the tissue was predicted but is not in the reference"),
    number_column("reference_mean", "mean of the reference values"),
    number_column("prediction_mean", "mean of the predicted values"),
    *estimate_column("bias", "mean of prediction - reference"),
    number_column("sd_difference", "standard deviation of the differences (n - 1)"),
    *estimate_column("loa_low", "bias - 1.96 sd_difference"),
    *estimate_column("loa_high", "bias + 1.96 sd_difference"),
    *estimate_column("mae", "mean absolute difference"),
    *estimate_column("rmse", "root mean square difference"),
    *estimate_column("icc_a1", "intraclass correlation ICC(A,1), absolute agreement", "1"),
    *estimate_column("icc_c1", "intraclass correlation ICC(C,1), consistency", "1"),
    *estimate_column("ccc", "Lin's concordance correlation", "1"),
    *estimate_column("pearson_r", "Pearson's correlation", "1"),
    *estimate_column(
        "rms_cv_percent", "root mean square coefficient of variation of prediction and reference", "percent"
    ),
    number_column(
        "yardstick_percent", "rms_cv_percent of repeated scans of one person, published; empty: not known", "percent"
    ),
    integer_column(
        "within_yardstick", "1: rms_cv_percent is at most yardstick_percent; 0: it is not; empty: not known"
    ),
    number_column("margin", "yardstick_percent of the absolute reference_mean: the margin of the equivalence test"),
    number_column("tost_p", "p value of two one-sided tests (TOST) that the bias is within the margin", "1"),
    number_column("equivalent_within", "smallest margin within which the bias is shown to be negligible (tost_p 0.05)"),
    text_column(
        "reason",
        "why numbers are empty: too few subjects or values, or too little variation; and a warning if a valid_share is "
        "below 0.9",
    ),
)
