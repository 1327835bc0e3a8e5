"""What the rooms of a report hand to each other: what was asked, what became of each run, what was gathered of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sam2ft.core.tables.rows import Row
from sam2ft.report.comparison.compare import Comparison
from sam2ft.report.layout import ReportLayout
from sam2ft.report.tables.coverage import Coverage
from sam2ft.report.tables.frames import Frame
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.layout import EvalLayout, RunLayout
from sam2ft.runs.plan_file import PlannedRun


@dataclass(frozen=True)
class RunState:
    """A planned run and what became of it, as the cluster layer found it; plain values only."""

    planned: PlannedRun
    layout: RunLayout
    state: str
    """A value of status.json, or new, queued, running, lost, unknown."""
    reason: str
    """Why it is not done, in one line."""
    status: RunStatus | None
    log: tuple[str, ...] = ()
    """The last lines of its log, for a run that failed."""
    failure_class: str | None = None
    gpu_hours_planned: float | None = None
    gpu_hours_used: float | None = None
    """Of all its attempts, by Slurm's accounting; None where there is none."""
    folder: Path | None = None
    """Of an evaluation of weights or masks that no run here made; None for those of a run."""

    def evaluation(self, eval_id: str) -> EvalLayout:
        """Where one of its evaluations lies."""
        return self.layout.evaluation(eval_id) if self.folder is None else EvalLayout(self.folder)

    @property
    def experiment(self) -> str:
        """Name of the folder that holds the run."""
        return self.layout.folder.parent.name


@dataclass(frozen=True)
class Papers:
    """Which tables for papers were asked for."""

    latex: bool = False
    markdown: bool = False
    excel: bool = False


@dataclass(frozen=True)
class ReportRequest:
    """What a report is made of."""

    title: str
    """Name of the experiment, or of what was put together."""
    layout: ReportLayout
    states: tuple[RunState, ...]
    problems: tuple[str, ...] = ()
    """What was found wrong before: folders that hold no run, ..."""
    papers: Papers = field(default_factory=Papers)


class ReportTables(Protocol):
    """The collated tables of all counted evaluations; rows are read when they are asked for, never all kept."""

    @property
    def names(self) -> tuple[str, ...]:
        """Those that have a CSV in the report: keys of core.rows.TABLES."""

    def rows(self, name: str, run: str | None = None) -> Sequence[Row]:
        """Rows of a table (of one run), sorted by key; none of a table that is not there."""

    def frame(self, name: str, run: str | None = None) -> Frame:
        """The same as a pyarrow.Table."""


@dataclass(frozen=True)
class Gathered:
    """Everything that the page and the tables for papers are made from."""

    request: ReportRequest
    tables: ReportTables
    comparison: Comparison
    coverage: Coverage
    problems: tuple[str, ...]
    tests: Sequence[Row] = ()
    """Rows of point_tests.csv."""

    @property
    def states(self) -> Sequence[RunState]:
        return self.request.states

    @property
    def names(self) -> Mapping[str, str]:
        """run_id -> name of its first point."""
        return {state.planned.run_id: state.planned.name for state in self.states}


Files = Mapping[str, bytes | Path]
"""Path relative to the report, `/` between its parts -> content, or the file to copy."""


@dataclass(frozen=True)
class ReportOutcome:
    """What was written, for whoever shows it."""

    comparison: Comparison
    coverage: Coverage
    problems: tuple[str, ...]
    page: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What was done -> how long it took."""
