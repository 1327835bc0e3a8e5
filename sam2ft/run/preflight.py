"""All that can be known before a job: every problem of every point at once, and the ids of what will run. No torch."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources as package_files
from pathlib import Path

from sam2ft.config.experiment import LoadedExperiment
from sam2ft.config.identity import baseline_id, eval_id, run_id
from sam2ft.config.points import Point
from sam2ft.config.schema import Experiment
from sam2ft.config.schema_module import NANO
from sam2ft.core.errors import DataError, Problem, ProblemsError
from sam2ft.core.files import DigestCache
from sam2ft.core.layout import RUNS, digest_cache
from sam2ft.data.detections import read_detections
from sam2ft.data.store import Store, VolumeRecord, index_path, records_digest
from sam2ft.engine.prompting import unavailable_in_evaluation
from sam2ft.run.inputs import (
    labelled_records,
    max_train_subjects,
    metadata_source,
    named_files,
    open_stores,
    split_records,
)
from sam2ft.run.metadata_checks import metadata_problems
from sam2ft.run.metric_checks import metric_problems
from sam2ft.run.planned import PlannedPoint, PlannedRun, Resources
from sam2ft.run.resources import evaluation_resources, resources_here, slices_per_step

BASELINE = "baseline"

FillResources = Callable[[Experiment], Resources]


@dataclass(frozen=True)
class ResolvedPoint:
    """One point with its ids; None while a store or weights are not there yet (dry run only)."""

    point: Point
    baseline: bool
    resources: Resources
    run_id: str | None
    eval_id: str | None


@dataclass(frozen=True)
class ResolvedRun:
    """One run: what the plan says of it and the configurations that its job reads."""

    planned: PlannedRun
    experiment: Experiment
    evaluations: Mapping[str, Experiment]
    """eval_id -> the experiment whose `eval:` it is."""


@dataclass(frozen=True)
class ResolvedSweep:
    """A checked experiment."""

    name: str
    source: Path
    points: tuple[ResolvedPoint, ...]
    runs: tuple[ResolvedRun, ...]
    """Empty while any point is without an id."""
    merged: tuple[str, ...]
    """One sentence for each run that stands for several points."""
    warnings: tuple[str, ...]


@dataclass
class _Findings:
    """Problems and warnings of all points, each once."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem, *, warning: bool = False) -> None:
        found = self.warnings if warning else self.problems
        if problem not in found:
            found.append(problem)


def resolve(
    loaded: LoadedExperiment, *, dry_run: bool = False, fill: FillResources | None = None, code: str | None = None
) -> ResolvedSweep:
    """Check every point and name its run and evaluation.

    `fill` says what a point gets from a site; without it, one process here. `code`: a digest of the code that is to be
    part of every run_id. Errors: ProblemsError with every problem of every point; in a dry run a store or weights that
    do not exist yet are warnings instead.
    """
    findings, cache = _Findings(), DigestCache(digest_cache(RUNS))
    checker = _Checker(loaded, findings, cache, dry_run, fill or resources_here, code)
    points = [checker.point(point) for point in loaded.points]
    if loaded.experiment.experiment.baseline:
        points.append(checker.baseline(len(points)))
    if findings.problems:
        raise ProblemsError(findings.problems)
    runs = _merged(points) if all(point.run_id and point.eval_id for point in points) else ()
    return ResolvedSweep(
        name=loaded.experiment.experiment.name,
        source=loaded.path.resolve(),
        points=tuple(points),
        runs=runs,
        merged=tuple(_merge_sentence(run) for run in runs if len(run.planned.points) > 1),
        warnings=tuple(str(problem) for problem in findings.warnings),
    )


@dataclass
class _Checker:
    """The checks of one experiment's points; stores are opened once each."""

    loaded: LoadedExperiment
    findings: _Findings
    cache: DigestCache
    dry_run: bool
    fill: FillResources
    code: str | None
    _opened: dict[Path, Store | None] = field(default_factory=dict)
    _fitting: dict[Hashable, tuple[Store, ...]] = field(default_factory=dict)
    _read_boxes: set[tuple[Path, tuple[str, ...]]] = field(default_factory=set)

    def problem(self, key: str, message: str, *, warning: bool = False) -> None:
        self.findings.add(Problem(self.loaded.where(key), key, message), warning=warning)

    def point(self, point: Point) -> ResolvedPoint:
        experiment, asked = point.experiment, self.fill(point.experiment)
        for key, message in unavailable_in_evaluation(experiment.eval):
            self.problem(key, message)
        stores, weights = self._stores(experiment), self._weights(experiment)
        self._detections(experiment, stores)
        trained, evaluated = self._records(experiment, stores)
        run, evaluation = None, None
        if trained and evaluated and weights:
            run = run_id(
                experiment,
                train_digests={str(record.key): record.digest for record in trained},
                split_digest=records_digest(trained),
                weights_sha256=weights,
                slices_per_step=slices_per_step(experiment, asked),
                code_version=self.code,
            )
            evaluation = eval_id(experiment, records_digest(evaluated), self._files(experiment))
        return ResolvedPoint(point, False, asked, run, evaluation)

    def baseline(self, index: int) -> ResolvedPoint:
        """The initial weights of the first point, evaluated as it is."""
        first = self.loaded.points[0]
        point = Point(index, BASELINE, (), first.experiment)
        weights = self._weights(first.experiment)
        _, evaluated = self._records(first.experiment, self._stores(first.experiment))
        run = baseline_id(first.experiment, weights_sha256=weights, code_version=self.code) if weights else None
        digest, files = records_digest(evaluated), self._files(first.experiment)
        evaluation = eval_id(first.experiment, digest, files) if evaluated else None
        return ResolvedPoint(point, True, self.fill(first.experiment), run, evaluation)

    def _stores(self, experiment: Experiment) -> tuple[Store, ...]:
        """The experiment's stores; empty when any is missing or does not fit."""
        data = experiment.datamodule
        choices = (experiment.dataset, data.num_classes, data.metric, data.stats_metadata_file)
        if (known := self._fitting.get((*choices, experiment.eval.split))) is None:
            known = self._fitting[(*choices, experiment.eval.split)] = self._checked_stores(experiment)
        return known

    def _checked_stores(self, experiment: Experiment) -> tuple[Store, ...]:
        opened = [self._store(name, source.store) for name, source in experiment.dataset.items()]
        if not all(opened):
            return ()
        try:
            stores = open_stores(experiment)
        except DataError as error:
            # The message begins with the dotted key that it is about.
            key, _, message = str(error).partition(": ")
            self.problem(key if " " not in key else "dataset", message if " " not in key else str(error))
            return ()
        self._metrics(experiment, stores)
        return stores

    def _store(self, name: str, path: Path) -> Store | None:
        if path not in self._opened:
            try:
                self._opened[path] = Store.open(path)
            except DataError as error:
                missing = not index_path(path).is_file()
                self.problem(f"dataset.{name}.store", str(error), warning=missing and self.dry_run)
                self._opened[path] = None
        return self._opened[path]

    def _weights(self, experiment: Experiment) -> str | None:
        """sha256 of the initial weights, or None when there are none."""
        path = initial_weights(experiment)
        if path is None:
            name = experiment.module.sam2_model_cfg
            self.problem("module.sam2_checkpoint", f"missing; {name} needs its weights (`make weights`)")
            return None
        if not path.is_file():
            message = f"found {path}, which is no file; `make weights` fetches the official ones"
            self.problem("module.sam2_checkpoint", message, warning=self.dry_run)
            return None
        return self.cache.sha256(path)

    def _files(self, experiment: Experiment) -> dict[str, str]:
        """sha256 of each file that the evaluation's settings name."""
        digests = {}
        for key, path in named_files(experiment).items():
            if path.is_file():
                digests[key] = self.cache.sha256(path)
            else:
                self.problem(key, f"found {path}, which is no file", warning=self.dry_run)
        return digests

    def _detections(self, experiment: Experiment, stores: Sequence[Store]) -> None:
        """What is in the file of boxes, once per file."""
        path, names = experiment.eval.boxes_file, tuple(store.name for store in stores)
        if path is None or not path.is_file() or not stores or (path, names) in self._read_boxes:
            return
        self._read_boxes.add((path, names))
        try:
            read_detections(path, stores)
        except DataError as error:
            self.problem("eval.boxes_file", str(error))

    def _records(
        self, experiment: Experiment, stores: Sequence[Store]
    ) -> tuple[tuple[VolumeRecord, ...], tuple[VolumeRecord, ...]]:
        """Volumes that are trained and validated on, and those that are evaluated; empty when something lacks."""
        if not stores:
            return (), ()
        wanted = (
            (labelled_records, "train", max_train_subjects(experiment), "dataset"),
            (labelled_records, "val", None, "dataset"),
            (split_records, experiment.eval.split, None, "eval.split"),
        )
        found: list[tuple[VolumeRecord, ...]] = []
        for records_of, split, limit, key in wanted:
            try:
                found.append(records_of(stores, split, limit))
            except DataError as error:
                self.problem(key, str(error))
        return (found[0] + found[1], found[2]) if len(found) == len(wanted) else ((), ())

    def _metrics(self, experiment: Experiment, stores: Sequence[Store]) -> None:
        """Metrics by name, what they need of each evaluated volume, and whether those from outside work."""
        records = [record for store in stores for record in store.volumes if record.split == experiment.eval.split]
        file = experiment.datamodule.stats_metadata_file
        try:
            # A file that is not there is a finding of `_files`.
            metadata = metadata_source(experiment, file if file is None or file.is_file() else None)
        except DataError as error:
            self.problem("datamodule.stats_metadata_file", str(error))
            return
        chosen, labels = experiment.datamodule.metric, stores[0].labels
        for found in (metric_problems, metadata_problems):
            for key, message, warning in found(chosen, labels, records, metadata):
                self.problem(key, message, warning=warning)


def initial_weights(experiment: Experiment) -> Path | None:
    """The file that training starts from: `module.sam2_checkpoint`, the shipped one of the nano, or None."""
    if experiment.module.sam2_checkpoint is not None:
        return experiment.module.sam2_checkpoint
    if experiment.module.sam2_model_cfg == NANO:
        # Not model.weights.nano_weights_path: that module imports torch, and this one runs on login nodes.
        return Path(str(package_files.files("sam2ft.model.nano") / "sam2_nano.safetensors"))
    return None


def _merged(points: Sequence[ResolvedPoint]) -> tuple[ResolvedRun, ...]:
    """One run for all points with one run_id, in the order of the points."""
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
