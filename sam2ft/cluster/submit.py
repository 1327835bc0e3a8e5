"""Handing points to Slurm: one array per resource class, then an aggregation that waits for all of them.

The only importer of submitit. It writes scripts and pickles and calls sbatch; states, stopping and requeueing are ours.
"""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sam2ft.cluster.collect import aggregate_folder
from sam2ft.cluster.site import Site
from sam2ft.core.errors import UserError
from sam2ft.core.files import write_json
from sam2ft.core.layout import ExperimentLayout
from sam2ft.run.job import run_point
from sam2ft.run.planned import Plan, PlannedRun, Resources, Stage

MAX_RESTARTS = 20
_AGGREGATE = Resources(nodes=1, tasks_per_node=1, gpus_per_node=0, cpus_per_task=1, mem_gb=4, hours=1)


@dataclass(frozen=True)
class Submitted:
    """What one submission handed to Slurm."""

    number: int
    jobs: tuple[str, ...]
    aggregate: str
    num_runs: int


class SubmissionError(UserError):
    """Slurm refused a job."""


@dataclass(frozen=True)
class Array:
    """Runs that ask for the same resources; element k of the Slurm array is `runs[k]`."""

    job_name: str
    stage: Stage
    resources: Resources
    runs: tuple[PlannedRun, ...]


def arrays_of(plan: Plan, runs: Sequence[PlannedRun], number: int) -> tuple[Array, ...]:
    """`runs` grouped by stage and resources, in the order of the plan, with unique job names."""
    groups: dict[tuple[Stage, Resources], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.stage, run.resources), []).append(run)
    return tuple(
        Array(f"s2ft-{plan.experiment}-{plan.plan_id}-{number}-{count}", stage, resources, tuple(members))
        for count, ((stage, resources), members) in enumerate(groups.items())
    )


def parameters(resources: Resources, site: Site, job_name: str, folder: Path) -> dict[str, Any]:
    """submitit's parameters for one array. Pure; every line has its reason."""
    slurm = site.slurm
    chosen: dict[str, Any] = {
        "job_name": job_name,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "time": max(1, round(resources.hours * 60)),
        "nodes": resources.nodes,
        # Unset, srun may start as many tasks as fit: the payload then runs several times.
        "ntasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "mem": f"{max(1, round(resources.mem_gb * 1024))}MB",
        "array_parallelism": slurm.max_parallel,
        "signal_delay_s": slurm.stop_lead_s,
        "stderr_to_stdout": True,
        # ALL: sites with SBATCH_EXPORT=NONE lose the environment in srun. A dead rank must end the job at once.
        "srun_args": ["--export=ALL", "--kill-on-bad-exit=1"],
        "setup": [
            *slurm.setup,
            # srun of Slurm 22.05 to 23.11 ignores SLURM_CPUS_PER_TASK.
            "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
            f"export OMP_NUM_THREADS={resources.cpus_per_task}",
        ],
        "teardown": teardown(folder),
        "additional_parameters": {"requeue": True},
    }
    if resources.gpus_per_node:
        # Per node, not per task: from 24.11 some select plugins refuse GRES per task.
        if slurm.gpu_option == "gres":
            chosen["gres"] = f"gpu:{resources.gpus_per_node}"
        else:
            chosen["gpus_per_node"] = resources.gpus_per_node
    if slurm.wckey is not None:
        chosen["wckey"] = slurm.wckey
    return {key: value for key, value in chosen.items() if value is not None}


def teardown(folder: Path) -> list[str]:
    """The tail of the batch script: keep srun's code, and requeue only a job that saved and is still running.

    A run that stopped leaves requeue.json with its job id. After scancel the job is not RUNNING any more and stays
    cancelled; in the grace time of a preemption it is, and comes back. srun's code alone decides nothing: with
    --kill-on-bad-exit it may be 143 instead of 75. Without the last line the script would end with the code of its
    last command and Slurm would call a failure COMPLETED.
    """
    markers = f"{shlex.quote(str(folder))}/*/requeue.json"
    return [
        "rc=$?",
        "job=$SLURM_JOB_ID",
        'if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job=${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}; fi',
        f'marker=$(grep -lF "\\"job\\": \\"$job\\"" {markers} 2>/dev/null | head -n 1)',
        f'if [ -n "$marker" ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {MAX_RESTARTS} ] \\',
        '    && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then',
        '  rm -f "$marker"',
        '  scontrol requeue "$job"',
        "  sleep 60",
        "fi",
        "exit $rc",
    ]


def submit(layout: ExperimentLayout, plan: Plan, runs: Sequence[PlannedRun], site: Site) -> Submitted:
    """Submit `runs` and the aggregation after them; returns at once.

    The submission's file is written before the first sbatch (what is about to happen, under unique job names) and
    again after each (the job ids). Errors: SubmissionError with what sbatch said.
    """
    number = next_number(layout)
    record: dict[str, Any] = {
        "number": number,
        "plan": plan.plan_id,
        "site": site.name,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "arrays": [],
        "aggregate": None,
    }
    arrays = arrays_of(plan, runs, number)
    for array in arrays:
        elements = [{"index": run.index, "run_id": run.run_id} for run in array.runs]
        record["arrays"].append({"job_name": array.job_name, "stage": array.stage, "job": None, "runs": elements})
    write_json(layout.submission(number), record)
    experiment, scripts = str(layout.folder.resolve()), layout.submission(number).with_suffix("").resolve()
    jobs: list[str] = []
    for array, entry in zip(arrays, record["arrays"], strict=True):
        arguments = [(experiment, plan.plan_id, run.index, array.stage) for run in array.runs]
        chosen = parameters(array.resources, site, array.job_name, layout.folder.resolve())
        entry["job"] = _sbatch(scripts, site, chosen, run_point, arguments)
        jobs.append(entry["job"])
        write_json(layout.submission(number), record)
    # afterany: an afterok aggregation would wait for ever behind one failure.
    chosen = parameters(_AGGREGATE, site, f"s2ft-{plan.experiment}-{plan.plan_id}-{number}-report", layout.folder)
    chosen |= {"dependency": "afterany:" + ":".join(jobs), "teardown": ["rc=$?", "exit $rc"]}
    record["aggregate"] = _sbatch(scripts, site, chosen, aggregate_folder, [(experiment, plan.plan_id)])
    write_json(layout.submission(number), record)
    return Submitted(number, tuple(jobs), record["aggregate"], len(runs))


def next_number(layout: ExperimentLayout) -> int:
    numbers = [int(path.stem) for path in layout.submissions.glob("*.json") if path.stem.isdigit()]
    return max(numbers, default=0) + 1


def _sbatch(
    folder: Path, site: Site, chosen: Mapping[str, Any], function: Any, arguments: Sequence[tuple[Any, ...]]
) -> str:
    """One sbatch call: an array when there are several elements, a plain job for one. Returns Slurm's job id."""
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = submitit.SlurmExecutor(folder=folder, python=site.slurm.python)
    executor.update_parameters(**chosen)
    try:
        with _outside_of_any_job():
            jobs = executor.map_array(function, *zip(*arguments, strict=True))
    except (FailedJobError, FailedSubmissionError) as error:
        raise SubmissionError(f"sbatch refused {chosen['job_name']}: {str(error).strip()}") from error
    return str(jobs[0].job_id).split("_")[0]


@contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """Submitting from inside an allocation must not hand its variables on to the new job.

    submitit's helper drops every SLURM_ variable, also the one that says where the cluster is.
    """
    from submitit.helpers import clean_env

    configuration = os.environ.get("SLURM_CONF")
    with clean_env():
        if configuration is not None:
            os.environ["SLURM_CONF"] = configuration
        yield
