"""Grids as lists of points: their order, their names, and all errors of all points at once."""

import time
from typing import Any

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.sweep import Sweep
from sam2ft.config.sweep.combinations import combinations
from sam2ft.config.sweep.names import short_names, unique, value_name


def test_the_last_key_changes_fastest_and_names_say_what_changed() -> None:
    points, _ = combinations(Sweep(grid={"module.optimizer.lr": (1e-3, 1e-4), "experiment.seed": (1, 2)}))
    assert [point.name for point in points] == [
        "lr=0.001,seed=1",
        "lr=0.001,seed=2",
        "lr=0.0001,seed=1",
        "lr=0.0001,seed=2",
    ]
    assert points[1].overrides[1].location == ("sweep", "grid", "experiment.seed", "1")


def test_names_are_as_short_as_they_can_be_told_apart() -> None:
    keys = ["module.prompts.box", "eval.protocol", "datamodule.bbox_shift", "eval.bbox_shift"]
    assert short_names(keys) == {
        "module.prompts.box": "box",
        "eval.protocol": "protocol",
        "datamodule.bbox_shift": "datamodule.bbox_shift",
        "eval.bbox_shift": "eval.bbox_shift",
    }
    keys = ["module.optimizer.lr", "module.scheduler.type", "module.optimizer.type", "lr"]
    assert list(short_names(keys).values()) == ["optimizer.lr", "scheduler.type", "optimizer.type", "lr"]
    assert short_names(["a.x", "x"]) == {"a.x": "a.x", "x": "x"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1e-5, "1e-05"),
        (True, "true"),
        (None, "null"),
        ("DiceLoss", "DiceLoss"),
        ([1, 2], "[1 2]"),
        ({"type": "SGD"}, "SGD"),
        ({"type": "SGD", "lr": 0.1}, "SGD(lr=0.1)"),
        ({"box": 1.0}, "(box=1.0)"),
    ],
)
def test_values_are_named_as_people_would(value: Any, name: str) -> None:
    assert value_name(value) == name


def test_every_name_is_there_once() -> None:
    assert unique(["a", "b", "a"]) == ["a", "b", "a (2)"]


def grid(minimal: str, lines: str) -> str:
    return f"{minimal}sweep:\n  grid:\n{lines}"


def test_a_point_holds_its_overrides_and_no_sweep(write: Any, minimal: str) -> None:
    text = grid(
        minimal, "    module.optimizer: [{type: SGD, momentum: 0.9}, {type: Adam}]\n    module.optimizer.lr: [0.1, 1]\n"
    )
    loaded = load_experiment(write(text))
    assert [point.index for point in loaded.points] == [0, 1, 2, 3]
    assert [point.experiment.module.optimizer.arguments for point in loaded.points] == [
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 1, "momentum": 0.9},
        {"lr": 0.1},
        {"lr": 1},
    ]
    assert all(point.experiment.sweep is None for point in loaded.points)
    assert loaded.points[3].overrides == (("module.optimizer", {"type": "Adam"}), ("module.optimizer.lr", 1))


def test_an_experiment_without_a_sweep_is_one_point(write: Any, minimal: str) -> None:
    (point,) = load_experiment(write(minimal)).points
    assert (point.index, point.name, point.overrides) == (0, "tiny", ())


def test_a_sweep_may_give_what_the_file_lacks(write: Any, minimal: str) -> None:
    text = grid(
        minimal.replace("  sam2_model_cfg: sam2_nano\n", "  num_epochs: 1\n"),
        "    module.sam2_model_cfg: [sam2_nano]\n",
    )
    assert len(load_experiment(write(text)).points) == 1


def test_problems_of_all_points_come_once_with_the_line_of_the_value(
    write: Any, problems_of: Any, minimal: str
) -> None:
    lines = "    module.optimizer.lr:\n    - 0.1\n    - fast\n    - -1\n    experiment.seed: [1, 2]\n"
    found = problems_of(load_experiment, write(grid(minimal + "  num_epochs: x\n", lines)))
    assert found == [
        'file.yaml:6: module.num_epochs: found "x"; allowed: a whole number',
        'file.yaml:11: module.optimizer.lr: found "fast"; allowed: a number (point lr=fast,seed=1 and 1 more)',
        "file.yaml:12: module.optimizer.lr: found -1; allowed: more than 0 (point lr=-1,seed=1 and 1 more)",
    ]


def test_a_combination_that_does_not_fit_names_the_point(write: Any, problems_of: Any, minimal: str) -> None:
    text = minimal + "  optimizer: {momentum: 0.9}\n"
    found = problems_of(load_experiment, write(grid(text, "    module.optimizer.type: [SGD, AdamW]\n")))
    assert len(found) == 1
    assert found[0].startswith("file.yaml:6: module.optimizer.momentum: AdamW takes no momentum (")
    assert found[0].endswith("(point type=AdamW)")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("    module.lr: [1]\n", "file.yaml:8: module.lr: unknown key; it belongs to module.optimizer; allowed: "),
        ("    experiment.name: [a]\n", "file.yaml:8: sweep.grid.experiment.name: experiment.name cannot be swept"),
        ("    sweep.grid: [a]\n", "file.yaml:8: sweep.grid.sweep.grid: sweep.grid cannot be swept"),
        ("    module.num_epochs: 3\n", "file.yaml:8: sweep.grid.module.num_epochs: found 3; allowed: a list"),
        (
            "    module.optimizer.lr: [1]\n    module.optimizer: [{type: SGD}]\n",
            "file.yaml:9: sweep.grid.module.optimizer: would replace module.optimizer.lr; write it before that key",
        ),
    ],
)
def test_what_cannot_be_swept(write: Any, problems_of: Any, minimal: str, lines: str, problem: str) -> None:
    found = problems_of(load_experiment, write(grid(minimal, lines)))
    assert found[0].startswith(problem), found


def test_other_forms_are_unknown_keys(write: Any, problems_of: Any, minimal: str) -> None:
    found = problems_of(load_experiment, write(f"{minimal}sweep: {{grid: {{module.num_epochs: [1]}}, gird: {{}}}}\n"))
    assert len(found) == 1
    assert found[0].startswith("file.yaml:6: sweep.gird: unknown key (did you mean grid?); allowed: grid, zip, list, ")


def test_set_may_change_or_end_a_sweep_but_not_fight_with_it(write: Any, problems_of: Any, minimal: str) -> None:
    path = write(grid(minimal, "    module.num_epochs: [1, 2]\n"))
    assert len(load_experiment(path, ["sweep.grid.module.num_epochs=[3, 4, 5]"]).points) == 3
    assert len(load_experiment(path, ["sweep.grid.experiment.seed=[1, 2]"]).points) == 4
    assert len(load_experiment(path, ["sweep=null"]).points) == 1
    assert problems_of(load_experiment, path, ["module.num_epochs=7"]) == [
        "--set: module.num_epochs: is swept by module.num_epochs; "
        "use --set sweep.grid.module.num_epochs=[...], or --set sweep=null"
    ]


def test_ten_thousand_points_are_validated_in_seconds(write: Any, minimal: str) -> None:
    values = ", ".join(f"{number}e-6" for number in range(1, 1001))
    path = write(
        grid(minimal, f"    module.optimizer.lr: [{values}]\n    experiment.seed: [{', '.join(map(str, range(10)))}]\n")
    )
    start = time.perf_counter()
    points = load_experiment(path).points
    assert len(points) == len({point.name for point in points}) == 10_000
    assert time.perf_counter() - start < 20, "2.5 s on one idle core; a login node has 10 s for plan and validation"
