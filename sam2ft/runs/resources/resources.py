"""What a point gets to run with, and how many slices one of its steps then takes."""

from dataclasses import replace

from sam2ft.config.schema.evaluation import AskedResources
from sam2ft.config.schema.experiment import Experiment
from sam2ft.runs.plan_file import Resources


def resources_of(experiment: Experiment) -> Resources:
    """What an experiment asks for on its own, without a site."""
    return complete(experiment.resources)


def complete(asked: AskedResources) -> Resources:
    """Resources of which nothing is left to a default."""
    return Resources(
        nodes=asked.nodes,
        tasks_per_node=asked.tasks_per_node or max(1, asked.gpus_per_node),
        gpus_per_node=asked.gpus_per_node,
        cpus_per_task=asked.cpus_per_task,
        mem_gb=asked.mem_gb,
        hours=asked.hours,
    )


def evaluation_resources(experiment: Experiment, asked: Resources) -> Resources:
    """What the evaluation of a run asks for: `asked` (its training, site included) with what `resources.eval` says."""
    said = experiment.resources.eval
    if said is None:
        return asked
    chosen = said.model_dump(exclude_none=True)
    if "gpus_per_node" in chosen:
        # The default of tasks_per_node follows from the GPUs, here as for the training.
        chosen.setdefault("tasks_per_node", max(1, chosen["gpus_per_node"]))
    return replace(asked, **chosen)


def resources_here(experiment: Experiment, world_size: int = 1) -> Resources:
    """What a point gets on this machine: `world_size` processes, whatever it would ask of a cluster.

    The number of processes is part of a run's identity (slices per step), so it must be the one that will train.
    """
    return replace(resources_of(experiment), nodes=1, tasks_per_node=world_size)


def slices_per_step(experiment: Experiment, asked: Resources) -> int:
    """Slices behind one optimizer step, over accumulation and ranks."""
    return experiment.datamodule.batch_size * experiment.module.grad_accum * asked.world_size


def resources_text(resources: Resources) -> str:
    """`1 GPU, 8 cores, 64 GB, 12 h`; tasks and nodes where there are several."""
    parts = [f"{resources.nodes} nodes of"] if resources.nodes > 1 else []
    gpus, tasks = resources.gpus_per_node, resources.tasks_per_node
    inner = [f"{gpus} GPU{'s' if gpus != 1 else ''}"] if gpus else []
    inner += [f"{tasks} x {resources.cpus_per_task} cores" if tasks > 1 else f"{resources.cpus_per_task} cores"]
    inner += [f"{resources.mem_gb:g} GB", f"{resources.hours:g} h"]
    return " ".join([*parts, ", ".join(inner)])
