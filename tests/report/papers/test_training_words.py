"""Every setting that affects training changes the methods text, or has a reason why it does not."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fixtures.experiments import parse_experiment

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.base import Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.report.comparison.compare import Comparison, ComparisonRow, PointRun
from sam2ft.report.papers.methods import methods_text
from sam2ft.report.papers.study import DatasetFacts, Study
from sam2ft.report.papers.training_words import UNSAID, precision_words

PLATEAU = {"type": "ReduceLROnPlateau", "monitor": "val_loss"}
STEP = {"type": "StepLR", "step_size": 3}
FLIP = {"type": "RandFlip", "prob": 0.5}

CHANGED: dict[str, tuple[Any, Any]] = {
    "experiment.seed": (1, 2),
    "datamodule.max_subject_set": ("full", 5),
    "datamodule.balanced": (False, True),
    "datamodule.bbox_shift": (3, 4),
    "datamodule.augmentation": ([FLIP], [{**FLIP, "spatial_axis": 1}]),
    "module.sam2_model_cfg": ("sam2_nano", "configs/sam2.1/sam2.1_hiera_t.yaml"),
    "module.image_size": (256, 512),
    "module.lora.rank": (4, 8),
    "module.lora.alpha": (4.0, 8.0),
    "module.trainable.prompt_encoder": (False, True),
    "module.trainable.image_encoder": ({"only": ["neck"]}, {"only": ["trunk"]}),
    "module.trainable.mask_decoder": (True, {"only": ["iou"]}),
    "module.loss.seg": ("DiceLoss", "TverskyLoss"),
    "module.loss.seg_args": ({}, {"smooth_nr": 0.5}),
    "module.loss.ce": ("BCE", "FocalLoss"),
    "module.loss.ce_args": ({}, {"pos_weight": 2.0}),
    "module.loss.seg_loss_weight": (0.5, 0.7),
    "module.loss.ce_loss_weight": (0.5, 0.7),
    "module.loss.frame": ("original", "decoder"),
    "module.loss.iou_weight": (0.0, 0.1),
    "module.optimizer.type": ("AdamW", "NAdam"),
    "module.optimizer.lr": (1e-4, 2e-4),
    "module.optimizer.weight_decay": (0.01, 0.02),
    "module.optimizer.lr_scale": ({}, {"image_encoder": 0.1}),
    "module.optimizer.layer_decay": (None, 0.8),
    "module.optimizer.no_decay_norms": (False, True),
    "module.scheduler.type": ("StepLR", "ExponentialLR"),
    "module.scheduler.gamma": (0.1, 0.2),
    "module.scheduler.interval": ("epoch", "step"),
    "module.scheduler.monitor": ("val_loss", "train_loss"),
    "module.scheduler.warmup_steps": (0, 100),
    "module.num_epochs": (7, 9),
    "module.use_amp": (False, "bf16"),
    "module.clip_grad": (1.0, 2.0),
    "module.deterministic": (False, True),
    "module.compile": (False, True),
    "module.early_stopping.enabled": (True, False),
    "module.early_stopping.monitor": ("val_loss", "val_seg"),
    "module.early_stopping.patience": (3, 4),
    "module.early_stopping.min_delta": (0.1, 0.2),
    "module.prompts.box": (1.0, 0.5),
    "module.prompts.point": (0.0, 0.5),
    "module.prompts.mask": (0.0, 0.5),
    "module.prompts.max_instances_per_slice": (4, 8),
    "module.ema.decay": (0.9, 0.99),
}
"""Setting -> two values of which the texts must differ."""

BESIDES: dict[str, dict[str, Any]] = {
    "datamodule.balanced": {"dataset.second": {"store": "data/second"}},
    "module.lora.rank": {"module.trainable.image_encoder": False},
    "module.lora.alpha": {"module.trainable.image_encoder": False},
    "module.scheduler.type": {"module.scheduler": {"type": "StepLR", "step_size": 3, "gamma": 0.1}},
    "module.scheduler.gamma": {"module.scheduler": STEP},
    "module.scheduler.interval": {"module.scheduler": STEP},
    "module.scheduler.monitor": {"module.scheduler": PLATEAU},
    "module.scheduler.warmup_steps": {"module.scheduler": STEP},
}
"""What else is set with both values."""
TOGETHER: dict[str, dict[str, Any]] = {
    "module.scheduler.type": {"module.scheduler.step_size": None},
    "module.prompts.box": {"module.prompts.point": 0.5},
    "module.prompts.point": {"module.prompts.box": 0.5},
    "module.prompts.mask": {"module.prompts.box": 0.5},
}
"""What is set with the second value only; None removes the key."""
OF_CLASSES = {"module.optimizer.weight_decay", "module.scheduler.gamma"}
"""Arguments of classes of torch: not keys of the schema, but settings all the same."""


def training_keys(section: type[Section], path: str = "") -> Iterator[str]:
    """Dotted keys of the schema that affect training."""
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "affects" in extra:
            if extra["affects"] == "training" and name != "constructor_arguments":
                yield f"{path}{name}"
        else:
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, Section):
                    yield from training_keys(kind, f"{path}{name}.")


def text_of(settings: dict[str, Any]) -> str:
    """The methods text of a trained point whose experiment has these dotted settings."""
    tree: dict[str, Any] = {
        "experiment": {"name": "knee"},
        "dataset": {"oai": {"store": "data/oai"}},
        "module": {"sam2_model_cfg": "sam2_nano", "image_size": 256},
    }
    for key, value in settings.items():
        *sections, name = key.split(".")
        node = tree
        for one in sections:
            node = node.setdefault(one, {})
        if value is None and name == "step_size":
            node.pop(name)
        else:
            node[name] = dict(value) if isinstance(value, dict) else value
    experiment = parse_experiment(tree)
    limit = plain_values(experiment.datamodule.max_subject_set)
    sizes = {"train": 6, "val": 2, "test": 4}
    trained = 6 if limit == "full" else min(6, int(limit))
    data = DatasetFacts("oai", "knee", ("bone",), sizes, sizes, sizes, None, None, 42, trained=trained)
    point = PointRun(0, "point", "run")
    comparison = Comparison((ComparisonRow(point),), "run", "lowest val_loss")
    return methods_text(Study("knee", experiment, (data,), comparison, "run", epochs=5))


def test_every_setting_that_affects_training_is_in_the_text_or_has_a_reason():
    known = set(training_keys(Experiment))
    assert len(known) > 35
    assert known - CHANGED.keys() - UNSAID.keys() == set(), "write a sentence, or a reason in training_words.UNSAID"
    assert CHANGED.keys() - known == OF_CLASSES
    assert UNSAID.keys() <= known
    assert all(UNSAID.values())


@pytest.mark.parametrize("key", CHANGED)
def test_another_value_of_a_setting_gives_another_text(key):
    before, after = CHANGED[key]
    besides = BESIDES.get(key, {})
    assert text_of({**besides, key: before}) != text_of({**besides, key: after, **TOGETHER.get(key, {})})


@pytest.mark.parametrize(
    ("recorded", "use_amp", "words"),
    [
        (("bf16",), True, "bfloat16 (mixed precision)"),
        (("fp32", "bf16"), True, "float32 and bfloat16 (mixed precision)"),
        ((), False, "float32"),
        ((), "fp16", "float16 (mixed precision)"),
        ((), True, "was not recorded"),
        ((), "tf32", "was not recorded"),
        (("fp32",), "tf32", "float32"),
    ],
)
def test_the_precision_is_the_recorded_one_and_a_missing_record_is_said(recorded, use_amp, words):
    assert words in precision_words(recorded, use_amp)


def test_a_text_says_the_units_of_a_schedule_and_its_warm_up():
    text = text_of({"module.scheduler": {**STEP, "interval": "step", "warmup_steps": 50}})
    assert "`StepLR` (step_size 3, gamma 0.1)" in text
    assert "its lengths count steps" in text
    assert "over the first 50 steps it was scaled up linearly" in text


def test_subjects_that_were_left_out_are_not_counted_as_used():
    text = text_of({"datamodule.max_subject_set": 5})
    assert "Of its 6 training subjects, 5 were used" in text
    assert "All of its 6 training subjects were used; up to 40 were allowed" in text_of(
        {"datamodule.max_subject_set": 40}
    )
