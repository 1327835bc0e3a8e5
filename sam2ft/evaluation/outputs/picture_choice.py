"""Which slices of an evaluation are drawn: per label the misses first, then by Dice; then median and best slices."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sam2ft.core.keys import SliceKey
from sam2ft.core.tables.rows import Row, number_in

COLUMNS = 4
"""Maximum number of slices of one kind (worst, median, best) on the sheet of a label."""
MOST_OF_SUBJECT = 2
"""Slices of one subject and label before those of other subjects: neighbours look alike and would fill the list."""
# Among slices of Dice 0, what was not found comes before what is not there.
_FAILURES = ("missed", "ok", "spurious")


@dataclass(frozen=True)
class Chosen:
    """One slice to draw, and the reason."""

    key: SliceKey
    dice: float
    """Mean over the labels of the slice; absent labels (NaN) are left out."""
    why: str
    """worst, median subject, median or best."""
    label: int | None = None
    """Label for which it is among the worst."""


Severity = tuple[float, int, float]
"""Sorts slices of a label, the worst first: Dice, then kind of failure, then the larger number of wrong pixels."""


def choose_slices(slice_rows: Iterable[Row], num_slices: int) -> list[Chosen]:
    """Choose slices: half are the worst (of each label), a quarter around the median, the rest the best; no duplicates.

    Missed and spurious labels may take up three quarters. The first of the median slices is the typical one: of the
    subject whose mean is the median of the subjects', the slice with the median of its Dice.
    """
    dices: dict[SliceKey, list[float]] = {}
    of_label: dict[int, list[tuple[Severity, SliceKey]]] = {}
    for row in slice_rows:
        if not math.isnan(dice := dice_of(row)):
            key = slice_key(row)
            dices.setdefault(key, []).append(dice)
            of_label.setdefault(int(row["label"] or 0), []).append((_severity(row, dice), key))
    means = {key: sum(values) / len(values) for key, values in dices.items()}
    count = min(num_slices, len(means))
    worst = _worst_of_labels(of_label, count)
    chosen = [Chosen(key, means[key], "worst", label) for key, label in worst.items()]
    ranked = [key for _, key in sorted((mean, key) for key, mean in means.items()) if key not in worst]
    middle = _around_the_median(ranked, means, count // 4) if len(worst) < count else {}
    chosen += [Chosen(key, means[key], why) for key, why in middle.items()]
    best = [key for key in ranked if key not in middle][::-1][: count - len(chosen)]
    return chosen + [Chosen(key, means[key], "best") for key in reversed(best)]


def _severity(row: Row, dice: float) -> Severity:
    wrong = sum(0.0 if math.isnan(number) else number for number in (number_in(row, "fn"), number_in(row, "fp")))
    return (dice, _FAILURES.index(str(row["status"])), -wrong) if dice == 0 else (dice, 0, 0.0)


def _worst_of_labels(of_label: Mapping[int, Sequence[tuple[Severity, SliceKey]]], count: int) -> dict[SliceKey, int]:
    """Slice -> label for which it is chosen, in the order of the list: misses of all labels, then the lowest Dice.

    The labels take turns, so that a label that is always hard leaves room for the others. More than MOST_OF_SUBJECT
    slices of one subject and label come only after all others.
    """
    places = []
    for label, found in of_label.items():
        turns: Counter[int] = Counter()
        of_subject: Counter[tuple[str, str]] = Counter()
        for severity, key in sorted(found):
            of_subject[key.dataset, key.subject] += 1
            spread = of_subject[key.dataset, key.subject] <= MOST_OF_SUBJECT
            stage = (0 if severity[0] == 0 else 1) if spread else 2
            turns[stage] += 1
            places.append((stage, turns[stage], severity, label, key))
    places.sort()
    misses = len({key for stage, *_, key in places if stage == 0})
    most = max(math.ceil(count / 2), min(3 * count // 4, misses))
    chosen: dict[SliceKey, int] = {}
    for _, _, _, label, key in places:
        if len(chosen) < most:
            chosen.setdefault(key, label)
    return chosen


def _around_the_median(ranked: Sequence[SliceKey], means: Mapping[SliceKey, float], count: int) -> dict[SliceKey, str]:
    """Slice -> median subject or median: the typical slice, then those around the median of `ranked`."""
    typical = _typical_slice(means)
    chosen = {typical: "median subject"} if typical is not None and typical in ranked and count else {}
    others = [key for key in ranked if key not in chosen]
    start = max(0, (len(others) - count + len(chosen)) // 2)
    return chosen | dict.fromkeys(others[start : start + count - len(chosen)], "median")


def _typical_slice(means: Mapping[SliceKey, float]) -> SliceKey | None:
    """The slice with the median Dice of the subject whose mean Dice is the median; None without slices."""
    of_subject: dict[tuple[str, str], list[tuple[float, SliceKey]]] = {}
    for key, mean in means.items():
        of_subject.setdefault((key.dataset, key.subject), []).append((mean, key))
    if not of_subject:
        return None
    subjects = sorted((sum(mean for mean, _ in found) / len(found), subject) for subject, found in of_subject.items())
    slices = sorted(of_subject[subjects[(len(subjects) - 1) // 2][1]])
    return slices[len(slices) // 2][1]


@dataclass(frozen=True)
class LabelRows:
    """Content of the sheet of one label."""

    label: int
    num_slices: int
    """With the label in reference or prediction."""
    median: float
    groups: Mapping[str, Sequence[Row]]
    """worst, median, best -> rows of slice.csv; the worst first, otherwise by increasing Dice."""

    @property
    def file(self) -> str:
        return f"label-{self.label}.png"

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.groups.values() for row in rows]


@dataclass
class _OfLabel:
    """What decides about the slices of one label, for every row: few bytes, as an evaluation may have millions."""

    severities: tuple["array[float]", "array[float]", "array[float]"] = field(
        default_factory=lambda: (array("d"), array("d"), array("d"))
    )
    numbers: "array[int]" = field(default_factory=lambda: array("q"))
    subjects: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, severity: Severity, number: int, subject: int) -> None:
        for values, value in zip(self.severities, severity, strict=True):
            values.append(value)
        self.numbers.append(number)
        self.subjects.append(subject)

    @property
    def median(self) -> float:
        return float(np.median(self.severities[0]))

    def groups(self) -> dict[str, list[int]]:
        """worst, median, best -> numbers of rows."""
        ranked = np.lexsort(self.severities[::-1]).tolist()
        each = min(COLUMNS, max(1, len(ranked) // 3))
        worst = _spread(ranked, self.subjects)[:each]
        others = [place for place in ranked if place not in set(worst)]
        best = others[max(len(others) - each, 0) :]
        between = others[: len(others) - len(best)]
        start = max(0, (len(between) - each) // 2)
        groups = {"worst": worst, "median": between[start : start + each], "best": best}
        return {why: [self.numbers[place] for place in places] for why, places in groups.items()}


def _spread(ranked: Sequence[int], subjects: Sequence[int]) -> list[int]:
    """Places with at most MOST_OF_SUBJECT of a subject before all others."""
    seen: Counter[int] = Counter()
    first: list[int] = []
    later: list[int] = []
    for place in ranked:
        seen[subjects[place]] += 1
        (first if seen[subjects[place]] <= MOST_OF_SUBJECT else later).append(place)
    return first + later


def choose_of_labels(slice_rows: Iterable[Row], num_labels: int) -> list[LabelRows]:
    """Choose the labels of lowest median Dice, each with some of its worst, median and best slices; no duplicates."""
    found: dict[int, _OfLabel] = {}
    subjects: dict[tuple[object, object], int] = {}
    for number, row in enumerate(slice_rows):
        if not math.isnan(dice := dice_of(row)):
            subject = subjects.setdefault((row["dataset"], row["subject"]), len(subjects))
            found.setdefault(int(row["label"] or 0), _OfLabel()).add(_severity(row, dice), number, subject)
    medians = sorted((of.median, label) for label, of in found.items())[:num_labels]
    chosen = {label: found[label].groups() for _, label in medians}
    wanted = {number for groups in chosen.values() for numbers in groups.values() for number in numbers}
    row_of = {number: row for number, row in enumerate(slice_rows) if number in wanted}
    return [
        LabelRows(
            label,
            len(found[label].numbers),
            median,
            {why: [row_of[number] for number in numbers] for why, numbers in chosen[label].items()},
        )
        for median, label in medians
    ]


def slice_key(row: Row) -> SliceKey:
    """Return the slice key of a row of slice.csv."""
    return SliceKey(str(row["dataset"]), str(row["subject"]), str(row["volume"]), int(row["slice"] or 0))


def dice_of(row: Row) -> float:
    """Dice of a row; NaN for an absent label, which is None in a row read from a file and NaN in a computed row."""
    return math.nan if row["dice"] is None else float(row["dice"])
