"""Resources of a point (nodes, GPUs, cores, memory, hours) and its number of slices per optimizer step."""

from dataclasses import replace

from sam2ft.config.schema.evaluation import RequestedResources
from sam2ft.config.schema.experiment import Experiment
from sam2ft.runs.plan_file import Resources


def resources_of(experiment: Experiment) -> Resources:
    """Return the resources that an experiment requests, without a site file."""
    return with_default_tasks(experiment.resources)


def with_default_tasks(asked: RequestedResources) -> Resources:
    """Return `asked` with `tasks_per_node` filled in: one process per GPU, at least one."""
    chosen = asked.model_dump(exclude={"eval"})
    return Resources(**chosen | {"tasks_per_node": asked.tasks_per_node or max(1, asked.gpus_per_node)})


def evaluation_resources(experiment: Experiment, asked: Resources) -> Resources:
    """Return the resources of a run's evaluation: `asked` (training, site included) changed by `resources.eval`."""
    own = experiment.resources.eval
    if own is None:
        return asked
    chosen = own.model_dump(exclude_none=True)
    if "gpus_per_node" in chosen:
        # The default of tasks_per_node follows from the GPUs, as for the training.
        chosen.setdefault("tasks_per_node", max(1, chosen["gpus_per_node"]))
    return replace(asked, **chosen)


def local_resources(experiment: Experiment, world_size: int = 1) -> Resources:
    """Return the resources of a point on this machine: `world_size` processes, whatever it requests on a cluster.

    The number of processes is part of a run's identity (slices per step), so it must be the number that will train.
    Where the experiment requests GPUs, each process has one.
    """
    asked = resources_of(experiment)
    gpus = max(asked.gpus_per_node, world_size) if asked.gpus_per_node else 0
    return replace(asked, nodes=1, tasks_per_node=world_size, gpus_per_node=gpus)


def slices_per_step(experiment: Experiment, asked: Resources) -> int:
    """Return the number of slices per optimizer step, over gradient accumulation and ranks."""
    return experiment.datamodule.batch_size * experiment.module.grad_accum * asked.world_size


def resources_text(resources: Resources) -> str:
    """Return resources as text: `1 GPU, 8 cores, 64 GB, 12 h`; tasks and nodes only where there are several."""
    parts = [f"{resources.nodes} nodes of"] if resources.nodes > 1 else []
    gpus, tasks = resources.gpus_per_node, resources.tasks_per_node
    inner = [f"{gpus} GPU{'s' if gpus != 1 else ''}"] if gpus else []
    inner += [f"{tasks} x {resources.cpus_per_task} cores" if tasks > 1 else f"{resources.cpus_per_task} cores"]
    inner += [f"{resources.mem_gb:g} GB", f"{resources.hours:g} h"]
    return " ".join([*parts, ", ".join(inner)])
