"""Facts of a study as plain data classes: the source of the methods text, the CLAIM checklist and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.comparison.compare import Comparison, ComparisonRow

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetFacts:
    """One prepared dataset."""

    name: str
    anatomy: str
    labels: tuple[str, ...]
    subjects: Mapping[str, int]
    """Split -> number of subjects; `volumes` and `slices` have the same form."""
    volumes: Mapping[str, int]
    slices: Mapping[str, int]
    pixel_mm: tuple[float, float] | None
    """Smallest and largest distance between rows or columns."""
    slice_mm: tuple[float, float] | None
    """Smallest and largest distance between slices, from the slice positions where these are known."""
    split_seed: int
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Field of the DICOM header (field strength, series, ...) -> the values that occur."""

    @property
    def num_subjects(self) -> int:
        return sum(self.subjects.values())


@dataclass(frozen=True)
class Study:
    """An experiment after its runs."""

    experiment: str
    settings: Experiment
    """Those of the shown run."""
    data: tuple[DatasetFacts, ...]
    comparison: Comparison
    shown: str | None
    """run_id of the best point, or of the baseline when there is no best point."""
    slices_per_step: int | None = None
    epochs: int | None = None
    """Number of epochs that the shown run trained; best_epoch of its point is the one whose weights it kept."""
    weights_sha256: str | None = None
    """SHA-256 of the initial weights."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version, including `python`."""
    commits: tuple[str, ...] = ()
    """Commits of the code; the text of a commit notes uncommitted changes."""
    machines: tuple[str, ...] = ()
    """Cores and operating system of the machines of the shown run."""
    training_hardware: tuple[str, ...] = ()
    """GPUs and precision of all trainings (runs/hardware.hardware_texts), or `not recorded`; empty without one."""
    evaluation_hardware: tuple[str, ...] = ()
    """The same of all evaluations."""
    measures: tuple[str, ...] = ()
    """Measures in global.csv of the shown run."""
    biomarkers: tuple[tuple[str, str], ...] = ()
    """(biomarker, definition) of all measured biomarkers."""
    demographics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Split -> description of its subjects from the metadata as text: age, sex."""

    @property
    def lines(self) -> tuple[ComparisonRow, ...]:
        """The evaluations of the shown run."""
        return tuple(line for line in self.comparison.lines if line.point.run == self.shown and line.scores)

    @property
    def num_points(self) -> int:
        return len({line.point.index for line in self.comparison.lines if line.point.index is not None})

    @property
    def trained(self) -> bool:
        """Whether the shown run was fine-tuned: it is the best point and not the baseline."""
        return self.shown is not None and self.shown == self.comparison.best
