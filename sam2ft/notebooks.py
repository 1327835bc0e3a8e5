"""Results of experiments as pandas DataFrames for notebooks: `sam2ft.results("runs/lr_grid")`. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam2ft.config.load_experiment import load_experiment, plain_values
from sam2ft.core.errors import DataError
from sam2ft.core.given.wrong_kind import Wanted, there_is, wrong_kind
from sam2ft.core.tables.rows import TABLES
from sam2ft.report.comparison.compare import PointRun, choose_best
from sam2ft.report.request import RunState, points_of
from sam2ft.report.tables.frames import all_names, frame_of_csv, padded
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.evaluation_files import again, read_success, table_bytes
from sam2ft.runs.layout import EvalLayout, ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, newest_plan
from sam2ft.runs.resources.resources import resources_of
from sam2ft.runs.states import State

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BestPoint:
    """The point with the best validation value; the test split has no part in the choice."""

    name: str
    run: str
    """run_id."""
    value: float
    monitor: str
    """Name of the validation value, such as `val_loss`."""
    epoch: int | None
    """0-based epoch of the weights in `checkpoint`."""
    reason: str
    """How it was chosen, as a sentence."""
    folder: Path
    checkpoint: Path
    """best.pt, which stock SAM 2 loads too."""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration as nested plain values, with the keys of an experiment file."""
        return config_of(RunLayout(self.folder))


@dataclass(frozen=True)
class Results:
    """Finished evaluations of an experiment, of a run, or one alone.

    `results["slice"]` is a DataFrame with the columns of docs/tables.md: text columns have dtype `string`, integers
    `Int64`, numbers `float64`; an empty cell is missing (NA, or NaN in a column of numbers).
    """

    folder: Path
    evaluations: tuple[EvalLayout, ...]
    missing: tuple[str, ...] = ()
    """Planned runs whose evaluation is not finished: their name and state."""
    runs: tuple[tuple[PointRun, RunLayout], ...] = ()
    """Points of the newest plan with their runs; the baseline has no index."""
    _frames: dict[str, "pd.DataFrame"] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that at least one evaluation has."""
        found = {name for one in self.evaluations for name in _digests(one)}
        return tuple(name for name in TABLES if name in found)

    def __getitem__(self, name: str) -> "pd.DataFrame":
        """One table of all evaluations, the rows of each in its own order; a copy that the caller may change.

        Raises:
            KeyError: no evaluation has such a table.
            DataError: a table was changed after the evaluation wrote it, or cannot be read.
        """
        if name not in self.tables:
            raise KeyError(f"no table {name!r}; these evaluations have: {', '.join(self.tables) or 'none'}")
        if name not in self._frames:
            self._frames[name] = _frame(name, self.evaluations)
        return self._frames[name].copy()

    @property
    def points(self) -> "pd.DataFrame":
        """One row per point: name, run, state, validation value, best epoch, checkpoint, and every swept key."""
        import pandas as pd

        rows = [
            {
                "point": point.name,
                "run": point.run,
                "state": point.state,
                point.monitor: point.validation,
                "best_epoch": point.best_epoch,
                "checkpoint": str(layout.best) if layout.best.is_file() else None,
            }
            | dict(point.overrides)
            for point, layout in self.runs
        ]
        kinds = {"point": "string", "run": "string", "state": "string", "best_epoch": "Int64", "checkpoint": "string"}
        return pd.DataFrame(rows, columns=None if rows else [*kinds]).astype(kinds)

    @property
    def best(self) -> BestPoint | None:
        """The best point by validation; None as long as no point has finished with a validation value."""
        run, reason = choose_best([point for point, _ in self.runs])
        for point, layout in self.runs:
            if point.run == run and point.validation is not None:
                value = float(point.validation)
                return BestPoint(
                    point.name, point.run, value, point.monitor, point.best_epoch, reason, layout.folder, layout.best
                )
        return None

    def config(self, run: str) -> dict[str, Any]:
        """The resolved configuration of the run with run_id `run`, as nested plain values.

        Raises:
            KeyError: for a run that is not among these.
        """
        for point, layout in self.runs:
            if point.run == run:
                return config_of(layout)
        raise KeyError(f"no run {run!r}; known: {', '.join(point.run for point, _ in self.runs)}")


def results(folder: str | Path) -> Results:
    """The results in a folder below runs/: of an experiment (its newest plan), of a run, or of an evaluation.

    Nothing is computed again, and nothing is written.

    Raises:
        DataError: the folder does not exist or is none of these.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(
            f"{path}: no such folder{there_is(path, Wanted.REPORTED)}; give that of an experiment, of a run or of an "
            "evaluation, below runs/"
        )
    if (path / "_SUCCESS").is_file():
        return Results(path, (EvalLayout(path),))
    if any(path.glob("plan-*.json")):
        return _of_experiment(path)
    if RunLayout(path).status.is_file():
        return _of_run(path)
    raise DataError(
        wrong_kind(path, Wanted.REPORTED)
        or f"{path}: neither an experiment (plan-*.json), a run (status.json) nor an evaluation (_SUCCESS)"
    )


def config_of(run: RunLayout) -> dict[str, Any]:
    """The configuration beside a run, as nested plain values."""
    values: dict[str, Any] = plain_values(load_experiment(run.config).experiment)
    return values


def _of_experiment(folder: Path) -> Results:
    layout = ExperimentLayout(folder)
    evaluations, missing, runs = [], [], []
    for planned in newest_plan(layout).runs:
        run = layout.run(planned.run_id)
        status = read_status(run)
        state = RunState(planned, run, status.state if status else State.NEW, status.reason if status else "", status)
        runs += [(point, run) for point in points_of(state)]
        for eval_id in planned.eval_ids:
            evaluation = run.evaluation(eval_id)
            if evaluation.success.is_file():
                evaluations.append(evaluation)
            else:
                missing.append(f"{planned.name}: {status.state if status else 'not started'}")
    return Results(folder, tuple(evaluations), tuple(missing), tuple(runs))


def _of_run(folder: Path) -> Results:
    run = RunLayout(folder)
    status = read_status(run)
    found = tuple(EvalLayout(path.parent) for path in sorted(run.evaluations.glob("*/_SUCCESS")))
    missing = () if found or status is None else (f"{folder.name}: {status.state}",)
    state = RunState(_alone(run, found), run, status.state if status else State.NEW, "", status)
    return Results(folder, found, missing, tuple((point, run) for point in points_of(state)))


def _alone(run: RunLayout, evaluations: tuple[EvalLayout, ...]) -> PlannedRun:
    """A run as the only one of a plan: its own folder does not say which point of a sweep it was."""
    asked = resources_of(load_experiment(run.config).experiment)
    eval_id = evaluations[0].folder.name if evaluations else ""
    point = PlannedPoint(run.folder.name, (), eval_id)
    return PlannedRun(0, run.run_id, "train_eval", False, (point,), asked, asked)


def _digests(evaluation: EvalLayout) -> Mapping[str, str]:
    """Table name -> SHA-256 of its CSV, as the evaluation recorded it."""
    digests: dict[str, str] = read_success(evaluation)["tables"]
    return digests


def _frame(name: str, evaluations: tuple[EvalLayout, ...]) -> "pd.DataFrame":
    import pandas as pd
    import pyarrow as pa

    frames = []
    for evaluation in evaluations:
        if (digest := _digests(evaluation).get(name)) is None:
            continue
        path = evaluation.table(name)
        try:
            data = table_bytes(path, digest)
        except DataError as error:
            raise DataError(f"{error}; {again(evaluation)}") from None
        frames.append(frame_of_csv(TABLES[name], data, str(path)))
    names = all_names(TABLES[name], [frame.column_names for frame in frames])
    dtypes = {pa.string(): pd.StringDtype(), pa.int64(): pd.Int64Dtype()}
    whole = pa.concat_tables([padded(TABLES[name], frame, names) for frame in frames])
    frame: pd.DataFrame = whole.to_pandas(types_mapper=dtypes.get)
    return frame
