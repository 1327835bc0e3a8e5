"""Loading of experiment files (YAML): every point of the sweep is validated, and all problems are reported at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam2ft.config.schema.base import ClassSection, Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.sweep.axes import swept_keys
from sam2ft.config.sweep.points import SweepPoint, sweep_of, swept_points
from sam2ft.config.yaml.loading import dump_yaml
from sam2ft.config.yaml.tree import SET, Tree, is_within, load_tree, overridden, parse_overrides, split_key
from sam2ft.config.yaml.validation import checked
from sam2ft.core.errors import ConfigError
from sam2ft.core.given.wrong_kind import Wanted, not_there, wrong_kind


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment file, the points of its sweep, and the file and line of its values."""

    path: Path
    experiment: Experiment
    """The first point, with the sweep. For settings that all points share."""
    points: tuple[SweepPoint, ...]
    tree: Tree

    def where(self, dotted: str) -> str:
        """`path:line` of a key, or of the sweep entry that sets it; for problems found after loading."""
        key, sweep = split_key(dotted), self.experiment.sweep
        if key not in self.tree.origins and sweep is not None:
            for swept, location in swept_keys(sweep).items():
                if is_within(key, split_key(swept)):
                    return self.tree.where(location)
        return self.tree.where(key)


def load_experiment(path: Path, overrides: Sequence[str] = (), *, to_run: bool = False) -> LoadedExperiment:
    """Read an experiment file. Reading imports nothing that the file names.

    Args:
        overrides: `key=value` texts of --set, applied before the sweep.
        to_run: the experiment will run, which imports the classes and metrics that it names; the file (and the one that
            it extends) must then be trusted (config/trust). Status and reports read without it.

    Raises:
        ConfigError: there is nothing at `path`, or something else of sam2ft, such as a dataset file or a store.
        ProblemsError: all problems of the file, of the overrides and of all points.
        UserError: with `to_run`: somebody else could have written a file.
    """
    if (problem := not_there(path, Wanted.EXPERIMENT) or wrong_kind(path, Wanted.EXPERIMENT)) is not None:
        raise ConfigError(problem)
    tree = load_tree(path, to_run=to_run)
    tree = overridden(tree, [(key, value, SET) for key, value in parse_overrides(overrides)])
    swept = tree.value.get("sweep")
    if swept is None:
        found = checked(Experiment, tree)
        return LoadedExperiment(path, found, (SweepPoint(0, found.experiment.name, (), found),), tree)
    sweep = sweep_of(tree)
    points = swept_points(sweep, tree)
    return LoadedExperiment(path, points[0].experiment.model_copy(update={"sweep": sweep}), points, tree)


def plain_values(value: Any) -> Any:
    """A configuration as mappings, lists and scalars, in the form of a file."""
    if isinstance(value, Section):
        fields = {
            field.alias or name: plain_values(getattr(value, name)) for name, field in type(value).model_fields.items()
        }
        arguments = fields.pop("constructor_arguments") if isinstance(value, ClassSection) else {}
        return fields | arguments
    if isinstance(value, Mapping):
        return {key: plain_values(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [plain_values(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def dump_experiment(experiment: Experiment) -> str:
    """The text of config.yaml: every key, with absolute paths. Loading it gives an equal experiment."""
    return dump_yaml(plain_values(experiment))
