"""Check of the arguments of torch and MONAI classes against recorded signatures (signatures.json), without imports."""

import difflib
import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

Signature = Mapping[str, Mapping[str, Any]]

REFUSED = {
    "optimizers": {
        "LBFGS": "it runs the model several times per step through a closure, but the training loop runs it once",
        "SparseAdam": "it takes sparse gradients only, but those of SAM 2 are dense",
        "Muon": "it takes 2-D parameters only, but SAM 2 also has biases, norms and convolutions",
        "Optimizer": "it is the abstract base class",
    },
    "schedulers": {
        "LambdaLR": "it needs a Python function, which YAML cannot contain",
        "MultiplicativeLR": "it needs a Python function, which YAML cannot contain",
        "SequentialLR": "it needs other schedulers as objects; for a warm-up use warmup_steps",
        "ChainedScheduler": "it needs other schedulers as objects; for a warm-up use warmup_steps",
        "SWALR": "it belongs to stochastic weight averaging; use module.ema",
        "LRScheduler": "it is the abstract base class",
    },
    "transforms": {
        "Rand3DElastic": "it deforms volumes, but a sample is one slice; use Rand2DElastic",
        "RandGridPatch": "it cuts a slice into several patches, but a sample is one slice",
        "RandSimulateLowResolution": "as a spatial transform it would coarsen the masks too; use RandGaussianSmooth",
        "RandCoarseShuffle": "it moves pieces of the image away from their masks; use RandCoarseDropout",
        "RandAxisFlip": "it also draws the axis at random; use RandFlip with spatial_axis",
        **dict.fromkeys(
            ("Resize", "Spacing", "SpatialResample", "ResampleToMatch", "Orientation"),
            "the engine decides the grid: that of the slice, resized to module.image_size",
        ),
        **dict.fromkeys(
            ("Flip", "Rotate", "Rotate90", "Zoom", "Affine", "GridDistortion", "AdjustContrast", "GaussianSmooth"),
            "it changes every slice alike; use its random form, whose name begins with Rand",
        ),
        **dict.fromkeys(
            ("NormalizeIntensity", "ScaleIntensityRange", "ScaleIntensityRangePercentiles", "ClipIntensityPercentiles"),
            "intensities are windowed to [0, 1] by prepare; see intensity.clip_percentiles of the dataset file",
        ),
    },
}

# Arguments that sam2ft sets itself, and why.
_LOSS_REASON = "the engine sets it: each instance is one class, given as logits, with its own loss value"
_ONE_CLASS = "but each instance is one class"
DECIDED = {
    "optimizers": {
        "maximize": "the loss is always minimised",
        "differentiable": "no gradient through the optimizer is needed, and training would fail with it",
        "capturable": "it is for steps recorded as CUDA graphs, which training does not use",
    },
    "schedulers": {"last_epoch": "the engine sets it when a run is resumed"},
    "losses": {
        **dict.fromkeys(
            ("sigmoid", "softmax", "use_softmax", "other_act", "to_onehot_y", "reduction", "batch"), _LOSS_REASON
        ),
        "include_background": _LOSS_REASON,
        # MONAI ignores these for one channel, or fails in the first step.
        "weight": f"it weights classes against each other, {_ONE_CLASS}; use seg_loss_weight and ce_loss_weight",
        "label_smoothing": f"it smooths the labels of several classes, {_ONE_CLASS}",
        "ignore_index": f"it leaves out a class, {_ONE_CLASS}",
    },
    "transforms": dict.fromkeys(("dtype", "device", "lazy"), "the engine sets it"),
}

_KIND_WORDS = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "list": "a list",
    "mapping": "a mapping",
    "null": "null",
}


@cache
def signatures() -> Mapping[str, Any]:
    """The content of signatures.json."""
    content: Mapping[str, Any] = json.loads(files("sam2ft.config").joinpath("signatures.json").read_text("utf-8"))
    return content


@cache
def known_names(table: str) -> list[str]:
    """Names of the classes in a table of signatures.json that can be used."""
    return [name for name in signatures()[table] if name not in REFUSED.get(table, {})]


@cache
def signature_parameters(table: str, name: str) -> Signature:
    """The arguments of a class that a configuration may set."""
    return {
        key: entry
        for key, entry in signatures()[table][name].items()
        if key not in DECIDED[table] and (entry["kinds"] or not entry["annotation"])
    }


def shown_value(value: Any) -> str:
    """A value of a configuration as short text for messages."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple) and len(value) > 4:
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Text ` (did you mean X?)` with the most similar known word, or empty text when none is similar."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f" (did you mean {lower[near[0]]}?)" if near else ""


def type_problem(table: str, name: str) -> str | None:
    """Why `name` cannot be used as a class of `table`, or None."""
    known = known_names(table)
    if name in known:
        return None
    if name in REFUSED.get(table, {}):
        return f"{name} cannot be used: {REFUSED[table][name]}; allowed: {', '.join(known)}"
    return f"found {shown_value(name)}{did_you_mean(name, known)}; allowed: {', '.join(known)}"


def argument_problems(table: str, name: str, given: Mapping[str, Any], own: Collection[str] = ()) -> dict[str, str]:
    """Argument -> message, for the wrong, unknown or missing arguments of a class that can be used.

    Args:
        own: keys of the section that are not arguments; unknown keys are reported with them as allowed.
    """
    accepted = signature_parameters(table, name)
    found = {key: _unknown(table, name, key, own) for key in given if key not in accepted}
    for key in given.keys() & accepted.keys():
        if message := _value_problem(accepted[key], given[key]):
            found[key] = f"{message} (argument of {name})"
    for key, entry in accepted.items():
        if entry["required"] and key not in given:
            found[key] = f"missing; {name} needs it ({_allowed(entry)})"
    return found


def _unknown(table: str, name: str, key: str, own: Collection[str]) -> str:
    if key in DECIDED[table] and key in signatures()[table][name]:
        return f"cannot be given: {DECIDED[table][key]}"
    accepted = signature_parameters(table, name)
    allowed = list(dict.fromkeys([*accepted, *own]))
    others = [other for other in known_names(table) if other != name and key in signature_parameters(table, other)]
    needed = [other for other, entry in accepted.items() if entry["required"]]
    message = f"{name} takes no {key}"
    if others:
        message += f" ({', '.join(others)} {'does' if len(others) == 1 else 'do'})"
        message += f"; {name} needs {', '.join(needed)}" if needed else ""
    else:
        message += did_you_mean(key, allowed)
    return f"{message}; allowed: {', '.join(allowed)}"


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for types, kind in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (Mapping, "mapping")):
        if isinstance(value, types):
            return kind
    return "list"


def _allowed(entry: Mapping[str, Any]) -> str:
    if "choices" in entry:
        return " or ".join(entry["choices"])
    # `items` is missing or empty when the signature does not specify the kinds of values in a list.
    kinds, items = (" or ".join(_KIND_WORDS[kind] for kind in entry.get(name, ())) for name in ("kinds", "items"))
    return (kinds or "any value") + (f" (in a list: {items})" if items else "")


def _fits(value: Any, kinds: Collection[str]) -> bool:
    kind = _kind(value)
    return not kinds or kind in kinds or (kind == "integer" and "number" in kinds)


def _value_problem(entry: Mapping[str, Any], value: Any) -> str | None:
    kind = _kind(value)
    fits = _fits(value, entry["kinds"])
    if fits and kind == "list":
        fits = all(_fits(inner, entry.get("items", ())) for inner in value)
    if fits and not ("choices" in entry and kind == "string" and value not in entry["choices"]):
        return None
    return f"found {shown_value(value)}; allowed: {_allowed(entry)}"


def arguments_with_defaults(table: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given arguments, completed with the defaults of the class.

    The run_id depends on the values that were effective, so a default that changes in torch or MONAI gives a new run.
    Arguments that are null or false are left out, because a later version of a class may add an option that is off.
    """
    defaults = {key: entry.get("default") for key, entry in signature_parameters(table, name).items()}
    values = {**defaults, **given}
    return {key: value for key, value in values.items() if not (value is None or value is False)}
