"""One level of `extends:`, and overrides: what wins, and where errors point."""

from typing import Any

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.yaml.tree import load_tree, overridden, parse_overrides, split_key

BASE = """\
experiment: {name: base}
dataset:
  knee: {store: data/knee}
module:
  sam2_model_cfg: sam2_nano
  num_epochs: 3
  optimizer: {type: SGD, lr: 0.1, momentum: 0.9}
  scheduler: {type: StepLR, step_size: 3}
datamodule:
  augmentation: [{type: RandFlip}, {type: RandZoom}]
  metric: {tissues: [1, 2]}
"""


def test_mappings_merge_key_by_key_and_lists_replace(write: Any) -> None:
    write(BASE, "base.yaml")
    child = "extends: base.yaml\nexperiment: {name: child}\nmodule: {optimizer: {lr: 0.2}}\n"
    child += "datamodule: {metric: {tissues: [7]}, augmentation: []}\n"
    experiment = load_experiment(write(child)).experiment
    assert experiment.experiment.name == "child"
    assert experiment.module.num_epochs == 3
    assert experiment.module.optimizer.arguments == {"lr": 0.2, "momentum": 0.9}
    assert experiment.datamodule.metric.tissues == (7,)
    assert experiment.datamodule.augmentation == ()


def test_another_type_replaces_the_mapping_whole(write: Any) -> None:
    write(BASE, "base.yaml")
    text = "extends: base.yaml\nmodule: {optimizer: {type: AdamW}, scheduler: {type: StepLR, gamma: 0.5}}\n"
    module = load_experiment(write(text)).experiment.module
    assert module.optimizer.arguments == {"lr": 1e-4}, "momentum belonged to SGD"
    assert module.scheduler is not None
    assert module.scheduler.arguments == {"step_size": 3, "gamma": 0.5}, "the same type merges"


def test_null_replaces_a_mapping(write: Any) -> None:
    write(BASE, "base.yaml")
    assert load_experiment(write("extends: base.yaml\nmodule: {scheduler: null}\n")).experiment.module.scheduler is None


def test_extends_is_relative_to_the_file_that_holds_it(write: Any) -> None:
    write(BASE, "deep/er/base.yaml")
    path = write("extends: er/base.yaml\n", "deep/child.yaml")
    assert load_experiment(path).experiment.experiment.name == "base"


def test_an_error_points_into_the_file_that_the_value_came_from(write: Any, problems_of: Any) -> None:
    write(BASE.replace("num_epochs: 3", "num_epochs: x"), "base.yaml")
    found = problems_of(load_experiment, write("extends: base.yaml\nmodule:\n  grad_accum: y\n"))
    assert found == [
        'base.yaml:6: module.num_epochs: found "x"; allowed: a whole number',
        'file.yaml:3: module.grad_accum: found "y"; allowed: a whole number',
    ]


def test_a_missing_base_and_a_second_level_are_errors(write: Any, problems_of: Any) -> None:
    path = write("a: 1\nextends: none.yaml\n")
    assert problems_of(load_tree, path) == ["file.yaml:2: extends: no file none.yaml"]
    write("extends: other.yaml\n", "base.yaml")
    assert problems_of(load_tree, write("extends: base.yaml")) == [
        "file.yaml:1: extends: base.yaml extends another file itself; allowed: one level"
    ]
    assert problems_of(load_tree, write("extends: [a]")) == [
        'file.yaml:1: extends: found ["a"]; allowed: the path of another file, relative to this one'
    ]


def test_an_override_sets_one_key_and_keeps_the_others(write: Any) -> None:
    path = write(BASE)
    overrides = ["module.optimizer.lr=1e-4", "module.scheduler=null", "experiment.description=no"]
    experiment = load_experiment(path, overrides).experiment
    assert experiment.module.optimizer.arguments == {"lr": 1e-4, "momentum": 0.9}
    assert experiment.module.scheduler is None
    assert experiment.experiment.description == "no"


def test_an_override_makes_the_mappings_on_its_way(write: Any) -> None:
    experiment = load_experiment(write(BASE), ["eval.prompt_noise.shifts=[1, 2]", "module.ema.decay=0.9"]).experiment
    assert experiment.eval.prompt_noise is not None
    assert experiment.eval.prompt_noise.shifts == (1, 2)
    assert experiment.module.ema is not None
    assert experiment.module.ema.decay == 0.9


def test_an_override_replaces_a_mapping_whole(write: Any) -> None:
    experiment = load_experiment(write(BASE), ["module.optimizer={type: Adam, lr: 0.01}"]).experiment
    assert experiment.module.optimizer.arguments == {"lr": 0.01}


def test_an_override_reaches_into_a_list(write: Any) -> None:
    experiment = load_experiment(write(BASE), ["datamodule.augmentation.1.prob=0.7"]).experiment
    assert experiment.datamodule.augmentation[1].arguments == {"prob": 0.7}
    assert experiment.datamodule.augmentation[0].arguments == {}


def test_names_of_metrics_may_hold_dots(write: Any) -> None:
    experiment = load_experiment(write(BASE), ["datamodule.metric.func.pkg.mod:metric=true"]).experiment
    assert experiment.datamodule.metric.func == {"pkg.mod:metric": True}
    assert split_key("sweep.grid.module.optimizer.lr") == ("sweep", "grid", "module.optimizer.lr")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("module.num_epoch=3", "--set: module.num_epoch: unknown key (did you mean num_epochs?); allowed: "),
        ("modul.num_epochs=3", "--set: modul: unknown key (did you mean module?); allowed: "),
        ("module.num_epochs=x", '--set: module.num_epochs: found "x"; allowed: a whole number'),
        ("module.num_epochs.x=1", "--set: module.num_epochs: found a mapping; allowed: a whole number"),
        ("module.optimizer.weigth_decay=1", "--set: module.optimizer.weigth_decay: SGD takes no weigth_decay"),
        ("datamodule.augmentation.7.prob=1", "--set: datamodule.augmentation: found a mapping; allowed: a list"),
        ("module.num_epochs", '--set: found "module.num_epochs"; allowed: key=value, such as module.num_epochs=10'),
        ("=3", '--set: found "=3"; allowed: key=value, such as module.num_epochs=10'),
        ("module.num_epochs=[1", "--set: module.num_epochs: not valid YAML: "),
        ("module.optimizer.betas=[a]", "--set: module.optimizer.betas: SGD takes no betas"),
        ("module.loss.seg_args=" + "[" * 70 + "]" * 70, "--set: module.loss.seg_args: more than 60 levels of nesting"),
        ("experiment.description=\udce4", "--set: experiment.description: not UTF-8: '\\udce4'"),
        ("module.num_epochs=!!int 3", "--set: module.num_epochs: tag !!int; tags are not allowed"),
    ],
)
def test_a_wrong_override_is_named_as_such(write: Any, problems_of: Any, override: str, problem: str) -> None:
    (found,) = problems_of(load_experiment, write(BASE), [override])
    assert found.startswith(problem)


def test_overriding_leaves_the_tree_it_was_given(write: Any) -> None:
    tree = load_tree(write(BASE))
    before = repr(tree)
    changed = overridden(tree, [("datamodule.augmentation.0.prob", 1, "x"), ("module.optimizer.lr", 2, "x")])
    assert repr(tree) == before
    assert changed.value["module"]["optimizer"]["lr"] == 2
    assert changed.where(("module", "optimizer", "lr")) == "x"
    assert changed.where(("module", "optimizer", "momentum")) == "file.yaml:7"


def test_the_last_of_two_overrides_wins() -> None:
    assert parse_overrides(["a=1", "a=2"]) == [("a", 1), ("a", 2)]
