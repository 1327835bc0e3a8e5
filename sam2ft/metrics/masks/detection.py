"""Detection of instances and panoptic quality (PQ): connected components of both masks, matched by IoU > 0.5.

Kirillov et al. 2019 (Panoptic Segmentation, CVPR): above an IoU of 0.5 a component has at most one match, so no
assignment has to be chosen.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from sam2ft.core.components import components
from sam2ft.core.prompts import Mask
from sam2ft.metrics.counts import pair_counts
from sam2ft.metrics.measurement import MaskPair, Measurement, metric
from sam2ft.metrics.regions import regions_of

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
    predicted, num_predicted = components(prediction)
    true, num_true = components(reference)
    pairs = pair_counts(true, predicted, num_true, num_predicted)
    both = pairs[1:, 1:]
    unions = pairs.sum(axis=1)[1:, None] + pairs.sum(axis=0)[None, 1:] - both
    # Computed in whole pixels: an IoU of exactly one half is no match.
    matched = 2 * both > unions
    tp = int(matched.sum())
    return Detection(tp, num_predicted - tp, num_true - tp, math.fsum((both[matched] / unions[matched]).tolist()))


@metric("detection")
def detection(pair: MaskPair) -> Iterator[Measurement]:
    """Detection measures of 2-D components per slice and of 3-D components in the volume; NaN for an absent label."""
    for region in regions_of(pair):
        found = None if region.status == "absent" else detect(region.prediction, region.reference)
        for name, column in _COLUMNS.items():
            value = math.nan if found is None else float(getattr(found, name))
            yield Measurement(region.level, column, value, slice=region.slice, unit="1")
