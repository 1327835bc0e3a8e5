"""Validation of a tree of values with pydantic: a frozen section, or all problems; shared sections only once."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from sam2ft.config.schema.base import Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.yaml.problems import problems_of
from sam2ft.config.yaml.tree import Tree
from sam2ft.core.errors import Problem, ProblemsError

S = TypeVar("S", bound=Section)


def validated(model: type[S], tree: Tree) -> S | list[Problem]:
    """The value of the tree as a frozen `model`, or the list of all its problems."""
    try:
        # From JSON, because strict pydantic accepts neither lists for tuples nor text for paths from Python objects.
        return model.model_validate_json(json.dumps(tree.value))
    except ValidationError as error:
        return problems_of(error, tree.value, model, tree.where)


def checked(model: type[S], tree: Tree) -> S:
    """The value of the tree as a frozen `model`.

    Raises:
        ProblemsError: all its problems.
    """
    found = validated(model, tree)
    if isinstance(found, list):
        raise ProblemsError(found)
    return found


class SharedSections:
    """Validation of the points of one sweep: a section that several points share is validated once and is one object.

    This is as strict as `validated`, because no validator of Experiment reads more than one section (a test checks
    this), and each section passes the validator of its own field.
    """

    def __init__(self, shared: Mapping[str, Any]):
        """Prepare for points that differ from `shared`, the mapping of the experiment, in some sections."""
        self._shared = shared
        self._texts = {name: json.dumps(entry) for name, entry in shared.items()}
        self._known: dict[tuple[str, str | None], Any] = {}

    def experiment(self, value: Mapping[str, Any]) -> Experiment | None:
        """The experiment of a mapping, or None when it is not valid; `validated` then gives the problems."""
        if not value.keys() <= _SINGLE_SECTION_MODELS.keys():
            return None
        try:
            sections = {name: self._section(name, value) for name in _SINGLE_SECTION_MODELS}
        except ValidationError:
            return None
        return Experiment.model_construct(_fields_set=set(value), **sections)

    def _section(self, name: str, value: Mapping[str, Any]) -> Any:
        entry, text = value.get(name), None
        if name in value:
            text = self._texts[name] if entry is self._shared.get(name) else json.dumps(entry)
        if (name, text) not in self._known:
            model = _SINGLE_SECTION_MODELS[name].model_validate_json("{}" if text is None else f'{{"{name}": {text}}}')
            self._known[name, text] = getattr(model, name)
        return self._known[name, text]


_SINGLE_SECTION_MODELS: dict[str, type[BaseModel]] = {
    name: create_model(f"{name}_alone", __base__=Section, **{name: (field.annotation, field)})  # type: ignore[call-overload]  # the field name is a variable
    for name, field in Experiment.model_fields.items()
}
"""Name of a section -> a model with that section as its only field."""
