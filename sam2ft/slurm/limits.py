"""Check of requested resources against the limits of a Slurm partition and with `sbatch --test-only`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

from sam2ft.core.errors import UserError
from sam2ft.runs.plan_file import Resources
from sam2ft.slurm.answers import run_program
from sam2ft.slurm.batch_script import BatchJob, report_parameters, work_parameters
from sam2ft.slurm.partitions import ClusterLimits, Partition
from sam2ft.slurm.sbatch import outside_of_any_job
from sam2ft.slurm.site import Site

_JOB_NAME = "sam2ft-test-only"
_MB_PER_GB = 1024


@dataclass(frozen=True)
class SbatchAnswer:
    """Result of `sbatch --test-only`, which submits nothing."""

    accepted: bool | None
    """None: sbatch gave no answer."""
    text: str
    """The estimated start time, or the reason of the refusal."""


def limit_problems(
    resources: Resources, site: Site, limits: ClusterLimits, *, partition_name: str | None = None
) -> list[str]:
    """Return the reasons why a partition cannot run tasks of these resources; empty when it can.

    sbatch accepts a time over the partition's limit without a message, and the job then waits for ever.

    Args:
        partition_name: partition to check; None for that of the site, or the cluster's default.
    """
    name = partition_name or site.slurm.partition
    partition = limits.partition(name)
    if partition is None:
        known = ", ".join(sorted(limits.partitions)) or "none"
        return [f"slurm.partition: {name or 'none given, and there is no default'}; known: {known}"]
    return list(_partition_problems(resources, site, partition))


def _partition_problems(resources: Resources, site: Site, partition: Partition) -> Iterator[str]:
    where = f"partition {partition.name}"
    # DOWN accepts jobs and runs them later (a maintenance); DRAIN and INACTIVE accept none.
    if partition.state not in ("UP", "DOWN"):
        yield f"{where} is {partition.state}"
    if partition.max_time_min is not None and resources.hours * 60 > partition.max_time_min:
        yield f"resources.hours {resources.hours:g}; {where} allows {partition.max_time_min / 60:g}"
    most_nodes = min(partition.num_nodes, partition.max_nodes or partition.num_nodes)
    if resources.nodes > most_nodes:
        yield f"resources.nodes {resources.nodes}; {where} allows {most_nodes}"
    yield from _node_problems(resources, partition)
    slurm = site.slurm
    if partition.accounts is not None and slurm.account is not None and slurm.account not in partition.accounts:
        yield f"slurm.account {slurm.account}; {where} allows {', '.join(partition.accounts)}"
    if partition.qos is not None and slurm.qos is not None and slurm.qos not in partition.qos:
        yield f"slurm.qos {slurm.qos}; {where} allows {', '.join(partition.qos)}"


def _node_problems(resources: Resources, partition: Partition) -> Iterator[str]:
    where = f"partition {partition.name}"
    cpus, mem_mb = resources.tasks_per_node * resources.cpus_per_task, resources.mem_gb * _MB_PER_GB
    if partition.max_cpus_per_node is not None and cpus > partition.max_cpus_per_node:
        yield f"{cpus} cores per node; {where} allows {partition.max_cpus_per_node}"
    if partition.max_mem_per_node_mb is not None and mem_mb > partition.max_mem_per_node_mb:
        yield f"resources.mem_gb {resources.mem_gb:g}; {where} allows {partition.max_mem_per_node_mb / _MB_PER_GB:g}"
    if not partition.nodes:
        return
    asked = {"cores": cpus, "memory": mem_mb, "GPUs": resources.gpus_per_node}
    kinds = [{"cores": kind.cpus, "memory": kind.memory_mb, "GPUs": kind.gpus} for kind in partition.nodes]
    if any(all(kind[what] >= value for what, value in asked.items()) for kind in kinds):
        return
    largest = {what: max(kind[what] for kind in kinds) for what in asked}
    beyond = {what: value for what, value in asked.items() if value > largest[what]}
    if not beyond:
        all_of_it = f"{cpus} cores, {resources.mem_gb:g} GB and {resources.gpus_per_node} GPUs at once"
        yield f"{where} has no node with {all_of_it}"
    for what, value in beyond.items():
        scale = _MB_PER_GB if what == "memory" else 1
        unit = " GB" if what == "memory" else ""
        most = f"{largest[what] / scale:g}{unit}"
        yield f"{value / scale:g}{unit} {what} per node; the largest node of {where} has {most}"


def try_submission(resources: Resources, site: Site, *, report: bool = False) -> SbatchAnswer:
    """Ask `sbatch --test-only` whether it would accept such a job and when it would start; submits nothing.

    Args:
        report: whether the job is the report job, which has its own partition and options.
    """
    batch = BatchJob(_JOB_NAME, resources, 1, stop_lead_s=site.slurm.stop_lead_s)
    chosen = report_parameters(batch, site) if report else work_parameters(batch, site, Path())
    command = ["sbatch", "--test-only", *sbatch_options(chosen), "--wrap=true"]
    try:
        done = run_program(command, called="sbatch --test-only", env=outside_of_any_job(environ))
    except UserError as error:
        return SbatchAnswer(None, str(error))
    return parse_test_only(done.returncode, done.stderr + done.stdout)


def parse_test_only(code: int, output: str) -> SbatchAnswer:
    """Parse the exit code and the output of `sbatch --test-only`."""
    if code == 0:
        found = re.search(r"to start at (\S+)", output)
        return SbatchAnswer(True, f"would start at {found[1].replace('T', ' ')}" if found else output.strip())
    lines = [
        line.strip().removeprefix("sbatch: error: ").removeprefix("allocation failure: ")
        for line in output.splitlines()
    ]
    return SbatchAnswer(False, "; ".join(dict.fromkeys(filter(None, lines))) or f"refused with code {code}")


_OPTIONS = ("partition", "account", "qos", "constraint", "exclude", "wckey", "time", "nodes", "ntasks_per_node",
            "cpus_per_task", "mem", "gres", "gpus_per_node", "reservation")  # fmt: skip


def sbatch_options(chosen: dict[str, Any]) -> list[str]:
    """Return the sbatch options, out of submitit's parameters, that decide whether a job is accepted."""
    given = chosen | chosen["additional_parameters"]
    picked = {name: given[name] for name in _OPTIONS if given.get(name) is not None}
    return [f"--{name.replace('_', '-')}={value}" for name, value in picked.items()]
