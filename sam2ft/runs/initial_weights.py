"""Initial weights (checkpoint) from which training starts."""

from importlib import resources as package_files
from pathlib import Path

from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import NANO


def initial_weights(experiment: Experiment) -> Path | None:
    """Return the file that training starts from: `module.sam2_checkpoint`, the nano file of the package, or None."""
    if experiment.module.sam2_checkpoint is not None:
        return experiment.module.sam2_checkpoint
    if experiment.module.sam2_model_cfg == NANO:
        # Not model.weights.nano_weights_path: that module imports torch, and this one runs on login nodes.
        return Path(str(package_files.files("sam2ft.model.nano") / "sam2_nano.safetensors"))
    return None
