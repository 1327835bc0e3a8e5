"""Forms of a sweep beside the grid: what they draw and combine, and every way in which they do not fit."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.sweep import Sweep
from sam2ft.config.sweep.combinations import MAX_POINTS, combinations
from sam2ft.config.sweep.conditions import holds, same
from sam2ft.config.sweep.names import unique
from sam2ft.config.sweep.overrides import Override, value_at

Point = dict[str, Any]


def points(sweep: Mapping[str, Any]) -> list[Point]:
    """What each point sets. The sweep has to fit."""
    found, misfits = combinations(Sweep.model_validate_json(json.dumps(sweep)))
    assert not misfits
    assert len({combination.name for combination in found}) == len(found)
    return [{override.key: override.value for override in combination.overrides} for combination in found]


def values(rule: Mapping[str, Any]) -> list[Any]:
    return [point["x"] for point in points({"grid": {"x": rule}})]


KEYS = st.sampled_from([f"section.key{number}" for number in range(8)])
SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.sampled_from(["SGD", "AdamW"]))
GRIDS = st.dictionaries(KEYS, st.lists(SCALARS, min_size=1, max_size=3), min_size=1, max_size=3)
DRAWS = st.one_of(
    st.builds(lambda a, b: {"uniform": [a, a + b]}, st.integers(-3, 3), st.integers(1, 5)),
    st.builds(lambda a, b: {"loguniform": [a, a * b]}, st.floats(1e-6, 1.0), st.integers(2, 1000)),
    st.builds(lambda a, b: {"int": [a, a + b]}, st.integers(-3, 3), st.integers(1, 5)),
    st.builds(lambda entries: {"choice": entries}, st.lists(SCALARS, min_size=1, max_size=4)),
)
PARAMETERS = st.dictionaries(KEYS, DRAWS, min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(GRIDS, st.integers(1, 4), st.integers(1, 5))
def test_counts_multiply(grid: dict[str, list[Any]], num_seeds: int, num_entries: int) -> None:
    sweep = {
        "grid": grid,
        "zip": {"a.first": list(range(3)), "a.second": list("xyz")},
        "list": [{"b.one": number} for number in range(num_entries)],
        "random": {"num": 2, "parameters": {"c.drawn": {"uniform": [0, 1]}}},
        "seeds": num_seeds,
    }
    expected = 3 * num_entries * 2 * num_seeds
    for column in grid.values():
        expected *= len(column)
    found = points(sweep)
    assert len(found) == expected
    assert {(point["a.first"], point["a.second"]) for point in found} == {(0, "x"), (1, "y"), (2, "z")}


@settings(deadline=None, max_examples=30)
@given(GRIDS, st.data())
def test_what_is_excluded_never_appears_and_nothing_else_is_missing(grid: dict[str, list[Any]], data: Any) -> None:
    everything = points({"grid": grid})
    chosen = data.draw(st.sampled_from(everything))
    keys = data.draw(st.lists(st.sampled_from(list(grid)), min_size=1, unique=True))
    condition = {key: chosen[key] for key in keys}

    def matches(point: Point) -> bool:
        return all(same(point[key], value) for key, value in condition.items())

    left = [point for point in everything if not matches(point)]
    # One more point, so that there is something left.
    found = points({"grid": grid | {"z.more": [0, 1]}, "exclude": [condition | {"z.more": 0}]})
    assert [point for point in found if point["z.more"] == 0] == [point | {"z.more": 0} for point in left]
    assert len(found) == len(left) + len(everything)


@settings(deadline=None, max_examples=30)
@given(PARAMETERS, DRAWS, st.integers(0, 5), st.integers(1, 6), st.data())
def test_another_parameter_or_more_draws_change_no_draw(
    parameters: dict[str, Any], more: dict[str, Any], seed: int, num: int, data: Any
) -> None:
    before = points({"random": {"num": num, "seed": seed, "parameters": parameters}})
    items = [*parameters.items(), ("another.key", more)]
    shuffled = dict(data.draw(st.permutations(items)))
    after = points({"random": {"num": num + 3, "seed": seed, "parameters": shuffled}})
    assert [{key: point[key] for key in parameters} for point in after[:num]] == before


@settings(deadline=None, max_examples=30)
@given(PARAMETERS, DRAWS, st.integers(0, 5), st.integers(1, 6))
def test_a_sobol_parameter_added_at_the_end_changes_no_draw(
    parameters: dict[str, Any], more: dict[str, Any], seed: int, num: int
) -> None:
    search = {"num": num, "seed": seed, "method": "sobol"}
    before = points({"random": search | {"parameters": parameters}})
    after = points({"random": search | {"num": num + 3, "parameters": parameters | {"another.key": more}}})
    assert [{key: point[key] for key in parameters} for point in after[:num]] == before


@pytest.mark.parametrize("method", ["independent", "sobol"])
def test_parameters_are_not_correlated_and_fill_their_range(method: str) -> None:
    ends = {"uniform": [0, 1]}
    search = {"num": 256, "method": method, "parameters": {"a.lr": ends, "b.lr": ends, "b.lr2": ends}}
    far = points({"random": search | {"parameters": {"x": {"loguniform": [1e-300, 1e300]}}}})
    assert all(1e-300 <= point["x"] <= 1e300 for point in far)
    found = points({"random": search})
    for left, right in (("a.lr", "b.lr"), ("b.lr", "b.lr2"), ("a.lr", "b.lr2")):
        x, y = ([point[key] - 0.5 for point in found] for key in (left, right))
        # Of 256 independent pairs 0.25 is four standard errors.
        assert abs(sum(a * b for a, b in zip(x, y, strict=True))) / (256 / 12) < 0.25
    boxes = [[int(16 * min(point[key], 0.999)) for key in ("a.lr", "b.lr")] for point in found]
    assert len({(x // 4, y // 4) for x, y in boxes}) == 16
    if method == "sobol":  # equally many points in every elementary box, but for those that rounding moves
        assert all(14 <= sum(x == box for x, _ in boxes) <= 18 for box in range(16))


@settings(deadline=None, max_examples=30)
@given(DRAWS, st.integers(1, 50))
def test_draws_stay_in_their_ends(draw: dict[str, Any], num: int) -> None:
    ((kind, ends),) = draw.items()
    for point in points({"random": {"num": num, "parameters": {"x": draw}}}):
        if kind == "choice":
            assert any(same(point["x"], entry) for entry in ends)
        else:
            assert ends[0] <= point["x"] <= ends[1]
            assert isinstance(point["x"], int) == (kind == "int")


def test_the_order_of_points_is_that_of_the_file_whatever_the_interpreter_hashes(run_python: Any) -> None:
    sweep = {
        "grid": {"b.x": ["u", "v"], "a.y": [{"type": "SGD", "lr": 1}, "w"]},
        "random": {"num": 3, "parameters": {"q": {"choice": ["a", "b", "c"]}, "p": {"uniform": [0, 1]}}},
    }
    code = (
        "from sam2ft.config.schema.sweep import Sweep; from sam2ft.config.sweep.combinations import combinations\n"
        f"found, _ = combinations(Sweep.model_validate_json({json.dumps(sweep)!r}))\n"
        "print([(point.name, [entry.key for entry in point.overrides]) for point in found])"
    )
    assert len({run_python(code, PYTHONHASHSEED=str(seed)) for seed in (1, 2, 3)}) == 1


def test_numbers_of_a_series_are_those_that_a_person_would_write() -> None:
    log = values({"logrange": {"start": 1e-6, "stop": 1e-1, "num": 6}})
    assert [repr(number) for number in log] == ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1"]
    assert values({"logrange": {"start": 1e-3, "stop": 1e-5, "num": 3}}) == [1e-3, 1e-4, 1e-5]
    assert values({"logrange": {"start": 1, "stop": 1024, "num": 11}}) == [2**power for power in range(11)]
    near = values({"logrange": {"start": 1.0, "stop": 1.001, "num": 101}})
    assert len(set(near)) == 101
    assert values({"logrange": {"start": 1e-300, "stop": 1e300, "num": 3}}) == [1e-300, 1.0, 1e300]
    assert values({"logrange": {"start": 2, "stop": 2, "num": 2}}) == [2, 2]
    assert values({"range": {"start": 0.1, "stop": 0.7, "step": 0.1}}) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert values({"range": {"start": 10, "stop": 1, "step": -4}}) == [10, 6, 2]
    assert [type(number) for number in values({"range": {"start": 1, "stop": 2, "step": 1}})] == [int, int]


def test_a_condition_sees_into_mappings_and_tells_true_from_1() -> None:
    point = (Override("a", {"type": "SGD", "b": {"c": 3}}, ()), Override("n", 1, ()), Override("l", (1, 2), ()))
    assert value_at(point, "a.b.c") == 3
    assert holds({"a.type": "SGD", "n": (2, 1.0)}, point)
    assert holds({"l": (1, 2)}, point)
    assert holds({"n": {"min": 1, "max": 1}}, point)
    for condition in ({"n": True}, {"a.type": "Adam"}, {"n": {"min": 2}}, {"a.d": None}, {"missing": 1}):
        assert not holds(condition, point)


def test_names_stay_unique_even_beside_one_that_looks_numbered() -> None:
    assert unique(["a (2)", "a", "a", "a"]) == ["a (2)", "a", "a (3)", "a (4)"]


def test_seeds_count_up_from_the_seed_of_the_file(write: Any, minimal: str) -> None:
    text = minimal.replace("{name: tiny}", "{name: tiny, seed: 7}") + "sweep: {seeds: 3}\n"
    assert [point.experiment.experiment.seed for point in load_experiment(write(text)).points] == [7, 8, 9]
    set_by_hand = load_experiment(write(text), ["experiment.seed=100"])
    assert [point.experiment.experiment.seed for point in set_by_hand.points] == [100, 101, 102]


def test_a_point_with_a_seed_of_its_own_keeps_it(write: Any, minimal: str) -> None:
    text = minimal + "sweep: {seeds: [1, 2], points: {a: {experiment.seed: 9}, b: {}}}\n"
    assert [point.name for point in load_experiment(write(text)).points] == ["a", "b,seed=1", "b,seed=2"]


def test_overrides_reach_the_points_that_match_and_no_name(write: Any, minimal: str) -> None:
    text = f"""{minimal}sweep:
  grid: {{module.image_size: [256, 512, 1024]}}
  overrides:
  - {{if: {{module.image_size: {{min: 512}}}}, set: {{resources.mem_gb: 100, resources.eval: {{hours: 1}}}}}}
  - {{if: {{module.image_size: 1024}}, set: {{resources.mem_gb: 200}}}}
"""
    loaded = load_experiment(write(text))
    assert [point.experiment.resources.mem_gb for point in loaded.points] == [64, 100, 200]
    assert [point.experiment.resources.eval is None for point in loaded.points] == [True, False, False]
    assert [point.name for point in loaded.points] == ["image_size=256", "image_size=512", "image_size=1024"]
    assert dict(loaded.points[2].overrides)["resources.mem_gb"] == 200


SGD = "  grid: {module.optimizer.type: [SGD, AdamW]}\n"


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        (
            "  zip:\n    module.optimizer.lr: [1, 2, 3]\n    datamodule.batch_size: [1, 2]\n",
            ["7: sweep.zip: lists of different length: module.optimizer.lr has 3, datamodule.batch_size has 2"],
        ),
        (
            SGD + "  when:\n  - if: {module.optimizer.type: Adam}\n    grid: {module.grad_accum: [1]}\n",
            ["9: sweep.when.0.if: holds for no point; module.optimizer.type is SGD, AdamW"],
        ),
        (
            SGD + "  when:\n  - if: {module.optimizer.typ: SGD}\n    grid: {module.grad_accum: [1]}\n",
            ["9: sweep.when.0.if: uses module.optimizer.typ (did you mean module.optimizer.type?), which no earlier"],
        ),
        (SGD + "  exclude:\n  - {module.optimizer.type: Adam}\n", ["9: sweep.exclude.0: holds for no point"]),
        (
            SGD + "  exclude: [{module.optimizer.type: [SGD, AdamW]}]\n",
            ["8: sweep.exclude: excludes all 2 points"],
        ),
        (
            SGD + "  overrides:\n  - if: {module.optimizer.type: SGD}\n    set: {module.optimizer.type: AdamW}\n",
            ["10: sweep.overrides.0.set.module.optimizer.type: would change module.optimizer.type, which is set in"],
        ),
        (
            SGD + "  overrides: [{if: {module.optimizer.type: x}, set: {resources.hours: 1}}]\n",
            ["8: sweep.overrides.0.if: holds for no point"],
        ),
        (
            "  random: {num: 2, parameters: {module.grad_accum: {int: [1, 2], if: {module.clip_grad: 1}}}}\n",
            ["7: sweep.random.parameters.module.grad_accum.if: uses module.clip_grad"],
        ),
        (
            "  grid: {experiment.seed: [1]}\n  seeds: 2\n",
            ["8: sweep.seeds: is also set by sweep.grid.experiment.seed"],
        ),
        (
            "  list: [{module.grad_accum: 1}]\n  grid: {module.grad_accum: [1]}\n",
            ["7: sweep.list.0.module.grad_accum: is also set by sweep.grid.module.grad_accum"],
        ),
        ("  points: {baseline: {}}\n", ["7: sweep.points.baseline: is the name of the untrained model's point"]),
        ("  points: {a b: {}}\n", ['7: sweep.points.a b: found "a b"; allowed: up to 64 letters']),
        (
            "  grid: {module.grad_accum: {range: {start: 1, stop: 9, step: -1}}}\n",
            ["7: sweep.grid.module.grad_accum.range: step -1 does not lead from 1 to 9"],
        ),
        (
            "  grid: {module.grad_accum: {rang: {}}}\n",
            ["7: sweep.grid.module.grad_accum.rang: unknown key (did you mean"],
        ),
        ("  seeds: []\n", ["7: sweep.seeds: found 0 entries; allowed: at least 1"]),
        ("  seeds: 0\n", ["7: sweep.seeds: found 0; allowed: at least 1"]),
        (
            "  random: {num: 1, parameters: {module.grad_accum: {int: [1, 2], choice: [3]}}}\n",
            ["7: sweep.random.parameters.module.grad_accum: allowed: one of uniform, loguniform, int, choice"],
        ),
        (
            "  random: {num: 1, parameters: {module.grad_accum: {loguniform: [0, 1]}}}\n",
            ["7: sweep.random.parameters.module.grad_accum.loguniform: found [0, 1]; allowed: [lowest, highest], both"],
        ),
        (
            "  random: {num: 1, parameters: {module.grad_accum: {uniform: [2, 1]}}}\n",
            ["7: sweep.random.parameters.module.grad_accum.uniform: found [2, 1]; allowed: [lowest, highest]"],
        ),
        (
            "  random: {num: 1, parameters: {module.clip_grad: {uniform: [-1e308, 1e308]}}}\n",
            ["7: sweep.random.parameters.module.clip_grad.uniform: found [-1e+308, 1e+308]; allowed"],
        ),
        (
            "  when: [{grid: {module.grad_accum: [1]}}]\n  seeds: 2\n",
            ["7: sweep.when.0.if: missing; dotted key -> value, list of allowed values or {min, max}; all keys"],
        ),
        (
            "  grid: {module.num_epochs: {range: {start: 1, stop: 500, step: 1}}}\n  seeds: 500\n",
            [f"6: sweep: has more than {MAX_POINTS} points"],
        ),
    ],
)
def test_what_does_not_fit(write: Any, problems_of: Any, minimal: str, lines: str, problems: list[str]) -> None:
    found = problems_of(load_experiment, write(f"{minimal}sweep:\n{lines}"))
    assert len(found) == len(problems), found
    for text, problem in zip(found, problems, strict=True):
        assert text.startswith(f"file.yaml:{problem}"), found


def test_an_unknown_key_is_named_once_at_its_line_with_everything_else(
    write: Any, problems_of: Any, minimal: str
) -> None:
    text = f"""{minimal}  num_epochs: x
sweep:
  grid:
    module.optimiser.lr:
    - 1
    - 2
    dataset.knee.stor: [a]
  zip: {{module.grad_accum: [1], module.clip_grad: [1, 2]}}
"""
    found = problems_of(load_experiment, write(text))
    assert [problem.split("; ")[0] for problem in found] == [
        "file.yaml:9: module.optimiser: unknown key (did you mean optimizer?)",
        "file.yaml:12: dataset.knee.stor: unknown key (did you mean store?)",
        "file.yaml:13: sweep.zip: lists of different length: module.grad_accum has 1, module.clip_grad has 2",
        'file.yaml:6: module.num_epochs: found "x"',
    ]


@pytest.mark.parametrize(
    "key", ["module.optimizer.weight_decay", "module.loss.seg_args.smooth_nr", "datamodule.metric.func.a.b:c",
            "datamodule.augmentation.0.prob", "module.trainable.image_encoder.only", "dataset.other.store",
            "module.ema.decay", "eval.prompt_noise.shifts", "resources.eval.hours"],
)  # fmt: skip
def test_keys_that_a_file_could_hold_are_known(key: str) -> None:
    from sam2ft.config.schema.experiment import Experiment
    from sam2ft.config.yaml.problems import unknown_key
    from sam2ft.config.yaml.tree import split_key

    assert unknown_key(Experiment, split_key(key)) is None


def test_a_later_check_names_the_line_of_the_swept_value(write: Any, minimal: str) -> None:
    loaded = load_experiment(write(f"{minimal}sweep:\n  grid:\n    module.sam2_checkpoint: [a.pt]\n"))
    assert loaded.where("module.sam2_checkpoint") == "file.yaml:8"
    assert loaded.where("module.sam2_model_cfg") == "file.yaml:5"


def test_only_sobol_needs_scipy(run_python: Any) -> None:
    code = (
        "import sys; from sam2ft.config.schema.sweep import Sweep\n"
        "from sam2ft.config.sweep.combinations import combinations\n"
        "import json; search = {'num': 4, 'method': METHOD, 'parameters': {'x': {'uniform': [0, 1]}}}\n"
        "combinations(Sweep.model_validate_json(json.dumps({'random': search})))\n"
        "print('scipy' in sys.modules, 'torch' in sys.modules)"
    )
    assert run_python(code.replace("METHOD", "'independent'")) == "False False"
    assert run_python(code.replace("METHOD", "'sobol'")) == "True False"


@pytest.fixture
def run_python() -> Any:
    import os
    import subprocess

    def run(code: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run
