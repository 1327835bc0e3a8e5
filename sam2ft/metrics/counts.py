"""Counts of two masks, and the ratios that know their own 0/0."""

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
    """Pixels in both masks, only in the prediction, only in the reference, in neither.

    Ratios of two empty masks are NaN; of one empty mask 0.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: "Overlap") -> "Overlap":
        return Overlap(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def reference(self) -> int:
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        return self.tp + self.fp

    @property
    def status(self) -> str:
        """ok, absent (in neither mask), missed (only in the reference) or spurious (only in the prediction)."""
        if not self.reference:
            return "spurious" if self.prediction else "absent"
        return "ok" if self.prediction else "missed"

    def _unless_absent(self, numerator: int, denominator: int) -> float:
        # A missed label has precision 0, not 0/0: what was not found was not found well (a spurious one recall 0).
        if self.status == "absent":
            return math.nan
        return numerator / denominator if denominator else 0.0

    @property
    def dice(self) -> float:
        return self._unless_absent(2 * self.tp, self.reference + self.prediction)

    @property
    def iou(self) -> float:
        return self._unless_absent(self.tp, self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        return self._unless_absent(self.tp, self.prediction)

    @property
    def recall(self) -> float:
        return self._unless_absent(self.tp, self.reference)

    @property
    def specificity(self) -> float:
        """tn / (tn + fp), NaN where the reference fills the picture; of an absent label NaN like every other ratio."""
        return math.nan if self.status == "absent" else ratio(self.tn, self.tn + self.fp)

    @property
    def volume_similarity(self) -> float:
        """1 - |prediction - reference| / (prediction + reference), after Taha and Hanbury 2015."""
        return self._unless_absent(
            self.prediction + self.reference - abs(self.prediction - self.reference), self.prediction + self.reference
        )


NOTHING = Overlap(0, 0, 0, 0)


def overlap(prediction: Mask, reference: Mask) -> Overlap:
    """Counts of two boolean masks of one shape. Errors: ValueError for different shapes."""
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction is {prediction.shape} but reference is {reference.shape}; both must be on one grid"
        )
    tp = int(np.count_nonzero(prediction & reference))
    fp = int(np.count_nonzero(prediction)) - tp
    fn = int(np.count_nonzero(reference)) - tp
    return Overlap(tp, fp, fn, int(reference.size) - tp - fp - fn)


def label_overlaps(prediction: LabelMap, reference: LabelMap, num_labels: int) -> tuple[Overlap, ...]:
    """Counts of every label 1..num_labels of two label maps of one shape, from one pass over both."""
    size = num_labels + 1
    pairs = np.bincount((reference.astype(np.int64) * size + prediction).ravel(), minlength=size * size)
    table = pairs.reshape(size, size)
    both, references, predictions = np.diagonal(table), table.sum(axis=1), table.sum(axis=0)
    pixels = int(reference.size)
    return tuple(
        Overlap(tp, p - tp, r - tp, pixels - p - r + tp)
        for tp, r, p in zip(both.tolist()[1:], references.tolist()[1:], predictions.tolist()[1:], strict=True)
    )


def total(overlaps: Sequence[Overlap]) -> Overlap:
    """The sum of counts, from which every ratio of a coarser table is computed."""
    return sum(overlaps, NOTHING)
