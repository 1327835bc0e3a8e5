"""Checks of `datamodule.metric` before a run: names, requirements in every volume, plug-in metrics."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sam2ft.config.schema.datamodule import MetricSection
from sam2ft.core.errors import DataError, UserError
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.slice_metadata import MetadataSource
from sam2ft.data.store.store import VolumeRecord
from sam2ft.metrics.factory import load_metrics, measured_labels, unmet_needs
from sam2ft.metrics.measurement import Metric, can_do_without_bone
from sam2ft.metrics.plugins import PluginMetric

FUNC, TISSUES = "datamodule.metric.func", "datamodule.metric.tissues"

Found = tuple[str, str, bool]
"""(dotted key, message, whether it is only a warning)."""


def metric_problems(
    chosen: MetricSection, labels: LabelTable, records: Sequence[VolumeRecord], metadata: MetadataSource
) -> Iterator[Found]:
    """Yield every problem of the metrics with these volumes, and warnings about plug-in metrics."""
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
                metric, labels, chosen.tissues, maps=record.maps, dicom_fields=_fields(metric, record, metadata)
            )
        ]
        unmet += [
            f"{record.key}: {message}" for record in records for message in _lost_bones(metric, labels, chosen, record)
        ]
        yield from ((FUNC, message, False) for message in unmet)
        yield from ((TISSUES, message, True) for message in _without_bones(metric, labels, chosen))
        if records and not unmet:
            yield from _tried(metric, records[0], metadata)


def _lost_bones(metric: Metric, labels: LabelTable, chosen: MetricSection, record: VolumeRecord) -> Iterator[str]:
    """Tissues of a volume whose mask lacks the bone that the metric needs for them, although it was drawn."""
    if "bone" not in metric.needs:
        return
    for label_id in measured_labels(metric, labels, chosen.tissues):
        tissue, bone = labels[label_id].name, labels.interface_of(label_id)
        if bone not in labels.drawn(record.labelled):
            continue
        if bone is not None and record.slices_of(label_id) and not record.slices_of(bone.id):
            yield f"{metric.name} of {tissue} needs label {bone.id} {bone.name}, which the mask lacks"


def _without_bones(metric: Metric, labels: LabelTable, chosen: MetricSection) -> Iterator[str]:
    """Requested tissues without a bone interface; a metric that needs a bone measures them by another definition."""
    if "bone" in metric.needs and can_do_without_bone(metric):
        for label_id in chosen.tissues or ():
            if labels[label_id].interface is None:
                name = labels[label_id].name
                yield f"labels.{label_id} {name} has no interface: {metric.name} will be its local_thickness"


def _tried(metric: Metric, record: VolumeRecord, metadata: MetadataSource) -> Iterator[Found]:
    if not isinstance(metric, PluginMetric):
        return
    from sam2ft.metrics.plugin_check import try_plugin  # scores, and so imports scipy

    try:
        yield from ((FUNC, message, True) for message in try_plugin(metric, _fields(metric, record, metadata)))
    except UserError as error:
        yield FUNC, f"tried on made-up masks: {error}", False


def _fields(metric: Metric, record: VolumeRecord, metadata: MetadataSource) -> Mapping[str, Sequence[Any]]:
    """DICOM fields of the volume for the metric; the record is read only if the metric needs such fields."""
    if not any(need.startswith("dicom:") for need in metric.needs):
        return {}
    try:
        return metadata.describe(record).dicom
    except DataError:
        # A metadata file must have all wanted fields; a missing field is reported separately.
        return dict.fromkeys(metadata.wanted, ())
