# ruff: noqa: E501 (tables are read by column)
"""Every problem of a file at once, each with its place, what was found and what is allowed."""

from typing import Any

import pytest

from sam2ft.config.load_experiment import load_experiment


def in_module(minimal: str, line: str) -> str:
    return f"{minimal}  {line}\n"


def test_all_problems_of_a_file_come_at_once_in_the_order_of_the_file(write: Any, problems_of: Any) -> None:
    text = """\
experiment: {nam: x, seed: -1}
dataset:
  knee: {stor: data/knee}
datamodule:
  bbox_shift: 1.5
  metric: {func: {dice: 1}}
module:
  sam2_model_cfg: sam2_nan
  optimizer: {type: AdmaW, lr: 0}
  early_stopping: {patience: 0, monitor: val_los}
evall: {}
"""
    found = problems_of(load_experiment, write(text, "e.yaml"))
    assert [problem.split(": ")[:2] for problem in found] == [
        ["e.yaml:1", "experiment.name"],
        ["e.yaml:1", "experiment.nam"],
        ["e.yaml:1", "experiment.seed"],
        ["e.yaml:3", "dataset.knee.store"],
        ["e.yaml:3", "dataset.knee.stor"],
        ["e.yaml:5", "datamodule.bbox_shift"],
        ["e.yaml:6", "datamodule.metric.func.dice"],
        ["e.yaml:8", "module.sam2_model_cfg"],
        ["e.yaml:9", "module.optimizer.type"],
        ["e.yaml:9", "module.optimizer.lr"],
        ["e.yaml:10", "module.early_stopping.monitor"],
        ["e.yaml:10", "module.early_stopping.patience"],
        ["e.yaml:11", "evall"],
    ]
    assert "unknown key (did you mean name?); allowed: name, description, seed, baseline" in found[1]
    assert "found 1.5; allowed: a whole number" in found[5]
    assert "(did you mean sam2_nano?)" in found[7]
    assert "(did you mean AdamW?)" in found[8]
    assert "(did you mean val_loss?)" in found[10]
    assert "(did you mean eval?)" in found[12]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("num_epochs: ten", 'module.num_epochs: found "ten"; allowed: a whole number'),
        ("num_epochs: 10.0", "module.num_epochs: found 10.0; allowed: a whole number"),
        ("num_epochs: true", "module.num_epochs: found true; allowed: a whole number"),
        ("num_epochs: [1, 2]", "module.num_epochs: found [1, 2]; allowed: a whole number"),
        ("num_epochs:", "module.num_epochs: found null; allowed: a whole number"),
        ("visualize: no", 'module.visualize: found "no"; allowed: true or false'),
        ("clip_grad: .inf", "module.clip_grad: found Infinity; allowed: a finite number"),
        ("clip_grad: 1e999", "module.clip_grad: found Infinity; allowed: a finite number"),
        ("image_size: 100", "module.image_size: found 100; allowed: a multiple of 32"),
        ("image_size: 0", "module.image_size: found 0; allowed: at least 64"),
        ("use_amp: fp8", 'module.use_amp: found "fp8"; allowed: true or false or fp16, bf16, tf32'),
        (
            "use_amp: fp32",
            'module.use_amp: found "fp32"; allowed: false, which computes in fp32, or true, fp16, bf16, tf32',
        ),
        ("use_amp: 1", "module.use_amp: found 1; allowed: true or false or fp16, bf16, tf32"),
        ("sam2_checkpoint: ''", 'module.sam2_checkpoint: found "."; allowed: the path of a file or folder'),
        ("loss: 3", "module.loss: found 3; allowed: a mapping"),
        ("trainable: {mask_decoder: yes}", 'module.trainable.mask_decoder: found "yes"; allowed: true or false or a mapping'),
        ("trainable: {mask_decoder: {onyl: [x]}}", "module.trainable.mask_decoder.onyl: unknown key (did you mean only?); allowed: only"),
        ("trainable: {mask_decoder: {only: []}}", "module.trainable.mask_decoder.only: found 0 entries; allowed: at least 1"),
        ("trainable: {image_encoder: false, mask_decoder: false}", "module.trainable: no part is trained; allowed: true, or {only: [...]}, for at least one part"),
        ("trainable: {image_encoder: true}\n  lora: {rank: 4}", "module.trainable.image_encoder: found true, which trains the whole encoder, so that module.lora has no effect; allowed: false, or {only: [...]}"),
        ("lora: {rank: 0}", "module.lora.rank: found 0; allowed: at least 1"),
        ("lr: 1e-4", "module.lr: unknown key; it belongs to module.optimizer;"),
        ("prompts: {point: 0.5}", "module.prompts: box 1 + point 0.5 + mask 0 is 1.5; allowed: 1"),
        ("loss: {seg_loss_weight: 0, ce_loss_weight: 0}", "module.loss: all weights are 0, so nothing would be trained"),
        ("early_stopping: {monitor: val_dice}", "module.early_stopping.mode: val_dice is better when larger; allowed: max"),
        ("early_stopping: {monitor: val_iou}", "module.early_stopping.monitor: val_iou is not logged while module.loss.iou_weight is 0"),
        ("ema: {decay: 1}", "module.ema.decay: found 1; allowed: less than 1"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_with_what_is_allowed(
    write: Any, problems_of: Any, minimal: str, line: str, problem: str
) -> None:
    found = problems_of(load_experiment, write(in_module(minimal, line)))
    assert any(text.startswith(f"file.yaml:6: {problem}") for text in found), found


def test_a_bad_regular_expression_is_named_by_its_place_in_the_list(write: Any, problems_of: Any, minimal: str) -> None:
    text = in_module(minimal, 'trainable: {image_encoder: {only: ["ok", "trunk.blocks.[89"]}}')
    (found,) = problems_of(load_experiment, write(text))
    assert found.startswith(
        'file.yaml:6: module.trainable.image_encoder.only.1: found "trunk.blocks.[89", not a regular expression: '
    )


def test_low_rank_updates_beside_the_default_of_a_trained_encoder_are_refused(
    write: Any, problems_of: Any, minimal: str
) -> None:
    (found,) = problems_of(load_experiment, write(in_module(minimal, "lora: {rank: 4}")))
    assert found.startswith("file.yaml:4: module.trainable.image_encoder: found true, which trains the whole encoder")


def test_lora_alone_is_something_that_trains(write: Any, minimal: str) -> None:
    text = in_module(minimal, "trainable: {image_encoder: false, mask_decoder: false}") + "  lora: {rank: 4}\n"
    assert load_experiment(write(text)).experiment.module.lora is not None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("eval: {protocol: box_jitter}", "eval.protocol: box_jitter is the name in tables for protocol box with eval.bbox_shift"),
        ("eval: {protocol: boxes_file}", "eval.boxes_file: missing; protocol boxes_file needs it"),
        ("eval: {boxes_file: a.csv}", "eval.boxes_file: is used by protocol boxes_file only; leave the key out"),
        ("eval: {protocol: mask, bbox_shift: 3}", "eval.bbox_shift: it moves boxes of protocol box, not of mask; allowed: 0"),
        ("eval: {protocol: points, prompt_noise: {}}", "eval.prompt_noise: it moves boxes of protocol box, not of points; allowed: null"),
        ("eval: {object_batch: 4}", "eval.object_batch: it batches objects of protocol propagate, not of box; allowed: 1"),
        ("eval: {missed_distance: -1}", "eval.missed_distance: found -1; allowed: diagonal or more than 0"),
        ("datamodule: {num_classes: 0}", "datamodule.num_classes: found 0; allowed: at least 1"),
        ("datamodule: {max_subject_set: 0}", "datamodule.max_subject_set: found 0; allowed: full or more than 0"),
        ("datamodule: {max_subject_set: all}", 'datamodule.max_subject_set: found "all"; allowed: full or a whole number'),
        ("sweep: {grid: {}}", "sweep.grid: found 0 entries; allowed: at least 1"),
        ("sweep: {}", "sweep: has no points; allowed: grid, zip, list, random, seeds, include, points"),
        ("sweep: {grid: {module.num_epochs: []}}", "sweep.grid.module.num_epochs: found 0 entries; allowed: at least 1"),
        ("resources: {mem_gb: 0}", "resources.mem_gb: found 0; allowed: more than 0"),
    ],
)  # fmt: skip
def test_the_other_sections_are_as_strict(write: Any, problems_of: Any, minimal: str, line: str, problem: str) -> None:
    found = problems_of(load_experiment, write(f"{minimal}{line}\n"))
    assert any(text.startswith(f"file.yaml:6: {problem}") for text in found), found


@pytest.mark.parametrize("text", ["", "3", "[a]", "# only a comment"])
def test_a_file_that_is_no_mapping_is_refused(write: Any, problems_of: Any, text: str) -> None:
    (found,) = problems_of(load_experiment, write(text))
    assert found.startswith("file.yaml: ")
    assert found.endswith("allowed: a mapping of keys")


def test_names_that_cannot_be_folders_are_refused(write: Any, problems_of: Any, minimal: str) -> None:
    for name in ("../x", "a b", "_foreign", "'x.y'", "''"):
        (found,) = problems_of(load_experiment, write(minimal.replace("tiny", name)))
        assert found.startswith("file.yaml:1: experiment.name: found ")
