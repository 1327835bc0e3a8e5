"""Paired significance tests of the best point against the others, and stability of the ranking (point_tests.csv)."""

from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass

from sam2ft.core.grouping import grouped
from sam2ft.core.tables.columns import MEASURE, integer_column, number_column, text_column
from sam2ft.core.tables.rows import Row, Table, Value
from sam2ft.report.comparison.compare import COMPARE, ComparedEvaluation, Comparison
from sam2ft.statistics.cohort import Subject, mean_of_labels_values
from sam2ft.statistics.paired_tests import holm, paired
from sam2ft.statistics.ranking import ranking

POINT_TESTS = Table(
    "point_tests",
    (*COMPARE.key[:2], text_column("eval", "eval_id"), *COMPARE.key[3:], MEASURE),
    (
        text_column("name", "name of the point"),
        integer_column(
            "n", "subjects that every point of this dataset, split and protocol has a value of: those of the ranks"
        ),
        number_column("rank", "by the mean over those subjects, 1 = highest"),
        number_column("rank_median", "median rank on cohorts drawn anew from them (bootstrap)"),
        number_column("rank_low", "2.5 % of those ranks are below"),
        number_column("rank_high", "2.5 % of those ranks are above"),
        number_column("first_share", "share of those cohorts on which this point is the best"),
        integer_column("n_paired", "subjects that this point and the best by validation have a value of"),
        number_column("difference", "mean over them of this point - the best by validation"),
        number_column("difference_ci_low", "95 % bootstrap interval of the mean difference over subjects, lower end"),
        number_column("difference_ci_high", "upper end"),
        number_column(
            "effect", "matched-pairs rank-biserial correlation of the differences: -1 = lower in every subject"
        ),
        number_column("p_wilcoxon", "Wilcoxon's signed-rank test of the differences, two-sided"),
        number_column("p_holm", "the same, corrected after Holm over the points of a measure"),
        number_column("difference_sd", "standard deviation of the differences over subjects"),
    ),
    "One row per point, evaluation and measure (mean over labels). All are tested against the best point, chosen "
    "by validation alone; its own tests are empty.",
)
MEASURES = ("dice_slice_mean", "dice")
"""IoU changes with Dice in every subject, so testing it too would repeat the same test."""
_RANKS = ("n", "rank", "rank_median", "rank_low", "rank_high", "first_share")
_TESTS = (
    "n_paired",
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "effect",
    "p_wilcoxon",
    "p_holm",
    "difference_sd",
)


@dataclass(frozen=True)
class PointValues:
    """One value per subject of one evaluated run and measure."""

    run: str
    evaluation: ComparedEvaluation
    measure: str
    of_subjects: tuple[tuple[Subject, float], ...]
    """(subject, mean over its labels); no NaN."""
    scored: tuple[str, ...] = ()
    """Of each of these subjects the labels that were scored (`SubjectValues.scored`)."""

    @property
    def values(self) -> dict[Subject, float]:
        return dict(self.of_subjects)

    @property
    def scored_of(self) -> dict[Subject, str]:
        """Subject -> the labels that were scored."""
        scored = self.scored or [""] * len(self.of_subjects)
        return {subject: labels for (subject, _), labels in zip(self.of_subjects, scored, strict=True)}


def with_values_alike(family: Sequence[PointValues]) -> list[dict[Subject, float]]:
    """The values of each, without the subjects of whom not all of those that have a value scored the same labels."""
    scored: dict[Subject, set[str]] = {}
    for one in family:
        for subject, labels in one.scored_of.items():
            scored.setdefault(subject, set()).add(labels)
    return [{subject: value for subject, value in one.values.items() if len(scored[subject]) == 1} for one in family]


def point_values(volume_rows: Sequence[Row]) -> tuple[PointValues, ...]:
    """Means over labels per subject, from which `mean_of_labels` in global.csv is computed, for MEASURES."""
    found = []
    for one in mean_of_labels_values(volume_rows, MEASURES):
        if one.values:
            key, values = one.key, tuple(one.values.items())
            scored = tuple(one.scored[subject] for subject in one.values)
            found.append(PointValues(str(key["run"]), ComparedEvaluation.of(key), str(key["measure"]), values, scored))
    return tuple(found)


def point_test_rows(comparison: Comparison, values: Sequence[PointValues]) -> list[Row]:
    """The rows of point_tests.csv, points in the order of the comparison."""
    points = {line.point.run: line.point for line in reversed(comparison.lines)}
    # Points that share a run each have an evaluation of their own.
    of_evaluation = {(line.point.run, line.evaluation.eval): line.point for line in reversed(comparison.lines)}
    order = {run: position for position, run in enumerate(reversed(points))}
    ordered = sorted(values, key=lambda one: (order[one.run], one.evaluation.eval, MEASURES.index(one.measure)))
    rows: list[Row] = []
    for family in grouped(ordered, lambda one: (*one.evaluation.how, one.measure)).values():
        for one, ranks, tests in zip(family, _ranks(family), _tests(family, comparison.best), strict=True):
            point = of_evaluation.get((one.run, one.evaluation.eval), points[one.run])
            key = {"point": point.index, "run": one.run, **asdict(one.evaluation), "measure": one.measure}
            rows.append({**key, "name": point.name, **ranks, **tests})
    return rows


def _ranks(family: Sequence[PointValues]) -> list[dict[str, Value]]:
    """Rank columns of each point; empty cells where there are too few points or subjects for a ranking."""
    found = ranking({str(position): values for position, values in enumerate(with_values_alike(family))})
    if found is None:
        return [dict.fromkeys(_RANKS) for _ in family]
    return [dict(zip(_RANKS, (found.n, *astuple(rank)), strict=True)) for rank in found.ranks.values()]


def _tests(family: Sequence[PointValues], best: str | None) -> list[dict[str, Value]]:
    """Tests of each point against the best by validation, if both were evaluated alike; Holm-corrected."""
    reference = next((one for one in family if one.run == best), None)
    made: list[dict[str, Value]] = []
    for one in family:
        if reference is None or one is reference:
            made.append(dict.fromkeys(_TESTS))
            continue
        found = paired(*with_values_alike([reference, one]))
        numbers = (found.n, found.difference, found.ci_low, found.ci_high, found.effect, found.p, None, found.sd)
        made.append(dict(zip(_TESTS, numbers, strict=True)))
    tested = [row for row in made if row["p_wilcoxon"] is not None]
    for row, corrected in zip(tested, holm([float(row["p_wilcoxon"] or 0) for row in tested]), strict=True):
        row["p_holm"] = corrected
    return made
