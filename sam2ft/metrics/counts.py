"""Confusion counts (TP, FP, FN, TN) of two masks, and Dice, IoU, precision and recall with defined 0/0 cases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam2ft.core.prompts import Mask

LabelMap = npt.NDArray[np.integer]


def ratio(numerator: float, denominator: float) -> float:
    """numerator / denominator, NaN for 0/0."""
    return numerator / denominator if denominator else math.nan


@dataclass(frozen=True)
class Overlap:
    """Confusion counts: pixels in both masks, only in the prediction, only in the reference, in neither.

    Ratios are NaN when both masks are empty, and 0 when exactly one mask is empty.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def reference(self) -> int:
        """Pixels of the reference: tp + fn."""
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        """Pixels of the prediction: tp + fp."""
        return self.tp + self.fp

    @property
    def status(self) -> str:
        """One of: ok, absent (in neither mask), missed (only in the reference), spurious (only in the prediction)."""
        if not self.reference:
            return "spurious" if self.prediction else "absent"
        return "ok" if self.prediction else "missed"

    def _unless_absent(self, numerator: int, denominator: int) -> float:
        # A missed label has precision 0 and a spurious label has recall 0, instead of 0/0: both are failures.
        if self.status == "absent":
            return math.nan
        return numerator / denominator if denominator else 0.0

    @property
    def dice(self) -> float:
        """2 tp / (2 tp + fp + fn)."""
        return self._unless_absent(2 * self.tp, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """Intersection over union (Jaccard index): tp / (tp + fp + fn)."""
        return self._unless_absent(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """tp / (tp + fp)."""
        return self._unless_absent(self.tp, self.prediction)

    @property
    def recall(self) -> float:
        """Sensitivity: tp / (tp + fn)."""
        return self._unless_absent(self.tp, self.reference)

    @property
    def specificity(self) -> float:
        """tn / (tn + fp); NaN where the reference fills the whole image, and for an absent label like every ratio."""
        return math.nan if self.status == "absent" else ratio(self.tn, self.tn + self.fp)

    @property
    def volume_similarity(self) -> float:
        """1 - |prediction - reference| / (prediction + reference) (Taha and Hanbury 2015)."""
        return self._unless_absent(
            self.prediction + self.reference - abs(self.prediction - self.reference), self.prediction + self.reference
        )


NOTHING = Overlap(0, 0, 0, 0)


def overlap(prediction: Mask, reference: Mask) -> Overlap:
    """Confusion counts of two boolean masks of the same shape.

    Raises:
        ValueError: The shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction is {prediction.shape} but reference is {reference.shape}; both must be on one grid"
        )
    tp = int(np.count_nonzero(prediction & reference))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Overlap(tp, fp, fn, int(reference.size) - tp - fp - fn)


def pair_counts(first: LabelMap, second: LabelMap, last_first: int, last_second: int) -> npt.NDArray[np.intp]:
    """Number of pixels of every pair of numbers in two maps of the same shape: (last_first + 1, last_second + 1)."""
    shape = last_first + 1, last_second + 1
    pairs = (first.astype(np.int64) * shape[1] + second).ravel()
    return np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)


def label_overlaps(prediction: LabelMap, reference: LabelMap, num_labels: int) -> tuple[Overlap, ...]:
    """Confusion counts of every label 1..num_labels of two label maps of the same shape, from one pass over both."""
    table = pair_counts(reference, prediction, num_labels, num_labels)
    both, references, predictions = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
    pixels = int(reference.size)
    return tuple(
        Overlap(tp, p - tp, r - tp, pixels - p - r + tp)
        for tp, r, p in zip(both.tolist()[1:], references.tolist()[1:], predictions.tolist()[1:], strict=True)
    )


def total(overlaps: Sequence[Overlap]) -> Overlap:
    """Sum of counts; ratios of a coarser table (volume, pooled labels) are computed from it."""
    return sum(overlaps, NOTHING)
