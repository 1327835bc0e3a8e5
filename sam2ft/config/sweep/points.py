"""The points of an experiment's sweep, each validated as strictly as a file of its own."""

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
from sam2ft.core.errors import Problem, ProblemsError

# A point that changed these would not be a point of this experiment.
_SEED = split_key(SEED)
_DEFAULT_SEED: int = ExperimentInfo.model_fields["seed"].default
_NOT_SWEPT = (("experiment", "name"), ("sweep",), ("extends",))


@dataclass(frozen=True)
class SweepPoint:
    """One combination of a sweep, or the only one of an experiment without a sweep."""

    index: int
    name: str
    """Such as `lr=0.0001,seed=1`; the experiment's name where nothing is swept."""
    overrides: tuple[tuple[str, object], ...]
    """(dotted key, value) of what the sweep sets, in file order."""
    experiment: Experiment
    """Resolved: holds the overrides, and no sweep."""


def sweep_of(tree: Tree) -> Sweep:
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
    """Why a key cannot be swept: nothing has it, it may not be, or --set gives it too."""
    key, where, name = split_key(dotted), tree.where(location), ".".join(location)
    if any(is_within(key, prefix) for prefix in _NOT_SWEPT):
        return [Problem(where, name, f"{dotted} cannot be swept")]
    if unknown := unknown_key(Experiment, key):
        return [replace(unknown, where=where)]
    if counted and dotted == SEED:  # the seeds are counted up from what --set gives
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
    """Every point, validated. Errors: ProblemsError; a problem that not all points have names the first that has it."""
    combined, shared = _combinations(sweep, tree), tree.without("sweep")
    sections, points = SharedSections(shared.value), list[SweepPoint]()
    found: dict[Problem, list[str]] = {}
    for index, combination in enumerate(combined):
        overrides = tuple((entry.key, entry.value) for entry in combination.overrides)
        result = sections.experiment(value_with(shared.value, overrides)) or _judged(combination, shared, tree)
        if isinstance(result, Experiment):
            points.append(SweepPoint(index, combination.name, overrides, result))
            continue
        for problem in result:
            found.setdefault(problem, []).append(combination.name)
    if found:
        raise ProblemsError([_with_points(problem, names, len(combined)) for problem, names in found.items()])
    return tuple(points)


def _judged(combination: Combination, shared: Tree, tree: Tree) -> Experiment | list[Problem]:
    """A point as a whole, its problems with the places of its values in the file."""
    changes = [(entry.key, entry.value, tree.where(entry.location)) for entry in combination.overrides]
    return validated(Experiment, overridden(shared, changes))


def _with_points(problem: Problem, names: Sequence[str], total: int) -> Problem:
    if len(names) == total:
        return problem
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Problem(problem.where, problem.key, f"{problem.message} (point {names[0]}{more})")
