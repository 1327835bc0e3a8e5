"""The tree itself: every leaf says what it affects, nothing can be changed, the documented vocabulary loads."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from fixtures.experiments import parse_experiment
from pydantic import BaseModel, ValidationError

from sam2ft.config.identity import evaluation_identity, training_identity
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.base import ReadOnlyDict, Section, setting
from sam2ft.config.schema.dataset import DatasetFile, LabelFile
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.module import TrainableOnly
from sam2ft.config.schema.optimizer import Optimizer, Scheduler, mode_of
from sam2ft.core.errors import ProblemsError

HOUSE = """\
experiment: {name: oai_knee, description: "...", seed: 42}
dataset:
  oai: {store: data/oai}
datamodule:
  max_subject_set: full
  balanced: false
  bbox_shift: 5
  batch_size: 4
  num_workers: 4
  augmentation:
  - {type: RandFlip, prob: 0.5, spatial_axis: 1}
  - {type: RandGaussianNoise, prob: 0.2, std: 0.02}
  num_classes: 4
  stats_metadata_file: null
  metric:
    func: {dice: true, iou: true, cartilagethickness: true, t1rho: true, mypkg.mymod:my_metric: true}
    tissues: [1, 2, 3, 4]
    dicom_fields: [pixel_spacing, slice_thickness, rows, columns]
    representative_slice: true
module:
  sam2_model_cfg: configs/sam2.1/sam2.1_hiera_b+.yaml
  sam2_checkpoint: weights/sam2.1_hiera_base_plus.pt
  image_size: 1024
  prompts: {box: 0.5, point: 0.25, mask: 0.25, max_instances_per_slice: 16}
  trainable: {prompt_encoder: false, image_encoder: {only: ["trunk.blocks.[89]"]}, mask_decoder: true}
  loss: {seg: DiceLoss, seg_args: {}, ce: BCE, ce_args: {}, seg_loss_weight: 0.5, ce_loss_weight: 0.5,
         frame: original, iou_weight: 0.0}
  optimizer: {type: AdamW, lr: 1e-4, weight_decay: 0.01, betas: [0.9, 0.99], lr_scale: {image_encoder: 0.1},
              layer_decay: 0.8, no_decay_norms: true}
  scheduler: {type: CosineAnnealingWarmRestarts, T_0: 10, eta_min: 1e-5, interval: epoch, warmup_steps: 5}
  num_epochs: 100
  use_amp: bf16
  grad_accum: 4
  clip_grad: 1.0
  early_stopping: {enabled: true, monitor: val_loss, mode: min, patience: 10, min_delta: 0.001}
  ema: {decay: 0.999}
  lora: {rank: 8, alpha: 16}
  max_skipped_steps: 10
  use_wandb: false
  wandb: {mode: online, project: null}
  visualize: true
  activation_checkpointing: false
  checkpoint: {every_minutes: 15, every_steps: null, every_epoch: false, keep: 2}
eval: {split: test, checkpoint: best, instances: per_instance, protocol: box, points_k: 3, boxes_file: null,
       propagate_seed: largest, bbox_shift: 0, direction: outward, include_empty_slices: true,
       missed_distance: diagonal, nsd_tolerance_mm: 1.0, prompt_chunk: 64, precision: bf16, qc_slices: 24,
       dicom_seg: false, prompt_noise: {shifts: [0, 2, 5, 10, 20], seeds: [0, 1, 2]}}
resources: {nodes: 1, tasks_per_node: null, gpus_per_node: 1, cpus_per_task: 8, mem_gb: 64, hours: 12}
sweep: {grid: {module.optimizer.lr: [1e-4, 1e-5]}}
"""


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from models_in(argument)


def all_sections(root: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield root
    for field in root.model_fields.values():
        for model in models_in(field.annotation):
            yield from all_sections(model)


def leaves_without_a_word(root: type[BaseModel]) -> list[str]:
    """Keys that hold values and do not say what they affect, or have no description."""
    found = []
    for model in all_sections(root):
        for name, field in model.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            is_section = any(True for _ in models_in(field.annotation))
            if not field.description or (not is_section and "affects" not in extra):
                found.append(f"{model.__name__}.{name}")
            if extra.get("affects", "nothing") not in ("training", "evaluation", "nothing"):
                found.append(f"{model.__name__}.{name}")
    return found


@pytest.mark.parametrize("root", [Experiment, DatasetFile, LabelFile])
def test_every_leaf_says_what_it_affects_and_is_described(root: type[BaseModel]) -> None:
    assert leaves_without_a_word(root) == []


def test_a_leaf_without_affects_would_be_found() -> None:
    class Forgetful(Section):
        told: int = setting(1, "a number", affects="nothing")
        silent: int = 1

    assert leaves_without_a_word(Forgetful) == ["Forgetful.silent"]


def test_the_documented_vocabulary_loads(write: Any) -> None:
    loaded = load_experiment(write(HOUSE))
    experiment = loaded.points[1].experiment
    assert experiment.module.optimizer.arguments == {"lr": 1e-5, "weight_decay": 0.01, "betas": (0.9, 0.99)}
    assert experiment.module.scheduler is not None
    assert experiment.module.scheduler.arguments == {"T_0": 10, "eta_min": 1e-5}
    assert experiment.module.trainable.image_encoder == TrainableOnly(only=("trunk.blocks.[89]",))
    assert experiment.datamodule.augmentation[0].type == "RandFlip"
    assert experiment.datamodule.metric.func["mypkg.mymod:my_metric"] is True
    assert experiment.dataset["oai"].store == Path.cwd() / "data/oai"
    assert experiment.sweep is None
    assert loaded.experiment.sweep is not None


def test_the_smallest_file_has_the_documented_defaults(write: Any, minimal: str) -> None:
    experiment = load_experiment(write(minimal)).experiment
    assert experiment.module.optimizer.type == "AdamW"
    assert experiment.module.optimizer.lr == 1e-4
    assert experiment.module.scheduler is None
    assert experiment.module.loss.frame == "original"
    assert experiment.eval.missed_distance == "diagonal"
    assert experiment.resources.model_fields_set == set(), "a site preset fills what is absent"


def everything_in(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, Section):
        for name in type(value).model_fields:
            yield from everything_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from everything_in(entry)
    elif isinstance(value, tuple):
        for entry in value:
            yield from everything_in(entry)


def test_nothing_inside_can_be_changed(write: Any) -> None:
    experiment = load_experiment(write(HOUSE)).experiment
    for value in everything_in(experiment):
        assert not isinstance(value, list | set)
        assert not isinstance(value, dict) or isinstance(value, ReadOnlyDict)
    assert isinstance(hash(experiment), int)
    with pytest.raises(ValidationError):
        experiment.module.num_epochs = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        experiment.module.optimizer.arguments["lr"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(b=2),
        lambda d: d.pop("a"),
        lambda d: d.setdefault("b", 2),
        lambda d: d.clear(),
        lambda d: d.popitem(),
        lambda d: d.__delitem__("a"),
        lambda d: d.__ior__({"b": 2}),
    ],
)
def test_a_read_only_mapping_stays_as_it_is_and_can_be_pickled(change: Any) -> None:
    mapping = ReadOnlyDict(a=1)
    with pytest.raises(TypeError):
        change(mapping)
    assert mapping == {"a": 1}
    assert pickle.loads(pickle.dumps(mapping)) == mapping


def test_an_experiment_can_be_pickled(write: Any) -> None:
    experiment = load_experiment(write(HOUSE)).experiment
    assert pickle.loads(pickle.dumps(experiment)) == experiment


def test_sections_can_be_made_in_code_as_strictly() -> None:
    assert Optimizer(type="SGD", lr=0.1, momentum=0.9).arguments == {"lr": 0.1, "momentum": 0.9}
    assert Scheduler(type="StepLR", step_size=3).arguments == {"step_size": 3}
    with pytest.raises(ValidationError):
        Scheduler(type="StepLR")


def test_plain_values_become_an_experiment() -> None:
    value = {
        "experiment": {"name": "x"},
        "dataset": {"knee": {"store": "/data/knee"}},
        "module": {"sam2_model_cfg": "sam2_nano"},
    }
    assert parse_experiment(value).dataset["knee"].store == Path("/data/knee")


def test_a_larger_dice_and_a_smaller_loss_are_better() -> None:
    assert mode_of("val_dice") == "max"
    assert mode_of("val_loss") == mode_of("train_iou") == "min"


TINY = {
    "experiment": {"name": "tiny"},
    "dataset": {"knee": {"store": "data/knee"}},
    "module": {"sam2_model_cfg": "sam2_nano"},
}


def test_the_evaluation_may_ask_for_other_resources_than_the_training() -> None:
    asked = parse_experiment({**TINY, "resources": {"hours": 24, "eval": {"hours": 1, "gpus_per_node": 0}}})
    assert (asked.resources.hours, asked.resources.gpus_per_node) == (24, 1)
    assert asked.resources.eval is not None
    assert (asked.resources.eval.hours, asked.resources.eval.gpus_per_node, asked.resources.eval.nodes) == (1, 0, None)
    assert parse_experiment(TINY).resources.eval is None
    assert training_identity(asked) == training_identity(parse_experiment(TINY))
    assert evaluation_identity(asked) == evaluation_identity(parse_experiment(TINY))
    with pytest.raises(ProblemsError, match="hour: unknown key"):
        parse_experiment({**TINY, "resources": {"eval": {"hour": 1}}})
