"""Sources of a report: the runs behind experiments, run folders, evaluation folders and patterns on a command line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from glob import glob, has_magic
from pathlib import Path

from sam2ft.core.errors import DataError, UserError, listed
from sam2ft.core.files import canonical_json, listed_names, sha256_text
from sam2ft.core.given.wrong_kind import Wanted, there_is, wrong_kind
from sam2ft.report.layout import ReportLayout, reports
from sam2ft.report.request import RunState
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.evaluation_files import read_success
from sam2ft.runs.layout import EvalLayout, ExperimentLayout, RunLayout
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, newest_plan, plans_of
from sam2ft.runs.states import State
from sam2ft.sweeps.state.collect import experiment_layout, states_of
from sam2ft.sweeps.state.slurm_snapshot import snapshot_of

ALLOWED = "an experiment file, the folder of an experiment, of a run or of an evaluation, or a pattern of such"
MOST_NAMED = 5
_UNKNOWN = Resources(1, 1, 0, 1, 0.0, 0.0)


@dataclass
class ReportSources:
    """Runs by their folders, in the order in which they were given, and problems of arguments that are no runs."""

    states: dict[Path, RunState] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    experiments: dict[Path, ExperimentLayout] = field(default_factory=dict)
    """Experiments that were given as a whole, by their folders."""
    planned: dict[Path, dict[str, RunState]] = field(default_factory=dict)
    """Experiment's folder -> its runs by run_id, where single runs were given."""

    def add(self, state: RunState) -> None:
        """Add a run; a run that was added before is kept once."""
        self.states.setdefault((state.folder or state.layout.folder).resolve(), state)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the experiments that the runs belong to."""
        return tuple(dict.fromkeys(state.experiment for state in self.states.values()))

    @property
    def only(self) -> ExperimentLayout | None:
        """The experiment, when exactly one was given and no run of another one."""
        if len(self.experiments) != 1:
            return None
        ((folder, layout),) = self.experiments.items()
        return layout if all(run.parent == folder for run in self.states) else None

    def named(self) -> tuple[RunState, ...]:
        """Return the runs; with several experiments, points are named `<experiment>/<point>` and numbered anew."""
        states = tuple(self.states.values())
        if len(self.names) < 2:
            return states
        return tuple(_renamed(state, index) for index, state in enumerate(states))


def sources_of(given: Sequence[str]) -> ReportSources:
    """Find the runs that the command-line arguments `given` stand for.

    Arguments without a run are listed in `problems`.

    Raises:
        UserError: no run is left, or the only argument cannot be used.
    """
    sources = ReportSources()
    for text in given:
        found = _expanded(text)
        if not found:
            sources.problems.append(f"{text}: no such file or folder{there_is(Path(text), Wanted.REPORTED)}; left out")
        for path in found:
            try:
                _take(path, sources)
            except UserError as error:
                if len(given) == 1 and len(found) == 1:
                    raise
                sources.problems.append(f"{error}; left out")
    if not sources.states:
        raise UserError("\n".join([*sources.problems, f"nothing to report; give {ALLOWED}"]))
    return sources


def default_report(sources: ReportSources, given: Sequence[str]) -> ReportLayout:
    """Return the experiment's own report folder, or for other selections one named by a digest of the arguments."""
    if sources.only is not None:
        return ReportLayout(sources.only.report)
    places = sorted(str(Path(text).resolve()) for text in given)
    return reports(sha256_text(canonical_json(places))[:12])


def _expanded(text: str) -> list[Path]:
    if Path(text).exists() or not has_magic(text):
        return [Path(text)]
    return [Path(found) for found in sorted(glob(text)) if not _is_beside_runs(Path(found))]


def _is_beside_runs(path: Path) -> bool:
    """Whether a path is an entry of an experiment's folder that is not a run but matches a pattern of runs."""
    return path.is_file() or path.name in ("report", "submissions") or path.name.startswith((".", "_"))


def _take(path: Path, sources: ReportSources) -> None:
    if path.is_dir() and not listed_names(path, "plan-*.json"):
        run = path.parent.parent if path.parent.name == "eval" else path
        if RunLayout(run).status.is_file() or RunLayout(run).evaluations.is_dir():
            sources.add(_run(RunLayout(run), sources))
        elif EvalLayout(path).success.is_file():
            sources.add(_evaluation(EvalLayout(path)))
        else:
            raise DataError(
                wrong_kind(path, Wanted.REPORTED)
                or f"{path}: is none of {ALLOWED}; an experiment has a plan (launch/sweep.py writes it)"
            )
        return
    layout = experiment_layout(path)
    plan = newest_plan(layout)
    sources.experiments[layout.folder.resolve()] = layout
    for state in states_of(layout, plan):
        sources.add(state)
    sources.problems += _not_planned(layout, plan)


def _not_planned(layout: ExperimentLayout, plan: Plan) -> Iterator[str]:
    """Problem text for runs with results in the folder that are not in the newest plan."""
    planned = {run.run_id for run in plan.runs}
    others = sorted(path.parts[-4] for path in layout.folder.glob("[!.]*/eval/[!.]*/_SUCCESS"))
    if left := list(dict.fromkeys(name for name in others if name not in planned)):
        yield (
            f"{layout.folder}: {len(left)} evaluated runs are not in the newest plan and left out: "
            f"{listed(left, MOST_NAMED)}; give their folders to include them in a report"
        )


def _run(layout: RunLayout, sources: ReportSources) -> RunState:
    """State of one run, from the newest plan that contains it, else from its folder."""
    experiment = layout.folder.parent.resolve()
    if experiment not in sources.planned:
        sources.planned[experiment] = _planned(ExperimentLayout(layout.folder.parent))
    if (state := sources.planned[experiment].get(layout.run_id)) is not None:
        return state
    status, damage = None, ""
    try:
        status = read_status(layout)
    except DataError as error:
        damage = str(error)
    evaluations = listed_names(layout.evaluations) or ["none"]
    points = tuple(PlannedPoint(layout.run_id, (), eval_id) for eval_id in evaluations)
    planned = PlannedRun(0, layout.run_id, "train_eval", False, points, _UNKNOWN, _UNKNOWN)
    return RunState(planned, layout, status.state if status else State.UNKNOWN, damage, status)


def _planned(layout: ExperimentLayout) -> dict[str, RunState]:
    """States of the runs of all plans of an experiment; Slurm is read once."""
    states: dict[str, RunState] = {}
    snapshot = snapshot_of(layout)
    for plan in plans_of(layout):
        new = tuple(run for run in plan.runs if run.run_id not in states)
        states |= {state.planned.run_id: state for state in states_of(layout, replace(plan, runs=new), snapshot)}
    return states


def _evaluation(layout: EvalLayout) -> RunState:
    """State of an evaluation whose weights or masks were produced by another program."""
    success = read_success(layout)
    run, eval_id = success["run"], success["eval"]
    points = (PlannedPoint(run, (), eval_id),)
    planned = PlannedRun(0, run, "eval", False, points, _UNKNOWN, _UNKNOWN)
    return RunState(planned, RunLayout(layout.folder), State.DONE, "", None, folder=layout.folder)


def _renamed(state: RunState, index: int) -> RunState:
    name = state.experiment
    points = tuple(replace(point, name=f"{name}/{point.name}") for point in state.planned.points)
    return replace(state, planned=replace(state.planned, index=index, points=points))
