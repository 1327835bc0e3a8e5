"""List of all keys of a model of the schema: dotted name, meaning, unit, default and allowed values."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import PydanticJsonSchemaWarning
from pydantic_core import PydanticUndefined

from sam2ft.config.load_experiment import plain_values

_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "object": "a mapping",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "multipleOf": "a multiple of {}",
}
_CLASS_ARGUMENTS = "constructor_arguments"


@dataclass(frozen=True)
class KeyEntry:
    """One key of a file; a section when it holds further keys."""

    dotted: str
    """`module.optimizer.lr`; `*` stands for a name that the user chooses, `[]` for an entry of a list."""
    meaning: str
    unit: str
    required: bool
    default: Any
    """The value without the key, as it would be written in a file; None for a required key and for a section."""
    allowed: str
    affects: str
    """`training`, `evaluation` or `nothing`: what the value is part of the identity of; empty where it has none."""
    is_section: bool


def schema_keys(model: type[BaseModel]) -> list[KeyEntry]:
    """Every key of a file that `model` validates, in the order of the schema, sections before their keys.

    The keys of a section that several keys hold (`sweep.grid` and `sweep.zip`) are listed once, below the first.
    """
    with warnings.catch_warnings():
        # Defaults are taken from the model, not from its JSON Schema, which cannot hold read-only mappings.
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        schema = model.model_json_schema()
    return list(_Walk(schema.get("$defs", {}), set()).below(schema, model, ""))


@dataclass(frozen=True)
class _Walk:
    definitions: Mapping[str, Any]
    seen: set[str]

    def below(self, node: Mapping[str, Any], model: type[BaseModel] | None, prefix: str) -> Iterator[KeyEntry]:
        """The keys of one section and of the sections in it."""
        defaults = _defaults(model)
        for key, entry in node.get("properties", {}).items():
            if key == _CLASS_ARGUMENTS:
                continue
            below, suffix = _section_below(entry, self.definitions)
            default, dotted = defaults.get(key), f"{prefix}{key}"
            own_value = below is None or suffix != "" or isinstance(default, bool)
            meaning = entry.get("description", self.definitions.get(below or "", {}).get("description", ""))
            unit = entry.get("unit", "")
            yield KeyEntry(
                dotted=dotted,
                meaning=meaning.removesuffix(f" [{unit}]"),
                unit="" if unit == "1" else unit,
                required=key in node.get("required", ()),
                default=default if own_value else None,
                allowed=_allowed(entry, self.definitions) if own_value else "",
                affects=entry.get("affects", ""),
                is_section=not own_value,
            )
            if below is not None and below not in self.seen:
                self.seen.add(below)
                yield from self.below(self.definitions[below], _model_named(model, key), f"{dotted}{suffix}.")


def _defaults(model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {}
    found = {field.alias or name: field.get_default(call_default_factory=True) for name, field in _fields(model)}
    return {key: plain_values(value) for key, value in found.items() if value is not PydanticUndefined}


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    yield from model.model_fields.items()


def _model_named(model: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    """The model of the section under a key, looked for in the annotation of its field."""
    for name, field in _fields(model) if model is not None else ():
        if (field.alias or name) == key:
            return next(_models_in(field.annotation), None)
    return None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _models_in(argument)
    if (origin := getattr(annotation, "__origin__", None)) is not None and isinstance(origin, type):
        yield from _models_in(origin)


def _section_below(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[str | None, str]:
    """Name of the definition whose keys an entry holds, and how they are reached: "", ".*" of a mapping, "[]"."""
    for form in (entry, *entry.get("anyOf", ()), *entry.get("oneOf", ()), *entry.get("allOf", ())):
        reference = str(form.get("$ref", "")).rpartition("/")[2]
        if "properties" in definitions.get(reference, {}):
            return reference, ""
        for inner, suffix in (("additionalProperties", ".*"), ("items", "[]")):
            if isinstance(form.get(inner), Mapping):
                below, _ = _section_below(form[inner], definitions)
                if below is not None:
                    return below, suffix
    return None, ""


def _allowed(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Allowed values in words: `a whole number, at least 1`."""
    if "$ref" in entry:
        definition = definitions[entry["$ref"].rpartition("/")[2]]
        return _mapping_of(definition) if "properties" in definition else _allowed(definition, definitions)
    if options := entry.get("anyOf") or entry.get("oneOf") or entry.get("allOf"):
        return " or ".join(dict.fromkeys(_allowed(option, definitions) for option in options))
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{value}`" for value in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        return _list_of(entry, definitions)
    if entry.get("type") == "object" and isinstance(entry.get("additionalProperties"), Mapping):
        return f"a mapping of names to {_allowed(entry['additionalProperties'], definitions)}"
    words = [_WORDS.get(entry.get("type", ""), "any value")]
    if entry.get("format") == "path":
        words = ["a path"]
    return ", ".join([*words, *(text.format(_plain(entry[key])) for key, text in _BOUNDS.items() if key in entry)])


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else str(number)


def _mapping_of(definition: Mapping[str, Any]) -> str:
    return f"a mapping with {', '.join(f'`{key}`' for key in definition['properties'] if key != _CLASS_ARGUMENTS)}"


def _list_of(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    items = [_allowed(item, definitions) for item in entry.get("prefixItems", ())]
    if items:
        return f"a list of {len(items)}: {'; '.join(dict.fromkeys(items))}"
    return f"a list, each {_allowed(entry['items'], definitions)}" if entry.get("items") else "a list"
