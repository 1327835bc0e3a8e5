"""Runs and evaluations are named by the content that determines their numbers (docs/contracts.md, identity).

Both names are known before any training: they are hashes of settings and of digests, never of paths, times or results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.base import OpenSection, ReadOnlyDict, Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import canonical_json, sha256_text

IDENTITY_VERSION = 1
"""Part of every id. It changes only when an id must not be shared with earlier versions of sam2ft."""

RUN_HEX, EVAL_HEX = 16, 12


def training_identity(experiment: Experiment) -> dict[str, Any]:
    """The settings that determine the weights a training ends with."""
    return affecting(experiment, "training")


def evaluation_identity(experiment: Experiment) -> dict[str, Any]:
    """The settings that determine the rows of an evaluation, given a checkpoint and the data."""
    return affecting(experiment, "evaluation")


def affecting(node: Section, what: str) -> dict[str, Any]:
    """The leaves below a section that affect `what`, as nested plain values.

    A key added later is left out while it has the value that earlier versions had without knowing it (its `legacy`
    value), and so is a section of which nothing is left: old ids live on.
    """
    found: dict[str, Any] = {}
    values = node.identity_values()
    for name, field in type(node).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "affects" in extra:
            if extra["affects"] == what and not _is_legacy(extra, values[name]):
                found[name] = _acting(values[name])
        elif kept := _below(values[name], what):
            found[name] = kept
    return _flat(node, found)


def _acting(value: Any) -> Any:
    """A leaf's value as plain values, the defaults of the classes that it names filled in."""
    if isinstance(value, Section):
        return _flat(value, {name: _acting(entry) for name, entry in value.identity_values().items()})
    if isinstance(value, tuple):
        return [_acting(entry) for entry in value]
    return plain_values(value)


def _flat(node: Section, found: dict[str, Any]) -> dict[str, Any]:
    arguments = found.pop("constructor_arguments", {}) if isinstance(node, OpenSection) else {}
    # A key of ours that the constructor takes too (lr) wins over the class's own default for it.
    return arguments | found


def _is_legacy(extra: Mapping[str, Any], value: Any) -> bool:
    return "legacy" in extra and canonical_json(plain_values(value)) == canonical_json(extra["legacy"])


def _below(value: Any, what: str) -> Any:
    if isinstance(value, Section):
        return affecting(value, what)
    if isinstance(value, Mapping):
        return {key: kept for key, entry in value.items() if (kept := _below(entry, what))}
    return None


@dataclass(frozen=True)
class _Written:
    """A value of a content as its canonical JSON."""

    text: str


def _digest(content: Mapping[str, Any], length: int) -> str:
    """The first digits of the sha256 of a content's canonical JSON."""
    entries = {
        key: value.text if isinstance(value, _Written) else canonical_json(value) for key, value in content.items()
    }
    return sha256_text(_object(entries))[:length]


def _object(entries: Mapping[str, str]) -> str:
    """canonical_json of a mapping whose values are canonical JSON already."""
    return f"{{{','.join(f'{_key(key)}:{entries[key]}' for key in sorted(entries))}}}"


@cache
def _key(name: str) -> str:
    return canonical_json(name)


def _settings(experiment: Experiment, what: str) -> _Written:
    """`affecting`, written; what thousands of points share is written once."""
    texts = {name: _section_text(_Same(value), what) for name, value in experiment.identity_values().items()}
    return _Written(_object({name: text for name, text in texts.items() if text}))


@dataclass(frozen=True, eq=False)
class _Same:
    """A value that cannot change, known by being the same object: 1 and true are equal, but are two settings."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=4096)
def _section_text(section: _Same, what: str) -> str:
    """Empty when nothing in it affects `what`."""
    found = _below(section.value, what)
    return canonical_json(found) if found else ""


@lru_cache(maxsize=64)
def _volumes_text(volumes: _Same) -> str:
    return canonical_json(volumes.value)


def _volumes(digests: Mapping[str, str]) -> _Written:
    return _Written(
        _volumes_text(_Same(digests)) if isinstance(digests, ReadOnlyDict) else canonical_json(dict(digests))
    )


def run_content(
    experiment: Experiment,
    *,
    train_digests: Mapping[str, str],
    split_digest: str,
    weights_sha256: str,
    slices_per_step: int,
) -> dict[str, Any]:
    """What a run's name is the hash of.

    `train_digests`: str(VolumeKey) -> content digest of every train and val volume that is used. `weights_sha256`: of
    the initial weights. `slices_per_step`: batch_size x grad_accum x world size.
    """
    return {
        "settings": training_identity(experiment),
        "volumes": dict(train_digests),
        **_rest(split_digest, weights_sha256, slices_per_step),
    }


def _rest(split_digest: str, weights_sha256: str, slices_per_step: int) -> dict[str, Any]:
    """A run's content but for its settings and volumes."""
    return {
        "version": IDENTITY_VERSION,
        "slices_per_step": slices_per_step,
        "split": split_digest,
        "weights": weights_sha256,
    }


def run_id(
    experiment: Experiment,
    *,
    train_digests: Mapping[str, str],
    split_digest: str,
    weights_sha256: str,
    slices_per_step: int,
    code_version: str | None = None,
) -> str:
    """`<experiment.name>-<16 hex>` over a `run_content`. `code_version`: with --strict-code."""
    content = {
        "settings": _settings(experiment, "training"),
        "volumes": _volumes(train_digests),
        **_rest(split_digest, weights_sha256, slices_per_step),
    }
    return id_of(experiment, content, code_version)


def id_of(experiment: Experiment, content: Mapping[str, Any], code_version: str | None = None) -> str:
    """The run_id that a content gives."""
    code = {} if code_version is None else {"code": code_version}
    return f"{experiment.experiment.name}-{_digest({**content, **code}, RUN_HEX)}"


def baseline_id(experiment: Experiment, *, weights_sha256: str, code_version: str | None = None) -> str:
    """The run_id of the initial weights as they are: `<experiment.name>-<16 hex>`."""
    module = experiment.module
    content = {
        "version": IDENTITY_VERSION,
        "baseline": True,
        "sam2_model_cfg": module.sam2_model_cfg,
        "image_size": module.image_size,
        "weights": weights_sha256,
    }
    return id_of(experiment, content, code_version)


def eval_id(
    experiment: Experiment,
    split_digest: str,
    files_sha256: Mapping[str, str] | None = None,
    *,
    model: Mapping[str, Any] | None = None,
) -> str:
    """12 hex over the settings that affect an evaluation and the content of the evaluated split.

    `files_sha256`: dotted key -> sha256 of each file that the settings name (`eval.boxes_file`); paths never count.
    `model`: model settings, where no run_id stands for them (a foreign checkpoint, or a run's at another image size).
    """
    content = {
        "version": IDENTITY_VERSION,
        "settings": _settings(experiment, "evaluation"),
        "split": split_digest,
        **({"files": dict(files_sha256)} if files_sha256 else {}),
        **({"model": dict(model)} if model else {}),
    }
    return _digest(content, EVAL_HEX)
