"""Workload of the runs of a sweep: steps, slices and parameters, from their settings and the indices of the stores."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from sam2ft.config.schema.experiment import Experiment
from sam2ft.data.prepare.relabel import mask_dtype
from sam2ft.data.store.store import Store, VolumeRecord
from sam2ft.jobs.preflight.preflight import ResolvedRun
from sam2ft.model.memory_needs import optimizer_copies
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.stores import labelled_records, max_train_subjects, open_stores, split_records
from sam2ft.sweeps.plan.cost import BYTES_PER_PARAMETER, Workload, steps_per_epoch

_HEADER_LENGTH_BYTES = 8
T = TypeVar("T")


class Workloads:
    """Workload of each run; stores and weights are read once."""

    def __init__(self) -> None:
        self._known: dict[object, Any] = {}

    def _once(self, key: object, make: Callable[[], T]) -> T:
        """The value of `key`, made at its first use."""
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def of(self, run: ResolvedRun) -> Workload:
        """Return the workload of one run."""
        experiment = run.experiment
        module, datamodule = experiment.module, experiment.datamodule
        evaluated = [self._of_evaluation(evaluation) for evaluation in run.evaluations.values()]
        weights = initial_weights(experiment)
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
            num_parameters=None if weights is None else self._once(weights, lambda: num_parameters(weights)),
            resume_copies=1
            + optimizer_copies(module.optimizer.type, module.optimizer.arguments)
            + (module.ema is not None),
            keep=module.checkpoint.keep,
        )

    def slices_of(self, experiment: Experiment) -> int:
        """Return the number of slices of one evaluation."""
        return self._of_evaluation(experiment)[0]

    def _open(self, experiment: Experiment) -> tuple[Store, ...]:
        return self._once(("stores", experiment.dataset), lambda: open_stores(experiment))

    def _train(self, experiment: Experiment) -> int:
        """Slices of one epoch."""
        limit, balanced = max_train_subjects(experiment), experiment.datamodule.balanced

        def count() -> int:
            records = labelled_records(self._open(experiment), "train", limit)
            return epoch_slices(list(slices_by_dataset(records).values()), balanced=balanced)

        return self._once(("train", experiment.dataset, limit, balanced), count)

    def _of_evaluation(self, experiment: Experiment) -> tuple[int, int]:
        """Slices of the evaluated split, and bytes of their label maps."""

        def count() -> tuple[int, int]:
            stores = self._open(experiment)
            shapes = [record.geometry.shape_zyx for record in split_records(stores, experiment.eval.split)]
            voxel_bytes = np.dtype(mask_dtype(stores[0].labels)).itemsize
            return sum(shape[0] for shape in shapes), sum(math.prod(shape) for shape in shapes) * voxel_bytes

        return self._once(("eval", experiment.dataset, experiment.eval.split), count)


def slices_by_dataset(records: Sequence[VolumeRecord]) -> Mapping[str, int]:
    """Return dataset -> number of slices with a label."""
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.key.dataset] += len(record.labelled_slices)
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
