"""Facts of a study as plain data classes: the source of the methods text, the CLAIM checklist and the model card."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.comparison.compare import Comparison, ComparisonRow, PointRun
from sam2ft.report.comparison.effects import SEED
from sam2ft.runs.states import State

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetFacts:
    """One prepared dataset."""

    name: str
    anatomy: str
    """As the dataset file gives it; may be empty."""
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
    trained: int | None = None
    """Training subjects that the shown run used: at most `subjects["train"]`; None where nothing was trained."""
    intensity: str = ""
    """How intensities became 0 to 1, as a sentence without its end; empty where no volume records it."""
    window: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Rule of the intensity window (clip_percentiles, zscore or window) -> its two numbers; empty: not recorded."""

    modality: str = ""
    """As the dataset file gives it, else that of the DICOM series; empty where neither is known."""
    drawn: str = ""
    """In how many subjects each label was labelled, of those that were not in all; empty where all were."""

    @property
    def about(self) -> str:
        """Anatomy and modality as far as they are known, such as `knee, MRI`; may be empty."""
        return ", ".join(filter(None, (self.anatomy, self.modality)))

    @property
    def num_subjects(self) -> int:
        return sum(self.subjects.values())

    @property
    def some_left_out(self) -> bool:
        """Whether the shown run was trained on fewer subjects than its training split has."""
        return self.trained is not None and self.trained < self.subjects.get("train", 0)


@dataclass(frozen=True)
class EvaluationFacts:
    """One evaluation of the shown run: how it was made, on what, and which labels it missed."""

    settings: Evaluation
    """Its own section `eval`: a run may be evaluated in several ways."""
    protocol: str
    """Name of its prompts as tables have it, with parameters."""
    evaluated: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Dataset -> (subjects, volumes)."""
    n_missed: int = 0
    """Labels missed in whole volumes, summed over labels; `n_spurious`: predicted without any in the reference."""
    n_spurious: int = 0
    missed_slices: int | None = None
    """The same in single slices; None where its slice.csv is no longer there."""
    spurious_slices: int | None = None
    elsewhere_slices: int = 0
    """Slices, and volumes, of a label that is in both masks without a common pixel: a Dice of 0, but not missed."""
    elsewhere_volumes: int = 0


@dataclass(frozen=True)
class PairedTests:
    """What was tested against the chosen point, as the tables of the report have it."""

    num_points: int = 0
    """Other points with a test."""
    baseline: bool = False
    """Whether the baseline has one."""
    largest_family: int = 0
    """Most tests that one correction is over."""
    sizes: tuple[int, ...] = ()
    """Numbers of paired subjects, sorted."""
    num_labels: int = 0
    """Labels of which the chosen point was compared with the baseline, most over evaluations."""
    ranked: int = 0
    """Subjects behind the ranks of the points; 0 without a ranking."""


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
    best_epoch: int | None = None
    """1-based epoch whose weights were kept."""
    weights_sha256: str | None = None
    """SHA-256 of the initial weights."""
    weights_name: str | None = None
    """Name of their file."""
    precision: tuple[str, ...] = ()
    """Precision in which the shown run was trained, of all its attempts; empty where none recorded it."""
    evaluated_in: tuple[str, ...] = ()
    """The same of its evaluations."""
    evaluations: tuple[EvaluationFacts, ...] = ()
    """Those of the shown run."""
    tests: PairedTests = field(default_factory=PairedTests)
    sample_sizes: tuple[int, ...] = ()
    """Numbers of subjects behind the means that are shown: of the shown run and of what it is compared with."""
    biomarker_subjects: int = 0
    """Most subjects with a pair of values of one biomarker."""
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
        """The evaluations of the shown run, each once."""
        own = (line for line in self.comparison.lines if line.point.run == self.shown and line.scores)
        return tuple({line.evaluation: line for line in own}.values())

    @property
    def trainings(self) -> tuple[PointRun, ...]:
        """One point of each training; points that differ in their evaluation alone share one."""
        points = (line.point for line in self.comparison.lines if line.point.index is not None)
        return tuple({point.run: point for point in points}.values())

    @property
    def num_finished(self) -> int:
        return sum(point.state == State.DONE for point in self.trainings)

    @property
    def trained_settings(self) -> tuple[str, ...]:
        """Settings other than the seed in which the trainings differ, in the order of the sweep."""
        swept = [dict(point.overrides) for point in self.trainings]
        keys = (key for key in self.comparison.override_keys if key != SEED and not key.startswith("eval."))
        return tuple(key for key in keys if len({str(values.get(key)) for values in swept}) > 1)

    @property
    def num_combinations(self) -> int:
        """Different values of `trained_settings`; points that differ in the seed alone are one."""
        swept = [dict(point.overrides) for point in self.trainings]
        return len({tuple(str(values.get(key)) for key in self.trained_settings) for values in swept})

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all points, sorted: several where the sweep has the seed as a setting."""
        swept = [value for line in self.comparison.lines for key, value in line.point.overrides if key == SEED]
        return tuple(sorted({int(str(value)) for value in swept} or {self.settings.experiment.seed}))

    @property
    def trained(self) -> bool:
        """Whether the shown run was fine-tuned: it is the best point and not the baseline."""
        return self.shown is not None and self.shown == self.comparison.best
