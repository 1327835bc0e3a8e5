"""Calibration job: time a few optimizer steps and one evaluated volume of a point, to estimate run times.

The code path is that of real runs. Slurm jobs and processes on this machine call `python -m sam2ft.jobs.calibrate
FOLDER KEY...`. No torch at import; no file of a run is read or written.
"""

import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import Any

from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.trust import refuse_untrusted
from sam2ft.core.command import run_command
from sam2ft.core.digests.verified_files import read_sealed_json, write_sealed_json
from sam2ft.core.errors import DataError, StopRequestedError
from sam2ft.core.events import EpochDone, SlicePrediction, StepDone
from sam2ft.distributed import stop_signal
from sam2ft.distributed.launcher_environment import planned_gpus
from sam2ft.runs.attempt.rank import is_main_rank
from sam2ft.runs.config_file import planned_experiment
from sam2ft.runs.initial_weights import initial_weights
from sam2ft.runs.layout import CalibrationLayout, EvalLayout, ExperimentLayout

NUM_STEPS = 30
"""Maximum number of measured optimizer steps."""
WARM_UP_STEPS = 3
"""The first steps are slow (memory allocation, choice of kernels, start of workers) and are not counted."""
LONG_ENOUGH_S = 120.0
"""Seconds after which FEW_STEPS steps are enough (on a CPU a step may take a minute)."""
FEW_STEPS = 3
_VALIDATION_BATCHES = 10


def calibrate(experiment_dir: str, keys: Sequence[str]) -> None:
    """Run the measurements described by `calibration/<key>.task.json` in the folder of an experiment.

    Any error of a real run can be raised, too.

    Raises:
        StopRequestedError: the job was asked to stop.
        UserError: somebody else could have written a description or its experiment.
    """
    stop = stop_signal.install_stop_handlers()
    layout = ExperimentLayout(Path(experiment_dir))
    for key in keys:
        layout_of_key = layout.calibration(key)
        refuse_untrusted(layout_of_key.task, "calibration")
        task = read_sealed_json(layout_of_key.task)
        experiment = planned_experiment(layout_of_key.experiment)
        try:
            with planned_gpus(task.get("gpus_per_node")):
                if task["stage"] == "train":
                    found = _training(experiment, int(task["world_size"]), layout_of_key, stop)
                else:
                    found = _evaluation(experiment, layout_of_key)
        finally:
            if is_main_rank():
                shutil.rmtree(layout_of_key.scratch, ignore_errors=True)
        if stop.requested:
            raise StopRequestedError("stopped as asked; an unfinished calibration is discarded")
        if is_main_rank():
            about = {"host": socket.gethostname(), "time": datetime.now(UTC).isoformat(timespec="seconds")}
            write_sealed_json(layout_of_key.result, task | {"measured": found} | about)
            text = ", ".join(f"{name} {value:.4g}" for name, value in found.items() if value is not None)
            print(f"calibration {key} ({task['stage']}): {text}", file=sys.stderr, flush=True)


class _Clock:
    """Training observer that records the seconds per step and requests a stop after enough steps."""

    def __init__(self, stop: stop_signal.StopFlag, clock: Callable[[], float] = time.monotonic):
        self.seconds: list[float] = []
        self._stop, self._clock, self._started = stop, clock, clock()

    @property
    def requested(self) -> bool:
        """Whether the trainer should stop (implements StopRequest)."""
        long_enough = self._clock() - self._started > LONG_ENOUGH_S and len(self.seconds) >= FEW_STEPS
        return self._stop.requested or long_enough or len(self.seconds) >= NUM_STEPS

    def on_step(self, event: StepDone, _state: Any) -> None:
        self.seconds.append(event.seconds)

    def on_epoch(self, event: EpochDone, _state: Any) -> None: ...

    def on_samples(self, epoch: int, samples: Sequence[SlicePrediction]) -> None: ...

    def step_s(self) -> float:
        """Median seconds per step, without the warm-up steps when there are enough others."""
        return median(self.seconds[WARM_UP_STEPS:] or self.seconds)


def _training(
    experiment: Experiment, planned_world_size: int, layout_of_key: CalibrationLayout, stop: stop_signal.StopFlag
) -> dict[str, Any]:
    """Seconds per step, per validation and per checkpoint, and the sizes of the checkpoints."""
    from sam2ft.distributed.device import now
    from sam2ft.distributed.ranks import process_group
    from sam2ft.training.build_trainer import build_trainer
    from sam2ft.training.checkpoints.checkpoint import save_best, save_resume
    from sam2ft.training.data import training_data
    from sam2ft.training.optimizer import chooses_fused
    from sam2ft.training.run import batches_per_rank
    from sam2ft.training.state import TrainerContext

    with process_group(layout_of_key.scratch) as ranks:
        grad_accum = batches_per_rank(experiment, planned_world_size, ranks.world_size)
        data = training_data(experiment, ranks)
        fused = chooses_fused(experiment.module.optimizer, ranks.device.type)
        trainer = build_trainer(experiment, data, ranks, grad_accum, fused=fused)
        clock, found = _Clock(stop), dict[str, Any]()

        def save(state: Any) -> None:
            resume, best = layout_of_key.scratch / "resume.safetensors", layout_of_key.scratch / "best.pt"
            started = now(ranks.device)
            save_resume(resume, trainer.snapshot(state), keep=1)
            found.update(save_s=now(ranks.device) - started, resume_bytes=resume.stat().st_size)
            save_best(best, trainer.weights(), {})
            found.update(best_bytes=best.stat().st_size)

        trainer.context = TrainerContext(ranks, clock, clock, save)
        try:
            state = trainer.fit(data.train, data.val)
        except StopRequestedError:
            if stop.requested:
                raise
        else:
            if ranks.is_main:
                save(state)
        return {"epoch_rest_s": _validation_s(trainer, data)} | (
            {"step_s": clock.step_s(), **found} if ranks.is_main else {}
        )


def _validation_s(trainer: Any, data: Any) -> float:
    """Seconds of one validation, estimated from its first batches."""
    from sam2ft.distributed.device import now
    from sam2ft.training.validation import validate

    device = trainer.ranks.device
    seconds: list[float] = []

    def timed() -> Any:
        started = now(device)
        for number, batch in enumerate(data.val()):
            if number == _VALIDATION_BATCHES:
                return
            yield batch
            seconds.append(now(device) - started)
            started = now(device)

    trainer.model.eval()
    validate(timed(), trainer.calculate_loss, trainer.ranks, num_samples=0)
    return fmean(seconds) * len(data.val)


def _evaluation(experiment: Experiment, layout_of_key: CalibrationLayout) -> dict[str, Any]:
    """Seconds per slice of the smallest volume, with the initial weights; loading of the model is included."""
    from sam2ft.evaluation.evaluate_volumes import EvaluationJob
    from sam2ft.evaluation.run import evaluate_job, evaluated_records

    record = min(evaluated_records(experiment), key=lambda one: one.geometry.shape_zyx[0])
    weights = initial_weights(experiment)
    if weights is None:
        raise DataError("module.sam2_checkpoint: missing; an evaluation needs weights")
    evaluation, num_slices = EvalLayout(layout_of_key.scratch / "eval"), record.geometry.shape_zyx[0]
    started = time.perf_counter()
    evaluate_job(EvaluationJob(experiment, evaluation, "calibration", layout_of_key.key, weights, (record,)))
    seconds = time.perf_counter() - started
    path = evaluation.prediction(record.key)
    size = path.stat().st_size / num_slices if path.is_file() else None
    return {"slice_s": seconds / num_slices, "slice_bytes": size}


if __name__ == "__main__":
    run_command(lambda: calibrate(sys.argv[1], sys.argv[2:]))
