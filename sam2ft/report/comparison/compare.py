"""Comparison table of the points of an experiment (compare.csv): overrides, validation value, scores on the evaluated
split, and choice of the best point.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

from sam2ft.core.grouping import grouped
from sam2ft.core.tables.columns import Column, integer_column, number_column, text_column
from sam2ft.core.tables.rows import MEAN_OF_LABELS, Row, Table, Value
from sam2ft.runs.states import State
from sam2ft.statistics.small_samples import limits_of, shown_interval

MEASURES = ("dice_slice_mean", "dice", "iou_slice_mean", "iou")
DISTANCES = ("nsd", "hd95_mm", "assd_mm")
"""Distances of surfaces, where they were measured: shown beside Dice, not in compare.csv."""
MAIN_MEASURE = "dice_slice_mean"
"""The measure of tests, effects, curves and plots of points."""
_EVALUATION = ("eval", "dataset", "split", "protocol")


@dataclass(frozen=True)
class PointRun:
    """One point and the outcome of its run; the baseline (initial weights, nothing trained) has no index."""

    index: int | None
    name: str
    run: str
    overrides: tuple[tuple[str, object], ...] = ()
    state: State = State.DONE
    reason: str = ""
    best_epoch: int | None = None
    """0-based epoch of the weights in best.pt."""
    monitor: str = "val_loss"
    mode: Literal["min", "max"] = "min"
    validation: float | None = None
    """The monitored validation value at the best epoch."""
    baseline: str = ""
    """run_id of the initial weights it started from; may be empty when the experiment has at most one baseline."""
    eval: str = ""
    """eval_id of its own evaluation: points that differ in `eval` alone share a run. Empty: not known."""


@dataclass(frozen=True)
class Score:
    """A measure's mean over subjects with its 95 % confidence interval (bootstrap over subjects)."""

    mean: float
    ci_low: float | None
    ci_high: float | None
    n: int
    sd: float | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)
    """Smallest and largest possible value of the measure."""

    @property
    def shown(self) -> tuple[float, float] | None:
        """The interval for pages and texts: of few subjects Student's t, else the bootstrap; None without one."""
        return shown_interval(self.mean, self.sd, self.n, (self.ci_low, self.ci_high), self.limits)


@dataclass(frozen=True, order=True)
class ComparedEvaluation:
    """Identity of an evaluation: eval_id, dataset, split and prompt protocol."""

    eval: str
    dataset: str
    split: str
    protocol: str

    @staticmethod
    def of(row: Row) -> "ComparedEvaluation":
        """The evaluation that made a row of a table."""
        return ComparedEvaluation(*(str(row[name]) for name in _EVALUATION))

    @property
    def how(self) -> tuple[str, str, str]:
        """Dataset, split and protocol; the eval_id depends on the model."""
        return self.dataset, self.split, self.protocol

    @property
    def words(self) -> str:
        """Dataset, split and protocol as text: `knee, test split, prompt box`."""
        return f"{self.dataset}, {self.split} split, prompt {self.protocol}"


NOT_EVALUATED = ComparedEvaluation("", "", "", "")


@dataclass(frozen=True)
class ComparisonRow:
    """A point evaluated on one dataset, split and protocol; `scores` is empty when it was not evaluated yet."""

    point: PointRun
    evaluation: ComparedEvaluation = NOT_EVALUATED
    scores: Mapping[str, Score] = field(default_factory=dict)
    deltas: Mapping[str, float] = field(default_factory=dict)
    """Mean minus the baseline's mean, where both were evaluated in the same way on the same number of subjects."""
    n_missed: int = 0
    n_spurious: int = 0
    distances: Mapping[str, Score] = field(default_factory=dict)
    """Measure (of DISTANCES) -> its score, where it was measured."""


@dataclass(frozen=True)
class Comparison:
    """All lines: the baseline first, then the points by index."""

    lines: tuple[ComparisonRow, ...]
    best: str | None
    """run_id of the best point by validation, or None."""
    choice: str
    """How the best point was chosen, or why none was chosen, in one sentence."""

    @cached_property
    def override_keys(self) -> tuple[str, ...]:
        """Keys of the settings that the sweep changed, in the order of the sweep."""
        return tuple(dict.fromkeys(key for line in self.lines for key, _ in line.point.overrides))

    @cached_property
    def distances(self) -> tuple[str, ...]:
        """The distances that were measured of any point."""
        return tuple(name for name in DISTANCES if any(name in line.distances for line in self.lines))

    @cached_property
    def best_word(self) -> str:
        """What the best point is called: best only where no other trained point is above it on what was evaluated."""
        shown = next((line.point for line in self.lines if line.point.run == self.best), None)
        trained = [
            line
            for line in self.lines
            if line.point.index is not None and MAIN_MEASURE in line.scores and _is_rival(line.point, shown)
        ]
        own = {line.evaluation.how: line.scores[MAIN_MEASURE].mean for line in trained if line.point.run == self.best}
        above = any(line.scores[MAIN_MEASURE].mean > own.get(line.evaluation.how, math.inf) for line in trained)
        return "chosen by validation" if above else "best"

    @property
    def chosen(self) -> str:
        """What the best point is called, and how it was chosen; without one, why there is none."""
        if self.best is None:
            return self.choice
        if self.best_word == "best":
            return f"best point: {self.choice}"
        return f"{self.best_word}: {self.choice}, and another point is ahead there"

    def name_of_evaluation(self, run: str | None, evaluation: ComparedEvaluation) -> str | None:
        """Name of the point of this evaluation: points that differ in their evaluation alone share a run."""
        own = (line.point.name for line in self.lines if line.point.run == run and line.evaluation == evaluation)
        return next(own, None)

    def name_of(self, run: str | None) -> str | None:
        """Name of the first point of a run."""
        return next((line.point.name for line in self.lines if line.point.run == run), None)


def compare(points: Sequence[PointRun], global_rows: Sequence[Row]) -> Comparison:
    """Lines for `points` from the `mean_of_labels` rows of global.csv; the result does not depend on the input order.

    The best point is chosen only by the validation value: a choice by the test split would report its maximum.
    """
    ordered = sorted(points, key=lambda point: (-1 if point.index is None else point.index, point.run))
    baselines = [point.run for point in ordered if point.index is None]
    overall = [row for row in global_rows if row["label_name"] == MEAN_OF_LABELS and row["label"] in (None, "")]
    of_run = grouped(overall, lambda row: row["run"])
    own_evals = {run: {point.eval for point in of} for run, of in grouped(ordered, lambda point: point.run).items()}
    lines = []
    for point in ordered:
        others = own_evals[point.run] - {point.eval}
        rows = [row for row in of_run.get(point.run, []) if row["eval"] not in others]
        reference = point.baseline or (baselines[0] if len(baselines) == 1 else "")
        of_baseline = of_run.get(reference, []) if point.index is not None else []
        lines += _lines(point, rows, of_baseline)
    best, choice = choose_best(ordered)
    return Comparison(tuple(lines), best, choice)


def choose_best(points: Sequence[PointRun]) -> tuple[str | None, str]:
    """(run_id of the finished point with the best validation value or None, reason); ties go to the first point."""
    trained = [point for point in points if point.index is not None]
    candidates = [
        point for point in trained if point.state == State.DONE and number_or_none(point.validation) is not None
    ]
    if not candidates:
        return None, "no point has finished with a validation value, so none is called the best"
    if len({(point.monitor, point.mode) for point in candidates}) > 1:
        monitors = ", ".join(sorted({point.monitor for point in candidates}))
        return None, f"points watch different validation values ({monitors}), so none is called the best"
    if len({_folds(point) for point in candidates}) > 1:
        return _best_over_folds(candidates)
    sign = 1.0 if candidates[0].mode == "min" else -1.0
    best = min(candidates, key=lambda point: (sign * float(point.validation or 0.0), point.index))
    extreme = "lowest" if best.mode == "min" else "highest"
    return (
        best.run,
        f"{extreme} {best.monitor} among {len(candidates)} of {len(trained)} points; the test split had no part in it",
    )


def _best_over_folds(candidates: Sequence[PointRun]) -> tuple[str | None, str]:
    """As `choose_best` where the fold is swept: values of different folds are of different subjects, so that settings
    are compared by their means over all folds. The first point of the best setting stands for it."""
    settings = grouped(candidates, _without_folds)
    folds = {_folds(point) for point in candidates}
    whole = [of for of in settings.values() if {_folds(point) for point in of} == folds]
    if not whole:
        return None, "no setting has finished on every fold, so none is called the best"
    sign = 1.0 if candidates[0].mode == "min" else -1.0
    best = min(whole, key=lambda of: sign * math.fsum(float(point.validation or 0.0) for point in of) / len(of))
    extreme, monitor = "lowest" if best[0].mode == "min" else "highest", best[0].monitor
    shown = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in _folds(best[0]))
    mean = math.fsum(float(point.validation or 0.0) for point in best) / len(best)
    over = f"mean {monitor} over {len(folds)} folds"
    if len(settings) == 1:
        return best[0].run, f"{shown} stands for the only setting ({over}: {mean:.4g})"
    return best[0].run, (
        f"{extreme} {over} among {len(whole)} of {len(settings)} settings, for which {shown} stands; the test split "
        "had no part in it"
    )


def _is_rival(point: PointRun, shown: PointRun | None) -> bool:
    """Whether a point of a sweep competes with the shown one: it is the same point, or of another setting and the same
    folds, because points of one setting are its repetitions."""
    if shown is None or point.run == shown.run:
        return True
    return _folds(point) == _folds(shown) and (not _folds(point) or _without_folds(point) != _without_folds(shown))


def _without_folds(point: PointRun) -> tuple[str, ...]:
    return tuple(f"{key}={value_text(value)}" for key, value in point.overrides if not is_fold(key))


def is_fold(key: str) -> bool:
    """Whether a key of a sweep is the fold of a dataset."""
    return re.fullmatch(r"dataset\.[^.]+\.fold", key) is not None


def _folds(point: PointRun) -> tuple[tuple[str, object], ...]:
    """The folds that the sweep chose for a point; null is fold 0."""
    return tuple((key, value or 0) for key, value in point.overrides if is_fold(key))


def _lines(point: PointRun, own_rows: Sequence[Row], baseline_rows: Sequence[Row]) -> list[ComparisonRow]:
    shown = (row for row in own_rows if row["measure"] in (*MEASURES, *DISTANCES))
    of_evaluation = grouped(shown, ComparedEvaluation.of)
    references = {(ComparedEvaluation.of(row), row["measure"]): score_of(row) for row in baseline_rows}
    lines = []
    for evaluation, rows in sorted(of_evaluation.items(), key=lambda item: item[0]):
        found = {str(row["measure"]): score for row in rows if (score := score_of(row)) is not None}
        scores = {measure: score for measure, score in found.items() if measure in MEASURES}
        distances = {measure: found[measure] for measure in DISTANCES if measure in found}
        deltas = {
            measure: score.mean - other.mean
            for measure, score in scores.items()
            if (other := references.get((evaluation, measure))) is not None and other.n == score.n
        }
        missed, spurious = (max(_count(row, name) for row in rows) for name in ("n_missed", "n_spurious"))
        lines.append(ComparisonRow(point, evaluation, scores, deltas, missed, spurious, distances))
    return lines or [ComparisonRow(point)]


def score_of(row: Row) -> Score | None:
    """The summary in a row of global.csv, or None when no subject had a value."""
    mean, n = number_or_none(row["mean"]), _count(row, "n")
    if mean is None:
        return None
    low, high, sd = (number_or_none(row[name]) for name in ("ci_low", "ci_high", "sd"))
    return Score(mean, low, high, n, sd, limits_of(str(row["measure"])))


def number_or_none(value: Value) -> float | None:
    """A cell of a column of numbers; None for an empty cell or NaN."""
    if value is None or value == "":
        return None
    number = float(value)
    return None if number != number else number  # noqa: PLR0124 (only NaN differs from itself)


def _count(row: Row, name: str) -> int:
    return int(row[name] or 0)


def _score_columns() -> list[Column]:
    words = {
        "dice_slice_mean": "Dice per slice, averaged over the slices of a volume",
        "dice": "Dice of whole volumes",
        "iou_slice_mean": "IoU per slice, averaged over the slices of a volume",
        "iou": "IoU of whole volumes",
    }
    columns = []
    for measure, what in words.items():
        columns += [
            number_column(measure, f"{what}: mean over labels, then subjects", "1"),
            number_column(f"{measure}_ci_low", "its 95 % confidence interval, lower end", "1"),
            number_column(f"{measure}_ci_high", "upper end", "1"),
            number_column(f"{measure}_delta", "difference to the baseline; empty unless both have the same n", "1"),
        ]
    return columns


COMPARE = Table(
    "compare",
    (
        integer_column("point", "index of the point in the sweep; empty = baseline"),
        text_column("run", "run_id"),
        text_column("eval", "eval_id; empty when there is no finished evaluation"),
        text_column("dataset", "name of the prepared store"),
        text_column("split", "train, val or test"),
        text_column("protocol", "how the model was prompted, with parameters"),
    ),
    (
        text_column("name", "name of the point"),
        text_column("overrides", "what the sweep changed, `key=value` separated by `; `"),
        text_column("state", "done, failed, or where the run stands"),
        text_column("reason", "why it is not done"),
        integer_column("best", "1 for the point with the best validation value, else 0"),
        integer_column("best_epoch", "0-based epoch that best.pt holds"),
        text_column("monitor", "validation value by which epoch and point were chosen"),
        number_column("validation", "its value at the best epoch"),
        integer_column("n", "subjects behind the means"),
        integer_column("n_missed", "missed labels, counted as 0, summed over labels"),
        integer_column("n_spurious", "spurious labels, counted as 0, summed over labels"),
        *_score_columns(),
    ),
    "One row per point and evaluation; the best point is chosen by `validation` only.",
)


def compare_rows(comparison: Comparison) -> list[Row]:
    """The rows of compare.csv."""
    rows: list[Row] = []
    for line in comparison.lines:
        point = line.point
        row: dict[str, Value] = dict.fromkeys(COMPARE.column_names())
        row |= {"point": point.index, "run": point.run, "name": point.name, "overrides": overrides_text(point)}
        row |= asdict(line.evaluation)
        row |= {"state": point.state, "reason": point.reason, "best": int(point.run == comparison.best)}
        row |= {"best_epoch": point.best_epoch, "monitor": point.monitor, "validation": point.validation}
        if line.scores:
            row |= {"n": max(score.n for score in line.scores.values())}
            row |= {"n_missed": line.n_missed, "n_spurious": line.n_spurious}
        for measure, score in line.scores.items():
            row |= {measure: score.mean, f"{measure}_ci_low": score.ci_low, f"{measure}_ci_high": score.ci_high}
        row |= {f"{measure}_delta": delta for measure, delta in line.deltas.items()}
        rows.append(row)
    return rows


def overrides_text(point: PointRun) -> str:
    """The overrides of a point as `key=value`, separated by `; `."""
    return "; ".join(f"{key}={value_text(value)}" for key, value in point.overrides)


def value_text(value: object) -> str:
    """The value of an override in YAML notation."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return str(value)


def short_value(value: object) -> str:
    """An override's value with four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else value_text(value)
