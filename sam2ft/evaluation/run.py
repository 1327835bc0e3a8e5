"""One evaluation: whole subjects over ranks, finished volumes kept, parts merged by their keys, `_SUCCESS` last."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.files import read_json, sha256_file, write_json, write_text
from sam2ft.core.tables.rows import TABLES, Row, read_csv
from sam2ft.data.store.store import VolumeRecord
from sam2ft.distributed.ranks import Ranks, distributed
from sam2ft.distributed.stop_signal import NeverStop, StopRequest
from sam2ft.evaluation.outputs.pictures import draw_noise, draw_pictures
from sam2ft.evaluation.outputs.segmentations import refuse_impossible, write_segmentations
from sam2ft.evaluation.outputs.tables import write_tables
from sam2ft.evaluation.outputs.thickness_maps import write_thickness_maps
from sam2ft.evaluation.parts import EvaluationParts, expect_complete, merge
from sam2ft.evaluation.volumes import EvaluationJob, RankWork, evaluate_together, make_tester
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job
from sam2ft.runs.identity import refuse_changed_volumes
from sam2ft.runs.layout import EvalLayout, RunLayout
from sam2ft.runs.stores import open_stores, split_records, store_of
from sam2ft.runs.trackers import show_results


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

    job = EvaluationJob(
        experiment, layout.evaluation(eval_id), layout.run_id, eval_id, checkpoint, records, tell, guard
    )
    return evaluate_job(job, stop)


def evaluate_job(job: EvaluationJob, stop: StopRequest | None = None) -> EvalOutcome:
    """`evaluate_jobs` for one."""
    (outcome,) = evaluate_jobs([job], stop)
    return outcome


def evaluate_jobs(jobs: Sequence[EvaluationJob], stop: StopRequest | None = None) -> list[EvalOutcome]:
    """Evaluate each of `jobs`, all of the same volumes, in one pass over them; each as if it were alone.

    Nothing is done for a job whose `_SUCCESS` says that exactly these weights were evaluated already. Errors:
    StopRequestedError between two volumes, finished ones are kept; DataError when the merged rows are not every
    expected slice and label exactly once.
    """
    with distributed() as ranks:
        # Until here the main rank may still be writing the weights that the training before this ended with.
        ranks.barrier()
        for job in jobs:
            if job.experiment.eval.dicom_seg:
                refuse_impossible(job.records)
        works = [work for job in jobs if (work := _work(job, ranks)) is not None]
        if works:
            for work in works if ranks.is_main else ():
                _begin(work.job)
            ranks.barrier()
            done = evaluate_together(works, stop or NeverStop(), ranks)
            # Every rank comes here, whether it was told to stop or not: so all of them stop, or none.
            done, asked = (int(number) for number in ranks.total([done, sum(len(work.missing) for work in works)]))
            if done < asked:
                raise StopRequestedError(f"stopped as asked after {done} of {asked} volumes; they are kept")
            for work in works if ranks.is_main else ():
                _finish(work.job, work.parts)
                work.job.tell(read_global(work.job.evaluation))
            ranks.barrier()
        for job in jobs:
            if job.experiment.eval.dicom_seg:
                _segment(job, ranks)
            if job.experiment.datamodule.metric.thickness_maps:
                _map_thickness(job, ranks)
    return [EvalOutcome(job.evaluation.folder, read_global(job.evaluation)) for job in jobs]


def _work(job: EvaluationJob, ranks: Ranks) -> RankWork | None:
    """What this rank has to do for a job; None for a job that is done."""
    checkpoint_sha256 = sha256_file(job.checkpoint)
    if is_current(job, checkpoint_sha256):
        return None
    with_noise = job.experiment.eval.prompt_noise is not None
    parts = EvaluationParts(job.evaluation, job.eval_id, checkpoint_sha256, with_noise)
    missing = [one for one in _of_rank(job.records, ranks) if not parts.is_done(one)]
    # Before anything is written: weights that do not fit leave an earlier evaluation as it was.
    return RankWork(job, parts, missing, make_tester(job, ranks) if missing else None)


def _begin(job: EvaluationJob) -> None:
    job.guard(True)
    job.evaluation.success.unlink(missing_ok=True)
    job.evaluation.stop.unlink(missing_ok=True)
    write_text(job.evaluation.config, dump_experiment(job.experiment))


def _map_thickness(job: EvaluationJob, ranks: Ranks) -> None:
    job.guard(ranks.is_main)
    stores, metric = store_of(open_stores(job.experiment)), job.experiment.datamodule.metric
    write_thickness_maps(job.evaluation, _of_rank(job.records, ranks), stores, metric)
    ranks.barrier()


def _segment(job: EvaluationJob, ranks: Ranks) -> None:
    job.guard(ranks.is_main)
    stores, about = store_of(open_stores(job.experiment)), f"eval {job.eval_id} of {job.run}"
    write_segmentations(job.evaluation, _of_rank(job.records, ranks), stores, about=about)
    ranks.barrier()


def is_current(job: EvaluationJob, checkpoint_sha256: str) -> bool:
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


def _of_rank(records: Sequence[VolumeRecord], ranks: Ranks) -> list[VolumeRecord]:
    """Whole subjects, dealt out in turn."""
    subjects = sorted({(record.key.dataset, record.key.subject) for record in records})
    mine = set(subjects[ranks.rank :: ranks.world_size])
    return [record for record in records if (record.key.dataset, record.key.subject) in mine]


def _finish(job: EvaluationJob, parts: EvaluationParts) -> None:
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
