"""What a run misses and predicts where nothing is, in slices and volumes, and what fine-tuning newly misses."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from sam2ft.core.errors import number_of
from sam2ft.core.tables.columns import GLOBAL_KEY, LABEL, integer_column
from sam2ft.core.tables.rows import Row, Table, Value, sort_key
from sam2ft.report.comparison.compare import ComparedEvaluation, Comparison

LEVELS = ("slice", "volume")
SLICE_OF_LABEL = ("dataset", "subject", "volume", "slice", "label")
STATUS = {"missed": "missed", "spurious": "spurious", "ok": "elsewhere"}
"""Status of a row of Dice 0 -> what it is counted as."""
Of = tuple[str, ComparedEvaluation]
"""run_id and evaluation."""
SliceOfLabel = tuple[Value, ...]
"""Dataset, subject, volume, slice and label."""


@dataclass(frozen=True)
class Failures:
    """Numbers of slices, or of volumes, of Dice 0."""

    missed: int = 0
    """The reference holds the label, the prediction does not."""
    spurious: int = 0
    """The prediction holds the label, the reference does not."""
    elsewhere: int = 0
    """Both hold the label, and share no pixel."""
    present: int | None = None
    """Slices or volumes whose reference holds the label; None where they were not counted."""

    def __add__(self, other: "Failures") -> "Failures":
        known = self.present is not None and other.present is not None
        present = (self.present or 0) + (other.present or 0) if known else None
        return Failures(
            self.missed + other.missed, self.spurious + other.spurious, self.elsewhere + other.elsewhere, present
        )


@dataclass(frozen=True)
class LabelFailures:
    """Both levels of one label, or of all labels together."""

    slices: Failures = Failures()
    volumes: Failures = Failures()

    def __add__(self, other: "LabelFailures") -> "LabelFailures":
        return LabelFailures(self.slices + other.slices, self.volumes + other.volumes)


@dataclass(frozen=True)
class NewMisses:
    """Slices that one of two runs misses and the other finds (at least in part), of one evaluation."""

    newly: Mapping[str, Sequence[SliceOfLabel]] = field(default_factory=dict)
    """Name of a label -> its slices that the chosen point misses and the baseline finds."""
    regained: Mapping[str, Sequence[SliceOfLabel]] = field(default_factory=dict)
    """The other way round."""

    def sentence(self) -> str:
        """What fine-tuning newly misses, and what it no longer misses, in words."""
        if not self.newly:
            lost = "Fine-tuning misses no slice that the initial weights find"
        else:
            lost = (
                "Fine-tuning newly misses, or finds only beside the reference, "
                f"{_listed(self.newly)}, found by the initial weights"
            )
        won = f"; it finds {_listed(self.regained)} that they miss" if self.regained else ""
        return f"{lost}{won}."


def _listed(of_label: Mapping[str, Sequence[SliceOfLabel]]) -> str:
    """`3 slices of 2 subjects (disc 2, vertebra 1)`."""
    slices = sum(map(len, of_label.values()))
    subjects = len({one[:2] for found in of_label.values() for one in found})
    labels = ", ".join(f"{name} {len(found)}" for name, found in of_label.items())
    return f"{number_of(slices, 'slice')} of {number_of(subjects, 'subject')} ({labels})"


@dataclass(frozen=True)
class Misses:
    """Failures of every run by evaluation and label."""

    of_labels: Mapping[Of, Mapping[tuple[int, str], LabelFailures]] = field(default_factory=dict)
    new: Mapping[ComparedEvaluation, NewMisses] = field(default_factory=dict)
    """Evaluation of the chosen point -> comparison with that of the baseline, where both were evaluated alike."""

    def of_label(self, run: str, evaluation: ComparedEvaluation, label: int, name: str) -> LabelFailures:
        return self.of_labels.get((run, evaluation), {}).get((label, name), LabelFailures())

    def total(self, run: str, evaluation: ComparedEvaluation) -> LabelFailures:
        """Over all labels: a slice on which two labels are missed counts twice."""
        return sum(self.of_labels.get((run, evaluation), {}).values(), start=LabelFailures(*(Failures(present=0),) * 2))


def misses_of(
    counts: Mapping[str, Sequence[Row]], present: Mapping[str, Sequence[Row]], counted: Collection[str]
) -> Misses:
    """Failures by run, evaluation and label.

    Args:
        counts: slice and volume -> `tables.failures.failure_counts`.
        present: slice and volume -> `tables.failures.present_counts` of the runs `counted`.
        counted: run_ids.
    """
    numbers: dict[Of, dict[tuple[int, str], dict[str, Counter[str]]]] = {}
    for level in LEVELS:
        for row in counts[level]:
            _cell(numbers, row, level)[STATUS[str(row["status"])]] += int(row["count"] or 0)
        for row in present[level]:
            _cell(numbers, row, level)["present"] += int(row["count"] or 0)
    return Misses(
        {
            (run, evaluation): {
                label: LabelFailures(*(_failures(found[level], run in counted) for level in LEVELS))
                for label, found in labels.items()
            }
            for (run, evaluation), labels in numbers.items()
        }
    )


def _cell(numbers: dict[Of, dict[tuple[int, str], dict[str, Counter[str]]]], row: Row, level: str) -> Counter[str]:
    of = numbers.setdefault((str(row["run"]), ComparedEvaluation.of(row)), {})
    label = int(row["label"] or 0), str(row["label_name"])
    return of.setdefault(label, {level: Counter() for level in LEVELS})[level]


def _failures(found: Counter[str], counted: bool) -> Failures:
    return Failures(found["missed"], found["spurious"], found["elsewhere"], found["present"] if counted else None)


def new_misses(failed: Sequence[Row], comparison: Comparison, baseline: str) -> dict[ComparedEvaluation, NewMisses]:
    """What the best point misses and `baseline` does not, and the reverse, for its evaluations that both have.

    Missed is here what has no pixel in the right place, also where something else was predicted.

    Args:
        failed: `tables.failures.failed_rows` of both runs.
        comparison: its best point is the one that is compared.
        baseline: run_id of the initial weights.
    """
    missed: dict[tuple[str, tuple[str, str, str]], dict[SliceOfLabel, str]] = defaultdict(dict)
    for row in failed:
        if row["status"] != "spurious":
            key = tuple(row[name] for name in SLICE_OF_LABEL)
            missed[str(row["run"]), ComparedEvaluation.of(row).how][key] = str(row["label_name"])
    evaluated = [(line.point.run, line.evaluation) for line in comparison.lines if line.scores]
    theirs = {evaluation.how for run, evaluation in evaluated if run == baseline}
    found = {}
    for run, evaluation in evaluated:
        if run == comparison.best and evaluation.how in theirs:
            own, other = missed[run, evaluation.how], missed[baseline, evaluation.how]
            found[evaluation] = NewMisses(_by_label(own, other), _by_label(other, own))
    return found


def _by_label(
    ours: Mapping[SliceOfLabel, str], theirs: Mapping[SliceOfLabel, str]
) -> dict[str, Sequence[SliceOfLabel]]:
    found: dict[str, list[SliceOfLabel]] = {}
    for key in sorted(ours.keys() - theirs.keys(), key=str):
        found.setdefault(ours[key], []).append(key)
    return dict(sorted(found.items()))


_WORDS = {
    "missed": "with the label in the reference and not in the prediction",
    "spurious": "with the label in the prediction and not in the reference",
    "elsewhere": "with the label in both, and no common pixel",
}
MISSES = Table(
    "misses",
    (*GLOBAL_KEY, *LABEL),
    (
        *(integer_column(f"{level}s_{name}", f"{level}s {what}") for level in LEVELS for name, what in _WORDS.items()),
        integer_column(
            "slices_newly_missed",
            "slices in which the best point has no pixel in the right place and the initial weights have; empty for "
            "other points",
        ),
    ),
    "One row per evaluation and label of Dice 0 in any slice or volume.",
)


def miss_rows(misses: Misses, best: str | None) -> list[Row]:
    """The rows of misses.csv."""
    made: list[Row] = []
    for (run, evaluation), labels in misses.of_labels.items():
        new = misses.new.get(evaluation) if run == best else None
        for (label, name), found in labels.items():
            numbers: dict[str, Value] = {"label": label, "label_name": name}
            for level, failures in zip(LEVELS, (found.slices, found.volumes), strict=True):
                numbers |= {f"{level}s_{what}": getattr(failures, what) for what in _WORDS}
            numbers["slices_newly_missed"] = None if new is None else len(new.newly.get(name, ()))
            if any(numbers[column.name] for column in MISSES.measures):
                made.append({"run": run, **asdict(evaluation), **numbers})
    return sorted(made, key=lambda row: sort_key(MISSES, row))
