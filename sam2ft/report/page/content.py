"""Content of the HTML page as plain data classes; `page.page_of` fills them and `html.render_page` renders them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sam2ft.core.tables.rows import MEAN_OF_LABELS, Row
from sam2ft.data.store.drawn_labels import DrawnLabel
from sam2ft.report.comparison.compare import DISTANCES, MAIN_MEASURE, ComparedEvaluation, Comparison, Score, score_of
from sam2ft.report.comparison.effects import SeedGroup, seed_groups
from sam2ft.report.comparison.improvement import Improvement
from sam2ft.report.comparison.misses import LabelFailures, Misses
from sam2ft.report.page.point_facts import Cost, SettingDifferences
from sam2ft.report.page.volumes import ShownVolume
from sam2ft.report.plots.vega import Plot
from sam2ft.report.request import RunState
from sam2ft.report.tables.coverage import Coverage

_RowsByLabel = defaultdict[ComparedEvaluation, defaultdict[tuple[int, str], dict[str, Row]]]
"""Evaluation -> (label, label_name) -> measure -> row of global.csv."""

_OVERALL = -1
"""In place of a label: the mean over labels."""
LABEL_MEASURES = ("dice_slice_mean", "dice", *DISTANCES, "iou")
# The definition of each biomarker that the page shows; for other biomarkers (of users) all definitions are shown.
MAIN_DEFINITIONS = {
    "cartilagethickness": ("ThCcAB", "mm"),
    "tissuevolume": ("volume", "mL"),
    "tissueheight": ("height", "mm"),
    "t1rho": ("mean", "ms"),
    "t2": ("mean", "ms"),
}


@dataclass(frozen=True)
class Facts:
    """A group of names and values under one heading: data, configuration, versions, hardware."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Picture:
    """An image file beside the page."""

    path: str
    """Path relative to the page with `/` as separator, such as `assets/qc-001.png`."""
    caption: str
    alt: str = ""
    """Alternative text of the image; the caption is used when it is empty."""
    size: tuple[int, int] | None = None
    """(width, height) in pixels, so that the page can reserve space before the image is loaded."""


@dataclass(frozen=True)
class CaseLabel:
    """One label on one slice."""

    label: int
    name: str
    dice: float | None
    status: str


@dataclass(frozen=True)
class SliceCase:
    """One slice of one point: its picture and its scores."""

    picture: Picture
    point: str
    run: str
    where: str
    """Dataset, subject, volume and slice."""
    subject: str = ""
    why: str = ""
    """worst, median or best slice of its evaluation."""
    dice: float | None = None
    """Mean over the labels on the slice."""
    labels: tuple[CaseLabel, ...] = ()
    label: int | None = None
    """Label for which it is one of the worst; None for the others, and in evaluations of earlier versions."""
    eval: str = ""
    """eval_id of its evaluation."""

    @property
    def of_label(self) -> CaseLabel | None:
        """The label for which it was chosen."""
        return next((one for one in self.labels if one.label == self.label), None)


@dataclass(frozen=True)
class OfLabel:
    """One label and measure of a point, for a plot."""

    label: int
    label_name: str
    point: str
    run: str
    role: str
    """best, baseline or other."""
    measure: str


@dataclass(frozen=True)
class LabelScores(OfLabel):
    """Its summary over subjects."""

    score: Score


@dataclass(frozen=True)
class SubjectScores(OfLabel):
    """Its value of every subject."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class LabelResult:
    """Scores of one label of the best point on one evaluation, and of the baseline."""

    label: int
    name: str
    scores: Mapping[str, Score]
    """Measure (of LABEL_MEASURES) -> score."""
    baseline: Mapping[str, Score]
    n: int
    n_absent: int
    n_missed: int
    n_spurious: int
    failures: LabelFailures = field(default_factory=LabelFailures)
    """Missed and spurious slices and volumes."""
    improvement: Improvement | None = None
    """Dice per slice of the point - the baseline."""


@dataclass(frozen=True)
class LabelSection:
    """All labels of one point on one evaluation."""

    point: str
    evaluation: ComparedEvaluation
    labels: tuple[LabelResult, ...]
    overall: LabelResult | None = None
    """Mean over labels; without counts."""
    drawn: tuple[DrawnLabel, ...] = ()
    """The labels that were drawn in some of its subjects only."""

    @property
    def distances(self) -> tuple[str, ...]:
        """The distances that were measured."""
        return tuple(name for name in DISTANCES if any(name in label.scores for label in self.labels))


@dataclass(frozen=True)
class AgreementSection:
    """Biomarkers of one point on one evaluation: the main definition of each."""

    point: str
    evaluation: ComparedEvaluation
    rows: tuple[Row, ...]
    """Rows of biomarker_global.csv."""
    plots: tuple[tuple[Plot, ...], ...] = ()
    """Plots of each row; empty for a row without pairs."""


@dataclass(frozen=True)
class StatisticsSection:
    """Tables of the section; its plots are in `ReportData.plots_of`."""

    tests: tuple[Row, ...] = ()
    """Rows of point_tests.csv for MAIN_MEASURE, sorted by rank; NaN becomes None."""
    best: str | None = None
    """run_id of the point against which the others are tested."""
    groups: tuple[SeedGroup, ...] = ()

    def __bool__(self) -> bool:
        return len(self.tests) > 1 or bool(self.groups)


@dataclass(frozen=True)
class DataLine:
    """One dataset, for the first screen."""

    name: str
    about: str
    """Anatomy and what the headers say of the images; empty where nothing is known."""
    subjects: tuple[tuple[str, int, int], ...]
    """Of each split: name, number of subjects that were used, number of subjects that the store has."""


@dataclass(frozen=True)
class Verdict:
    """What came out on one evaluation of the chosen point, in sentences."""

    evaluation: ComparedEvaluation
    result: str
    """Chosen - baseline with interval and p, or why there is no such number."""
    misses: str
    """What is missed, and newly missed."""
    conclusive: bool = False
    """Whether there are enough subjects for a conclusion."""


@dataclass(frozen=True)
class FirstScreen:
    """What a reader sees before everything else."""

    data: tuple[DataLine, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    typical: SliceCase | None = None
    """A slice of the median subject."""
    worst: SliceCase | None = None


@dataclass(frozen=True)
class SubjectSummary:
    """One subject with a page of its own, for the list of them."""

    name: str
    path: str
    """Of its page, relative to the page of the report."""
    chosen: float | None
    """Dice per slice, mean over labels; `baseline` of the initial weights."""
    baseline: float | None
    failed: tuple[str, ...]
    """What the chosen point missed or found where nothing is."""
    num_pictures: int

    @property
    def change(self) -> float | None:
        return None if self.chosen is None or self.baseline is None else self.chosen - self.baseline


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    experiment: str
    description: str
    generated: str
    """Time of creation, for the foot of the page."""
    coverage: Coverage
    comparison: Comparison
    first: FirstScreen = FirstScreen()
    misses: Misses = field(default_factory=Misses)
    improvements: tuple[Improvement, ...] = ()
    """Best point - baseline."""
    facts: tuple[Facts, ...] = ()
    labels: tuple[LabelSection, ...] = ()
    plots_of: Mapping[str, tuple[Plot, ...]] = field(default_factory=dict)
    """Section -> its plots (plots/page_plots)."""
    statistics: StatisticsSection = field(default_factory=StatisticsSection)
    agreement: tuple[AgreementSection, ...] = ()
    label_sheets: tuple[Picture, ...] = ()
    """Per label the cropped worst, median and best slices."""
    cases: tuple[SliceCase, ...] = ()
    """Slices with pictures, sorted by point; the best point and the worst slices come first."""
    volumes: tuple[ShownVolume, ...] = ()
    """Volumes of the best point whose slices can be scrolled."""
    failures: tuple[RunState, ...] = ()
    problems: tuple[str, ...] = ()
    """Defects found while collating; the refused data are not in the tables."""
    files: tuple[tuple[str, str], ...] = field(default=())
    """(relative path, description) of the files beside the page."""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    """run_id -> what it took, where anything is known."""
    differences: SettingDifferences = field(default_factory=SettingDifferences)
    methods: str = ""
    """Content of methods.md."""
    subjects: tuple[SubjectSummary, ...] = ()
    """Subjects with a page of their own, those of the lowest Dice first."""

    @property
    def plots(self) -> tuple[Plot, ...]:
        """All plots, those of biomarkers last."""
        of_biomarkers = (plot for section in self.agreement for plots in section.plots for plot in plots)
        return (*(plot for plots in self.plots_of.values() for plot in plots), *of_biomarkers)


def label_sections(
    point: str,
    run: str,
    global_rows: Sequence[Row],
    baseline_run: str | None = None,
    misses: Misses | None = None,
    improvements: Sequence[Improvement] = (),
) -> tuple[LabelSection, ...]:
    """Results per label of `run` from global.csv, one section per evaluation, together with those of the baseline."""
    changes = {(one.evaluation, one.label, one.label_name): one for one in improvements if one.measure == MAIN_MEASURE}
    ours, theirs = _rows_by_label(global_rows, run), _rows_by_label(global_rows, baseline_run)
    sections = []
    for evaluation in sorted(ours, key=lambda evaluation: (*evaluation.how, evaluation.eval)):
        of_label, baseline = ours[evaluation], theirs[evaluation]
        labels = [_label_result(key, of_label[key], baseline[key]) for key in sorted(of_label) if key[0] != _OVERALL]
        known = [
            replace(
                label,
                failures=(misses or Misses()).of_label(run, evaluation, label.label, label.name),
                improvement=changes.get((evaluation, label.label, label.name)),
            )
            for label in labels
        ]
        mean = _mean_of_labels(evaluation, ours, theirs, changes)
        sections.append(LabelSection(point, evaluation, tuple(known), mean))
    return tuple(sections)


def _mean_of_labels(
    evaluation: ComparedEvaluation,
    ours: _RowsByLabel,
    theirs: _RowsByLabel,
    changes: Mapping[tuple[ComparedEvaluation, int | None, str], Improvement],
) -> LabelResult | None:
    key = _OVERALL, MEAN_OF_LABELS
    rows = ours[evaluation].get(key)
    if not rows:
        return None
    n = max(int(row["n"] or 0) for row in rows.values())
    scores, baseline = _scores(rows), _scores(theirs[evaluation].get(key, {}))
    return LabelResult(*key, scores, baseline, n, 0, 0, 0, improvement=changes.get((evaluation, None, MEAN_OF_LABELS)))


def statistics_section(comparison: Comparison, tests: Sequence[Row]) -> StatisticsSection:
    """The section of `comparison` and the rows of point_tests.csv; false when there is nothing to compare."""
    shown = sorted(
        (_plain(row) for row in tests if row["measure"] == MAIN_MEASURE),
        key=lambda row: (str(row["dataset"]), str(row["split"]), str(row["protocol"]), float(row["rank"] or 0)),
    )
    return StatisticsSection(tuple(shown), comparison.best, seed_groups(comparison))


def agreement_sections(point: str, run: str, biomarker_rows: Sequence[Row]) -> tuple[AgreementSection, ...]:
    """The main rows of biomarker_global.csv of `run`, one section per evaluation; NaN becomes None.

    Rows of tissues without any measurement (T2 of a bone) are left out. The sections have no plots;
    `agreement.agreement_of` adds them.
    """
    found: dict[ComparedEvaluation, list[Row]] = {}
    for row in biomarker_rows:
        main = MAIN_DEFINITIONS.get(str(row["biomarker"]))
        measured = any(row[name] for name in ("n", "n_missed", "n_spurious"))
        if row["run"] == run and measured and (main is None or main == (row["definition"], row["unit"])):
            found.setdefault(ComparedEvaluation.of(row), []).append(_plain(row))
    return tuple(AgreementSection(point, evaluation, tuple(rows)) for evaluation, rows in found.items())


def label_scores(
    names: Mapping[str, str], roles: Mapping[str, str], global_rows: Sequence[Row], evaluation: ComparedEvaluation
) -> list[LabelScores]:
    """Input of `plots.results.label_plot`: every row with a label of `evaluation`, of the runs in `names`.

    `names` maps run_id -> point name, `roles` maps run_id -> best or baseline; all other runs have the role other.
    """
    found = []
    for row in global_rows:
        run = str(row["run"])
        if run in names and _is_of_label(row) and row["measure"] in LABEL_MEASURES and same_data(row, evaluation):
            score = score_of(row)
            if score is not None:
                label, role = int(row["label"] or 0), roles.get(run, "other")
                found.append(
                    LabelScores(label, str(row["label_name"]), names[run], run, role, str(row["measure"]), score)
                )
    return sorted(found, key=lambda one: (one.label, LABEL_MEASURES.index(one.measure), one.run))


def _plain(row: Row) -> Row:
    return {name: None if value != value else value for name, value in row.items()}  # noqa: PLR0124 (only NaN differs)


def same_data(row: Row, evaluation: ComparedEvaluation) -> bool:
    """Same dataset, split and protocol; the eval_id is not compared because it depends on the model."""
    return ComparedEvaluation.of(row).how == evaluation.how


def _label_result(key: tuple[int, str], rows: Mapping[str, Row], baseline: Mapping[str, Row]) -> LabelResult:
    first = next(iter(rows.values()))
    n, absent, missed, spurious = (int(first[name] or 0) for name in ("n", "n_absent", "n_missed", "n_spurious"))
    return LabelResult(*key, _scores(rows), _scores(baseline), n, absent, missed, spurious)


def _scores(rows: Mapping[str, Row]) -> dict[str, Score]:
    return {measure: score for measure, row in rows.items() if (score := score_of(row)) is not None}


def _rows_by_label(global_rows: Sequence[Row], run: str | None) -> _RowsByLabel:
    found: _RowsByLabel = defaultdict(lambda: defaultdict(dict))
    for row in global_rows:
        overall = row["label_name"] == MEAN_OF_LABELS and not _is_of_label(row)
        if row["run"] == run and (overall or _is_of_label(row)) and row["measure"] in LABEL_MEASURES:
            label = _OVERALL if overall else int(row["label"] or 0), str(row["label_name"])
            found[ComparedEvaluation.of(row)][label][str(row["measure"])] = row
    return found


def _is_of_label(row: Row) -> bool:
    """Whether a row is of one label; overall rows (mean_of_labels, pooled) have none."""
    return row["label"] not in (None, "")
