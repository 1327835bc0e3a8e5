"""What was really done, as plain values: the source of the methods text, the checklist and the model card."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sam2ft.config.schema.datamodule import Datamodule
from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.module import Module
from sam2ft.report.comparison.compare import Comparison, ComparisonRow

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class StudyData:
    """One prepared dataset as it was read."""

    name: str
    anatomy: str
    labels: tuple[str, ...]
    subjects: Mapping[str, int]
    """Split -> number of subjects; also volumes and slices."""
    volumes: Mapping[str, int]
    slices: Mapping[str, int]
    pixel_mm: tuple[float, float] | None
    """Smallest and largest distance of rows or columns."""
    slice_mm: tuple[float, float] | None
    """Smallest and largest distance of slices, from their positions where those are known."""
    split_seed: int
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of the DICOM header: manufacturer, field strength, series, ... -> the values that occur."""

    @property
    def num_subjects(self) -> int:
        return sum(self.subjects.values())


@dataclass(frozen=True)
class Study:
    """An experiment after it ran; `module`, `evaluation` and `datamodule` are those of the run that is shown."""

    experiment: str
    description: str
    data: tuple[StudyData, ...]
    module: Module
    evaluation: Evaluation
    datamodule: Datamodule
    seed: int
    comparison: Comparison
    shown: str | None
    """run_id of the best point, or of the baseline where there is none."""
    slices_per_step: int | None = None
    epochs: int | None = None
    """That the shown run trained; best_epoch of its point says which one it kept."""
    weights_sha256: str | None = None
    """Of the initial weights."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Package -> version, `python` among them."""
    commits: tuple[str, ...] = ()
    """Each says so where the checkout had uncommitted changes."""
    hardware: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    """Columns of global.csv that the shown run has."""
    biomarkers: tuple[tuple[str, str], ...] = ()
    """(biomarker, definition) that were measured."""
    demographics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Split -> what the metadata says of its subjects, in words: age, sex."""

    @property
    def lines(self) -> tuple[ComparisonRow, ...]:
        """The evaluations of the run that is shown."""
        return tuple(line for line in self.comparison.lines if line.point.run == self.shown and line.scores)

    @property
    def num_points(self) -> int:
        return len({line.point.index for line in self.comparison.lines if line.point.index is not None})

    @property
    def trained(self) -> bool:
        """Whether what is shown was fine-tuned here."""
        return self.shown is not None and self.shown == self.comparison.best
