"""Data classes shared by the modules of a report: request, state of each run, collected tables, outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sam2ft.core.tables.rows import TABLES, Row
from sam2ft.report.comparison.compare import Comparison, PointRun
from sam2ft.report.comparison.misses import Misses
from sam2ft.report.layout import ReportLayout
from sam2ft.report.tables.coverage import Coverage
from sam2ft.report.tables.frames import frame_of_csv, rows_of
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.layout import EvalLayout, RunLayout
from sam2ft.runs.plan_file import PlannedRun
from sam2ft.runs.states import FailureClass, State

if TYPE_CHECKING:  # its statistics import scipy, which a plan on a login node need not wait for
    from sam2ft.report.comparison.improvement import Improvement
    from sam2ft.report.comparison.rank_study import RankStudy


@dataclass(frozen=True)
class RunState:
    """A planned run and its current state, as determined by sweeps/state; plain values only."""

    planned: PlannedRun
    layout: RunLayout
    state: State
    reason: str
    """Why it is not done, in one line."""
    status: RunStatus | None
    log: tuple[str, ...] = ()
    """The last lines of its log, for a run that failed."""
    failure_class: FailureClass | None = None
    gpu_hours_planned: float | None = None
    gpu_hours_used: float | None = None
    """Total over all its attempts, from Slurm accounting; None where there is no accounting."""
    folder: Path | None = None
    """Folder of an evaluation whose weights or masks do not come from a run; None for the evaluations of a run."""

    def evaluation(self, eval_id: str) -> EvalLayout:
        """Paths of one of its evaluations."""
        return self.layout.evaluation(eval_id) if self.folder is None else EvalLayout(self.folder)

    @property
    def experiment(self) -> str:
        """Name of the folder that holds the run."""
        return self.layout.folder.parent.name


def baseline_of(states: Sequence[RunState], run: str | None) -> str | None:
    """run_id of the initial weights of a run: the baseline of its experiment, else the first; None without any."""
    baselines = {state.experiment: state.planned.run_id for state in reversed(states) if state.planned.baseline}
    experiment = next((state.experiment for state in states if state.planned.run_id == run), "")
    first = next((state.planned.run_id for state in states if state.planned.baseline), None)
    return baselines.get(experiment, first)


def points_of(state: RunState, baseline: str = "") -> list[PointRun]:
    """Points of the sweep that share this run; the baseline, whose run_id is `baseline`, has no index."""
    status, planned = state.status, state.planned
    return [
        PointRun(
            index=None if planned.baseline else planned.index,
            name=point.name,
            run=planned.run_id,
            overrides=point.overrides,
            state=state.state,
            reason=state.reason,
            best_epoch=None if status is None else status.best_epoch,
            monitor=(status.monitor if status else None) or "val_loss",
            mode="max" if status is not None and status.mode == "max" else "min",
            validation=None if status is None or planned.baseline else status.best_value,
            baseline="" if planned.baseline else baseline,
            eval=point.eval_id,
        )
        for point in planned.points
    ]


@dataclass(frozen=True)
class PaperFormats:
    """Formats in which tables for papers were requested."""

    latex: bool = False
    markdown: bool = False
    excel: bool = False


@dataclass(frozen=True)
class ReportRequest:
    """Input of a report."""

    title: str
    """Name of the experiment, or of the combined set of runs."""
    layout: ReportLayout
    states: tuple[RunState, ...]
    problems: tuple[str, ...] = ()
    """Problems found before the report started, such as folders that hold no run."""
    papers: PaperFormats = field(default_factory=PaperFormats)


@dataclass(frozen=True)
class ReportTables:
    """The result tables of a report, read from its CSV files when they are needed."""

    layout: ReportLayout
    names: tuple[str, ...]
    """Names of the tables with a CSV in the report: keys of core.tables.rows.TABLES."""
    _kept: dict[tuple[str, str | None], Sequence[Row]] = field(default_factory=dict)

    def rows(self, name: str, run: str | None = None) -> Sequence[Row]:
        """Rows of a table (only those of `run` if given), sorted by key; empty for a table without a CSV."""
        if name not in self.names:
            return []
        if (name, run) not in self._kept:
            path = self.layout.table(name)
            self._kept[name, run] = rows_of(frame_of_csv(TABLES[name], path.read_bytes(), str(path)), run)
        return self._kept[name, run]


@dataclass(frozen=True)
class Gathered:
    """All data from which the page and the files for papers are made."""

    request: ReportRequest
    tables: ReportTables
    comparison: Comparison
    coverage: Coverage
    problems: tuple[str, ...]
    tests: Sequence[Row] = ()
    """Rows of point_tests.csv."""
    misses: Misses = field(default_factory=Misses)
    """What every run misses; what fine-tuning newly misses."""
    improvements: "Sequence[Improvement]" = ()
    """The best point minus the baseline."""
    ranks: "RankStudy | None" = None
    """How firmly the ranking of the points stands."""

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
    """Result of `report`, for display by the caller."""

    comparison: Comparison
    coverage: Coverage
    problems: tuple[str, ...]
    page: Path
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Step -> its duration in seconds."""
