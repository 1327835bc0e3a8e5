"""The columns that tables share: their names, types, units and descriptions. `rows.py` puts them together."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "integer", "number"]


@dataclass(frozen=True)
class Column:
    """One column: its type and, for people, what it holds."""

    name: str
    kind: Kind
    description: str
    unit: str = ""


def text(name: str, description: str) -> Column:
    return Column(name, "text", description)


def integer(name: str, description: str, unit: str = "") -> Column:
    return Column(name, "integer", description, unit)


def number(name: str, description: str, unit: str = "") -> Column:
    return Column(name, "number", description, unit)


STAMP = (
    text("run", "run_id of the run that made the prediction"),
    text("eval", "eval_id: identity of the evaluation's settings and data"),
)
DATASET = text("dataset", "name of the prepared store")
SUBJECT_VOLUME = (
    text("subject", "the person: unit of splitting and statistics"),
    text("volume", "one 3-D image of a subject"),
)
SPLIT_PROTOCOL = (
    text("split", "train, val or test"),
    text("protocol", "how the model was prompted, with parameters"),
)
SLICE = integer("slice", "0-based index along the slice normal")
LABEL = (integer("label", "integer in the mask"), text("label_name", "its name in the label table"))
INSTANCE = integer("instance", "1-based connected component; empty = the whole tissue")
COUNTS = (
    integer("tp", "pixels in both masks"),
    integer("fp", "pixels only in the prediction"),
    integer("fn", "pixels only in the reference"),
)
TN = integer("tn", "pixels in neither mask")
OVERLAP = (
    number("dice", "2 tp / (2 tp + fp + fn)", "1"),
    number("iou", "tp / (tp + fp + fn)", "1"),
)
RATES = (
    number("precision", "tp / (tp + fp)", "1"),
    number("recall", "tp / (tp + fn)", "1"),
)
DISTANCES = (
    number("hd_mm", "Hausdorff distance of the voxel boundaries; empty unless the metric is asked for", "mm"),
    number("hd95_mm", "its 95th percentile, the larger of both directions", "mm"),
    number("assd_mm", "average symmetric distance of the voxel boundaries", "mm"),
    number("nsd", "share of both boundaries within eval.nsd_tolerance_mm of the other", "1"),
)
STATUS = text(
    "status",
    "ok; absent: label in neither mask (ratios empty, not counted); missed: only in the reference; "
    "spurious: only in the prediction",
)
BIOMARKER = (
    text("biomarker", "cartilagethickness, tissuevolume, tissueheight, t1rho or t2"),
    text("definition", "which number of the biomarker (docs/biomarkers.md)"),
    text("unit", "mm, mm2, mm3, mL, ms, percent or 1"),
)
PAIR = (
    number("reference", "value measured on the reference mask; empty when there is none"),
    number("prediction", "value measured on the predicted mask; empty when there is none"),
    number("difference", "prediction - reference"),
    integer("n_reference", "voxels, rays or instances behind the reference value"),
    integer("n_prediction", "the same for the prediction"),
    text("dz_source", "positions, slice_spacing or slice_thickness: where the slice distance comes from"),
    STATUS,
)
VOLUME_KEY = (*STAMP, DATASET, *SUBJECT_VOLUME, *SPLIT_PROTOCOL)
GLOBAL_KEY = (*STAMP, DATASET, *SPLIT_PROTOCOL)
MEASURE = text("measure", "column of volume.csv that is summarised")
NOISE = (
    integer("shift_px", "pixels that the sides of boxes were moved by at most", "px"),
    integer("seed", "seed of the jitter; empty without a shift"),
)
VOLUME_MEASURES = (
    *COUNTS,
    TN,
    *OVERLAP,
    number("dice_slice_mean", "mean of slice Dice over slices that are not absent", "1"),
    number("iou_slice_mean", "mean of slice IoU over slices that are not absent", "1"),
    number("volume_reference_mm3", "volume of the reference", "mm3"),
    number("volume_prediction_mm3", "volume of the prediction", "mm3"),
    *DISTANCES,
    integer("num_slices", "evaluated slices"),
    STATUS,
)
SUMMARY = (
    integer("n", "subjects behind the mean"),
    integer("n_absent", "volumes without this label in either mask, not counted"),
    integer("n_missed", "volumes in which the label was missed, counted as 0"),
    integer("n_spurious", "volumes in which the label was predicted but is not there, counted as 0"),
    number("mean", "mean over subjects"),
    number("sd", "standard deviation over subjects (n - 1)"),
    number("median", "median over subjects"),
    number("q25", "first quartile"),
    number("q75", "third quartile"),
    number("ci_low", "95 % confidence interval of the mean by bootstrap over subjects, lower end"),
    number("ci_high", "upper end"),
)


def estimate(name: str, description: str, unit: str = "") -> tuple[Column, ...]:
    """A number and the ends of its 95 % confidence interval."""
    return (
        number(name, description, unit),
        number(f"{name}_ci_low", f"95 % confidence interval of {name}, lower end", unit),
        number(f"{name}_ci_high", "upper end", unit),
    )


AGREEMENT = (
    integer("n", "subjects with both values"),
    integer("n_missed", "volumes in which the tissue was missed"),
    integer("n_spurious", "volumes in which the tissue was predicted but is not there"),
    number("reference_mean", "mean of the reference values"),
    number("prediction_mean", "mean of the predicted values"),
    *estimate("bias", "mean of prediction - reference"),
    number("sd_difference", "standard deviation of the differences (n - 1)"),
    *estimate("loa_low", "bias - 1.96 sd_difference"),
    *estimate("loa_high", "bias + 1.96 sd_difference"),
    *estimate("mae", "mean absolute difference"),
    *estimate("rmse", "root mean square difference"),
    *estimate("icc_a1", "intraclass correlation ICC(A,1), absolute agreement", "1"),
    *estimate("icc_c1", "intraclass correlation ICC(C,1), consistency", "1"),
    *estimate("ccc", "Lin's concordance correlation", "1"),
    *estimate("pearson_r", "Pearson's correlation", "1"),
    *estimate("rms_cv_percent", "root mean square coefficient of variation of prediction and reference", "percent"),
    number("yardstick_percent", "the same when a knee is scanned again, where it is known", "percent"),
    integer("within_yardstick", "1: rms_cv_percent is at most the yardstick; 0: it is not; empty: not known"),
    number("margin", "yardstick_percent of reference_mean: the margin of the equivalence test"),
    number("tost_p", "p of two one-sided tests that the bias is within the margin", "1"),
    number("equivalent_within", "smallest margin at which tost_p would be 0.05"),
    text("reason", "why numbers are empty that subjects or values are too few or too equal for"),
)
