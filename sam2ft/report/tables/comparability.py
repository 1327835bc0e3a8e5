"""Evaluations that are not directly comparable: different data or label tables (warnings), definitions (refusals)."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

from sam2ft.core.errors import listed, number_of
from sam2ft.core.grouping import grouped
from sam2ft.report.comparison.compare import MAIN_MEASURE
from sam2ft.report.comparison.point_tests import PointValues
from sam2ft.statistics.cohort import Subject

MOST_NAMED = 3
T = TypeVar("T", bound=Hashable)

Labels = tuple[tuple[str, int, str], ...]
"""(dataset, label, label_name)."""
Evaluated = tuple[tuple[str, str, str], ...]
"""(dataset, split, protocol)."""


def comparability_warnings(labels: Mapping[str, Labels], evaluated: Mapping[str, Evaluated]) -> list[str]:
    """Warning sentences for runs (by name) that were evaluated on different data or with different label tables."""
    data = {name: tuple(sorted({(dataset, split) for dataset, split, _ in of})) for name, of in evaluated.items()}
    found = []
    if len(groups := grouped(sorted(data), data.__getitem__)) > 1:
        text = "; ".join(
            f"{listed(of, MOST_NAMED)} on {', '.join(f'{dataset} {split}' for dataset, split in on)}"
            for on, of in groups.items()
        )
        found.append(f"runs were evaluated on different data, their means are not comparable: {text}")
    return found + _label_tables(labels)


def earlier_definitions(versions: Mapping[T, Mapping[str, int]]) -> dict[T, str]:
    """Evaluations with a metric that others measured by a later version of its definition -> a sentence about it.

    Args:
        versions: evaluation -> version of every metric that it measured.
    """
    newest: dict[str, int] = {}
    for of in versions.values():
        for name, version in of.items():
            newest[name] = max(version, newest.get(name, version))
    earlier = {one: [name for name in sorted(of) if of[name] < newest[name]] for one, of in versions.items()}
    return {
        one: "; ".join(
            f"{name} was measured by version {versions[one][name]} of its definition, by others by version "
            f"{newest[name]}: values are not comparable"
            for name in names
        )
        for one, names in earlier.items()
        if names
    }


def scored_warnings(values: Mapping[str, Sequence[PointValues]]) -> list[str]:
    """A sentence for each dataset, split and protocol of which runs (by name) scored other labels of one subject."""
    named = [(name, one) for name, of in values.items() for one in of if one.measure == MAIN_MEASURE]
    found = []
    for how, family in grouped(named, lambda pair: pair[1].evaluation.how).items():
        labels: dict[Subject, set[str]] = defaultdict(set)
        for _, one in family:
            for subject, scored in one.scored_of.items():
                labels[subject].add(scored)
        if several := sum(len(of) > 1 for of in labels.values()):
            found.append(
                f"{', '.join(how)}: of {number_of(several, 'subject')} not all runs scored the same labels or volumes "
                "(labelled of the dataset has changed?); comparisons leave them out, means do not"
            )
    return found


def _label_tables(labels: Mapping[str, Labels]) -> list[str]:
    """One sentence for each dataset whose label table differs between runs."""
    of_dataset: dict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for name, rows in labels.items():
        for dataset in {row[0] for row in rows}:
            of_dataset[dataset][name] = tuple((label, text) for other, label, text in rows if other == dataset)
    found = []
    for dataset, tables in sorted(of_dataset.items()):
        if len(groups := grouped(sorted(tables), tables.__getitem__)) > 1:
            text = "; ".join(
                f"{listed(of, MOST_NAMED)} with {', '.join(f'{label} {text}' for label, text in table)}"
                for table, of in groups.items()
            )
            found.append(f"{dataset}: runs were evaluated with different label tables: {text}")
    return found
