"""One evaluation: whole subjects over ranks, finished volumes kept, parts merged by their keys, `_SUCCESS` last."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.experiment import dump_experiment
from sam2ft.config.schema import Experiment
from sam2ft.config.schema_data import Metric
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.files import read_json, sha256_file, write_json, write_text
from sam2ft.core.layout import EvalLayout, RunLayout
from sam2ft.core.rows import TABLES, Row, read_csv
from sam2ft.data.detections import read_detections
from sam2ft.data.store import Store, VolumeRecord
from sam2ft.engine.distributed import Ranks, distributed
from sam2ft.engine.tester import StoreVolume, Tester
from sam2ft.engine.train_state import NeverStop, StopRequest
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.model.segmenter import build_segmenter
from sam2ft.run.claim import Attempt, check_claim, check_job
from sam2ft.run.eval_parts import Parts, expect_complete, merge, write_tables
from sam2ft.run.eval_pictures import draw_noise, draw_pictures
from sam2ft.run.eval_segmentations import refuse_impossible, write_segmentations
from sam2ft.run.identity import refuse_changed_volumes
from sam2ft.run.inputs import open_stores, split_records, store_of
from sam2ft.run.watching import show_results


def _free(is_main: bool) -> None:
    """Nobody else writes here."""


def _untold(rows: Sequence[Row]) -> None:
    """The tables are enough."""


@dataclass(frozen=True)
class Job:
    """What is evaluated, and where it goes."""

    experiment: Experiment
    evaluation: EvalLayout
    run: str
    """The rows' column `run`."""
    eval_id: str
    checkpoint: Path
    """best.pt of a run, or initial weights, or foreign ones."""
    records: Sequence[VolumeRecord]
    """The volumes that are evaluated, sorted by key."""
    tell: Callable[[Sequence[Row]], None] = _untold
    """Called on the main rank with the rows of global.csv once all is written."""
    guard: Callable[[bool], None] = _free
    """Called before every write (whether by the main rank): raises when a newer attempt holds the run."""


@dataclass(frozen=True)
class EvalOutcome:
    """What an evaluation wrote."""

    folder: Path
    global_rows: Sequence[Row]


def evaluate(
    experiment: Experiment, layout: RunLayout, attempt: Attempt, *, checkpoint: Path, eval_id: str, stop: StopRequest
) -> EvalOutcome:
    """Evaluate a run of ours into its own folder; the job calls this."""

    def guard(is_main: bool) -> None:
        check = check_claim if is_main else check_job
        check(layout, attempt)

    records = evaluated_records(experiment)
    refuse_changed_volumes(layout, experiment, eval_id, records, open_stores(experiment))

    def tell(rows: Sequence[Row]) -> None:
        show_results(experiment, layout, eval_id, rows)

    job = Job(experiment, layout.evaluation(eval_id), layout.run_id, eval_id, checkpoint, records, tell, guard)
    return evaluate_job(job, stop)


def evaluate_job(job: Job, stop: StopRequest | None = None) -> EvalOutcome:
    """Evaluate, or do nothing when `_SUCCESS` says that exactly these weights were evaluated already.

    Errors: StopRequestedError between two volumes, finished ones are kept; DataError when the merged rows are not
    every expected slice and label exactly once.
    """
    with distributed() as ranks:
        # Until here the main rank may still be writing the weights that the training before this ended with.
        ranks.barrier()
        as_dicom = job.experiment.eval.dicom_seg
        if as_dicom:
            refuse_impossible(job.records)
        checkpoint_sha256 = sha256_file(job.checkpoint)
        if not is_current(job, checkpoint_sha256):
            with_noise = job.experiment.eval.prompt_noise is not None
            parts = Parts(job.evaluation, job.eval_id, checkpoint_sha256, with_noise)
            missing = [one for one in _of_rank(job.records, ranks) if not parts.is_done(one)]
            # Before anything is written: weights that do not fit leave an earlier evaluation as it was.
            tester = make_tester(job, ranks) if missing else None
            if ranks.is_main:
                job.guard(True)
                job.evaluation.success.unlink(missing_ok=True)
                job.evaluation.stop.unlink(missing_ok=True)
                write_text(job.evaluation.config, dump_experiment(job.experiment))
            ranks.barrier()
            done = 0 if tester is None else _evaluate(job, parts, missing, tester, stop or NeverStop(), ranks)
            # Every rank comes here, whether it was told to stop or not: so all of them stop, or none.
            done, asked = (int(number) for number in ranks.total([done, len(missing)]))
            if done < asked:
                raise StopRequestedError(f"stopped as asked after {done} of {asked} volumes; they are kept")
            if ranks.is_main:
                _finish(job, parts)
                job.tell(read_global(job.evaluation))
            ranks.barrier()
        if as_dicom:
            job.guard(ranks.is_main)
            stores, about = store_of(open_stores(job.experiment)), f"eval {job.eval_id} of {job.run}"
            write_segmentations(job.evaluation, _of_rank(job.records, ranks), stores, about=about)
            ranks.barrier()
    return EvalOutcome(job.evaluation.folder, read_global(job.evaluation))


def is_current(job: Job, checkpoint_sha256: str) -> bool:
    """Whether `_SUCCESS` says that this was evaluated with these weights, and the tables are those that it names.

    A folder given with --out may hold another evaluation, or the scoring of masks made elsewhere.
    """
    evaluation = job.evaluation
    if not evaluation.success.is_file():
        return False
    success = read_json(evaluation.success)
    if (success["eval"], success.get("checkpoint_sha256")) != (job.eval_id, checkpoint_sha256):
        return False
    tables = {name: evaluation.table(name) for name in success["tables"]}
    return all(path.is_file() and sha256_file(path) == success["tables"][name] for name, path in tables.items())


def read_global(evaluation: EvalLayout) -> list[dict[str, str | int | float | None]]:
    """Rows of an evaluation's global.csv."""
    return read_csv(evaluation.table("global"), TABLES["global"])


def evaluated_records(experiment: Experiment, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """Volumes of the evaluated split, sorted by key; of at most `max_subjects` subjects of each store."""
    records = split_records(open_stores(experiment), experiment.eval.split, max_subjects)
    return tuple(sorted(records, key=lambda record: record.key))


def make_tester(job: Job, ranks: Ranks) -> Tester:
    """The model with the job's weights, and what it is asked. Errors: CheckpointError when they do not fit; DataError
    for a file of boxes that cannot be read."""
    experiment, module = job.experiment, job.experiment.module
    boxes_file = experiment.eval.boxes_file
    model = build_segmenter(
        module.sam2_model_cfg, image_size=module.image_size, checkpoint=job.checkpoint, device=ranks.device
    )
    return Tester(
        model,
        experiment.eval,
        load_metrics(experiment.datamodule.metric.func),
        score_settings(experiment),
        device=ranks.device,
        detections=None if boxes_file is None else read_detections(boxes_file, open_stores(experiment)),
    )


def _evaluate(
    job: Job, parts: Parts, missing: Sequence[VolumeRecord], tester: Tester, stop: StopRequest, ranks: Ranks
) -> int:
    """Evaluate the volumes `missing` one by one; each is kept as a part when it is finished. Returns how many were.

    After a stop request, of this rank or of another, those that were begun are finished.
    """
    done = 0
    volumes = _until_stopped(job, missing, stop)
    for record, result in zip(missing, tester.evaluate(volumes), strict=False):
        job.guard(ranks.is_main)
        stamp = {"run": job.run, "eval": job.eval_id, "split": record.split, "protocol": tester.protocol}
        parts.write(record, result, stamp)
        done += 1
        print(f"evaluated {record.key} ({done}/{len(missing)})", file=sys.stderr)
    return done


def _until_stopped(job: Job, records: Sequence[VolumeRecord], stop: StopRequest) -> Iterator[StoreVolume]:
    """The volumes of `records`; after the first one only as long as no rank was told to stop."""
    stores = store_of(open_stores(job.experiment))
    metric = job.experiment.datamodule.metric
    for number, record in enumerate(records):
        if number and stop.requested:
            # A file, not a collective: ranks have different numbers of volumes, and none waits for another.
            write_text(job.evaluation.stop, "")
        if number and job.evaluation.stop.exists():
            return
        yield _verified_volume(stores[record.key.dataset], record, metric)


def _verified_volume(store: Store, record: VolumeRecord, metric: Metric) -> StoreVolume:
    store.verify([record])
    return StoreVolume.of(store, record, metric.dicom_fields, representative_slice=metric.representative_slice)


def _of_rank(records: Sequence[VolumeRecord], ranks: Ranks) -> list[VolumeRecord]:
    """Whole subjects, dealt out in turn."""
    subjects = sorted({(record.key.dataset, record.key.subject) for record in records})
    mine = set(subjects[ranks.rank :: ranks.world_size])
    return [record for record in records if (record.key.dataset, record.key.subject) in mine]


def score_settings(experiment: Experiment) -> ScoreSettings:
    """What the experiment decides about its numbers."""
    return ScoreSettings(
        missed_distance=experiment.eval.missed_distance,
        nsd_tolerance_mm=experiment.eval.nsd_tolerance_mm,
        tissues=experiment.datamodule.metric.tissues,
    )


def _finish(job: Job, parts: Parts) -> None:
    """Merge the parts, check them, write tables and pictures, and say that all went well."""
    experiment = job.experiment
    stores = store_of(open_stores(experiment))
    tables = merge(parts, job.records)
    expect_complete(tables, job.records, stores, include_empty=experiment.eval.include_empty_slices)
    job.guard(True)
    digests = write_tables(job.evaluation, tables)
    if parts.with_noise:
        draw_noise(job.evaluation)
    if experiment.module.visualize and experiment.eval.qc_slices:
        draw_pictures(job.evaluation, tables["slice"], stores, experiment.eval.qc_slices)
    job.guard(True)
    write_json(
        job.evaluation.success,
        {
            "run": job.run,
            "eval": job.eval_id,
            "checkpoint": str(job.checkpoint),
            "checkpoint_sha256": parts.checkpoint_sha256,
            "num_volumes": len(job.records),
            "tables": digests,
        },
    )
    parts.remove()
