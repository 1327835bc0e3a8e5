"""Effects of the settings of a sweep: spread over random seeds, main effects, learning curves. Plain values."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sam2ft.core.grouping import grouped
from sam2ft.report.comparison.compare import (
    MAIN_MEASURE,
    MEASURES,
    ComparedEvaluation,
    Comparison,
    ComparisonRow,
    is_fold,
    value_text,
)

SEED = "experiment.seed"
SUBJECTS = "datamodule.max_subject_set"

Overrides = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of a value over several points."""

    mean: float
    sd: float | None
    """Sample standard deviation (divisor n - 1); None for one number."""
    n: int


@dataclass(frozen=True)
class SeedGroup:
    """Points that differ only in the seed, or in the fold: the spread is over seeds and folds, not over subjects."""

    name: str
    """Common part of their names: the overrides without seed and fold."""
    overrides: Overrides
    runs: tuple[str, ...]
    evaluation: ComparedEvaluation
    validation: Spread | None
    scores: Mapping[str, Spread]
    """Measure -> spread of the points' means over subjects."""
    repeated: tuple[str, ...] = ("seed",)
    """In what its points differ: seed, fold or both."""


@dataclass(frozen=True)
class Level:
    """All points with one value of one setting."""

    value: str
    scores: Spread
    members: tuple[tuple[str, float], ...]
    """(name, mean over subjects) of each of the points."""


@dataclass(frozen=True)
class MainEffect:
    """A setting of the sweep, and the mean of MAIN_MEASURE over all points with each of its values."""

    key: str
    evaluation: ComparedEvaluation
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class CurvePoint:
    """Result of one point, or of several that differ in the seed, trained on `num_subjects` subjects."""

    num_subjects: int
    score: Spread
    low: float | None
    """Lower and upper (`high`) end of the points' 95 % intervals over subjects, averaged over seeds."""
    high: float | None


@dataclass(frozen=True)
class LearningCurve:
    """MAIN_MEASURE on the evaluated split against the number of training subjects."""

    name: str
    """The other overrides as text; empty when there are none."""
    evaluation: ComparedEvaluation
    points: tuple[CurvePoint, ...]
    """At least two, in increasing order of the number of subjects."""


def seed_groups(comparison: Comparison) -> tuple[SeedGroup, ...]:
    """Groups of at least two evaluated points that differ only in seed or fold, in the order of their first points.

    The validation subjects of folds differ; there the evaluation of a group is that of its first point.
    """
    found = []
    groups = grouped(_trained(comparison), lambda line: (_without(line, SEED), _evaluation_of_folds(line)))
    for (overrides, _), lines in groups.items():
        runs = tuple(dict.fromkeys(line.point.run for line in lines))
        if len(runs) > 1:
            scores = {measure: spread for measure in MEASURES if (spread := _of_measure(lines, measure)) is not None}
            how = (_name(overrides), overrides, runs, lines[0].evaluation, _validation(lines), scores)
            found.append(SeedGroup(*how, _repeated(lines)))
    return tuple(found)


def main_effects(comparison: Comparison) -> tuple[MainEffect, ...]:
    """Mean of MAIN_MEASURE over all points of each value, per evaluation and per setting with at least two values.

    The order is that of the sweep. If the sweep is not a full grid, the means are over points that differ in other
    settings too; therefore each mean has its number of points.
    """
    found = []
    alike = grouped(_trained(comparison), lambda line: ComparedEvaluation("", *line.evaluation.how))
    for evaluation, lines in alike.items():
        for key in comparison.override_keys:
            having = [line for line in lines if key in dict(line.point.overrides) and MAIN_MEASURE in line.scores]
            by_value = grouped(having, lambda line, key=key: value_text(dict(line.point.overrides)[key]))  # type: ignore[misc]
            levels = [_level(value, members) for value, members in by_value.items()]
            if len(levels) > 1:
                found.append(MainEffect(key, evaluation, tuple(levels)))
    return tuple(found)


def learning_curves(comparison: Comparison, num_subjects: Mapping[str, int]) -> tuple[LearningCurve, ...]:
    """Curves over `datamodule.max_subject_set`, one per combination of the other overrides except seed and fold.

    Args:
        comparison: the compared points.
        num_subjects: run_id -> number of training subjects, needed for the value `full`; runs that are missing in it
            are left out unless the override itself is a number.
    """
    swept = [line for line in _trained(comparison) if SUBJECTS in dict(line.point.overrides)]
    measured = [line for line in swept if MAIN_MEASURE in line.scores]
    found = []
    groups = grouped(measured, lambda line: (_without(line, SEED, SUBJECTS), _evaluation_of_folds(line)))
    for (others, _), lines in groups.items():
        by_size = grouped(lines, lambda line: _size(line, num_subjects))
        sizes = sorted(size for size in by_size if size is not None)
        points = [_curve_point(size, by_size[size]) for size in sizes]
        if len(points) > 1:
            found.append(LearningCurve(_name(others), lines[0].evaluation, tuple(points)))
    return tuple(found)


def _trained(comparison: Comparison) -> list[ComparisonRow]:
    """Lines with scores, without the baseline; a run that is shared by several points counts once per evaluation."""
    lines: dict[tuple[str, ComparedEvaluation], ComparisonRow] = {}
    for line in comparison.lines:
        if line.scores and line.point.index is not None:
            lines.setdefault((line.point.run, line.evaluation), line)
    return list(lines.values())


def _without(line: ComparisonRow, *keys: str) -> Overrides:
    # As text: an override may be a mapping, which cannot be hashed as part of a key.
    kept = ((key, value) for key, value in line.point.overrides if key not in keys and not is_fold(key))
    return tuple((key, value_text(value)) for key, value in kept)


def _evaluation_of_folds(line: ComparisonRow) -> object:
    """What points of a group share: the evaluation, or where the fold is swept the way of it."""
    has_fold = any(is_fold(key) for key, _ in line.point.overrides)
    return line.evaluation.how if has_fold else line.evaluation


def _repeated(lines: Sequence[ComparisonRow]) -> tuple[str, ...]:
    pairs = [dict(line.point.overrides) for line in lines]
    folds = len({tuple(str(one[key]) for key in one if is_fold(key)) for one in pairs}) > 1
    seeds = len({str(one.get(SEED)) for one in pairs}) > 1
    return (*(("seed",) if seeds or not folds else ()), *(("fold",) if folds else ()))


def _name(overrides: Overrides) -> str:
    return ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in overrides)


def _spread(numbers: Sequence[float]) -> Spread:
    """Spread of at least one number."""
    sd = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Spread(math.fsum(numbers) / len(numbers), sd, len(numbers))


def _of_measure(lines: Sequence[ComparisonRow], measure: str) -> Spread | None:
    means = [line.scores[measure].mean for line in lines if measure in line.scores]
    return _spread(means) if means else None


def _level(value: str, lines: Sequence[ComparisonRow]) -> Level:
    members = tuple((line.point.name, line.scores[MAIN_MEASURE].mean) for line in lines)
    return Level(value, _spread([mean for _, mean in members]), members)


def _validation(lines: Sequence[ComparisonRow]) -> Spread | None:
    """None where points monitor different validation values, because their mean has no meaning."""
    if len({(line.point.monitor, line.point.mode) for line in lines}) != 1:
        return None
    values = [line.point.validation for line in lines if line.point.validation is not None]
    return _spread(values) if values else None


def _size(line: ComparisonRow, num_subjects: Mapping[str, int]) -> int | None:
    asked = dict(line.point.overrides)[SUBJECTS]
    known = num_subjects.get(line.point.run)
    if known is not None:
        return known
    return asked if isinstance(asked, int) and not isinstance(asked, bool) else None


def _curve_point(size: int, lines: Sequence[ComparisonRow]) -> CurvePoint:
    scores = [line.scores[MAIN_MEASURE] for line in lines]
    lows, highs = ([(score.shown or (None, None))[end] for score in scores] for end in (0, 1))
    return CurvePoint(size, _spread([score.mean for score in scores]), _mean_of(lows), _mean_of(highs))


def _mean_of(ends: Sequence[float | None]) -> float | None:
    known = [end for end in ends if end is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(ends) else None
