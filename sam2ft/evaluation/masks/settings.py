"""Settings for the scoring of masks made elsewhere: the --set keys of an evaluation that do not concern a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.module import NANO
from sam2ft.config.yaml.tree import SET, Tree, overridden, parse_overrides
from sam2ft.config.yaml.validation import validated
from sam2ft.core.errors import Problem, ProblemsError
from sam2ft.core.files import sha256_file
from sam2ft.metrics.measurement import ScoreSettings

ALLOWED = (
    "eval.missed_distance",
    "eval.nsd_tolerance_mm",
    "eval.include_empty_slices",
    "eval.qc_slices",
    "datamodule.metric.func",
    "datamodule.metric.tissues",
    "datamodule.metric.dicom_fields",
    "datamodule.metric.representative_slice",
    "datamodule.metric.t1rho_upper_ms",
    "datamodule.metric.sensitivity",
    "datamodule.stats_metadata_file",
)


@dataclass(frozen=True)
class Scoring:
    """Settings for the scoring of masks made elsewhere."""

    settings: ScoreSettings = field(default_factory=ScoreSettings)
    resample: bool = False
    """Take the nearest voxel of a mask on another grid instead of refusing it."""
    include_empty_slices: bool = True
    func: Mapping[str, bool] | None = None
    """As datamodule.metric.func; None: every metric whose required inputs are available."""
    dicom_fields: Sequence[str] | None = None
    """None: all fields of the store; with a metadata file: spacings, rows and columns."""
    representative_slice: bool = True
    stats_metadata_file: Path | None = None
    """Slice metadata instead of the store's own."""
    num_pictures: int = 24

    def identity(self) -> dict[str, Any]:
        """Return the non-default values, besides `settings`, that change results."""
        chosen: dict[str, Any] = {}
        if self.resample:
            chosen["resample"] = "nearest"
        if not self.include_empty_slices:
            chosen["include_empty_slices"] = False
        if self.func is not None:
            chosen["func"] = dict(self.func)
        if self.dicom_fields is not None:
            chosen["dicom_fields"] = list(self.dicom_fields)
        if not self.representative_slice:
            chosen["representative_slice"] = False
        if self.stats_metadata_file is not None:
            chosen["stats_metadata_file"] = sha256_file(self.stats_metadata_file)
        return chosen


def scoring_of(overrides: Sequence[str], *, resample: bool = False) -> Scoring:
    """Return the settings of `key=value` texts, checked as settings of an experiment.

    Raises:
        ProblemsError: a key is not allowed, a value is invalid, or the metadata file does not exist.
    """
    changes = parse_overrides(overrides)
    asked = {key for key, _ in changes}
    if foreign := [key for key in asked if not any(key == one or key.startswith(f"{one}.") for one in ALLOWED)]:
        message = f"does not apply to masks made elsewhere; allowed: {', '.join(ALLOWED)}"
        raise ProblemsError([Problem(SET, key, message) for key in sorted(foreign)])
    value: dict[str, Any] = {
        "experiment": {"name": "scored"},
        "dataset": {"store": {"store": "store"}},
        "module": {"sam2_model_cfg": NANO},
    }
    found = validated(Experiment, overridden(Tree(Path(SET), value, {}), [(key, one, SET) for key, one in changes]))
    if isinstance(found, list):
        raise ProblemsError(found)
    chosen, metric = found.eval, found.datamodule.metric
    return Scoring(
        ScoreSettings(
            chosen.missed_distance, chosen.nsd_tolerance_mm, metric.tissues, metric.t1rho_upper_ms, metric.sensitivity
        ),
        resample=resample,
        include_empty_slices=chosen.include_empty_slices,
        func=dict(metric.func) if any(key.startswith("datamodule.metric.func") for key in asked) else None,
        dicom_fields=metric.dicom_fields if "datamodule.metric.dicom_fields" in asked else None,
        representative_slice=metric.representative_slice,
        stats_metadata_file=_existing(found.datamodule.stats_metadata_file),
        num_pictures=chosen.qc_slices,
    )


def _existing(file: Path | None) -> Path | None:
    if file is not None and not file.is_file():
        raise ProblemsError([Problem(SET, "datamodule.stats_metadata_file", f"found {file}, which is not a file")])
    return file
