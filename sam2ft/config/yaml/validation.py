"""A tree of values as a frozen model, or all its problems."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from sam2ft.config.schema.base import Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.yaml.problems import problems_of
from sam2ft.config.yaml.tree import Tree
from sam2ft.core.errors import Problem

S = TypeVar("S", bound=Section)


def validated(model: type[S], tree: Tree) -> S | list[Problem]:
    """The tree's value as a frozen model, or all its problems."""
    try:
        # From JSON, because strict pydantic takes neither lists for tuples nor text for paths from Python objects.
        return model.model_validate_json(json.dumps(tree.value))
    except ValidationError as error:
        return problems_of(error, tree.value, model, tree.where)


class SharedSections:
    """Points of one experiment; a section that several have alike is validated once, and is then one object.

    As strict as `validated`, because no validator of Experiment itself looks at more than one section (a test holds
    that), and each section passes the validator of its own field.
    """

    def __init__(self, shared: Mapping[str, Any]):
        """`shared`: the value that the points are made of."""
        self._shared = shared
        self._texts = {name: json.dumps(entry) for name, entry in shared.items()}
        self._known: dict[tuple[str, str | None], Any] = {}

    def experiment(self, value: Mapping[str, Any]) -> Experiment | None:
        """The experiment that a value is, or None when it is none; `validated` then says why."""
        if not value.keys() <= _ALONE.keys():
            return None
        try:
            sections = {name: self._section(name, value) for name in _ALONE}
        except ValidationError:
            return None
        return Experiment.model_construct(_fields_set=set(value), **sections)

    def _section(self, name: str, value: Mapping[str, Any]) -> Any:
        text = self._text(name, value[name]) if name in value else None
        if (name, text) not in self._known:
            alone = _ALONE[name].model_validate_json("{}" if text is None else f'{{"{name}": {text}}}')
            self._known[name, text] = getattr(alone, name)
        return self._known[name, text]

    def _text(self, name: str, entry: Any) -> str:
        return self._texts[name] if entry is self._shared.get(name) else json.dumps(entry)


_ALONE: dict[str, type[BaseModel]] = {
    name: create_model(f"{name}_alone", __base__=Section, **{name: (field.annotation, field)})  # type: ignore[call-overload]  # the name is a value
    for name, field in Experiment.model_fields.items()
}
"""Section -> a model of that section alone."""
