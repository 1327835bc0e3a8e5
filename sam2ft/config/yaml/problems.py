"""Messages for pydantic validation errors: file and line, what was found, what is allowed; also for unknown keys."""

import types
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sam2ft.config.schema.arguments import did_you_mean, shown_value
from sam2ft.config.schema.base import ClassSection, Section
from sam2ft.config.yaml.loading import KeyPath
from sam2ft.core.errors import Problem

# Kind of error of pydantic -> what is allowed, with the values of its context.
_ALLOWED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "path_type": "a path",
    "none_required": "null",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type", "model_attributes_type"), "a mapping"),
}


def problems_of(
    error: ValidationError, value: Any, root: type[BaseModel], where: Callable[[KeyPath], str]
) -> list[Problem]:
    """One Problem for each wrong key, in the order of the file.

    Args:
        value: the value that was validated as `root`.
        where: function from a key to its place (`path:line`).
    """
    messages: dict[KeyPath, list[str]] = defaultdict(list)
    allowed: dict[KeyPath, list[str]] = defaultdict(list)
    for entry in error.errors(include_url=False, include_input=False):
        key = _key_in(value, entry, root)
        kind, context = entry["type"], entry.get("ctx", {})
        if kind == "problems":
            for inner, message in context["problems"].items():
                messages[(*key, *inner.split("."))].append(message)
        elif kind == "problem":
            messages[key].append(context["message"])
        elif kind == "too_short":
            message = f"found {context['actual_length']} entries; allowed: at least {context['min_length']}"
            messages[key].append(message)
        elif kind == "missing":
            messages[key].append(f"missing; {_description(root, key)}")
        elif kind == "extra_forbidden":
            messages[key].append(_unknown_key(root, key))
        elif entry["loc"][-1:] == ("[key]",):
            messages[key].append(_found(key[-1], [_phrase(kind, context, entry["msg"])]))
        else:
            allowed[key].append(_phrase(kind, context, entry["msg"]))
    for key, phrases in allowed.items():
        # For a value that fits one alternative of a union, only the problems of this one are reported.
        if key not in messages and not any(
            len(other) > len(key) and other[: len(key)] == key for other in [*messages, *allowed]
        ):
            messages[key].append(_found(_at(value, key), phrases))
    problems = [Problem(where(key), ".".join(key), "; ".join(found)) for key, found in messages.items()]
    return sorted(problems, key=_place)


def _place(problem: Problem) -> tuple[str, int]:
    """(file, line): sorts problems in the order of the file."""
    path, _, line = problem.where.rpartition(":")
    return (path, int(line)) if line.isdecimal() else (problem.where, 0)


def _found(value: Any, phrases: list[str]) -> str:
    hint = ""
    if isinstance(value, str):
        hint = did_you_mean(value, [word for phrase in phrases for word in phrase.split(", ")])
    return f"found {shown_value(value)}{hint}; allowed: {' or '.join(dict.fromkeys(phrases))}"


def _phrase(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind == "literal_error":
        words = str(context["expected"]).replace("'", "").replace(" or ", ", ")
        return words.replace("True", "true").replace("False", "false")
    return _ALLOWED[kind].format(**context) if kind in _ALLOWED else message[:1].lower() + message[1:]


def _key_in(value: Any, entry: Any, root: type[BaseModel]) -> KeyPath:
    """The key path of an error: pydantic's location without the names of union members and validators."""
    key: tuple[str, ...] = ()
    for part in entry["loc"]:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, Mapping) and part in value):
            value = value[part]
        elif (
            isinstance(value, Mapping) and part != "constructor_arguments" and part in fields_of(_section_at(root, key))
        ):
            value = None  # the key is not in the file: it is required, or its default does not fit the other keys
        else:
            continue
        key = (*key, str(part))
    return key


def unknown_key(root: type[Section], key: KeyPath) -> Problem | None:
    """The Problem of a key that no file can contain, with an empty place; None for a possible key."""
    model: type[BaseModel] | None = root
    steps = iter(enumerate(key, start=1))
    for depth, part in steps:
        field = fields_of(model).get(part)
        if model is None or (field is None and issubclass(model, ClassSection)):
            return None  # inside a value, or an argument of a class whose name is in another key
        if field is None:
            return Problem("", ".".join(key[:depth]), _unknown_key(root, key[:depth]))
        model = next(iter(_models(field.annotation)), None)
        if _is_many(field.annotation):
            next(steps, None)  # skip a name or a list index
    return None


def _is_many(annotation: Any) -> bool:
    """Whether a value of this type is a mapping or a list of sections."""
    many = get_origin(annotation) in (Mapping, tuple)
    return many or any(_is_many(inner) for inner in get_args(annotation))


def fields_of(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    """The fields of a section, by the key used in files (the alias, if there is one); none without a section."""
    return {field.alias or name: field for name, field in model.model_fields.items()} if model is not None else {}


def _at(value: Any, key: KeyPath) -> Any:
    for part in key:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Section classes that occur in a type, including those inside lists and mappings."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _section_at(root: type[BaseModel], key: KeyPath) -> type[BaseModel] | None:
    """The section class at a key path; names and list indices inside mappings and lists are skipped."""
    model: type[BaseModel] | None = root
    for part in key:
        if field := fields_of(model).get(part):
            model = next(iter(_models(field.annotation)), None)
    return model


def _description(root: type[BaseModel], key: KeyPath) -> str:
    field = fields_of(_section_at(root, key[:-1])).get(key[-1])
    return (field.description if field is not None else None) or "required"


def _unknown_key(root: type[BaseModel], key: KeyPath) -> str:
    known = list(fields_of(_section_at(root, key[:-1])))
    homes = [path.rpartition(".")[0] for path in _leaf_paths(root) if path.split(".")[-1] == key[-1]]
    belongs = f"; it belongs to {' or '.join(home or 'the top of the file' for home in homes)}"
    hint = belongs if homes else did_you_mean(key[-1], known)
    return f"unknown key{hint}; allowed: {', '.join(known)}"


def _leaf_paths(root: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted paths of all keys of a section and of its nested sections."""
    paths = []
    for name, field in fields_of(root).items():
        paths.append(f"{prefix}{name}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += _leaf_paths(field.annotation, f"{prefix}{name}.")
    return paths
