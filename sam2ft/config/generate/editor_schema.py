"""JSON Schemas for editors: the pydantic models, extended by the arguments of each torch and MONAI class."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.arguments import DECIDED, REFUSED
from sam2ft.config.schema.dataset import DatasetFile, LabelFile
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.model_names import MODELS, NANO

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_OPEN = {"Optimizer": "optimizers", "Scheduler": "schedulers", "Transform": "transforms"}
_JSON_TYPES = {"mapping": "object", "list": "array"}


def editor_schemas(signatures: Mapping[str, Any]) -> dict[str, Any]:
    """File name -> JSON Schema."""
    return {
        "experiment.schema.json": _experiment(signatures),
        "dataset.schema.json": _schema(DatasetFile, "sam2ft dataset"),
        "labels.schema.json": _schema(LabelFile, "sam2ft label table"),
    }


class _PlainDefaults(GenerateJsonSchema):
    """JSON Schema generator that writes defaults as they would be in a file."""

    def encode_default(self, dft: Any) -> Any:
        return plain_values(dft)


def _schema(model: type[BaseModel], title: str) -> dict[str, Any]:
    return {"$schema": _DRAFT, **model.model_json_schema(schema_generator=_PlainDefaults), "title": title}


def _experiment(signatures: Mapping[str, Any]) -> dict[str, Any]:
    schema = _schema(Experiment, "sam2ft experiment")
    definitions = schema["$defs"]
    for name, table in _OPEN.items():
        _spell_out(definitions[name], _usable(signatures, table))
    losses = _usable(signatures, "losses")
    for key in ("seg", "ce"):
        definitions["Loss"]["properties"][key]["enum"] = list(losses)
    definitions["Module"]["properties"]["sam2_model_cfg"]["enum"] = [NANO, *MODELS, *signatures["sam2_configs"]]
    base = {
        "type": "string",
        "description": "another experiment file, relative to this one, whose values this file changes",
    }
    schema["properties"] = {"extends": base, **schema["properties"]}
    _require_unless_extended(schema, ("ExperimentInfo", "Module"))
    return schema


def _usable(signatures: Mapping[str, Any], table: str) -> dict[str, dict[str, Any]]:
    """Class -> arguments that a file may contain."""
    refused, decided = REFUSED.get(table, {}), DECIDED[table]
    return {
        name: {key: entry for key, entry in found.items() if key not in decided}
        for name, found in signatures[table].items()
        if name not in refused
    }


def _spell_out(definition: dict[str, Any], classes: Mapping[str, Mapping[str, Any]]) -> None:
    """Make `type` an enum, and make the other allowed keys depend on its value."""
    own = definition["properties"]
    del own["constructor_arguments"]
    definition["required"] = [name for name in definition.get("required", []) if name != "constructor_arguments"]
    own["type"]["enum"] = list(classes)
    del definition["additionalProperties"]
    definition["allOf"] = [
        {
            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
            "then": {
                "properties": {**dict.fromkeys(own, True), **{key: _argument(entry) for key, entry in found.items()}},
                "required": [key for key, entry in found.items() if entry["required"]],
                "additionalProperties": False,
            },
        }
        for name, found in classes.items()
    ]


def _argument(entry: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": entry["annotation"]}
    if entry["kinds"]:
        found["type"] = [_JSON_TYPES.get(kind, kind) for kind in entry["kinds"]]
    if "choices" in entry:
        found["enum"] = entry["choices"]
    if "default" in entry:
        found["default"] = entry["default"]
    return found


def _require_unless_extended(schema: dict[str, Any], sections: tuple[str, ...]) -> None:
    """Require keys only without `extends`: a file that extends another may leave out keys of that file."""
    required = {name: schema["$defs"][name].pop("required") for name in sections}
    by_key = {
        key: required[reference]
        for key, entry in schema["properties"].items()
        if (reference := entry.get("$ref", "").rpartition("/")[2]) in required
    }
    schema["if"] = {"not": {"required": ["extends"]}}
    schema["then"] = {
        "required": schema.pop("required"),
        "properties": {key: {"required": names} for key, names in by_key.items()},
    }
