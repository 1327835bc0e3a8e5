"""Run of an evaluation: subjects distributed over ranks, finished volumes kept, parts merged, `_SUCCESS` last."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import CheckpointError, DataError, StopRequestedError
from sam2ft.core.files import sha256_file, write_text
from sam2ft.core.tables.rows import Row
from sam2ft.data.store.store import VolumeRecord
from sam2ft.distributed.arithmetic import deterministic_algorithms
from sam2ft.distributed.ranks import Ranks, process_group
from sam2ft.distributed.stop_signal import NeverStop, StopRequest
from sam2ft.evaluation.evaluate_volumes import EvaluationJob, RankWork, evaluate_volumes, make_tester
from sam2ft.evaluation.outputs.dicom_seg import refuse_without_dicom, write_segmentations
from sam2ft.evaluation.outputs.pictures import draw_noise, draw_pictures
from sam2ft.evaluation.outputs.tables import with_cohort, write_cohort_tables
from sam2ft.evaluation.outputs.thickness_maps import write_thickness_maps
from sam2ft.evaluation.volume_parts import EvaluationParts, check_complete, merge
from sam2ft.metrics.factory import VERSIONS, metric_versions
from sam2ft.model.files.read import own_info
from sam2ft.runs.attempt.claim import Attempt, check_claim, check_job
from sam2ft.runs.evaluation_files import PREDICTIONS, damaged_files, read_success, read_table
from sam2ft.runs.hardware import EVALUATION, record_computed
from sam2ft.runs.identity_file import refuse_changed_volumes, refuse_other_settings
from sam2ft.runs.layout import EvalLayout, RunLayout
from sam2ft.runs.stores import open_stores, split_records, stores_by_name
from sam2ft.runs.trackers import show_results
from sam2ft.runs.trained_weights import how_to_heal, refuse_other_weights


@dataclass(frozen=True)
class EvalOutcome:
    """Output of an evaluation: its folder and the rows of global.csv and biomarker_volume.csv."""

    folder: Path
    global_rows: Sequence[Row]
    biomarker_rows: Sequence[Row] = ()
    """Empty without a biomarker."""


def evaluate(
    experiment: Experiment, layout: RunLayout, attempt: Attempt, *, checkpoint: Path, eval_id: str, stop: StopRequest
) -> EvalOutcome:
    """Evaluate a run into its own folder; called by the job.

    The errors of `evaluate_jobs` are raised, too.

    Raises:
        CheckpointError: best.pt is not what the training of the run wrote.
        DataError: the volumes are not those of `eval_id`.
    """
    if checkpoint == layout.best:
        refuse_other_weights(layout)

    def guard(is_main: bool) -> None:
        check = check_claim if is_main else check_job
        check(layout, attempt)

    if layout.config.is_file():
        refuse_other_settings(layout, experiment)
    records = evaluated_records(experiment)
    refuse_changed_volumes(layout, experiment, eval_id, records, open_stores(experiment))

    def begins(ranks: Ranks) -> None:
        precision = experiment.eval.precision
        record_computed(layout, attempt, ranks, stage=EVALUATION, precision=precision, eval_id=eval_id)

    tell, folder = partial(show_results, experiment, layout, eval_id), layout.evaluation(eval_id)
    job = EvaluationJob(experiment, folder, layout.run_id, eval_id, checkpoint, records, tell, guard, begins)
    return evaluate_job(job, stop)


def evaluate_job(job: EvaluationJob, stop: StopRequest | None = None) -> EvalOutcome:
    """Run `evaluate_jobs` for one job."""
    (outcome,) = evaluate_jobs([job], stop)
    return outcome


def evaluate_jobs(jobs: Sequence[EvaluationJob], stop: StopRequest | None = None) -> list[EvalOutcome]:
    """Evaluate all `jobs` in one pass over their common volumes; the results are those of separate evaluations.

    A job is skipped if its `_SUCCESS` shows that exactly these weights were already evaluated.

    Raises:
        StopRequestedError: stopped between two volumes; finished volumes are kept.
        DataError: the merged rows do not contain every expected slice and label exactly once.
    """
    with process_group(jobs[0].evaluation.folder) as ranks:
        # As the trainings did, also where this process has trained another run. Of several jobs one that wants it is
        # enough: it is a setting of the whole process.
        wanted = any(job.experiment.module.deterministic for job in jobs)
        deterministic_algorithms(wanted=wanted and ranks.device.type == "cuda")
        # Up to this barrier the main rank may still be writing the final weights of the preceding training.
        ranks.barrier()
        for job in jobs:
            if job.experiment.eval.dicom_seg:
                refuse_without_dicom(job.records, job.experiment.eval.dicom_sources)
        works = [work for job in jobs if (work := _work(job, ranks)) is not None]
        if works:
            for work in works if ranks.is_main else ():
                _begin(work.job)
            for work in works:
                work.job.begins(ranks)
            ranks.barrier()
            done = evaluate_volumes(works, stop or NeverStop(), ranks)
            # Every rank reaches this line, whether it was asked to stop or not; so either all ranks stop or none.
            done, asked = (int(number) for number in ranks.total([done, sum(len(work.missing) for work in works)]))
            if done < asked:
                raise StopRequestedError(f"stopped as asked after {done} of {asked} volumes; they are kept")
            for work in works if ranks.is_main else ():
                _finish(work.job, work.parts)
                work.job.tell(read_global(work.job.evaluation))
            ranks.barrier()
        for job in jobs:
            if job.experiment.eval.dicom_seg or job.experiment.datamodule.metric.thickness_maps:
                _write_beside_predictions(job, ranks)
    return [
        EvalOutcome(job.evaluation.folder, read_global(job.evaluation), read_table(job.evaluation, "biomarker_volume"))
        for job in jobs
    ]


def _work(job: EvaluationJob, ranks: Ranks) -> RankWork | None:
    """The work of this rank for a job; None for a finished job."""
    checkpoint_sha256 = sha256_file(job.checkpoint)
    if is_current(job, checkpoint_sha256):
        if ranks.is_main and job.evaluation.parts.exists():  # where their removal failed after `_SUCCESS` was written
            job.guard(True)
            shutil.rmtree(job.evaluation.parts, ignore_errors=True)
        return None
    _refuse_best_of_another(job)
    with_noise = job.experiment.eval.prompt_noise is not None
    parts = EvaluationParts(job.evaluation, job.eval_id, checkpoint_sha256, with_noise, _versions(job.experiment))
    missing = [one for one in _of_rank(job.records, ranks) if not parts.is_done(one)]
    # The model is built before anything is written, so unfitting weights do not change an earlier evaluation.
    return RankWork(job, parts, missing, make_tester(job, ranks) if missing else None)


def _refuse_best_of_another(job: EvaluationJob) -> None:
    """A best.pt names its run; before the end of the training, status.json does not tell its digest."""
    layout = RunLayout(job.checkpoint.resolve().parent.parent)
    if layout.best != job.checkpoint.resolve() or layout.run_id != job.run:
        return
    if (found := own_info(layout.best).get("run", job.run)) != job.run:
        raise CheckpointError(
            f"{layout.best}: belongs to the run {found}, not to {job.run}; {how_to_heal(layout)}; or copy it "
            "out of the folder of the run and evaluate the copy with --data"
        )


def _begin(job: EvaluationJob) -> None:
    job.guard(True)
    job.evaluation.success.unlink(missing_ok=True)
    job.evaluation.stop.unlink(missing_ok=True)
    write_text(job.evaluation.config, sealed_yaml(dump_experiment(job.experiment)))


def _write_beside_predictions(job: EvaluationJob, ranks: Ranks) -> None:
    job.guard(ranks.is_main)
    experiment, records = job.experiment, _of_rank(job.records, ranks)
    stores = stores_by_name(open_stores(experiment))
    if experiment.eval.dicom_seg:
        about, chosen = f"eval {job.eval_id} of {job.run}", experiment.eval
        write_segmentations(
            job.evaluation, records, stores,
            about=about, dataset_files=chosen.dicom_sources, kind=chosen.dicom_seg_kind,
        )  # fmt: skip
    if experiment.datamodule.metric.thickness_maps:
        write_thickness_maps(job.evaluation, records, stores, experiment.datamodule.metric)
    ranks.barrier()


def is_current(job: EvaluationJob, checkpoint_sha256: str) -> bool:
    """Whether `_SUCCESS` belongs to this evaluation with these weights, and the tables match its digests.

    A folder given with --out may contain another evaluation, or the scoring of masks made elsewhere; and a metric may
    have a new definition since.
    """
    evaluation = job.evaluation
    if not evaluation.success.is_file():
        return False
    try:
        success = read_success(evaluation)
    except DataError as error:
        print(f"note: {error.args[0].partition('; ')[0]}; it is evaluated again", file=sys.stderr)
        return False
    if (success["eval"], success.get("checkpoint_sha256")) != (job.eval_id, checkpoint_sha256):
        return False
    if success.get(VERSIONS, {}) != _versions(job.experiment):
        return False
    if damaged := damaged_files(evaluation, success):
        print(f"note: {damaged[0]}: damaged or lost since it was evaluated; it is evaluated again", file=sys.stderr)
    return not damaged


def read_global(evaluation: EvalLayout) -> list[dict[str, str | int | float | None]]:
    """Return the rows of global.csv of an evaluation."""
    return read_table(evaluation, "global")


def evaluated_records(experiment: Experiment, max_subjects: int | None = None) -> tuple[VolumeRecord, ...]:
    """Return the volumes of the evaluated split, sorted by key; of at most `max_subjects` subjects per store."""
    records = split_records(open_stores(experiment), experiment.eval.split, max_subjects)
    return tuple(sorted(records, key=lambda record: record.key))


def _of_rank(records: Sequence[VolumeRecord], ranks: Ranks) -> list[VolumeRecord]:
    """The volumes of this rank: whole subjects, distributed over the ranks in turn."""
    subjects = sorted({(record.key.dataset, record.key.subject) for record in records})
    mine = set(subjects[ranks.rank :: ranks.world_size])
    return [record for record in records if (record.key.dataset, record.key.subject) in mine]


def _finish(job: EvaluationJob, parts: EvaluationParts) -> None:
    """Merge the parts, check them, write tables and pictures, then `_SUCCESS`."""
    experiment = job.experiment
    stores = stores_by_name(open_stores(experiment))
    tables = merge(parts, job.records)
    check_complete(tables, job.records, stores, include_empty=experiment.eval.include_empty_slices)
    job.guard(True)
    digests = write_cohort_tables(job.evaluation, with_cohort(tables), experiment.eval.plain_cells)
    if parts.with_noise:
        draw_noise(job.evaluation)
    if experiment.module.visualize and experiment.eval.qc_slices:
        draw_pictures(job.evaluation, tables["slice"], stores, experiment.eval.qc_slices)
    job.guard(True)
    write_sealed_json(
        job.evaluation.success,
        {
            "run": job.run,
            "eval": job.eval_id,
            "checkpoint": str(job.checkpoint),
            "checkpoint_sha256": parts.checkpoint_sha256,
            "num_volumes": len(job.records),
            "tables": digests,
            PREDICTIONS: parts.predictions(job.records),
            VERSIONS: _versions(experiment),
        },
    )
    parts.remove()


def _versions(experiment: Experiment) -> dict[str, int]:
    return metric_versions(name for name, wanted in experiment.datamodule.metric.func.items() if wanted)
