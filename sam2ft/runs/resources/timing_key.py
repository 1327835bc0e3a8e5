"""What the seconds of a step and of an evaluated slice depend on: runs that agree in it are timed alike. No torch."""

from typing import Any, Literal

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.runs.plan_file import Resources

TargetKind = Literal["here", "slurm"]
"""Times of this machine say nothing of the cluster's, and the other way round."""

_KEY_CHARACTERS = 12


def training_key(experiment: Experiment, resources: Resources, target: TargetKind) -> str:
    """12 hex over what decides how long one optimizer step takes."""
    module, datamodule = experiment.module, experiment.datamodule
    return _digest(
        {
            "stage": "train",
            "model": module.sam2_model_cfg,
            "image_size": module.image_size,
            "batch_size": datamodule.batch_size,
            "grad_accum": module.grad_accum,
            "trainable": plain_values(module.trainable),
            "lora": plain_values(module.lora),
            "use_amp": module.use_amp,
            "activation_checkpointing": module.activation_checkpointing,
            "loss": plain_values(module.loss),
            "max_instances_per_slice": module.prompts.max_instances_per_slice,
            "augmentation": plain_values(datamodule.augmentation),
            "num_workers": datamodule.num_workers,
            "dataset": sorted(experiment.dataset),
            "resources": _resources(resources, target),
        }
    )


def evaluation_key(experiment: Experiment, eval_id: str, resources: Resources, target: TargetKind) -> str:
    """12 hex over what decides how long the evaluation of one slice takes; `eval_id` stands for settings and data."""
    return _digest(
        {
            "stage": "eval",
            "model": experiment.module.sam2_model_cfg,
            "image_size": experiment.module.image_size,
            "eval": eval_id,
            "resources": _resources(resources, target),
        }
    )


def _resources(resources: Resources, target: TargetKind) -> dict[str, Any]:
    # Here the cores are divided among however many points run; on a cluster memory and time change no speed.
    asked = {"nodes": resources.nodes, "tasks_per_node": resources.tasks_per_node, "gpus": resources.gpus_per_node}
    return {"place": target, **asked} | ({"cpus": resources.cpus_per_task} if target == "slurm" else {})


def _digest(value: dict[str, Any]) -> str:
    return sha256_text(canonical_json(value))[:_KEY_CHARACTERS]
