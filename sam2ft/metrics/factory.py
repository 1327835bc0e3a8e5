"""Registry of metrics by name, and import of custom metrics (plugins).

A custom metric is named `package.module:attribute` in `datamodule.metric.func`.
"""

import importlib.util
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.errors import ConfigError, UserError
from sam2ft.core.labels import LabelTable
from sam2ft.metrics.measurement import Metric, can_do_without_bone, is_biomarker
from sam2ft.metrics.plugins import PluginMetric, error_text

# Strings, imported on use: a run that computes only Dice does not import marching cubes.
METRICS = {
    "dice": "sam2ft.metrics.masks.overlap:dice",
    "iou": "sam2ft.metrics.masks.overlap:iou",
    "precision": "sam2ft.metrics.masks.overlap:precision",
    "recall": "sam2ft.metrics.masks.overlap:recall",
    "specificity": "sam2ft.metrics.masks.overlap:specificity",
    "volume_similarity": "sam2ft.metrics.masks.overlap:volume_similarity",
    "hd": "sam2ft.metrics.masks.surface:hd",
    "hd95": "sam2ft.metrics.masks.surface:hd95",
    "assd": "sam2ft.metrics.masks.surface:assd",
    "nsd": "sam2ft.metrics.masks.surface:nsd",
    "hd_surfel": "sam2ft.metrics.masks.surfel:hd_surfel",
    "hd95_surfel": "sam2ft.metrics.masks.surfel:hd95_surfel",
    "assd_surfel": "sam2ft.metrics.masks.surfel:assd_surfel",
    "nsd_surfel": "sam2ft.metrics.masks.surfel:nsd_surfel",
    "detection": "sam2ft.metrics.masks.detection:detection",
    "cartilagethickness": "sam2ft.metrics.biomarkers.thickness:CartilageThicknessMetric",
    "tissuevolume": "sam2ft.metrics.biomarkers.volume:TissueVolumeMetric",
    "tissueheight": "sam2ft.metrics.biomarkers.height:TissueHeightMetric",
    "t1rho": "sam2ft.metrics.biomarkers.relaxation:T1rhoMetric",
    "t2": "sam2ft.metrics.biomarkers.relaxation:T2Metric",
}


_OURS = "sam2ft."
_PYTHON = tuple(Path(folder) for folder in {sys.prefix, sys.base_prefix})
"""Whoever may write here decides about Python itself."""

METRIC_VERSIONS: Mapping[str, int] = {"tissueheight": 2}
"""Metrics whose definition changed after version 0.1.0; all others have version 1. Values of two versions are never
compared. tissueheight 2: sagittal planes whatever the slice axis, specks are no instances."""


VERSIONS = "metric_versions"
"""Key of `metric_versions` in `_SUCCESS` and in the parts of an evaluation; absent: all are in version 1."""


def metric_versions(names: Iterable[str]) -> dict[str, int]:
    """Name -> version of those metrics in `names` that are not in version 1, sorted by name."""
    return {name: METRIC_VERSIONS[name] for name in sorted({name.lower() for name in names} & METRIC_VERSIONS.keys())}


def metric_factory(name: str, **settings: Any) -> Metric:
    """The built-in metric called `name` (any case), or the custom metric at `package.module:attribute`.

    Args:
        name: metric name or import path.
        settings: passed to the constructor where the metric is a class.

    Raises:
        ConfigError: The name is unknown (the message lists the known names), the import or construction fails, or the
            object is not a metric.
    """
    where = name if ":" in name else METRICS.get(name.lower())
    if where is None:
        raise ConfigError(f"metric {name!r} is unknown; known: {', '.join(METRICS)}, or package.module:attribute")
    found = _imported(name, where)
    try:
        made = found(**settings) if isinstance(found, type) else found
    except Exception as error:
        raise ConfigError(f"metric {name!r} cannot be made: {error_text(error)}") from error
    if lacking := [part for part in ("name", "needs", "measure") if not hasattr(made, part)]:
        raise ConfigError(
            f"metric {name!r} has no {', '.join(lacking)}; a plain function becomes a metric with "
            "@metric(name, needs) of sam2ft.metrics.measurement"
        )
    own = where.startswith(_OURS)
    return cast(Metric, made) if own else PluginMetric(where, cast(Metric, made))


def _imported(name: str, where: str) -> Any:
    """The object at package.module:attribute; ConfigError when the module cannot be imported or has no such name."""
    module_name, _, attribute = where.partition(":")
    try:
        if not where.startswith(_OURS):
            _refuse_untrusted(module_name)
        module = importlib.import_module(module_name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"metric {name!r}: no module named {error.name!r} can be imported here; install it, or name its folder in "
            "PYTHONPATH"
        ) from error
    except Exception as error:
        raise ConfigError(f"metric {name!r}: importing {module_name} failed: {error_text(error)}") from error
    if not hasattr(module, attribute):
        raise ConfigError(f"metric {name!r}: module {module_name} has no {attribute!r}")
    return getattr(module, attribute)


def _refuse_untrusted(module_name: str) -> None:
    """Refuse a module outside of Python's own folders (where packages are installed) that others could have written.

    Raises:
        UserError: owner, mode and remedy.
    """
    parts = module_name.split(".")
    for count in range(1, len(parts) + 1):
        if (name := ".".join(parts[:count])) in sys.modules:
            continue
        # This imports the parents, each of which was checked in the round before.
        spec = importlib.util.find_spec(name)
        for file in (spec.origin, spec.cached) if spec is not None and spec.has_location else ():
            if file is not None and not any(Path(file).is_relative_to(folder) for folder in _PYTHON):
                refuse_untrusted(Path(file), "metric module")


def load_metrics(func: Mapping[str, bool]) -> tuple[Metric, ...]:
    """The metrics that `datamodule.metric.func` enables, in the given order.

    Raises:
        ConfigError: A metric is given twice or cannot be loaded.
    """
    folded = [name if ":" in name else name.lower() for name in func]
    if repeated := sorted({name for name in folded if folded.count(name) > 1}):
        raise ConfigError(f"metric {', '.join(repeated)} is given twice; names are compared without case")
    return tuple(metric_factory(name) for name, wanted in func.items() if wanted)


def measured_labels(metric: Metric, labels: LabelTable, tissues: Sequence[int] | None) -> tuple[int, ...]:
    """Ids of the labels that `metric` is measured on.

    Biomarkers: `tissues`, or every label if it is None (thickness: every label with an interface). Other metrics:
    every label.

    Raises:
        ConfigError: A tissue is not in the label table.
    """
    if not is_biomarker(metric):
        return labels.ids
    if tissues is not None:
        if unknown := sorted(set(tissues) - set(labels.ids)):
            raise ConfigError(f"metric.tissues: {unknown} not in the label table; known: {labels.describe()}")
        return tuple(tissues)
    return tuple(label.id for label in labels if "bone" not in metric.needs or label.interface is not None)


def unmet_needs(
    metric: Metric,
    labels: LabelTable,
    tissues: Sequence[int] | None,
    *,
    maps: Collection[str],
    dicom_fields: Collection[str],
) -> list[str]:
    """Requirements of `metric` that a volume with these maps and DICOM fields does not meet, one message each."""
    missing = []
    for need in metric.needs:
        kind, _, name = need.partition(":")
        if kind == "map" and name not in maps:
            missing.append(f"{metric.name} needs a {name} map; maps here: {', '.join(sorted(maps)) or 'none'}")
        elif kind == "dicom" and name not in dicom_fields:
            missing.append(f"{metric.name} needs the DICOM field {name}")
        elif kind == "bone":
            measured = measured_labels(metric, labels, tissues)
            if not measured:
                hint = "; metric.tissues names those to measure without one" if can_do_without_bone(metric) else ""
                missing.append(f"{metric.name} needs a label with an interface; the label table has none{hint}")
            missing += [
                f"{metric.name} needs labels.{label_id}.interface, the bone of {labels[label_id].name}"
                for label_id in measured
                if labels[label_id].interface is None and not can_do_without_bone(metric)
            ]
    return missing


def metrics_with_met_needs(
    labels: LabelTable, tissues: Sequence[int] | None, *, maps: Collection[str], dicom_fields: Collection[str]
) -> tuple[Metric, ...]:
    """Every built-in metric that can be computed on a volume with these maps and DICOM fields."""
    made = (metric_factory(name) for name in METRICS)
    return tuple(one for one in made if not unmet_needs(one, labels, tissues, maps=maps, dicom_fields=dicom_fields))
