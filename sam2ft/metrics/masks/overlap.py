"""Overlap metrics (Dice, IoU, precision, recall, specificity, volume similarity): functions of tp, fp, fn and tn."""

from collections.abc import Callable, Iterator

from sam2ft.metrics.counts import Overlap
from sam2ft.metrics.measurement import FunctionMetric, MaskPair, Measurement, metric


def _overlap_metric(name: str, ratio_of: Callable[[Overlap], float]) -> FunctionMetric:
    @metric(name)
    def measure(pair: MaskPair) -> Iterator[Measurement]:
        for index, counts in pair.slice_overlaps.items():
            yield Measurement("slice", name, ratio_of(counts), slice=index)
        yield Measurement("volume", name, ratio_of(pair.overlap))

    return measure


dice = _overlap_metric("dice", lambda counts: counts.dice)
iou = _overlap_metric("iou", lambda counts: counts.iou)
precision = _overlap_metric("precision", lambda counts: counts.precision)
recall = _overlap_metric("recall", lambda counts: counts.recall)
specificity = _overlap_metric("specificity", lambda counts: counts.specificity)
volume_similarity = _overlap_metric("volume_similarity", lambda counts: counts.volume_similarity)
