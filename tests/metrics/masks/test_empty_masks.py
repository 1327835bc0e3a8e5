"""The table of docs/metrics.md: what every metric gives a label that is in both masks, in neither, or in one."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.factory import METRICS

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
STATUSES = ("ok", "absent", "missed", "spurious")
LABELS = LabelTable((*(Label(i, name, "bone") for i, name in enumerate(STATUSES, 1)), Label(9, "bone")))
DISTANCE = 77.25
# Which column or definition stands for a metric whose column is not its name with or without _mm.
COLUMNS = {"detection": "pq"}
DEFINITIONS = {
    "cartilagethickness": "ThCcAB",
    "tissuevolume": "volume",
    "tissueheight": "height",
    "t1rho": "mean",
    "t2": "mean",
}


def documented() -> dict[str, tuple[str, ...]]:
    """Metric -> its four cells."""
    section = PAGE[PAGE.index("## Empty masks") : PAGE.index("## Means and intervals")]
    rows = re.findall(r"^\| (\w+) \| (.+) \| (.+) \| (.+) \| (.+) \|$", section, re.MULTILINE)
    return {name: tuple(cells) for name, *cells in rows if name != "metric"}


@pytest.fixture
def rows(score):
    """Plates on a bone, one label of each status, in slices 1 to 4 of 6."""
    reference, prediction = np.zeros((6, 16, 40), np.uint8), np.zeros((6, 16, 40), np.uint8)
    reference[:, :6] = prediction[:, :6] = 9
    reference[1:5, 6:10, 1:12], prediction[1:5, 6:9, 2:12] = 1, 1
    reference[1:5, 6:10, 14:25] = 3
    prediction[1:5, 6:10, 27:38] = 4
    maps = {name: np.full(reference.shape, 40, np.float32) for name in ("t2", "t1rho")}
    given = {"labels": LABELS, "tissues": (1, 2, 3, 4), "missed_distance": DISTANCE, "maps": maps}
    return score(prediction, reference, names=tuple(METRICS), **given)


def shown(value: float) -> str:
    if math.isnan(value):
        return "empty"
    return {0.0: "0", DISTANCE: "distance"}.get(value, "measured")


def cell_of(rows, table: str, metric: str, label: int) -> str:
    if metric in DEFINITIONS:
        (found,) = [
            row
            for row in rows["biomarker_volume"]
            if (row["label"], row["biomarker"], row["instance"]) == (label, metric, None)
            and row["definition"] == DEFINITIONS[metric]
            and row["unit"] != "mL"
        ]
        return f"{shown(found['reference'])} / {shown(found['prediction'])}"
    column = COLUMNS.get(metric, metric)
    (row,) = [row for row in rows[table] if row["label"] == label and row.get("slice", 2) == 2]
    return shown(row[column] if column in row else row[f"{column}_mm"])


def test_every_metric_stands_in_the_table_of_the_documentation():
    assert sorted(documented()) == sorted(METRICS)


@pytest.mark.parametrize("table", ["slice", "volume"])
def test_every_metric_does_what_the_documentation_says_of_empty_masks(rows, table):
    found = {name: tuple(cell_of(rows, table, name, label) for label in range(1, 5)) for name in METRICS}
    assert found == documented()


def test_the_status_of_biomarkers_is_that_of_the_label(rows):
    found = {(row["label"], row["status"]) for row in rows["biomarker_volume"] if row["instance"] is None}
    assert found == set(enumerate(STATUSES, 1))
