"""Timing key: digest of everything that decides the seconds per step or per evaluated slice. No torch.

Runs with the same key have comparable timings.
"""

from typing import Any, Literal

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import canonical_json, sha256_text
from sam2ft.runs.plan_file import Resources

TargetKind = Literal["here", "slurm"]
"""Timings of this machine are not valid for the cluster, and the reverse."""

_KEY_CHARACTERS = 12


def training_key(experiment: Experiment, resources: Resources, target: TargetKind) -> str:
    """Return 12 hex digits over everything that decides how long one optimizer step takes."""
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
            **({"compile": True} if module.compile else {}),
            **_algorithms(experiment),
        }
    )


def evaluation_key(experiment: Experiment, eval_id: str, resources: Resources, target: TargetKind) -> str:
    """Return 12 hex digits over everything that decides the evaluation time of a slice (`eval_id`: settings, data)."""
    return _digest(
        {
            "stage": "eval",
            "model": experiment.module.sam2_model_cfg,
            "image_size": experiment.module.image_size,
            "eval": eval_id,
            "resources": _resources(resources, target),
            **_algorithms(experiment),
        }
    )


def _algorithms(experiment: Experiment) -> dict[str, bool]:
    """Slower algorithms on a GPU. As with `compile`, keys of runs without them stay those of earlier versions."""
    return {"deterministic": True} if experiment.module.deterministic else {}


def _resources(resources: Resources, target: TargetKind) -> dict[str, Any]:
    # On this machine the running points share the cores; on a cluster memory and time do not change the speed.
    asked = {"nodes": resources.nodes, "tasks_per_node": resources.tasks_per_node, "gpus": resources.gpus_per_node}
    return {"place": target, **asked} | ({"cpus": resources.cpus_per_task} if target == "slurm" else {})


def _digest(value: dict[str, Any]) -> str:
    return sha256_text(canonical_json(value))[:_KEY_CHARACTERS]
