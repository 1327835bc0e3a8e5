"""Workload of the runs of a sweep: steps, slices and parameters, from their settings and the indices of the stores."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.jobs.preflight.preflight import ResolvedRun
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores, split_records
from sam2ft.sweeps.plan.cost import BYTES_PER_PARAMETER, Workload, optimizer_copies, steps_per_epoch

_HEADER_LENGTH_BYTES = 8
_LARGEST_LABEL_OF_ONE_BYTE = 255


class Workloads:
    """Workload of each run; stores and weights are read once."""

    def __init__(self) -> None:
        self._stores: dict[object, tuple[Store, ...]] = {}
        self._train_slices: dict[object, int] = {}
        self._evaluated: dict[object, tuple[int, int]] = {}
        self._parameters: dict[Path, int | None] = {}

    def of(self, run: ResolvedRun) -> Workload:
        """Return the workload of one run."""
        experiment = run.experiment
        module, datamodule = experiment.module, experiment.datamodule
        evaluated = [self._of_evaluation(evaluation) for evaluation in run.evaluations.values()]
        return Workload(
            steps_per_epoch=steps_per_epoch(
                self._train(experiment),
                batch_size=datamodule.batch_size,
                world_size=run.planned.resources.world_size,
                grad_accum=module.grad_accum,
            ),
            num_epochs=0 if run.planned.baseline else module.num_epochs,
            eval_slices=sum(slices for slices, _ in evaluated),
            eval_bytes=sum(size for _, size in evaluated),
            num_parameters=self._num_parameters(experiment),
            resume_copies=1
            + optimizer_copies(module.optimizer.type, module.optimizer.arguments)
            + (module.ema is not None),
            keep=module.checkpoint.keep,
        )

    def slices_of(self, experiment: Experiment) -> int:
        """Return the number of slices of one evaluation."""
        return self._of_evaluation(experiment)[0]

    def _open(self, experiment: Experiment) -> tuple[Store, ...]:
        if (known := self._stores.get(experiment.dataset)) is None:
            known = self._stores[experiment.dataset] = open_stores(experiment)
        return known

    def _train(self, experiment: Experiment) -> int:
        """Slices of one epoch."""
        limit, balanced = max_train_subjects(experiment), experiment.datamodule.balanced
        key = (experiment.dataset, limit, balanced)
        if key not in self._train_slices:
            counts = slices_by_dataset(labelled_records(self._open(experiment), "train", limit))
            self._train_slices[key] = epoch_slices(list(counts.values()), balanced=balanced)
        return self._train_slices[key]

    def _of_evaluation(self, experiment: Experiment) -> tuple[int, int]:
        """Slices of the evaluated split, and bytes of their label maps."""
        key = (experiment.dataset, experiment.eval.split)
        if key not in self._evaluated:
            stores = self._open(experiment)
            records = split_records(stores, experiment.eval.split)
            item = 1 if max(stores[0].labels.ids) <= _LARGEST_LABEL_OF_ONE_BYTE else 2
            self._evaluated[key] = (
                sum(record.geometry.shape_zyx[0] for record in records),
                sum(math.prod(record.geometry.shape_zyx) for record in records) * item,
            )
        return self._evaluated[key]

    def _num_parameters(self, experiment: Experiment) -> int | None:
        path = initial_weights(experiment)
        if path is None:
            return None
        if path not in self._parameters:
            self._parameters[path] = num_parameters(path)
        return self._parameters[path]


def slices_by_dataset(records: Sequence[VolumeRecord]) -> Mapping[str, int]:
    """Return dataset -> number of slices with a label."""
    counts: dict[str, int] = {}
    for record in records:
        counts[record.key.dataset] = counts.get(record.key.dataset, 0) + len(record.labelled_slices)
    return counts


def epoch_slices(counts: Sequence[int], *, balanced: bool) -> int:
    """Return the slices of one epoch from the `counts` of the datasets.

    Balanced: every dataset has the count of the largest one (data/samples/loader.epoch_order).
    """
    return max(counts) * len(counts) if balanced else sum(counts)


def num_parameters(weights: Path) -> int | None:
    """Return the number of parameters in a file of weights; None when there is no such file.

    Exact for safetensors; for a `.pt` from the file size (the official ones are float32).
    """
    if not weights.is_file():
        return None
    if weights.suffix != ".safetensors":
        return weights.stat().st_size // BYTES_PER_PARAMETER
    with weights.open("rb") as stream:
        length = int.from_bytes(stream.read(_HEADER_LENGTH_BYTES), "little")
        header = json.loads(stream.read(length))
    return sum(int(math.prod(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
