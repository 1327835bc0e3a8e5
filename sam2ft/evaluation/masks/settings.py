"""Settings for the scoring of masks made elsewhere: the --set keys of an evaluation that do not concern a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam2ft.config.schema.datamodule import Datamodule
from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import NANO
from sam2ft.config.yaml.tree import SET, Tree, overridden, parse_overrides
from sam2ft.config.yaml.validation import checked
from sam2ft.core.errors import Problem, ProblemsError
from sam2ft.core.files import sha256_file
from sam2ft.metrics.measurement import ScoreSettings

ALLOWED = (
    "eval.missed_distance",
    "eval.nsd_tolerance_mm",
    "eval.include_empty_slices",
    "eval.qc_slices",
    "eval.plain_cells",
    "datamodule.metric.func",
    "datamodule.metric.tissues",
    "datamodule.metric.dicom_fields",
    "datamodule.metric.representative_slice",
    "datamodule.metric.t2_upper_ms",
    "datamodule.metric.t1rho_upper_ms",
    "datamodule.metric.sensitivity",
    "datamodule.stats_metadata_file",
)


@dataclass(frozen=True)
class Scoring:
    """Settings for the scoring of masks made elsewhere: of both sections, the keys in `ALLOWED` apply."""

    evaluation: Evaluation = field(default_factory=Evaluation)
    datamodule: Datamodule = field(default_factory=Datamodule)
    asked: frozenset[str] = frozenset()
    """The keys of `ALLOWED` that are set."""
    resample: bool = False
    """Take the nearest voxel of a mask on another grid instead of refusing it."""
    reading: Reading = AS_IS
    """How masks are read where their headers leave a choice."""

    @property
    def settings(self) -> ScoreSettings:
        """Settings of the metrics."""
        return ScoreSettings.of(self.evaluation, self.datamodule.metric)

    @property
    def func(self) -> Mapping[str, bool] | None:
        """Metrics by name; None: every metric whose required inputs are available."""
        return self.datamodule.metric.func if "datamodule.metric.func" in self.asked else None

    @property
    def dicom_fields(self) -> Sequence[str] | None:
        """None: all fields of the store; with a metadata file: spacings, rows and columns."""
        return self.datamodule.metric.dicom_fields if "datamodule.metric.dicom_fields" in self.asked else None

    def identity(self) -> dict[str, Any]:
        """Return the non-default values, besides `settings`, that change results."""
        file = self.datamodule.stats_metadata_file
        values = {
            "resample": "nearest" if self.resample else None,
            "reading": dict(self.reading.chosen) or None,
            "include_empty_slices": None if self.evaluation.include_empty_slices else False,
            "func": None if self.func is None else dict(self.func),
            "dicom_fields": None if self.dicom_fields is None else list(self.dicom_fields),
            "representative_slice": None if self.datamodule.metric.representative_slice else False,
            "stats_metadata_file": None if file is None else sha256_file(file),
        }
        return {name: value for name, value in values.items() if value is not None}


def scoring_of(overrides: Sequence[str], *, resample: bool = False, reading: Reading = AS_IS) -> Scoring:
    """Return the settings of `key=value` texts, checked as settings of an experiment.

    Raises:
        ProblemsError: a key is not allowed, a value is invalid, or the metadata file does not exist.
    """
    changes = parse_overrides(overrides)
    asked = {key: [one for one in ALLOWED if f"{key}.".startswith(f"{one}.")] for key, _ in changes}
    if foreign := [key for key, applying in asked.items() if not applying]:
        message = f"does not apply to masks made elsewhere; allowed: {', '.join(ALLOWED)}"
        raise ProblemsError([Problem(SET, key, message) for key in sorted(foreign)])
    value: dict[str, Any] = {
        "experiment": {"name": "scored"},
        "dataset": {"store": {"store": "store"}},
        "module": {"sam2_model_cfg": NANO},
    }
    found = checked(Experiment, overridden(Tree(Path(SET), value, {}), [(key, one, SET) for key, one in changes]))
    file = found.datamodule.stats_metadata_file
    if file is not None and not file.is_file():
        raise ProblemsError([Problem(SET, "datamodule.stats_metadata_file", f"found {file}, which is not a file")])
    applying = frozenset(one for ones in asked.values() for one in ones)
    return Scoring(found.eval, found.datamodule, applying, resample, reading)
