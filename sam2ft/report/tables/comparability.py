"""Warnings about evaluations that are not directly comparable: different data or different label tables."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sam2ft.core.errors import listed
from sam2ft.core.grouping import grouped

MOST_NAMED = 3

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
