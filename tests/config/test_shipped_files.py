"""The YAML files that come with the project, and the schemas that editors use for them."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sam2ft.config.load_dataset import load_dataset
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.model_names import model_name
from sam2ft.config.yaml.loading import load_yaml
from sam2ft.jobs.preflight.preflight import resolve

ROOT = Path(__file__).parents[2]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
DATASETS = sorted((ROOT / "experiments" / "datasets").glob("*.yaml"))


def validator(name: str) -> Any:
    schema = json.loads((ROOT / "sam2ft" / "config" / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def stem(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", EXPERIMENTS, ids=stem)
def test_shipped_experiments_load_and_fit_their_schema(path: Path) -> None:
    load_experiment(path)
    validator("experiment").validate(load_yaml(path).value)


@pytest.mark.parametrize("path", DATASETS, ids=stem)
def test_shipped_datasets_load_and_fit_their_schema(path: Path) -> None:
    load_dataset(path)
    validator("dataset").validate(load_yaml(path).value)


@pytest.mark.parametrize("path", EXPERIMENTS + DATASETS, ids=stem)
def test_editors_find_the_schema_of_a_shipped_file(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (path.parent / first.removeprefix(prefix)).resolve().is_file()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"module": {"scheduler": {"type": "CosineAnnealingWarmRestarts", "T_max": 3}}}, "scheduler"),
        ({"module": {"optimizer": {"type": "LBFGS"}}}, "optimizer"),
        ({"module": {"optimizer": {"type": "AdamW", "lr": "fast"}}}, "optimizer"),
        ({"module": {"loss": {"seg": "DiceLos"}}}, "loss"),
        ({"modul": {}}, "modul"),
        ({"datamodule": {"bbox_shift": -1}}, "bbox_shift"),
    ],
)
def test_editors_mark_what_the_loader_refuses(change: dict[str, Any], word: str) -> None:
    value = {"extends": "quickstart.yaml", **change}
    errors = list(validator("experiment").iter_errors(value))
    assert errors
    assert any(word in str(error) for error in errors)


def test_editors_ask_for_what_is_required_unless_another_file_may_hold_it() -> None:
    assert list(validator("experiment").iter_errors({"module": {}}))
    assert not list(validator("experiment").iter_errors({"extends": "a.yaml", "module": {"num_epochs": 3}}))


def test_the_quickstart_stands_alone_and_spells_out_how_it_trains() -> None:
    value = load_yaml(ROOT / "experiments" / "quickstart.yaml").value
    assert not {"extends", "sweep"} & value.keys()
    assert {"num_epochs", "optimizer", "scheduler"} <= value["module"].keys()
    assert {"type", "lr"} <= value["module"]["optimizer"].keys()


def test_the_grid_has_four_points_and_a_baseline() -> None:
    loaded = load_experiment(ROOT / "experiments" / "lr_grid.yaml")
    assert len(loaded.points) == 4
    assert loaded.experiment.experiment.baseline
    assert loaded.where("module.num_epochs").startswith(str(ROOT / "experiments" / "quickstart.yaml"))
    assert loaded.where("experiment.name").startswith(str(ROOT / "experiments" / "lr_grid.yaml"))


def test_the_search_draws_momentum_for_sgd_only_and_gives_slow_points_time() -> None:
    points = load_experiment(ROOT / "experiments" / "optimizer_search.yaml").points
    assert len(points) == (12 + 1) * 2
    drawn = points[:-2]
    for point in drawn:
        optimizer = point.experiment.module.optimizer
        assert ("momentum" in optimizer.arguments) == (optimizer.type == "SGD")
        assert (point.experiment.module.num_epochs == 10) == (optimizer.lr <= 1e-4)
    assert {point.experiment.module.optimizer.type for point in drawn} == {"AdamW", "SGD"}
    assert [point.name for point in points[-2:]] == ["quickstart,seed=42", "quickstart,seed=43"]


STARTS = {"knee_sam21_tiny": 1, "spine_sam21_base": 1, "few_subjects": 12}


@pytest.mark.parametrize(("name", "count"), STARTS.items())
def test_a_starting_point_is_planned_before_weights_and_data_are_there(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    planned = resolve(load_experiment(ROOT / "experiments" / f"{name}.yaml"), dry_run=True)
    assert len(planned.points) == count + 1
    assert planned.runs == ()
    assert len(planned.warnings) == 2
    assert all("launch/prepare.py" in text or "`make weights`" in text for text in planned.warnings)


@pytest.mark.parametrize("name", STARTS)
def test_a_starting_point_takes_the_official_weights_of_its_model_by_one_name(name: str) -> None:
    for point in load_experiment(ROOT / "experiments" / f"{name}.yaml").points:
        module = point.experiment.module
        assert module.sam2_checkpoint is not None
        assert module.sam2_checkpoint.stem == model_name(module.sam2_model_cfg)
        assert module.image_size == 1024


def test_the_recipe_for_few_subjects_trains_the_decoder_alone_on_nested_subsets_with_three_seeds() -> None:
    points = [point.experiment for point in load_experiment(ROOT / "experiments" / "few_subjects.yaml").points]
    assert {point.datamodule.max_subject_set for point in points} == {2, 5, 10, "full"}
    assert {point.experiment.seed for point in points} == {42, 43, 44}
    assert all(point.module.lora is None and not point.module.trainable.image_encoder for point in points)
