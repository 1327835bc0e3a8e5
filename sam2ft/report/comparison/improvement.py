"""The chosen point minus the baseline: difference over subjects, per label and overall (improvement.csv)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sam2ft.core.tables.columns import GLOBAL_KEY, LABEL, MEASURE, integer_column, number_column, text_column
from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, Row, Table
from sam2ft.report.comparison.compare import ComparedEvaluation, Comparison
from sam2ft.statistics.cohort import SubjectValues, scored_alike, subject_values
from sam2ft.statistics.paired_tests import holm, paired
from sam2ft.statistics.small_samples import FEW, can_be_significant, limits_of, shown_interval, smallest_p

MEASURES = ("dice_slice_mean", "dice", "nsd", "hd95_mm", "assd_mm")
"""IoU changes with Dice in every subject."""

IMPROVEMENT = Table(
    "improvement",
    (*GLOBAL_KEY, *LABEL, MEASURE),
    (
        text_column("baseline", "run_id of the initial weights"),
        integer_column("n", "subjects that both have a value of"),
        number_column("difference", "mean over them of the chosen point - the baseline"),
        number_column("ci_low", "95 % interval of the mean difference over subjects, lower end"),
        number_column("ci_high", "upper end"),
        text_column("interval", f"how it was made: t (Student, below {FEW} subjects) or bootstrap (BCa)"),
        number_column("effect", "matched-pairs rank-biserial correlation: -1 = lower in every subject"),
        number_column("p_wilcoxon", "Wilcoxon's signed-rank test of the differences, two-sided"),
        number_column("p_holm", "the same, corrected after Holm over the labels; empty for the mean of labels"),
        number_column("smallest_p", "smallest p that n subjects can give before the correction"),
    ),
    "The best point by validation minus the initial weights, one row per evaluation, label and measure; the row "
    "without a label is the mean over labels.",
)


@dataclass(frozen=True)
class Improvement:
    """Chosen point - baseline of one label, or of the mean over labels (`label` None)."""

    evaluation: ComparedEvaluation
    """That of the chosen point."""
    label: int | None
    label_name: str
    measure: str
    n: int
    difference: float
    interval: tuple[float, float] | None
    """95 % interval: of few subjects Student's t, else the bootstrap."""
    effect: float
    p: float
    """Wilcoxon, two-sided."""
    p_holm: float | None = None
    """Corrected over the labels of a measure; None for the mean over labels, which is one test."""
    tests: int = 1
    """Number of tests of the correction."""

    @property
    def corrected(self) -> float:
        """The p to report."""
        return self.p if self.p_holm is None else self.p_holm

    @property
    def smallest_p(self) -> float:
        """Smallest corrected p that n subjects can give, whatever the differences."""
        return min(1.0, smallest_p(self.n) * self.tests)

    @property
    def conclusive(self) -> bool:
        """Whether n is large enough that a test could be significant at all, and an interval rests on FEW subjects."""
        return self.n >= FEW and can_be_significant(self.n, self.tests)


def improvements(comparison: Comparison, baseline: str | None, volume_rows: Sequence[Row]) -> tuple[Improvement, ...]:
    """All improvements of the best point, for the evaluations that both have; labels of a measure are one family.

    Args:
        comparison: its best point is the chosen one.
        baseline: run_id of the initial weights; None without.
        volume_rows: rows of volume.csv of both runs.
    """
    values: dict[str, dict[tuple[str, str, str], dict[tuple[object, ...], SubjectValues]]] = {}
    for one in subject_values([row for row in volume_rows if row["run"] in (comparison.best, baseline)]):
        if one.key["measure"] in MEASURES and one.key["label_name"] != POOLED:
            how = ComparedEvaluation.of(one.key).how
            of = values.setdefault(str(one.key["run"]), {}).setdefault(how, {})
            of[one.key["measure"], one.key["label"], one.key["label_name"]] = one
    ours, theirs = values.get(str(comparison.best), {}), values.get(str(baseline), {})
    made: list[Improvement] = []
    for how in sorted(ours.keys() & theirs.keys()):
        for measure in MEASURES:
            pairs = [(ours[how][key], theirs[how][key]) for key in ours[how].keys() & theirs[how].keys()
                     if key[0] == measure]  # fmt: skip
            made += _corrected(
                [_improvement(*pair) for pair in pairs if scored_alike(*pair)[0].keys() & scored_alike(*pair)[1].keys()]
            )
    return tuple(made)


def _improvement(chosen: SubjectValues, baseline: SubjectValues) -> Improvement:
    found = paired(*scored_alike(baseline, chosen))
    measure = str(chosen.key["measure"])
    low, high = limits_of(measure)
    label = chosen.key["label"]
    return Improvement(
        evaluation=ComparedEvaluation.of(chosen.key),
        label=None if chosen.key["label_name"] == MEAN_OF_LABELS or label is None else int(label),
        label_name=str(chosen.key["label_name"]),
        measure=measure,
        n=found.n,
        difference=found.difference,
        interval=shown_interval(found.difference, found.sd, found.n, (found.ci_low, found.ci_high), (low - high, high)),
        effect=found.effect,
        p=found.p,
    )


def _corrected(found: Sequence[Improvement]) -> list[Improvement]:
    """Those of one measure: the mean over labels first, then the labels with their corrected p."""
    labels = sorted((one for one in found if one.label is not None), key=lambda one: (one.label or 0, one.label_name))
    ps = holm([one.p for one in labels])
    family = [replace(one, p_holm=p, tests=len(labels)) for one, p in zip(labels, ps, strict=True)]
    return [*(one for one in found if one.label is None), *family]


def improvement_rows(found: Sequence[Improvement], best: str | None, baseline: str | None) -> list[Row]:
    """The rows of improvement.csv."""
    rows: list[Row] = []
    for one in found:
        low, high = one.interval or (None, None)
        rows.append(
            {
                "run": best,
                **asdict(one.evaluation),
                **{"label": one.label, "label_name": one.label_name, "measure": one.measure, "baseline": baseline},
                **{"n": one.n, "difference": one.difference, "ci_low": low, "ci_high": high},
                "interval": None if low is None else "t" if one.n < FEW else "bootstrap",
                **{"effect": one.effect, "p_wilcoxon": one.p, "p_holm": one.p_holm, "smallest_p": smallest_p(one.n)},
            }
        )
    return rows
