"""What --set may say about scoring masks made elsewhere: the settings of an evaluation that are not about a model."""

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
    """How masks made elsewhere are scored."""

    settings: ScoreSettings = field(default_factory=ScoreSettings)
    resample: bool = False
    """Take the nearest voxel of a mask on another grid instead of refusing it."""
    include_empty_slices: bool = True
    func: Mapping[str, bool] | None = None
    """As datamodule.metric.func; None: every metric whose needs are met."""
    dicom_fields: Sequence[str] | None = None
    """None: all that the store has; of a metadata file the spacings, rows and columns."""
    representative_slice: bool = True
    stats_metadata_file: Path | None = None
    """Slice metadata instead of the store's own."""
    num_pictures: int = 24

    def identity(self) -> dict[str, Any]:
        """What else than `settings` decides the numbers, where it is not the default."""
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
    """The settings that `key=value` texts ask for, checked as those of an experiment. Errors: ProblemsError."""
    changes = parse_overrides(overrides)
    asked = {key for key, _ in changes}
    if foreign := [key for key in asked if not any(key == one or key.startswith(f"{one}.") for one in ALLOWED)]:
        message = f"is not about masks made elsewhere; allowed: {', '.join(ALLOWED)}"
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
        stats_metadata_file=_there(found.datamodule.stats_metadata_file),
        num_pictures=chosen.qc_slices,
    )


def _there(file: Path | None) -> Path | None:
    if file is not None and not file.is_file():
        raise ProblemsError([Problem(SET, "datamodule.stats_metadata_file", f"found {file}, which is no file")])
    return file
