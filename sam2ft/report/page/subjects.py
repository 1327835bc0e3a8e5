"""A page per subject: the Dice of every label with every run, and its slices. No torch."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sam2ft.core.grouping import grouped
from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import MAIN_MEASURE, Comparison, number_or_none
from sam2ft.report.page.content import SliceCase
from sam2ft.report.page.volumes import ShownVolume
from sam2ft.report.request import ReportTables
from sam2ft.report.tables.failures import value_rows
from sam2ft.statistics.cohort import mean_of_labels_values

MOST_RUNS = 30
"""Maximum number of runs on the page of a subject: the chosen point, the baseline, then the first of the comparison."""
MOST_SUBJECTS = 400
"""Maximum number of pages; those of the lowest Dice with the chosen point come first."""

Subject = tuple[str, str]
"""(dataset, subject)."""


@dataclass(frozen=True)
class SubjectCell:
    """One label of one volume with one run."""

    dice_slice_mean: float | None
    dice: float | None
    status: str
    """ok, missed, spurious or absent in the volume."""


@dataclass(frozen=True)
class SubjectLine:
    """One volume with one run on one split and protocol."""

    point: str
    run: str
    role: str
    """best, baseline or other."""
    volume: str
    how: str
    """Split and protocol."""
    cells: Mapping[str, SubjectCell]
    """Name of a label -> its values."""
    protocol: str = ""
    """How the model was prompted, as in tables."""


@dataclass(frozen=True)
class SubjectPage:
    """Everything on the page of one subject."""

    experiment: str
    dataset: str
    subject: str
    path: str
    """Relative to the page of the report; made of a number, never of a name."""
    labels: tuple[str, ...]
    lines: tuple[SubjectLine, ...]
    cases: tuple[SliceCase, ...] = ()
    """Its slices with pictures, the chosen point first."""
    num_left_out: int = 0
    """Runs that are not on the page."""
    volumes: tuple[tuple[str, int], ...] = ()
    """(name of a volume of its own whose slices the page of the report can scroll, number of that volume there)."""
    means: Mapping[str, float] = field(default_factory=dict)
    """Role -> MAIN_MEASURE, mean over labels: the value of this subject in `mean_of_labels` of global.csv."""

    @property
    def protocols(self) -> list[str]:
        """All of its lines, each once."""
        return list(dict.fromkeys(line.protocol for line in self.lines if line.protocol))

    def failed(self, role: str) -> tuple[str, ...]:
        """`missed <label>` and `spurious <label>` of its volumes."""
        found = (
            f"{cell.status} {label}"
            for line in self._of(role)
            for label, cell in line.cells.items()
            if cell.status in ("missed", "spurious")
        )
        return tuple(dict.fromkeys(found))

    def _of(self, role: str) -> list[SubjectLine]:
        own = [line for line in self.lines if line.role == role]
        return [line for line in own if line.how == own[0].how]


def subject_pages(
    experiment: str,
    tables: ReportTables,
    comparison: Comparison,
    roles: Mapping[str, str],
    cases: Sequence[SliceCase],
    volumes: Sequence[ShownVolume] = (),
) -> tuple[SubjectPage, ...]:
    """The pages in the order of Dice with the chosen point, the lowest first.

    Args:
        experiment: name of the report.
        tables: its tables.
        comparison: the compared points.
        roles: run_id -> best or baseline.
        cases: all slices with pictures.
        volumes: all volumes to scroll.
    """
    evaluated = dict.fromkeys(line.point.run for line in comparison.lines if line.scores)
    runs = sorted(evaluated, key=lambda run: ("best", "baseline").index(roles[run]) if run in roles else 2)
    shown = runs[:MOST_RUNS]
    rows = sorted(value_rows(tables, shown), key=lambda row: shown.index(str(row["run"])))
    means = {role: _means([row for row in rows if row["run"] == run]) for run, role in roles.items()}
    found = []
    of_dataset = grouped(sorted(rows, key=lambda row: int(row["label"] or 0)), lambda row: str(row["dataset"]))
    for (dataset, subject), own in grouped(rows, lambda row: (str(row["dataset"]), str(row["subject"]))).items():
        # Those of all subjects: a label that was not drawn in this one has a column that says so.
        labels = dict.fromkeys(str(row["label_name"]) for row in of_dataset[dataset])
        prefix = f"{dataset}/{subject}/"
        scrolled = [(one.name, n) for n, one in enumerate(volumes, start=1) if one.name.startswith(prefix)]
        found.append(
            SubjectPage(
                experiment, dataset, subject, "", tuple(labels), _lines(own, comparison, roles),
                _in_order([case for case in cases if case.where.startswith(prefix)]), len(runs) - len(shown),
                tuple(scrolled), {role: of[dataset, subject] for role, of in means.items() if (dataset, subject) in of},
            )
        )  # fmt: skip
    return _numbered(found)


def _numbered(pages: Sequence[SubjectPage]) -> tuple[SubjectPage, ...]:
    def place(page: SubjectPage) -> tuple[float, str, str]:
        return page.means.get("best", math.inf), page.dataset, page.subject

    worst_first = sorted(pages, key=place)[:MOST_SUBJECTS]
    return tuple(replace(page, path=f"subjects/subject-{n:03d}.html") for n, page in enumerate(worst_first, start=1))


def _in_order(cases: Sequence[SliceCase]) -> tuple[SliceCase, ...]:
    """Slices of one run after another, each in the order of its volumes."""
    runs = list(dict.fromkeys(case.run for case in cases))
    return tuple(sorted(cases, key=lambda case: (runs.index(case.run), _natural(case.where))))


def _natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts slice 9 before slice 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def _lines(rows: Sequence[Row], comparison: Comparison, roles: Mapping[str, str]) -> tuple[SubjectLine, ...]:
    made = []
    for (run, how, volume), own in grouped(
        rows, lambda row: (str(row["run"]), f"{row['split']}, prompt {row['protocol']}", str(row["volume"]))
    ).items():
        cells = {
            str(row["label_name"]): SubjectCell(
                number_or_none(row["dice_slice_mean"]), number_or_none(row["dice"]), str(row["status"])
            )
            for row in own
        }
        name = comparison.name_of(run) or run
        made.append(SubjectLine(name, run, roles.get(run, "other"), volume, how, cells, str(own[0]["protocol"])))
    return tuple(made)


def _means(rows: Sequence[Row]) -> dict[Subject, float]:
    """Mean over labels of each subject with one run, on the first split and protocol of its dataset."""
    found: dict[Subject, float] = {}
    for one in mean_of_labels_values(rows, (MAIN_MEASURE,)):
        for (dataset, subject), value in one.values.items():
            found.setdefault((str(dataset), str(subject)), value)
    return found
