"""An experiment file as a value: every point of its sweep validated, or every problem of it at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from sam2ft.config.base import OpenSection, Section
from sam2ft.config.binding import shown
from sam2ft.config.loading import KeyPath, dump_yaml
from sam2ft.config.problems import problems_of, unknown_key
from sam2ft.config.schema import Experiment
from sam2ft.config.schema_eval import ExperimentInfo
from sam2ft.config.schema_sweep import Sweep
from sam2ft.config.sweep import combinations
from sam2ft.config.sweep_axes import SEED, keys_of
from sam2ft.config.sweep_point import Combination, Place
from sam2ft.config.tree import SET, Tree, load_tree, overridden, parse_overrides, split_key
from sam2ft.core.errors import Problem, ProblemsError

S = TypeVar("S", bound=Section)

# A point that changed these would not be a point of this experiment.
_SEED = split_key(SEED)
_DEFAULT_SEED: int = ExperimentInfo.model_fields["seed"].default
_NOT_SWEPT = (("experiment", "name"), ("sweep",), ("extends",))


@dataclass(frozen=True)
class Point:
    """One combination of a sweep, or the only one of an experiment without a sweep."""

    index: int
    name: str
    """Such as `lr=0.0001,seed=1`; the experiment's name where nothing is swept."""
    overrides: tuple[tuple[str, object], ...]
    """(dotted key, value) of what the sweep sets, in file order."""
    experiment: Experiment
    """Resolved: holds the overrides, and no sweep."""


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment file, its points, and where its values stand."""

    path: Path
    experiment: Experiment
    """The first point, with the sweep: what all points share can be read here."""
    points: tuple[Point, ...]
    tree: Tree

    def where(self, dotted: str) -> str:
        """`path:line` of a key, or of what sweeps it, for problems found after loading (run/preflight.py)."""
        key, sweep = split_key(dotted), self.experiment.sweep
        if key not in self.tree.origins and sweep is not None:
            for swept, place in keys_of(sweep).items():
                if _is_within(key, split_key(swept)):
                    return self.tree.where(place)
        return self.tree.where(key)


def validated(model: type[S], tree: Tree) -> S | list[Problem]:
    """The tree's value as a frozen model, or all its problems."""
    try:
        # From JSON, because strict pydantic takes neither lists for tuples nor text for paths from Python objects.
        return model.model_validate_json(json.dumps(tree.value))
    except ValidationError as error:
        return problems_of(error, tree.value, model, tree.where)


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> LoadedExperiment:
    """Read an experiment file. `overrides`: `key=value` texts of --set, which act before the sweep.

    Errors: ProblemsError with all problems of the file, of the overrides and of all points.
    """
    tree = load_tree(path)
    tree = overridden(tree, [(key, value, SET) for key, value in parse_overrides(overrides)])
    swept = tree.value.get("sweep")
    if swept is None:
        found = validated(Experiment, tree)
        if isinstance(found, list):
            raise ProblemsError(found)
        return LoadedExperiment(path, found, (Point(0, found.experiment.name, (), found),), tree)
    sweep = _valid_sweep(tree)
    points = _points(tree, _combinations(sweep, tree))
    return LoadedExperiment(path, points[0].experiment.model_copy(update={"sweep": sweep}), points, tree)


def _valid_sweep(tree: Tree) -> Sweep:
    """The `sweep:` of a tree. Errors: ProblemsError, together with the problems of what is not swept."""
    inner = Tree(tree.path, {"sweep": tree.value["sweep"]}, tree.origins)
    sweep = validated(_OnlySweep, inner)
    if isinstance(sweep, list):
        rest = validated(Experiment, tree.without("sweep"))
        raise ProblemsError(sweep + (rest if isinstance(rest, list) else []))
    return sweep.sweep


class _OnlySweep(Section):
    sweep: Sweep


def _combinations(sweep: Sweep, tree: Tree) -> list[Combination]:
    """The points of a sweep, not validated yet. Errors: ProblemsError, together with the problems of what it leaves."""
    seed, problems = _DEFAULT_SEED, []
    if isinstance(sweep.seeds, int):
        given = tree.value.get("experiment")
        seed = given.get("seed", seed) if isinstance(given, dict) else seed
        if not isinstance(seed, int) or isinstance(seed, bool):
            problems.append(Problem(tree.where(_SEED), SEED, f"found {shown(seed)}; allowed: a whole number"))
            seed = _DEFAULT_SEED
    keys = keys_of(sweep)
    for dotted, place in keys.items():
        problems += _key_problems(dotted, place, tree, counted=isinstance(sweep.seeds, int))
    points, misfits = combinations(sweep, seed)
    problems += [Problem(tree.where(misfit.place), ".".join(misfit.place), misfit.message) for misfit in misfits]
    if problems:
        rest = validated(Experiment, tree.without("sweep"))
        swept = [split_key(dotted) for dotted in keys]
        problems += [
            problem
            for problem in (rest if isinstance(rest, list) else [])
            if not any(_is_within(split_key(problem.key), key) for key in swept)
        ]
        raise ProblemsError(list(dict.fromkeys(problems)))
    return points


def _key_problems(dotted: str, place: Place, tree: Tree, *, counted: bool) -> list[Problem]:
    """Why a key cannot be swept: nothing has it, it may not be, or --set gives it too."""
    key, where, name = split_key(dotted), tree.where(place), ".".join(place)
    if any(_is_within(key, prefix) for prefix in _NOT_SWEPT):
        return [Problem(where, name, f"{dotted} cannot be swept")]
    if unknown := unknown_key(Experiment, key):
        return [replace(unknown, where=where)]
    if counted and dotted == SEED:  # the seeds are counted up from what --set gives
        return []
    instead = (
        f"use --set {name}=[...], or --set sweep=null"
        if place[1] == "grid"
        else "leave it out, or use --set sweep=null"
    )
    return [
        Problem(SET, ".".join(given), f"is swept by {dotted}; {instead}")
        for given, origin in tree.origins.items()
        if origin == SET and _is_within(given, key)
    ]


def _is_within(key: KeyPath, prefix: KeyPath) -> bool:
    return key[: len(prefix)] == prefix


def _points(tree: Tree, combined: Sequence[Combination]) -> tuple[Point, ...]:
    """Every point, validated. Errors: ProblemsError; a problem that not all points have names the first that has it."""
    shared = tree.without("sweep")
    points: list[Point] = []
    found: dict[Problem, list[str]] = {}
    for index, combination in enumerate(combined):
        changes = [(entry.key, entry.value, tree.where(entry.place)) for entry in combination.overrides]
        result = validated(Experiment, overridden(shared, changes))
        if isinstance(result, list):
            for problem in result:
                found.setdefault(problem, []).append(combination.name)
        else:
            overrides = tuple((entry.key, entry.value) for entry in combination.overrides)
            points.append(Point(index, combination.name, overrides, result))
    if found:
        raise ProblemsError([_with_points(problem, names, len(combined)) for problem, names in found.items()])
    return tuple(points)


def _with_points(problem: Problem, names: Sequence[str], total: int) -> Problem:
    if len(names) == total:
        return problem
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Problem(problem.where, problem.key, f"{problem.message} (point {names[0]}{more})")


def parse_experiment(value: Mapping[str, Any], where: str = "experiment") -> Experiment:
    """An experiment from plain values, as strictly as from a file. Errors: ProblemsError."""
    found = validated(Experiment, Tree(Path(where), dict(value), {}))
    if isinstance(found, list):
        raise ProblemsError(found)
    return found


def plain(value: Any) -> Any:
    """A configuration as mappings, lists and scalars, as it stands in a file."""
    if isinstance(value, Section):
        fields = {field.alias or name: plain(getattr(value, name)) for name, field in type(value).model_fields.items()}
        arguments = fields.pop("constructor_arguments") if isinstance(value, OpenSection) else {}
        return fields | arguments
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def dump_experiment(experiment: Experiment) -> str:
    """The text of config.yaml: every key, paths absolute; it loads again to an equal experiment."""
    return dump_yaml(plain(experiment))
