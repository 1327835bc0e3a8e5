"""Checks of the data of every point before a job starts: stores, splits, files, metrics. No torch."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from sam2ft.config.schema.base import ReadOnlyDict
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import DataError
from sam2ft.core.files import DigestCache
from sam2ft.core.given.wrong_kind import Wanted, wrong_kind
from sam2ft.core.labels import LabelTable
from sam2ft.data.samples.detections import num_fractions, read_detections
from sam2ft.data.store.drawn_labels import partly_drawn
from sam2ft.data.store.index import index_path
from sam2ft.data.store.store import Store, VolumeRecord, records_digest
from sam2ft.jobs.preflight.metadata import metadata_problems
from sam2ft.jobs.preflight.metrics import metric_problems
from sam2ft.runs.stores import (
    labelled_records,
    max_train_subjects,
    metadata_source,
    named_files,
    open_stores,
    split_records,
)


class Report(Protocol):
    """Receives problems: the dotted key, a message, and whether it is only a warning (the job can start)."""

    def __call__(self, key: str, message: str, *, warning: bool = False) -> None: ...


@dataclass(frozen=True)
class CheckedData:
    """The part of the data that enters the ids of a point."""

    train_digests: Mapping[str, str]
    """str(VolumeKey) -> digest, for the volumes of training and validation."""
    train_split: str
    eval_split: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Dotted key -> sha256, for each file named in the settings."""


@dataclass
class DataChecker:
    """Checks the data of many points; data shared by points are opened, read and digested once."""

    problem: Report
    cache: DigestCache
    dry_run: bool
    _opened: dict[Path, Store | None] = field(default_factory=dict)
    _fitting: dict[Hashable, tuple[Store, ...]] = field(default_factory=dict)
    _known_volumes: dict[Hashable, CheckedData | None] = field(default_factory=dict)
    _read_boxes: set[tuple[Path, tuple[str, ...]]] = field(default_factory=set)

    def of(self, experiment: Experiment) -> CheckedData | None:
        """Check the data of a point and return what enters its ids; None after a problem, which is reported."""
        stores = self._stores(experiment)
        self._detections(experiment, stores)
        files = self._files(experiment)
        if not stores:
            return None
        # `id` is safe: `_fitting` keeps the stores alive.
        choice = (id(stores), experiment.eval.split, max_train_subjects(experiment))
        if choice not in self._known_volumes:
            self._known_volumes[choice] = self._volumes(experiment, stores)
        known = self._known_volumes[choice]
        return None if known is None else replace(known, files=files)

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
            # The message starts with the dotted key of the setting.
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
                missing = not index_path(path).is_file() and wrong_kind(path, Wanted.STORE) is None
                self.problem(f"dataset.{name}.store", str(error), warning=missing and self.dry_run)
                self._opened[path] = None
        return self._opened[path]

    def _files(self, experiment: Experiment) -> dict[str, str]:
        """sha256 of each file named in the evaluation settings."""
        digests = {}
        for key, path in named_files(experiment).items():
            if path.is_file():
                digests[key] = self.cache.sha256(path)
            else:
                self.problem(key, f"found {path}, which is not a file", warning=self.dry_run)
        return digests

    def _detections(self, experiment: Experiment, stores: Sequence[Store]) -> None:
        """Check the file of boxes, once per file."""
        path, names = experiment.eval.boxes_file, tuple(store.name for store in stores)
        if path is None or not path.is_file() or not stores or (path, names) in self._read_boxes:
            return
        self._read_boxes.add((path, names))
        try:
            read_detections(path, stores)
            if fractions := num_fractions(path):
                told = f"{path}: {fractions} of its boxes have fractions; each corner is the nearest pixel"
                self.problem("eval.boxes_file", told, warning=True)
        except DataError as error:
            self.problem("eval.boxes_file", str(error))

    def _volumes(self, experiment: Experiment, stores: tuple[Store, ...]) -> CheckedData | None:
        """Digests of the volumes of training, validation and evaluation; None when some are missing."""
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
        if len(found) < len(wanted):
            return None
        self._enough_subjects(stores, max_train_subjects(experiment))
        self._drawn_labels(stores[0].labels, {"train": found[0], "val": found[1], experiment.eval.split: found[2]})
        trained = found[0] + found[1]
        digests = ReadOnlyDict({str(record.key): record.digest for record in trained})
        return CheckedData(digests, records_digest(trained), records_digest(found[2]))

    def _enough_subjects(self, stores: Sequence[Store], limit: int | None) -> None:
        """Warn where fewer subjects exist than may be used: a learning curve would show a size that was not trained."""
        for store in stores:
            count = len({record.key.subject for record in store.volumes if record.split == "train"})
            if limit is not None and 0 < count < limit:
                self.problem(
                    "datamodule.max_subject_set",
                    f"found {limit}, but dataset {store.name} has {count} training subjects, and all are used; "
                    f"the same training as with {count} or full, but another run",
                    warning=True,
                )

    def _drawn_labels(self, labels: LabelTable, records_of: Mapping[str, Sequence[VolumeRecord]]) -> None:
        """Warn of labels that were drawn in no volume of a split: they are not trained, or have no number there."""
        for split, records in records_of.items():
            never = [one.name for one in partly_drawn(records, labels) if not one.volumes[0]]
            if never:
                self.problem(
                    "dataset", f"split {split}: {', '.join(never)} was drawn in none of its volumes", warning=True
                )

    def _metrics(self, experiment: Experiment, stores: Sequence[Store]) -> None:
        """Check metric names, their requirements in each evaluated volume, and plug-in metrics."""
        records = [record for store in stores for record in store.volumes if record.split == experiment.eval.split]
        file = experiment.datamodule.stats_metadata_file
        try:
            # A missing file is reported by `_files`.
            metadata = metadata_source(experiment, file if file is None or file.is_file() else None)
        except DataError as error:
            self.problem("datamodule.stats_metadata_file", str(error))
            return
        chosen, labels = experiment.datamodule.metric, stores[0].labels
        for found in (metric_problems, metadata_problems):
            for key, message, warning in found(chosen, labels, records, metadata):
                self.problem(key, message, warning=warning)
