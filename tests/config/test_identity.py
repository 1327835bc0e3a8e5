"""Ids: what changes them, what does not, and one that must never change."""

from pathlib import Path
from typing import Any

import pytest

from sam2ft.config.identity import (
    baseline_id,
    eval_id,
    evaluation_identity,
    run_id,
    settings_affecting,
    training_identity,
)
from sam2ft.config.load_experiment import dump_experiment, load_experiment
from sam2ft.config.schema.base import Section, section, setting
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import MODELS, model_name
from sam2ft.core.errors import ProblemsError

TEXT = """\
experiment: {name: tiny, seed: 1}
dataset:
  knee: {store: data/knee}
module:
  sam2_model_cfg: sam2_nano
  image_size: 256
  optimizer: {type: AdamW, lr: 1e-4}
  scheduler: {type: StepLR, step_size: 3}
"""
VOLUMES = {"knee/a/image": "11", "knee/b/image": "22"}


def load(write: Any, *overrides: str) -> Experiment:
    return load_experiment(write(TEXT), overrides).experiment


def name(experiment: Experiment, **changes: Any) -> str:
    known = {"train_digests": VOLUMES, "split_digest": "33", "weights_sha256": "44", "slices_per_step": 4}
    return run_id(experiment, **(known | changes))


def test_one_run_id_stays_what_it_is(write: Any) -> None:
    """A change here renames every run of every user: raise IDENTITY_VERSION and say so in the CHANGELOG, or undo it."""
    assert name(load(write)) == "tiny-b59924391cd1c2bc"
    assert eval_id(load(write), "55") == "264ef96e3b9f"


@pytest.mark.parametrize(
    "override",
    [
        "module.optimizer.lr=0.0001",
        "module.optimizer.lr=1.0e-4",
        "module.optimizer.weight_decay=0.01",
        "module.optimizer.betas=[0.9, 0.999]",
        "module.optimizer.amsgrad=false",
        "module.scheduler.gamma=0.1",
        "module.clip_grad=1",
        "module.loss.seg_args.jaccard=false",
        "experiment.description=another",
        "experiment.baseline=false",
        "dataset.knee.store=/elsewhere/knee",
        "datamodule.num_workers=9",
        "datamodule.batch_size=2",
        "module.grad_accum=2",
        "module.sam2_checkpoint=weights/other.pt",
        "module.checkpoint.keep=5",
        "module.use_wandb=true",
        "resources.hours=2",
        "eval.protocol=point",
    ],
)
def test_what_cannot_change_the_weights_keeps_the_run_id(write: Any, override: str) -> None:
    assert name(load(write, override)) == name(load(write))


@pytest.mark.parametrize(
    "override",
    [
        "experiment.seed=2",
        "module.optimizer.lr=2e-4",
        "module.optimizer.type=Adam",
        "module.optimizer.amsgrad=true",
        "module.optimizer.lr_scale.image_encoder=0.1",
        "module.scheduler=null",
        "module.scheduler.step_size=4",
        "module.trainable.image_encoder=false",
        "module.trainable.image_encoder={only: [x]}",
        "module.ema.decay=0.9",
        "module.loss.seg=TverskyLoss",
        "module.loss.seg_args.jaccard=true",
        "module.use_amp=true",
        "module.num_epochs=3",
        "module.image_size=512",
        "module.early_stopping.enabled=false",
        "datamodule.bbox_shift=4",
        "datamodule.max_subject_set=3",
        "datamodule.augmentation=[{type: RandFlip}]",
    ],
)
def test_what_can_change_the_weights_changes_the_run_id(write: Any, override: str) -> None:
    assert name(load(write, override)) != name(load(write))


def test_low_rank_updates_are_part_of_the_run_id(write: Any) -> None:
    frozen = "module.trainable.image_encoder=false"
    names = {name(load(write, frozen, *more)) for more in ((), ("module.lora.rank=4",), ("module.lora.rank=8",))}
    assert len(names) == 3
    assert name(load(write, frozen, "module.lora.alpha=16")) in names, "the defaults, spelled out"
    assert name(load(write, frozen, "module.lora.alpha=8")) not in names


def test_data_weights_and_step_size_are_part_of_the_run_id(write: Any) -> None:
    experiment = load(write)
    others = [
        name(experiment, train_digests=VOLUMES | {"knee/a/image": "1x"}),
        name(experiment, split_digest="3x"),
        name(experiment, weights_sha256="4x"),
        name(experiment, slices_per_step=8),
        name(experiment, code_version="abc"),
    ]
    assert len({name(experiment), *others}) == 6


def test_the_order_of_volumes_and_the_type_of_a_whole_number_do_not_matter(write: Any) -> None:
    reverse = dict(reversed(VOLUMES.items()))
    assert name(load(write), train_digests=reverse) == name(load(write))
    assert name(load(write, "module.optimizer.lr=1")) == name(load(write, "module.optimizer.lr=1.0"))


def test_the_name_leads_the_id_and_is_not_hashed(write: Any) -> None:
    other = name(load(write, "experiment.name=other"))
    assert other == name(load(write)).replace("tiny-", "other-")


def test_an_evaluation_is_named_by_what_it_measures(write: Any) -> None:
    base = eval_id(load(write), "55")
    assert len(base) == 12
    assert eval_id(load(write, "module.optimizer.lr=2e-4", "eval.qc_slices=3", "eval.prompt_chunk=8"), "55") == base
    assert eval_id(load(write, "eval.protocol=point"), "55") != base
    assert eval_id(load(write, "datamodule.metric.func.hd95=true"), "55") != base
    assert eval_id(load(write), "56") != base
    assert eval_id(load(write), "55", {"eval.boxes_file": "66"}) != base


def test_a_file_of_boxes_counts_by_content_and_not_by_path(write: Any) -> None:
    first = load(write, "eval.protocol=boxes_file", "eval.boxes_file=a.csv")
    second = load(write, "eval.protocol=boxes_file", "eval.boxes_file=b.csv")
    assert eval_id(first, "55", {"eval.boxes_file": "66"}) == eval_id(second, "55", {"eval.boxes_file": "66"})


def test_a_baseline_is_named_by_the_model_and_its_weights_alone(write: Any) -> None:
    base = baseline_id(load(write), weights_sha256="44")
    assert base.startswith("tiny-")
    assert baseline_id(load(write, "module.optimizer.lr=1", "experiment.seed=9"), weights_sha256="44") == base
    assert baseline_id(load(write, "module.image_size=512"), weights_sha256="44") != base
    assert baseline_id(load(write), weights_sha256="45") != base
    assert base != name(load(write))


def test_no_path_is_in_an_identity(write: Any) -> None:
    experiment = load(write, "module.sam2_checkpoint=/secret/w.pt", "datamodule.stats_metadata_file=/secret/m.json")
    text = repr([training_identity(experiment), evaluation_identity(experiment)])
    assert "/" not in text.replace("configs/", "")


def test_defaults_of_a_class_are_spelled_out_so_that_a_changed_one_is_another_run(write: Any) -> None:
    identity = training_identity(load(write, "datamodule.augmentation=[{type: RandFlip}]"))
    assert identity["module"]["optimizer"]["lr"] == 1e-4
    assert identity["module"]["optimizer"]["weight_decay"] == 0.01
    assert identity["module"]["scheduler"]["gamma"] == 0.1
    assert identity["datamodule"]["augmentation"] == [{"type": "RandFlip", "prob": 0.1}]


def test_the_id_survives_config_yaml(write: Any) -> None:
    experiment = load(write, "module.trainable.image_encoder={only: ['a.b']}", "module.use_amp=true")
    again = load_experiment(write(dump_experiment(experiment), "config.yaml")).experiment
    assert again == experiment
    assert name(again) == name(experiment)


class Before(Section):
    lr: float = setting(0.1, "learning rate", affects="training")


class NewSection(Section):
    strength: float = setting(0.0, "of the new thing", affects="training", legacy=0)
    color: str = setting("red", "of the new thing", affects="nothing")


class After(Section):
    lr: float = setting(0.1, "learning rate", affects="training")
    smoothing: float = setting(0.5, "a key added later", affects="training", legacy=0.0)
    new: NewSection = section(NewSection, "a section added later")


def test_a_key_added_later_is_left_out_while_it_has_its_legacy_value() -> None:
    old = settings_affecting(Before(), "training")
    assert settings_affecting(After(smoothing=0.0), "training") == old
    assert settings_affecting(After(), "training") == {"lr": 0.1, "smoothing": 0.5}, (
        "the new default is not the legacy value"
    )
    changed = After(smoothing=0.0, new=NewSection(strength=0.1))
    assert settings_affecting(changed, "training") == {"lr": 0.1, "new": {"strength": 0.1}}


def test_paths_in_config_yaml_are_absolute(write: Any) -> None:
    text = dump_experiment(load(write, "module.sam2_checkpoint=weights/w.pt"))
    assert f"store: {Path.cwd()}/data/knee" in text
    assert f"sam2_checkpoint: {Path.cwd()}/weights/w.pt" in text


@pytest.mark.parametrize(("alias", "config"), sorted(MODELS.items()))
def test_the_short_name_of_a_model_is_its_config_in_every_id_and_record(write: Any, alias: str, config: str) -> None:
    short, full = (load(write, f"module.sam2_model_cfg={given}") for given in (alias, config))
    assert short == full
    assert dump_experiment(short) == dump_experiment(full)
    assert name(short) == name(full) != name(load(write))
    assert eval_id(short, "55") == eval_id(full, "55")
    assert model_name(full.module.sam2_model_cfg) == alias


def test_the_id_of_a_stock_model_stays_what_it_is(write: Any) -> None:
    assert name(load(write, "module.sam2_model_cfg=sam2.1_hiera_tiny")) == "tiny-0bc89a8eb4d49e71"


@pytest.mark.parametrize("given", ["sam2.1_tiny", "sam2.1_hiera_t", "hiera_tiny", "sam3", "configs/sam2.1/none.yaml"])
def test_a_name_of_no_model_lists_the_names_and_not_the_files(write: Any, given: str) -> None:
    with pytest.raises(ProblemsError, match=r"allowed: sam2_nano, sam2_hiera_tiny, .*sam2\.1_hiera_large"):
        load(write, f"module.sam2_model_cfg={given}")
