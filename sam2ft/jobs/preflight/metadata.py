"""Checks of slice metadata and quantitative maps before a run: existence, fit to the volumes, agreement."""

from collections.abc import Iterator, Sequence

from sam2ft.config.schema.datamodule import MetricSection
from sam2ft.core.errors import DataError, UserError
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.slice_metadata import MetadataSource, disagreement_summary
from sam2ft.data.store.store import VolumeRecord
from sam2ft.jobs.preflight.metrics import FUNC, Found
from sam2ft.metrics.factory import load_metrics, measured_labels
from sam2ft.metrics.measurement import Metric, is_biomarker

FILE = "datamodule.stats_metadata_file"


def metadata_problems(
    chosen: MetricSection, labels: LabelTable, records: Sequence[VolumeRecord], source: MetadataSource
) -> Iterator[Found]:
    """Yield volumes missing from the metadata file, slice distances that disagree, and tissues without map values.

    Unknown metrics and tissues are reported by `metric_problems`.
    """
    try:
        biomarkers = [metric for metric in load_metrics(chosen.func) if is_biomarker(metric)]
    except UserError:
        return
    if set(chosen.tissues or ()) - set(labels.ids):
        return
    if source.file is None and not biomarkers:
        return
    disagreements = {}
    for record in records:
        try:
            disagreements[str(record.key)] = source.describe(record).disagreements
        except DataError as error:
            yield FILE, str(error), False
    if biomarkers:
        yield from ((FUNC, message, True) for message in disagreement_summary(disagreements))
    for metric in biomarkers:
        yield from ((FUNC, message, True) for message in _empty_maps(metric, labels, chosen.tissues, records))


def _empty_maps(
    metric: Metric, labels: LabelTable, tissues: Sequence[int] | None, records: Sequence[VolumeRecord]
) -> Iterator[str]:
    """Tissues in which no voxel of a volume has a value in the metric's map; their rows will be empty."""
    for name in (need.removeprefix("map:") for need in metric.needs if need.startswith("map:")):
        for record in records:
            of_label = record.map_facts.get(name, {}).get("valid_of_label", {})
            for label_id in measured_labels(metric, labels, tissues):
                valid, voxels = of_label.get(str(label_id), (1, 1))
                if not valid:
                    where = f"the {voxels} voxels of {labels[label_id].name}"
                    yield f"{record.key}: map {name} has no value in {where}; its {metric.name} is empty"
