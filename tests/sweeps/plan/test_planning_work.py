"""Planning a large sweep does the work of its differences: counted, because seconds depend on the machine."""

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

import sam2ft.config.identity
import sam2ft.core.files
import sam2ft.runs.plan_file
from sam2ft.config.identity import (
    eval_id,
    evaluation_identity,
    id_of,
    run_content,
    settings_affecting,
    training_identity,
)
from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import canonical_json
from sam2ft.data.store.store import Store
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import load_plan, save_plan
from sam2ft.sweeps.plan.plan import make_plan

GRID = """sweep:
  grid:
    module.optimizer.lr: {range: {start: 1, stop: 40, step: 1}}
    module.optimizer.weight_decay: [0, 0.1]
    experiment.seed: [1, 2, 3, 4, 5]
"""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the expensive steps are taken."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    count(sam2ft.core.files, "sha256_file")
    count(sam2ft.config.identity, "settings_affecting")
    count(sam2ft.runs.plan_file, "canonical_json")
    count(Store, "split_volumes")
    return counted


def test_what_400_points_share_is_done_once(toy: Any, calls: Counter[str]) -> None:
    loaded = load_experiment(toy.write(more=GRID))
    assert len(loaded.points) == 400
    experiments = [point.experiment for point in loaded.points]
    assert len({id(experiment.module) for experiment in experiments}) == 80
    assert len({id(experiment.experiment) for experiment in experiments}) == 5
    assert len({id(experiment.datamodule) for experiment in experiments}) == 1
    plan = make_plan(resolve(loaded))
    layout = ExperimentLayout.of("toy")
    save_plan(layout, plan)
    assert load_plan(layout, plan.plan_id).plan_id == plan.plan_id
    assert calls["sha256_file"] == 1, "the weights"
    assert calls["split_volumes"] == 3, "train, val, test"
    assert calls["canonical_json"] == 2, "once for the id, once to check what was read"
    # Each section, for each of the two identities, with the sections in it (at most ten).
    assert calls["settings_affecting"] <= (80 + 5 + 6) * 2 * 10


def test_ids_are_those_of_the_whole_content(toy: Any) -> None:
    """Sections are written apart and put together: byte for byte the canonical JSON of all."""
    loaded = load_experiment(toy.write(more=GRID))
    known: dict[str, Any] = {"split_digest": "s", "weights_sha256": "w", "slices_per_step": 4}
    for point in loaded.points[::37]:
        volumes = {"b": "2", "a": "1"}
        whole = id_of(point.experiment, run_content(point.experiment, train_digests=volumes, **known))
        assert sam2ft.config.identity.run_id(point.experiment, train_digests=volumes, **known) == whole
        written = sam2ft.config.identity._settings(point.experiment, "training").text
        assert written == canonical_json(training_identity(point.experiment))
        written = sam2ft.config.identity._settings(point.experiment, "evaluation").text
        assert (
            written
            == canonical_json(evaluation_identity(point.experiment))
            == canonical_json(settings_affecting(point.experiment, "evaluation"))
        )
        assert eval_id(point.experiment, "s") != eval_id(point.experiment, "t")


def test_sections_may_be_shared_because_none_is_judged_by_another() -> None:
    """SharedSections (config/yaml/validation.py) would be too lenient otherwise."""
    found = Experiment.__pydantic_decorators__
    assert not found.validators
    assert not found.field_validators
    assert not found.root_validators
    assert not found.model_validators


def test_a_plan_of_a_hundred_points_imports_neither_torch_nor_scipy(toy: Any) -> None:
    toy.write(more="sweep: {grid: {module.optimizer.lr: {range: {start: 1, stop: 100, step: 1}}}}\n")
    code = (
        "import sys; from sam2ft.cli.sweep import main\n"
        "sys.argv[1:] = ['toy.yaml', '--dry-run', '--local', '1']; main()\n"
        "print([name for name in ('torch', 'scipy', 'pandas', 'monai', 'sam2') if name in sys.modules])"
    )
    root = str(sam2ft.core.files.__file__).rpartition("/sam2ft/")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=toy.folder, env={"PYTHONPATH": root, "PATH": ""}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
    assert "101 to submit" in done.stdout
