"""Detection of instances and panoptic quality (PQ): connected components of both masks, matched by IoU > 0.5.

Kirillov et al. 2019 (Panoptic Segmentation, CVPR): above an IoU of 0.5 a component has at most one match, so no
assignment has to be chosen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sam2ft.core.components import components
from sam2ft.core.prompts import Mask
from sam2ft.metrics.counts import pair_counts
from sam2ft.metrics.instances import Numbers, divided
from sam2ft.metrics.measurement import MaskPair, Measurement, metric
from sam2ft.metrics.regions import Region, regions_of

_COLUMNS = {name: f"detection_{name}" for name in ("tp", "fp", "fn")} | {name: name for name in ("pq", "sq", "rq")}
"""Value -> its column."""


@dataclass(frozen=True)
class Detection:
    """Matched pairs (tp), unmatched predicted (fp) and unmatched reference components (fn), and sum of pair IoUs.

    Without a matched pair SQ and PQ are 0, as in the authors' code, and not 0/0: a miss is never excluded from a mean.
    """

    tp: int
    fp: int
    fn: int
    sum_iou: float

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matched pairs."""
        return self.sum_iou / self.tp if self.tp else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality: F1 score of the components."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn)

    @property
    def pq(self) -> float:
        """Panoptic quality: sq x rq."""
        return 2 * self.sum_iou / (2 * self.tp + self.fp + self.fn)


def detect(prediction: Mask, reference: Mask) -> Detection:
    """Match the components of two masks of the same shape, at least one not empty (8 or 26 neighbours)."""
    return match(*components(prediction), *components(reference))


def _detect_in(region: Region) -> Detection:
    """Detection in a region; given instance ids replace the components of the reference, specks included in both."""
    ids = region.given_instances
    if ids is None:
        return detect(region.prediction, region.reference)
    numbers = np.unique(ids[region.reference])
    true = np.where(region.reference, np.searchsorted(numbers, ids) + 1, 0).astype(np.int32)
    return match(*divided(region.prediction, true, region.spacing_mm), true, len(numbers))


def match(predicted: Numbers, num_predicted: int, true: Numbers, num_true: int) -> Detection:
    """Match numbered instances (1 to their number, 0 is background) of two masks of the same shape."""
    pairs = pair_counts(true, predicted, num_true, num_predicted)
    both = pairs[1:, 1:]
    unions = pairs.sum(axis=1)[1:, None] + pairs.sum(axis=0)[None, 1:] - both
    # Computed in whole pixels: an IoU of exactly one half is no match.
    matched = 2 * both > unions
    tp = int(matched.sum())
    return Detection(tp, num_predicted - tp, num_true - tp, math.fsum((both[matched] / unions[matched]).tolist()))


@metric("detection")
def detection(pair: MaskPair) -> Iterator[Measurement]:
    """Detection measures of 2-D components per slice and of 3-D components in the volume; NaN for an absent label.

    Specks count like every component. Given instance ids replace the components of the reference; a component of the
    prediction is then divided between touching instances (`instances.divided`).
    """
    for region in regions_of(pair):
        found = None if region.status == "absent" else _detect_in(region)
        for name, column in _COLUMNS.items():
            value = math.nan if found is None else float(getattr(found, name))
            yield Measurement(region.level, column, value, slice=region.slice, unit="1")
