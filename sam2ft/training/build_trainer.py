"""Building of the trainer of an experiment: model with its trained parts, loss, optimizer and schedule."""

import math
import sys

from sam2ft.config.schema.experiment import Experiment
from sam2ft.distributed.arithmetic import deterministic_algorithms
from sam2ft.distributed.ranks import Ranks
from sam2ft.model.lora import add_low_rank
from sam2ft.model.losses import SegmentationLoss, build_loss
from sam2ft.model.precision import EMULATED, Precision, emulates, resolve_precision
from sam2ft.model.segmenter import FinetunedSAM2, build_segmenter
from sam2ft.model.trainable import freeze_unreachable, set_trainable
from sam2ft.runs.layout import RUNS, converted_weights
from sam2ft.training.activation_checkpointing import checkpoint_activations
from sam2ft.training.compiled_trunk import compile_trunk, refuse_without_compiler
from sam2ft.training.data import NUM_PICTURES, TrainingData
from sam2ft.training.optimizer import build_optimizer
from sam2ft.training.schedule import build_scheduler
from sam2ft.training.state import TrainerContext, TrainerSettings
from sam2ft.training.trainer import Trainer


def build_trainer(
    experiment: Experiment, data: TrainingData, ranks: Ranks, batches_per_step: int, *, fused: bool
) -> Trainer:
    """The trainer of an experiment, with initial weights and without observers.

    Args:
        fused: whether the optimizer updates all tensors in one kernel, unless the settings choose (`chooses_fused`).

    Raises:
        ConfigError: when model, loss, optimizer or schedule refuse a setting.
    """
    module, seed = experiment.module, experiment.experiment.seed
    deterministic_algorithms(wanted=module.deterministic and ranks.device.type == "cuda")
    loss = build_loss(module.loss)
    precision = resolve_precision(module.use_amp, ranks.device)
    if ranks.is_main and emulates(precision, ranks.device):
        print(EMULATED, file=sys.stderr, flush=True)
    model = trainable_model(experiment, loss, ranks, precision)
    steps_per_epoch = math.ceil(len(data.train) / batches_per_step)
    settings = TrainerSettings(
        module,
        seed,
        precision=precision,
        batches_per_step=batches_per_step,
        steps_per_epoch=steps_per_epoch,
        num_samples=NUM_PICTURES if module.visualize else 0,
    )
    optimizer = build_optimizer(model, module.optimizer, fused=fused)
    schedule = build_scheduler(
        optimizer, module.scheduler, steps_per_epoch=steps_per_epoch, num_epochs=module.num_epochs
    )
    return Trainer(model, loss, optimizer, schedule, settings, TrainerContext(ranks))


def trainable_model(
    experiment: Experiment, loss: SegmentationLoss, ranks: Ranks, precision: Precision = "fp32"
) -> FinetunedSAM2:
    """The model with its initial weights; the selected parameters that get a gradient require one.

    Raises:
        ConfigError: when a selected part of the model does not exist or gets no gradient.
        ConfigError: with `module.compile`, when this machine cannot compile.
    """
    module = experiment.module
    model = build_segmenter(
        module.sam2_model_cfg,
        image_size=module.image_size,
        checkpoint=module.sam2_checkpoint,
        device=ranks.device,
        kept=converted_weights(RUNS),
    )
    set_trainable(model, module.trainable)
    if module.lora is not None:
        add_low_rank(model, module.lora, experiment.experiment.seed)
    if module.activation_checkpointing:
        # Before the trial step of freeze_unreachable, which would otherwise need the memory that this saves.
        checkpoint_activations(model)
    if module.compile:
        refuse_without_compiler(ranks.device)
    report = freeze_unreachable(model, loss, module.prompts.shares, precision)
    if module.compile:
        # After the trial step, whose batch of one slice would be compiled for nothing.
        compile_trunk(model)
    if ranks.is_main:
        print(report, file=sys.stderr, flush=True)
    return model
