"""Evaluation of volumes: one pass over the data, in which each volume is read once for all evaluated models."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, tee
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import write_text
from sam2ft.core.keys import VolumeKey
from sam2ft.core.tables.rows import Row
from sam2ft.data.store.store import VolumeRecord
from sam2ft.distributed.ranks import Ranks
from sam2ft.distributed.stop_signal import StopRequest
from sam2ft.evaluation.prediction.tester import StoreVolume, Tester, VolumeResult
from sam2ft.evaluation.protocols.protocol import VolumeSource, protocol_class
from sam2ft.evaluation.shared_volume import SharedVolume
from sam2ft.evaluation.volume_parts import EvaluationParts
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.model.precision import EMULATED, emulates
from sam2ft.model.segmenter import build_segmenter
from sam2ft.runs.layout import RUNS, EvalLayout, converted_weights
from sam2ft.runs.stores import metadata_source, open_stores, stores_by_name


@dataclass(frozen=True)
class EvaluationJob:
    """One evaluation: checkpoint, volumes, settings and output folder."""

    experiment: Experiment
    evaluation: EvalLayout
    run: str
    """Value of the column `run` in all rows."""
    eval_id: str
    checkpoint: Path
    """best.pt of a run, initial weights, or a foreign checkpoint."""
    records: Sequence[VolumeRecord]
    """The volumes that are evaluated, sorted by key."""
    tell: Callable[[Sequence[Row]], None] = lambda _rows: None
    """Called on the main rank with the rows of global.csv after everything is written."""
    guard: Callable[[bool], None] = lambda _is_main: None
    """Called before every write, with whether this is the main rank; raises when a newer attempt holds the run. By
    default no other process writes to the folder."""
    begins: Callable[[Ranks], None] = lambda _ranks: None
    """Called on every rank before its first volume."""


@dataclass(frozen=True)
class RankWork:
    """Remaining work of one rank for a job."""

    job: EvaluationJob
    parts: EvaluationParts
    missing: Sequence[VolumeRecord]
    tester: Tester | None
    """None when nothing is missing."""


def make_tester(job: EvaluationJob, ranks: Ranks) -> Tester:
    """Return the Tester: the model with the weights and the evaluation settings of the job.

    Raises:
        CheckpointError: the weights do not fit the model.
        DataError: a file of the protocol cannot be read.
    """
    experiment, module = job.experiment, job.experiment.module
    if ranks.is_main and emulates(experiment.eval.precision, ranks.device):
        print(EMULATED, file=sys.stderr, flush=True)
    model = build_segmenter(
        module.sam2_model_cfg,
        image_size=module.image_size,
        checkpoint=job.checkpoint,
        device=ranks.device,
        kept=converted_weights(RUNS),
    )
    return Tester(
        model,
        protocol_class(experiment.eval.protocol).of(experiment),
        load_metrics(experiment.datamodule.metric.func),
        ScoreSettings.of(experiment.eval, experiment.datamodule.metric),
        device=ranks.device,
    )


def evaluate_volumes(works: Sequence[RankWork], stop: StopRequest, ranks: Ranks) -> int:
    """Evaluate the missing volumes of all `works`, one by one; each finished volume is stored as a part.

    After a stop request on this or another rank, volumes that have started are finished.

    Returns:
        number of evaluated volumes, summed over `works`.
    """
    done, asked = 0, sum(len(work.missing) for work in works)
    for record, results in _results(works, stop):
        for work, result in results:
            work.job.guard(ranks.is_main)
            protocol = "" if work.tester is None else work.tester.protocol
            stamp = {"run": work.job.run, "eval": work.job.eval_id, "split": record.split, "protocol": protocol}
            work.parts.write(record, result, stamp)
            done += 1
        print(f"evaluated {record.key} ({done}/{asked})", file=sys.stderr)
    return done


def _results(
    works: Sequence[RankWork], stop: StopRequest
) -> Iterator[tuple[VolumeRecord, list[tuple[RankWork, VolumeResult]]]]:
    """Each volume with the results of the models that lack it; a model receives a volume as soon as it is read."""
    lacking: dict[VolumeKey, tuple[VolumeRecord, tuple[int, ...]]] = {}
    for number, work in enumerate(works):
        for record in work.missing:
            lacking[record.key] = (record, (*lacking.get(record.key, (record, ()))[1], number))
    jobs, begun = [work.job for work in works], False
    # After an interruption some models may have results of volumes that other models lack.
    for numbers, entries in groupby((lacking[key] for key in sorted(lacking)), key=lambda entry: entry[1]):
        records = [record for record, _ in entries]
        chosen = [(works[number], tester) for number in numbers if (tester := works[number].tester) is not None]
        volumes: Iterable[VolumeSource] = _until_stopped(jobs, records, stop, begun=begun)
        if len(chosen) > 1:
            volumes = map(SharedVolume, volumes)
        streams = tee(volumes, len(chosen))
        found = [tester.evaluate(stream) for (_, tester), stream in zip(chosen, streams, strict=True)]
        for record, *results in zip(records, *found, strict=False):
            yield record, [(work, result) for (work, _), result in zip(chosen, results, strict=True)]
        begun = True


def _until_stopped(
    jobs: Sequence[EvaluationJob], records: Sequence[VolumeRecord], stop: StopRequest, *, begun: bool
) -> Iterator[StoreVolume]:
    """The volumes of `records`; after the first one of the pass, only until a rank is asked to stop."""
    experiment, sign = jobs[0].experiment, jobs[0].evaluation.stop
    stores = stores_by_name(open_stores(experiment))
    metadata = metadata_source(experiment, experiment.datamodule.stats_metadata_file)
    for number, record in enumerate(records):
        if (number or begun) and stop.requested:
            # A file instead of a collective: ranks have different numbers of volumes and do not wait for each other.
            write_text(sign, "")
        if (number or begun) and sign.exists():
            return
        store = stores[record.key.dataset]
        store.verify([record])
        yield StoreVolume.of(store, record, metadata)
