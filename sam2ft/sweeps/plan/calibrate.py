"""Calibration of run times (`--calibrate`): measurement of one point of each kind, locally or in short Slurm jobs."""

import secrets
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam2ft.config.load_experiment import dump_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.digests.sealed import sealed_yaml
from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DONE, FAILED
from sam2ft.core.files import sha256_text, write_text
from sam2ft.jobs.preflight.preflight import ResolvedRun, ResolvedSweep
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Resources
from sam2ft.runs.resources.timing_key import evaluation_key, training_key
from sam2ft.slurm.batch_script import BatchJob, work_parameters
from sam2ft.slurm.site import Site
from sam2ft.sweeps.local.pool import LocalTask, Pool
from sam2ft.sweeps.plan.estimate import SweepTarget
from sam2ft.sweeps.state.logs import last_lines

JOB_HOURS = 1.0
"""Time limit of a calibration job: steps end after two minutes; the rest is loading and one volume."""


@dataclass(frozen=True)
class CalibrationItem:
    """One speed to measure."""

    stage: str
    key: str
    name: str
    """Name of the point on which it is measured."""
    experiment: Experiment
    resources: Resources


def items_of(resolved: ResolvedSweep, target: SweepTarget) -> list[CalibrationItem]:
    """Return the measurements to make: a training and an evaluation of each kind, on the first point of that kind."""
    found: dict[str, CalibrationItem] = {}

    def add(stage: str, key: str, run: ResolvedRun, experiment: Experiment, resources: Resources) -> None:
        found.setdefault(key, CalibrationItem(stage, key, run.planned.name, experiment, resources))

    for run in resolved.runs:
        planned = run.planned
        asked, eval_asked = target.asked(planned, "train"), target.asked(planned, "eval")
        if not planned.baseline:
            add("train", training_key(run.experiment, asked, target.kind), run, run.experiment, asked)
        for eval_id, experiment in run.evaluations.items():
            add("eval", evaluation_key(experiment, eval_id, eval_asked, target.kind), run, experiment, eval_asked)
    return list(found.values())


def calibrate_sweep(layout: ExperimentLayout, resolved: ResolvedSweep, target: SweepTarget, workers: int) -> int:
    """Measure on this machine, or submit one short job per kind of resources; returns the exit code.

    The code is 1 when a local measurement failed. Speeds that were measured before are measured again.

    Args:
        workers: size of the local pool whose share of the cores is simulated.

    Raises:
        SubmissionError: Slurm refuses.
    """
    items = items_of(resolved, target)
    for item in items:
        calibration = layout.calibration(item.key)
        write_text(calibration.experiment, sealed_yaml(dump_experiment(item.experiment)))
        asked = {"stage": item.stage, "point": item.name, "world_size": item.resources.world_size}
        # As in a job: a speed of the CPU must not be taken for that of the planned GPU.
        planned = {} if target.site is None else {"gpus_per_node": item.resources.gpus_per_node}
        write_sealed_json(calibration.task, asked | planned)
    if target.site is None:
        return _measure_here(layout, items, workers)
    groups: dict[Resources, list[CalibrationItem]] = {}
    for item in items:
        groups.setdefault(item.resources, []).append(item)
    jobs = [_submit(layout, group, target.site) for group in groups.values()]
    _say(f"submitted {len(items)} measurements as job {', '.join(jobs)}; plan again when they have ended")
    return DONE


def _measure_here(layout: ExperimentLayout, items: Sequence[CalibrationItem], workers: int) -> int:
    """Measure one item after the other, each with the share of the cores that it would have in a pool of `workers`."""
    code = DONE
    for item in items:
        _say(f"measuring {item.stage} of {item.name} ...")
        calibration = layout.calibration(item.key)
        calibration.log.unlink(missing_ok=True)
        command = [sys.executable, "-P", "-m", "sam2ft.jobs.calibrate", str(layout.folder), item.key]
        (ended,) = Pool(workers).run([LocalTask(item.key, command, calibration.log)])
        if ended.code:
            _say(f"{item.name}: ended with code {ended.code}; see {calibration.log}")
            code = FAILED
        elif last := last_lines(calibration.log, 1):
            _say(last[0])
    return code


def _submit(layout: ExperimentLayout, items: Sequence[CalibrationItem], site: Site) -> str:
    from sam2ft.slurm.sbatch import sbatch, submission_lock
    from sam2ft.sweeps.submit.submitit_adapter import module_command, write_batch

    first = items[0].resources
    resources = replace(first, hours=min(first.hours, JOB_HOURS))
    scripts = (layout.calibrations / "jobs").resolve()
    folder_digest = sha256_text(str(layout.folder.resolve()))[:6]
    name = f"s2ft-calibrate-{folder_digest}-{secrets.token_hex(3)}"
    chosen = work_parameters(BatchJob(name, resources, 1), site, layout.calibrations.resolve())
    # A measurement that reaches its time limit is not continued.
    chosen |= {"signal_delay_s": 60, "teardown": ["rc=$?", 'exit "$rc"']}
    more = {name: value for name, value in chosen["additional_parameters"].items() if name != "requeue"}
    chosen["additional_parameters"] = more | {"no-requeue": True}
    words = shlex.quote(str(layout.folder.resolve())), *(item.key for item in items)
    script = write_batch(scripts, chosen, module_command(site, "sam2ft.jobs.calibrate", *words))
    with submission_lock(layout) as lock:
        return sbatch(lock, script, lambda: None)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
