"""Warnings about biomarkers that are measured on less than 90 % of a mask (definition valid_share)."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sam2ft.core.tables.rows import Row, Value

DEFINITION = "valid_share"
FEWEST_VALID = 0.9
"""Smallest share of valid voxels or rays without a warning."""
GROUP = ("run", "eval", "dataset", "split", "protocol", "tissue", "biomarker")
"""Columns of the rows that one warning is about; the stamp columns may be absent."""


@dataclass(frozen=True)
class ValidShareWarning:
    """One biomarker of one tissue with too few valid voxels or rays in some of its volumes."""

    num_below: int
    """Volumes in which the share is below 0.9 in the reference or in the prediction."""
    num_volumes: int
    """Volumes that have a share."""
    lowest: float

    def __str__(self) -> str:
        below = f"valid_share below {FEWEST_VALID} in {self.num_below} of {self.num_volumes} volumes"
        return f"{below}, lowest {self.lowest:.2f}: values are of the valid rest"


def valid_share_warnings(biomarker_rows: Iterable[Row]) -> dict[tuple[Value, ...], ValidShareWarning]:
    """Warnings by `group_of` a row, from rows of biomarker_volume.csv; groups without a warning are left out.

    The share of a volume is the smaller one of reference and prediction; a side without a value (NaN) has none.
    """
    shares: dict[tuple[Value, ...], list[float]] = {}
    for row in biomarker_rows:
        if row["definition"] == DEFINITION:
            sides = [float(value) for side in ("reference", "prediction") if (value := row[side]) is not None]
            shares.setdefault(group_of(row), []).extend([min(found)] if (found := _numbers(sides)) else [])
    return {
        group: ValidShareWarning(sum(share < FEWEST_VALID for share in of), len(of), min(of))
        for group, of in shares.items()
        if of and min(of) < FEWEST_VALID
    }


def group_of(row: Row) -> tuple[Value, ...]:
    """The group that a row of biomarker_volume.csv or biomarker_global.csv belongs to."""
    return tuple(row.get(name) for name in GROUP)


def warning_texts(biomarker_rows: Iterable[Row]) -> list[str]:
    """One sentence per warning, with biomarker and tissue (and dataset and protocol where there are several)."""
    found = valid_share_warnings(biomarker_rows)
    several = len({group[:5] for group in found}) > 1
    return [
        f"{biomarker} of {tissue}{f' ({dataset}, {protocol})' if several else ''}: {warning}"
        for (_, _, dataset, _, protocol, tissue, biomarker), warning in found.items()
    ]


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]
