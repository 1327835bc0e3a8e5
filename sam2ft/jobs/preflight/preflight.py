"""Preflight: report every problem of every point at once and compute run_id and eval_id before a job. No torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.config.identity import baseline_id, eval_id, run_id
from sam2ft.config.load_experiment import LoadedExperiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import model_name
from sam2ft.config.sweep.points import SweepPoint
from sam2ft.core.errors import Problem, ProblemsError
from sam2ft.core.files import DigestCache
from sam2ft.core.given.recognise import OURS, kind_of
from sam2ft.core.given.wrong_kind import Wanted, there_is, wrong_kind
from sam2ft.jobs.preflight.data import DataChecker
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import RUNS, digest_cache
from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources
from sam2ft.runs.resources.resources import evaluation_resources, local_resources, slices_per_step

BASELINE = "baseline"

FillResources = Callable[[Experiment], Resources]


@dataclass(frozen=True)
class ResolvedPoint:
    """One point with its ids; they are None while a store or weights do not exist yet (dry run only)."""

    point: SweepPoint
    baseline: bool
    resources: Resources
    run_id: str | None
    eval_id: str | None


@dataclass(frozen=True)
class ResolvedRun:
    """One run: its entry in the plan and the configurations that its job reads."""

    planned: PlannedRun
    experiment: Experiment
    evaluations: Mapping[str, Experiment]
    """eval_id -> the experiment with the `eval:` section of that evaluation."""


@dataclass(frozen=True)
class ResolvedSweep:
    """A checked experiment with its runs."""

    name: str
    source: Path
    points: tuple[ResolvedPoint, ...]
    runs: tuple[ResolvedRun, ...]
    """Empty while any point has no id."""
    merged: tuple[str, ...]
    """One sentence for each run that is shared by several points."""
    warnings: tuple[str, ...]


def resolve(
    loaded: LoadedExperiment, *, dry_run: bool = False, fill: FillResources | None = None, code: str | None = None
) -> ResolvedSweep:
    """Check every point and compute the ids of its run and evaluation.

    Args:
        fill: returns the resources of a point from a site file; by default one process on this machine.
        code: digest of the code that becomes part of every run_id.

    Raises:
        ProblemsError: contains every problem of every point. In a dry run, a store or weights that do not exist yet
            are warnings instead.
    """
    checker = _Checker(loaded, DigestCache(digest_cache(RUNS)), dry_run, fill or local_resources, code)
    points = [checker.point(point) for point in loaded.points]
    if loaded.experiment.experiment.baseline:
        points.append(checker.baseline(len(points)))
    if problems := checker.found(warning=False):
        raise ProblemsError(problems)
    runs = _merged(points) if all(point.run_id and point.eval_id for point in points) else ()
    return ResolvedSweep(
        name=loaded.experiment.experiment.name,
        source=loaded.path.resolve(),
        points=tuple(points),
        runs=runs,
        merged=tuple(_merge_sentence(run) for run in runs if len(run.planned.points) > 1),
        warnings=tuple(str(problem) for problem in checker.found(warning=True)),
    )


@dataclass
class _Checker:
    """Checks the points of one experiment; files shared by points are read once."""

    loaded: LoadedExperiment
    cache: DigestCache
    dry_run: bool
    fill: FillResources
    code: str | None
    _known_weights: dict[tuple[Path | None, str], str | None] = field(default_factory=dict)
    _found: dict[tuple[Problem, bool], None] = field(default_factory=dict)
    """Problem and whether it is only a warning, each once, in the order in which they were found."""

    def __post_init__(self) -> None:
        self._data = DataChecker(self.problem, self.cache, self.dry_run)

    def problem(self, key: str, message: str, *, warning: bool = False) -> None:
        self._found[Problem(self.loaded.where(key), key, message), warning] = None

    def found(self, *, warning: bool) -> list[Problem]:
        """The warnings, or the problems that no job can start with."""
        return [problem for problem, is_warning in self._found if is_warning == warning]

    def point(self, point: SweepPoint) -> ResolvedPoint:
        experiment, asked = point.experiment, self.fill(point.experiment)
        self._tasks_have_gpus(experiment, asked)
        data, weights = self._data.of(experiment), self._weights(experiment)
        run, evaluation = None, None
        if data is not None and weights:
            run = run_id(
                experiment,
                train_digests=data.train_digests,
                split_digest=data.train_split,
                weights_sha256=weights,
                slices_per_step=slices_per_step(experiment, asked),
                code_version=self.code,
            )
            evaluation = eval_id(experiment, data.eval_split, data.files)
        return ResolvedPoint(point, False, asked, run, evaluation)

    def _tasks_have_gpus(self, experiment: Experiment, asked: Resources) -> None:
        """Two processes would take the same GPU, and be slower than one.

        An evaluation with the resources of its training is named once.
        """
        keys = {asked: "resources"}
        keys.setdefault(evaluation_resources(experiment, asked), "resources.eval")
        for resources, key in keys.items():
            tasks, gpus = resources.tasks_per_node, resources.gpus_per_node
            if tasks > gpus > 0:
                self.problem(
                    f"{key}.tasks_per_node",
                    f"found {tasks} processes per node for {gpus} GPU{'s' if gpus > 1 else ''}, so that two share one; "
                    f"allowed: 1 to {gpus}, or gpus_per_node: 0 to train on the CPU",
                )

    def baseline(self, index: int) -> ResolvedPoint:
        """The baseline: the initial weights of the first point, with its evaluation settings."""
        first = self.loaded.points[0]
        point = SweepPoint(index, BASELINE, (), first.experiment)
        data, weights = self._data.of(first.experiment), self._weights(first.experiment)
        run = baseline_id(first.experiment, weights_sha256=weights, code_version=self.code) if weights else None
        evaluation = eval_id(first.experiment, data.eval_split, data.files) if data is not None else None
        return ResolvedPoint(point, True, self.fill(first.experiment), run, evaluation)

    def _weights(self, experiment: Experiment) -> str | None:
        """sha256 of the initial weights; None when they do not exist."""
        asked = (experiment.module.sam2_checkpoint, experiment.module.sam2_model_cfg)
        if asked not in self._known_weights:
            self._known_weights[asked] = self._checked_weights(experiment)
        return self._known_weights[asked]

    def _checked_weights(self, experiment: Experiment) -> str | None:
        path = initial_weights(experiment)
        if path is None:
            name = model_name(experiment.module.sam2_model_cfg)
            self.problem("module.sam2_checkpoint", f"missing; {name} needs its weights (`make weights MODEL={name}`)")
            return None
        if kind_of(path) in OURS and (problem := wrong_kind(path, Wanted.CHECKPOINT)) is not None:
            self.problem("module.sam2_checkpoint", f"found {problem}")
            return None
        if not path.is_file():
            near = there_is(path, Wanted.CHECKPOINT)
            message = f"found {path}, which is not a file{near}; `make weights` fetches the official ones"
            self.problem("module.sam2_checkpoint", message, warning=self.dry_run)
            return None
        return self.cache.sha256(path)


def _merged(points: Sequence[ResolvedPoint]) -> tuple[ResolvedRun, ...]:
    """One run for all points with the same run_id, in the order of the points."""
    groups: dict[str, list[ResolvedPoint]] = {}
    for point in points:
        groups.setdefault(str(point.run_id), []).append(point)
    runs = []
    for name, members in groups.items():
        first = members[0]
        planned = PlannedRun(
            index=first.point.index,
            run_id=name,
            stage="eval" if first.baseline else "train_eval",
            baseline=first.baseline,
            points=tuple(
                PlannedPoint(member.point.name, member.point.overrides, str(member.eval_id)) for member in members
            ),
            resources=first.resources,
            eval_resources=evaluation_resources(first.point.experiment, first.resources),
        )
        evaluations = {str(member.eval_id): member.point.experiment for member in reversed(members)}
        runs.append(ResolvedRun(planned, first.point.experiment, evaluations))
    return tuple(runs)


def _merge_sentence(run: ResolvedRun) -> str:
    names = [point.name for point in run.planned.points]
    evaluations = len(run.planned.eval_ids)
    suffix = f", evaluated {evaluations} times" if evaluations > 1 else ""
    return f"points {', '.join(names)} are one run ({run.planned.run_id}){suffix}"
