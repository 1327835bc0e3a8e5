"""Overlap metrics (Dice, IoU, precision, recall, specificity, volume similarity): functions of tp, fp, fn and tn."""

from collections.abc import Iterator

from sam2ft.metrics.measurement import FunctionMetric, MaskPair, Measurement, metric


def _overlap_metric(name: str) -> FunctionMetric:
    """The metric of the property `name` of the counts."""

    @metric(name)
    def measure(pair: MaskPair) -> Iterator[Measurement]:
        for index, counts in pair.slice_overlaps.items():
            yield Measurement("slice", name, getattr(counts, name), slice=index)
        yield Measurement("volume", name, getattr(pair.overlap, name))

    return measure


dice, iou, precision, recall, specificity, volume_similarity = map(
    _overlap_metric, ("dice", "iou", "precision", "recall", "specificity", "volume_similarity")
)
