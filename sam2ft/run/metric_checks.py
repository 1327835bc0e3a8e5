"""What can be known of `datamodule.metric` before a run: names, needs of every volume, metrics from outside."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sam2ft.config.schema_data import Metric as MetricSection
from sam2ft.core.errors import UserError
from sam2ft.core.labels import LabelTable
from sam2ft.data.metadata import metadata_of
from sam2ft.data.store import VolumeRecord
from sam2ft.metrics.factory import load_metrics, unmet_needs
from sam2ft.metrics.measurement import Metric
from sam2ft.metrics.probe import probe

FUNC, TISSUES = "datamodule.metric.func", "datamodule.metric.tissues"

Found = tuple[str, str, bool]
"""(dotted key, what is wrong with it, whether it is only a warning)."""


def metric_problems(chosen: MetricSection, labels: LabelTable, records: Sequence[VolumeRecord]) -> Iterator[Found]:
    """Everything that is wrong with the metrics for these volumes, and what is odd about those from outside."""
    try:
        metrics = load_metrics(chosen.func)
    except UserError as error:
        yield FUNC, str(error), False
        return
    if unknown := sorted(set(chosen.tissues or ()) - set(labels.ids)):
        yield TISSUES, f"found {unknown}, not in the label table; known: {labels.describe()}", False
        return
    for metric in metrics:
        unmet = [
            f"{record.key}: {message}"
            for record in records
            for message in unmet_needs(
                metric, labels, chosen.tissues, maps=record.maps, dicom_fields=_fields(metric, record, chosen)
            )
        ]
        yield from ((FUNC, message, False) for message in unmet)
        if records and not unmet:
            yield from _tried(metric, records[0], chosen)


def _tried(metric: Metric, record: VolumeRecord, chosen: MetricSection) -> Iterator[Found]:
    try:
        yield from ((FUNC, message, True) for message in probe(metric, _fields(metric, record, chosen)))
    except UserError as error:
        yield FUNC, f"tried on made-up masks: {error}", False


def _fields(metric: Metric, record: VolumeRecord, chosen: MetricSection) -> Mapping[str, Sequence[Any]]:
    """What the metric will be handed of the volume; its record is read only for a metric that needs any of it."""
    if not any(need.startswith("dicom:") for need in metric.needs):
        return {}
    return metadata_of(
        record.dicom,
        chosen.dicom_fields,
        record.geometry.shape_zyx[0],
        representative_slice=chosen.representative_slice,
    )
