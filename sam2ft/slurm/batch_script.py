"""sbatch options and shell lines of batch scripts, as submitit's parameters, for job arrays and report job. Pure."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.core.system.nvidia import allocator_line
from sam2ft.runs.plan_file import Resources
from sam2ft.slurm.requeue import requeue_setup, requeue_tail
from sam2ft.slurm.site import Site


@dataclass(frozen=True)
class BatchJob:
    """One sbatch call, without the options of the site."""

    job_name: str
    resources: Resources
    size: int
    """Number of elements; a job with one is a plain job."""
    parallel: int = 1
    dependency: str = ""
    stop_lead_s: int = 0


def work_parameters(batch: BatchJob, site: Site, runs: Path) -> dict[str, Any]:
    """Return submitit's parameters for a job array (or plain job) of runs.

    Args:
        runs: folder that contains the directories of the runs, absolute.
    """
    chosen = _common(batch, site)
    chosen["signal_delay_s"] = batch.stop_lead_s
    chosen["teardown"] = requeue_tail(runs, max_restarts=site.slurm.max_restarts)
    # Last before srun, as requeue_tail needs it.
    chosen["setup"] += requeue_setup(site.slurm.max_restarts)
    if batch.size > 1:
        chosen |= {"map_count": batch.size, "array_parallelism": batch.parallel}
    resources = batch.resources
    if resources.gpus_per_node:
        # Per node, not per task: from 24.11 some select plugins refuse GRES per task.
        if site.slurm.gpu_option == "gres":
            chosen["gres"] = f"gpu:{resources.gpus_per_node}"
        else:
            chosen["gpus_per_node"] = resources.gpus_per_node
    return chosen


def report_parameters(batch: BatchJob, site: Site) -> dict[str, Any]:
    """Return submitit's parameters for the job that writes tables and report; the only one that sends mail."""
    chosen = _common(batch, site)
    # Without these lines the job would end with the code of its last command, and Slurm would report COMPLETED.
    chosen["teardown"] = ["rc=$?", 'exit "$rc"']
    if site.report.partition is not None:
        # Features, reservation and excluded nodes of the site belong to the partition of the points.
        chosen |= {"partition": site.report.partition, "constraint": None, "exclude": None}
        chosen["additional_parameters"].pop("reservation", None)
    if site.report.qos is not None:
        chosen["qos"] = site.report.qos
    if site.slurm.mail is not None:
        chosen |= {"mail_user": site.slurm.mail, "mail_type": "END,FAIL"}
    return chosen


def report_resources(site: Site) -> Resources:
    """Return the resources of the report job: one task without a GPU."""
    asked = site.report
    return Resources(1, 1, 0, asked.cpus_per_task, asked.mem_gb, asked.hours)


def element_word(size: int) -> str:
    """Return the shell word for the position of an element in its array of `size` elements; 0 in a plain job."""
    return '"${SLURM_ARRAY_TASK_ID}"' if size > 1 else "0"


def python_command(site: Site, default: str) -> str:
    """Return the shell command that starts Python in a job; only Python runs in the container, never the requeueing."""
    python = site.slurm.python or shlex.quote(default)
    return f"{site.slurm.container} {python}" if site.slurm.container else python


def _common(batch: BatchJob, site: Site) -> dict[str, Any]:
    slurm, resources = site.slurm, batch.resources
    more: dict[str, Any] = {"requeue": True}
    if slurm.reservation is not None:
        more["reservation"] = slurm.reservation
    if batch.dependency.startswith("after") and batch.dependency.partition(":")[0] != "afterany":
        # Otherwise a job that waits for a failed training stays in the queue for ever, and so does the report after it.
        more["kill-on-invalid-dep"] = "yes"
    return {
        "job_name": batch.job_name,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "constraint": slurm.constraint,
        "exclude": slurm.exclude,
        # submitit would set one of its own; clusters that check workload keys refuse unknown ones.
        "wckey": slurm.wckey,
        "time": max(1, round(resources.hours * 60)),
        "nodes": resources.nodes,
        # If unset, srun may start as many tasks as fit on the node: the work would then run several times.
        "ntasks_per_node": resources.tasks_per_node,
        "cpus_per_task": resources.cpus_per_task,
        "mem": f"{max(1, round(resources.mem_gb * 1024))}MB",
        "dependency": batch.dependency or None,
        "stderr_to_stdout": True,
        # ALL: sites with SBATCH_EXPORT=NONE lose the environment in srun. A failed rank must end the job at once.
        "srun_args": ["--export=ALL", "--kill-on-bad-exit=1"],
        "setup": [*site_lines(site, resources), *_our_lines(batch)],
        "additional_parameters": more,
    }


def site_lines(site: Site, resources: Resources) -> list[str]:
    """Return the shell lines of the site before the work: modules, environment, scratch folder, setup."""
    slurm = site.slurm
    lines = [f"module load {name}" for name in slurm.modules]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in slurm.environment.items()]
    if slurm.scratch is not None:
        # In double quotes, so that $USER and $SLURM_JOB_ID are expanded.
        lines.append(f'export TMPDIR="{slurm.scratch}"')
        count = resources.nodes
        everywhere = f"srun --nodes={count} --ntasks={count} --ntasks-per-node=1 " if count > 1 else ""
        lines.append(f'{everywhere}mkdir -p "$TMPDIR"')
    return [*lines, *slurm.setup]


def _our_lines(batch: BatchJob) -> list[str]:
    """The lines after those of the site, whose own values stay."""
    lines = [allocator_line()] if batch.resources.gpus_per_node else []
    return [
        *lines,
        # srun of Slurm 22.05 to 23.11 ignores SLURM_CPUS_PER_TASK.
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
        f"export OMP_NUM_THREADS={batch.resources.cpus_per_task}",
        # Otherwise squeue and sacct cut lists of array elements at 64 characters.
        "export SLURM_BITSTR_LEN=0",
    ]
