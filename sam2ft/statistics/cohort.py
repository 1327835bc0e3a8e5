"""Cohort tables: rows of global.csv and biomarker_global.csv (means, pooled ratios, agreement) from volume rows."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import cast

from sam2ft.core.grouping import grouped
from sam2ft.core.tables.rows import MEAN_OF_LABELS, POOLED, TABLES, Row, Value, number_in
from sam2ft.metrics.counts import Overlap, total
from sam2ft.statistics.agreement import agreement
from sam2ft.statistics.bootstrap import RESAMPLES, subject_means, summary
from sam2ft.statistics.valid_share import group_of, valid_share_warnings
from sam2ft.statistics.yardsticks import yardstick_percent

_ALWAYS = ("dice", "iou", "dice_slice_mean", "iou_slice_mean")
_IF_MEASURED = ("hd_mm", "hd95_mm", "assd_mm", "nsd")
_POOLED = ("dice", "iou", "precision", "recall", "specificity", "volume_similarity")
"""Measures that can be computed from counts summed over labels (pooled): properties of `Overlap`."""

Subject = tuple[Value, Value]
"""(dataset, subject)."""


def global_rows(volume_rows: Sequence[Row], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Row]:
    """Rows of global.csv: per measure one per label, one `mean_of_labels`, and (ratios of counts) one `pooled`.

    A subject's volumes are averaged first. mean_of_labels: mean over the labels of a subject, then over subjects.
    pooled: ratio (e.g. Dice) of the counts summed over the labels of a volume. Absent labels are NaN and are excluded;
    missed and spurious labels count as 0 (distances: the configured distance), and each row gives their number. Rows
    of different runs, datasets, splits or protocols are kept apart; the stamp columns may be absent.
    """
    return [
        {
            **one.key,
            **_status_counts(one.rows),
            **asdict(summary(list(one.values.values()), seed=seed, resamples=resamples)),
        }
        for one in subject_values(volume_rows)
    ]


@dataclass(frozen=True)
class SubjectValues:
    """The values per subject that one row of global.csv summarises."""

    key: Mapping[str, Value]
    """Key columns of the row."""
    rows: Sequence[Row]
    """Rows of volume.csv."""
    values: Mapping[Subject, float]
    """Subject -> value; no NaN, subjects without a value are excluded."""

    @property
    def scored(self) -> dict[Subject, str]:
        """Subject -> the labels that were scored, volume by volume, as text: `left: 1 2; right: 1`."""
        labels: dict[Subject, dict[str, list[int]]] = {}
        for row in self.rows:
            of_volume = labels.setdefault(_subject(row), {}).setdefault(str(row["volume"]), [])
            of_volume.append(int(row["label"] or 0))
        return {
            subject: "; ".join(f"{volume}: {' '.join(map(str, sorted(of)))}" for volume, of in sorted(volumes.items()))
            for subject, volumes in labels.items()
        }


def scored_alike(first: SubjectValues, second: SubjectValues) -> tuple[dict[Subject, float], dict[Subject, float]]:
    """The values of both, of those subjects of whom the same labels were scored in the same volumes.

    Where a label was drawn in a subject for one evaluation and not for the other, their means over labels are means
    over different labels.
    """
    ours, theirs = first.scored, second.scored
    alike = {subject for subject, labels in ours.items() if theirs.get(subject) == labels}
    values = ({subject: value for subject, value in one.values.items() if subject in alike} for one in (first, second))
    return next(values), next(values)


def subject_values(volume_rows: Sequence[Row]) -> Iterator[SubjectValues]:
    """Values per subject for each row of `global_rows`."""
    for key, rows in _grouped(volume_rows, _shared_key("global", volume_rows)):
        for measure in _measures(rows):
            parts = [(of, group, _of_subjects(group, measure)) for of, group in _grouped(rows, ("label", "label_name"))]
            parts.append((_all_labels(MEAN_OF_LABELS), rows, _mean_of_labels(rows, measure)))
            if measure in _POOLED:
                parts.append((_all_labels(POOLED), rows, _pooled(rows, measure)))
            for of, group, values in parts:
                yield SubjectValues({**key, **of, "measure": measure}, group, values)


def mean_of_labels_values(volume_rows: Sequence[Row], measures: Sequence[str]) -> Iterator[SubjectValues]:
    """Like `subject_values`, but only the rows `mean_of_labels` of the given measures."""
    for key, rows in _grouped(volume_rows, _shared_key("global", volume_rows)):
        for measure in measures:
            of = {**key, **_all_labels(MEAN_OF_LABELS), "measure": measure}
            yield SubjectValues(of, rows, _mean_of_labels(rows, measure))


@dataclass(frozen=True)
class SubjectPairs:
    """One biomarker of one tissue: a reference and a prediction per subject, and counts of missed and spurious."""

    key: Mapping[str, Value]
    """Key columns of biomarker_global.csv."""
    references: Mapping[Subject, float]
    predictions: Mapping[Subject, float]
    """Predictions of the same subjects, in the same order as references."""
    n_missed: int
    n_spurious: int
    sensitivities: tuple[float, ...] = ()
    """Sensitivities of those subjects; empty if not measured."""


def biomarker_global_rows(biomarker_rows: Sequence[Row], *, seed: int = 0, resamples: int = RESAMPLES) -> list[Row]:
    """Rows of biomarker_global.csv: agreement per tissue, biomarker and definition, one pair of values per subject.

    `reason` also has the warning of the tissue's biomarker about its valid_share, if there is one.
    """
    made: list[Row] = []
    warnings = valid_share_warnings(biomarker_rows)
    for pairs in subject_pairs(biomarker_rows):
        names = (str(pairs.key[name]) for name in ("tissue", "biomarker", "definition"))
        found = agreement(
            list(pairs.references.values()),
            list(pairs.predictions.values()),
            yardstick_percent=yardstick_percent(*names),
            seed=seed,
            resamples=resamples,
        )
        reasons = [found.reason, str(warnings.get(group_of(pairs.key), ""))]
        counts = {"n_missed": pairs.n_missed, "n_spurious": pairs.n_spurious}
        made.append({**pairs.key, **found.columns(), **counts, "reason": "; ".join(filter(None, reasons))})
        if pairs.sensitivities:
            made[-1] = {**made[-1], "sensitivity_mean": math.fsum(pairs.sensitivities) / len(pairs.sensitivities)}
    return made


def subject_pairs(biomarker_rows: Sequence[Row]) -> list[SubjectPairs]:
    """Pairs of subject means from rows of biomarker_volume.csv, in the order of first appearance.

    Rows of the whole tissue are used; for a biomarker with instance rows only, the mean over a subject's instances.
    Rows with a value in one mask only (missed, spurious) are excluded and counted; absent tissues are excluded.
    """
    made = []
    for key, rows in _grouped(biomarker_rows, _shared_key("biomarker_global", biomarker_rows)):
        whole = [row for row in rows if row["instance"] is None] or rows
        both = [row for row in whole if row["status"] != "absent" and not math.isnan(number_in(row, "difference"))]
        counts = Counter(row["status"] for row in whole)
        references, predictions = _of_subjects(both, "reference"), _of_subjects(both, "prediction")
        sensitivities = _of_subjects(both, "sensitivity").values() if "sensitivity" in {*chain(*both)} else ()
        made.append(
            SubjectPairs(key, references, predictions, counts["missed"], counts["spurious"], tuple(sensitivities))
        )
    return made


def _grouped(rows: Iterable[Row], names: Sequence[str]) -> list[tuple[dict[str, Value], list[Row]]]:
    """(key columns, rows that share them), in the order of first appearance."""
    groups = grouped(rows, lambda row: tuple(row[name] for name in names))
    return [(dict(zip(names, key, strict=True)), members) for key, members in groups.items()]


def _shared_key(table: str, rows: Sequence[Row]) -> list[str]:
    """Key columns of a global table that the rows have, without the label and measure columns."""
    own = ("label", "label_name", "measure")
    return [name for name in TABLES[table].key_names() if name not in own and rows and name in rows[0]]


def _all_labels(name: str) -> dict[str, Value]:
    return {"label": None, "label_name": name}


def _measures(rows: Sequence[Row]) -> list[str]:
    """Dice and IoU, the distances that were measured, and every column that metrics added."""
    added = sorted({name for row in rows for name in row} - TABLES["volume"].kinds().keys())
    measured = [name for name in (*_IF_MEASURED, *added) if any(not math.isnan(number_in(row, name)) for row in rows)]
    return [*_ALWAYS, *measured]


def _subject(row: Row) -> Subject:
    return row["dataset"], row["subject"]


def _of_subjects(rows: Iterable[Row], measure: str) -> dict[Subject, float]:
    return subject_means((_subject(row), number_in(row, measure)) for row in rows)


def _mean_of_labels(rows: Sequence[Row], measure: str) -> dict[Subject, float]:
    per_label = (_of_subjects(group, measure) for _, group in _grouped(rows, ("label",)))
    return subject_means(item for values in per_label for item in values.items())


def _pooled(rows: Sequence[Row], measure: str) -> dict[Subject, float]:
    volumes = (group for _, group in _grouped(rows, ("dataset", "subject", "volume")))
    counts = ((_subject(group[0]), total([_counts(row) for row in group])) for group in volumes)
    return subject_means((subject, float(getattr(summed, measure))) for subject, summed in counts)


def _counts(row: Row) -> Overlap:
    return Overlap(*(cast(int, row[name]) for name in ("tp", "fp", "fn", "tn")))


def _status_counts(rows: Iterable[Row]) -> dict[str, Value]:
    found = Counter(row["status"] for row in rows)
    return {f"n_{status}": found[status] for status in ("absent", "missed", "spurious")}
