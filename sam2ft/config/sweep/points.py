"""Sweep points of an experiment, each validated as strictly as an experiment file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam2ft.config.schema.arguments import shown_value
from sam2ft.config.schema.base import Section
from sam2ft.config.schema.evaluation import ExperimentInfo
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.sweep import Sweep
from sam2ft.config.sweep.axes import SEED, swept_keys
from sam2ft.config.sweep.combinations import combinations
from sam2ft.config.sweep.overrides import Combination, Location
from sam2ft.config.yaml.problems import unknown_key
from sam2ft.config.yaml.tree import SET, Tree, is_within, overridden, split_key, value_with
from sam2ft.config.yaml.validation import SharedSections, validated
from sam2ft.core.errors import Problem, ProblemsError, listed

_SEED = split_key(SEED)
_DEFAULT_SEED: int = ExperimentInfo.model_fields["seed"].default
# A point that changed these would not belong to this experiment.
_NOT_SWEPT = (("experiment", "name"), ("sweep",), ("extends",))


@dataclass(frozen=True)
class SweepPoint:
    """One point of a sweep, or the only point of an experiment without a sweep."""

    index: int
    name: str
    """Such as `lr=0.0001,seed=1`; the name of the experiment if there is no sweep."""
    overrides: tuple[tuple[str, object], ...]
    """(dotted key, value) of every key that the sweep sets, in the order of the file."""
    experiment: Experiment
    """The experiment of this point: with the overrides applied, without the sweep."""


def sweep_of(tree: Tree) -> Sweep:
    """The section `sweep:` of a tree.

    Raises:
        ProblemsError: all problems of the section, together with those of the other sections.
    """
    inner = Tree(tree.path, {"sweep": tree.value["sweep"]}, tree.origins)
    sweep = validated(_OnlySweep, inner)
    if isinstance(sweep, list):
        rest = validated(Experiment, tree.without("sweep"))
        raise ProblemsError(sweep + (rest if isinstance(rest, list) else []))
    return sweep.sweep


class _OnlySweep(Section):
    sweep: Sweep


def _combinations(sweep: Sweep, tree: Tree) -> list[Combination]:
    """The points of a sweep, not yet validated; raises ProblemsError, with the problems of keys that are not swept."""
    seed, problems = _DEFAULT_SEED, []
    if isinstance(sweep.seeds, int):
        given = tree.value.get("experiment")
        seed = given.get("seed", seed) if isinstance(given, dict) else seed
        if not isinstance(seed, int) or isinstance(seed, bool):
            problems.append(Problem(tree.where(_SEED), SEED, f"found {shown_value(seed)}; allowed: a whole number"))
            seed = _DEFAULT_SEED
    keys = swept_keys(sweep)
    for dotted, location in keys.items():
        problems += _key_problems(dotted, location, tree, counted=isinstance(sweep.seeds, int))
    points, misfits = combinations(sweep, seed)
    problems += [Problem(tree.where(misfit.location), ".".join(misfit.location), misfit.message) for misfit in misfits]
    if problems:
        rest = validated(Experiment, tree.without("sweep"))
        swept = [split_key(dotted) for dotted in keys]
        problems += [
            problem
            for problem in (rest if isinstance(rest, list) else [])
            if not any(is_within(split_key(problem.key), key) for key in swept)
        ]
        raise ProblemsError(list(dict.fromkeys(problems)))
    return points


def _key_problems(dotted: str, location: Location, tree: Tree, *, counted: bool) -> list[Problem]:
    """Problems of a key that cannot be swept: it is unknown, must not be swept, or is also given by --set."""
    key, where, name = split_key(dotted), tree.where(location), ".".join(location)
    if any(is_within(key, prefix) for prefix in _NOT_SWEPT):
        return [Problem(where, name, f"{dotted} cannot be swept")]
    if unknown := unknown_key(Experiment, key):
        return [replace(unknown, where=where)]
    if counted and dotted == SEED:  # the seeds are counted up from the value of --set
        return []
    instead = (
        f"use --set {name}=[...], or --set sweep=null"
        if location[1] == "grid"
        else "leave it out, or use --set sweep=null"
    )
    return [
        Problem(SET, ".".join(given), f"is swept by {dotted}; {instead}")
        for given, origin in tree.origins.items()
        if origin == SET and is_within(given, key)
    ]


def swept_points(sweep: Sweep, tree: Tree) -> tuple[SweepPoint, ...]:
    """Every point of a sweep, validated.

    Raises:
        ProblemsError: all problems. A problem that not all points have names the first point that has it.
    """
    combined, shared = _combinations(sweep, tree), tree.without("sweep")
    sections, points = SharedSections(shared.value), list[SweepPoint]()
    found: dict[Problem, list[str]] = {}
    for index, combination in enumerate(combined):
        overrides = tuple((entry.key, entry.value) for entry in combination.overrides)
        result = sections.experiment(value_with(shared.value, overrides)) or _validated_point(combination, shared, tree)
        if isinstance(result, Experiment):
            points.append(SweepPoint(index, combination.name, overrides, result))
            continue
        for problem in result:
            found.setdefault(problem, []).append(combination.name)
    if found:
        raise ProblemsError([_with_points(problem, names, len(combined)) for problem, names in found.items()])
    return tuple(points)


def _validated_point(combination: Combination, shared: Tree, tree: Tree) -> Experiment | list[Problem]:
    """Validate a whole point; its problems refer to the file and line of its values."""
    changes = [(entry.key, entry.value, tree.where(entry.location)) for entry in combination.overrides]
    return validated(Experiment, overridden(shared, changes))


def _with_points(problem: Problem, names: Sequence[str], total: int) -> Problem:
    if len(names) == total:
        return problem
    return replace(problem, message=f"{problem.message} (point {listed(names, 1)})")
