"""Metrics that are functions of tp, fp, fn and tn."""

from collections.abc import Callable, Iterator

from sam2ft.metrics.counts import Overlap
from sam2ft.metrics.measurement import FunctionMetric, MaskPair, Measurement, metric


def _of_counts(name: str, ratio_of: Callable[[Overlap], float]) -> FunctionMetric:
    @metric(name)
    def measure(pair: MaskPair) -> Iterator[Measurement]:
        for index, counts in pair.slice_overlaps.items():
            yield Measurement("slice", name, ratio_of(counts), slice=index)
        yield Measurement("volume", name, ratio_of(pair.overlap))

    return measure


dice = _of_counts("dice", lambda counts: counts.dice)
iou = _of_counts("iou", lambda counts: counts.iou)
precision = _of_counts("precision", lambda counts: counts.precision)
recall = _of_counts("recall", lambda counts: counts.recall)
specificity = _of_counts("specificity", lambda counts: counts.specificity)
volume_similarity = _of_counts("volume_similarity", lambda counts: counts.volume_similarity)
