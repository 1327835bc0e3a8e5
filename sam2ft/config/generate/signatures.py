"""Generator of signatures.json and of the *.schema.json files: `python -m sam2ft.config.generate.signatures [--check]`.

signatures.json contains the constructor arguments of the installed torch optimizers and schedulers and MONAI losses and
transforms, so that the loader need not import torch. The *.schema.json files beside it are for editors.
"""

import inspect
import json
from collections.abc import Iterable
from enum import Enum
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam2ft.config.generate.editor_schema import editor_schemas
from sam2ft.core.command import run_command
from sam2ft.core.generated_files import generate

FOLDER = Path(__file__).parents[1]

# Region losses for one class per instance that give a value per instance; the pixel loss BCE is from torch.
LOSSES = ("DiceCELoss", "DiceFocalLoss", "DiceLoss", "FocalLoss", "GeneralizedDiceLoss", "TverskyLoss")
TRANSFORMS = (
    *("RandFlip", "RandRotate90", "RandRotate", "RandZoom", "RandAffine", "Rand2DElastic", "RandGridDistortion"),
    *("RandGaussianNoise", "RandRicianNoise", "RandAdjustContrast", "RandBiasField", "RandGaussianSmooth"),
    *("RandGaussianSharpen", "RandGibbsNoise", "RandHistogramShift", "RandScaleIntensity", "RandShiftIntensity"),
    *("RandStdShiftIntensity", "RandCoarseDropout"),
)

_KINDS = {
    "float": "number",
    "int": "integer",
    "bool": "boolean",
    "str": "string",
    "None": "null",
    "dict": "mapping",
    **dict.fromkeys(("tuple", "list", "Sequence", "Iterable", "collections.abc.Sequence"), "list"),
}
# An alias of MONAI (monai.config.type_definitions): one string for all keys, or one for each; sam2ft has one.
_ALIASES = {"SequenceStr": "str"}


def _alternatives(annotation: str, separator: str = "|") -> list[str]:
    """`float | list[a | b] | None` -> [`float`, `list[a | b]`, `None`]."""
    parts, depth = [""], 0
    for character in annotation:
        depth += (character == "[") - (character == "]")
        if character == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _kinds(annotation: str) -> list[str]:
    """The kinds of YAML values that fit an annotation; none for a type that YAML cannot contain, such as a callable."""
    found: list[str] = []
    for alternative in _alternatives(annotation):
        if alternative in _ALIASES:
            found += _kinds(_ALIASES[alternative])
        elif alternative.startswith(("Literal[", "typing.Literal[")):
            found.append("string")
        else:
            found.append(_KINDS.get(alternative.split("[")[0], ""))
    return sorted({kind for kind in found if kind})


def _item_kinds(annotation: str) -> list[str]:
    """The kinds of values inside a list, if annotated: `tuple[float, float | None]` -> null, number."""
    found: list[str] = []
    for alternative in _alternatives(_ALIASES.get(annotation, annotation)):
        head, _, inner = alternative.partition("[")
        if _KINDS.get(head) == "list":
            found += _kinds("|".join(_alternatives(inner.removesuffix("]"), ",")))
    return sorted(set(found))


def _choices(annotation: str) -> list[str]:
    for alternative in _alternatives(annotation):
        if alternative.startswith(("Literal[", "typing.Literal[")):
            return [word.strip().strip("'\"") for word in alternative.split("[", 1)[1].rstrip("]").split(",")]
    return []


def _jsonable(value: Any) -> Any:
    """A default as a JSON value; raises TypeError for a value that JSON cannot contain."""
    if isinstance(value, Enum):
        value = value.value
    return json.loads(json.dumps(value, allow_nan=False))


def _parameter(parameter: inspect.Parameter) -> dict[str, Any]:
    missing = parameter.annotation is inspect.Parameter.empty
    annotation = "" if missing else inspect.formatannotation(parameter.annotation).strip("'\"")
    entry: dict[str, Any] = {"annotation": annotation, "kinds": _kinds(annotation)}
    if items := _item_kinds(annotation):
        entry["items"] = items
    if choices := _choices(annotation):
        entry["choices"] = choices
    entry["required"] = parameter.default is inspect.Parameter.empty
    if not entry["required"]:
        try:
            entry["default"] = _jsonable(parameter.default)
        except TypeError:
            entry["default_text"] = getattr(parameter.default, "__name__", str(parameter.default))
    return entry


def _parameters(function: Any, skipped: Iterable[str] = ()) -> dict[str, Any]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: _parameter(parameter)
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in skipped and parameter.kind not in variadic
    }


def _classes(module: Any, base: type) -> dict[str, Any]:
    return {
        name: _parameters(found, ("params", "optimizer"))
        for name, found in sorted(vars(module).items())
        if isinstance(found, type) and issubclass(found, base) and found is not base and not name.startswith("_")
    }


def _transform(dictionary_form: Any) -> dict[str, Any]:
    """Arguments of the dictionary transform, which changes image and masks together (data/samples/augment.py)."""
    return _parameters(dictionary_form, ("keys", "allow_missing_keys", "factor_key", "meta_keys", "meta_key_postfix"))


def _sam2_configs() -> list[str]:
    """Names of the stock configs in the installed sam2 package, found without importing it."""
    spec = find_spec("sam2")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("sam2 is not installed")
    root = Path(spec.submodule_search_locations[0])
    return sorted(
        path.relative_to(root).as_posix()
        for path in root.glob("configs/*/*.yaml")
        if "training" not in path.parent.name
    )


def collect_signatures() -> dict[str, Any]:
    """The content of signatures.json, from the installed packages."""
    import monai.losses
    import monai.transforms
    import torch

    losses = {name: _parameters(getattr(monai.losses, name)) for name in LOSSES}
    pos_weight = {"annotation": "float | None", "kinds": ["null", "number"], "required": False, "default": None}
    return {
        "versions": {"monai": version("monai"), "sam2": version("sam2"), "torch": version("torch").split("+")[0]},
        "sam2_configs": _sam2_configs(),
        "optimizers": _classes(torch.optim, torch.optim.Optimizer),
        "schedulers": _classes(torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler),
        "losses": {"BCE": {"pos_weight": pos_weight}, **losses},
        "transforms": {name: _transform(getattr(monai.transforms, f"{name}d")) for name in sorted(TRANSFORMS)},
    }


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def main() -> None:
    signatures = collect_signatures()
    expected = {FOLDER / "signatures.json": _text(signatures)}
    expected |= {FOLDER / name: _text(schema) for name, schema in editor_schemas(signatures).items()}
    generate(expected, __doc__)


if __name__ == "__main__":
    run_command(main)
