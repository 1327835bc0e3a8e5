"""Run ids and eval ids: hashes of the settings and data that determine the results (docs/contracts.md, identity).

Both ids are known before any training. They depend on settings and content digests, never on paths, times or results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sam2ft.config.load_experiment import plain_values
from sam2ft.config.schema.base import ClassSection, ReadOnlyDict, Section
from sam2ft.config.schema.experiment import Experiment
from sam2ft.core.files import canonical_json, sha256_text

IDENTITY_VERSION = 1
"""Part of every id. It changes only when an id must not be shared with earlier versions of sam2ft."""

RUN_HEX, EVAL_HEX = 16, 12


def training_identity(experiment: Experiment) -> dict[str, Any]:
    """The settings that determine the final weights of a training."""
    return settings_affecting(experiment, "training")


def evaluation_identity(experiment: Experiment) -> dict[str, Any]:
    """The settings that determine the rows of an evaluation, given a checkpoint and the data."""
    return settings_affecting(experiment, "evaluation")


def settings_affecting(node: Section, what: str) -> dict[str, Any]:
    """The settings in a section that affect `what` ("training" or "evaluation"), as nested plain values.

    A key that a later version added is left out while it has its `legacy` value, which is how earlier versions behaved
    without the key. A section with nothing left is left out too. So old ids stay the same.
    """
    found: dict[str, Any] = {}
    values = node.identity_values()
    for name, field in type(node).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "affects" in extra:
            if extra["affects"] == what and not _is_legacy(extra, values[name]):
                found[name] = _effective(values[name])
        elif kept := _below(values[name], what):
            found[name] = kept
    return _flat(node, found)


def _effective(value: Any) -> Any:
    """The value of one key as plain values, with the defaults of the classes that it names filled in."""
    if isinstance(value, Section):
        return _flat(value, {name: _effective(entry) for name, entry in value.identity_values().items()})
    if isinstance(value, tuple):
        return [_effective(entry) for entry in value]
    return plain_values(value)


def _flat(node: Section, found: dict[str, Any]) -> dict[str, Any]:
    arguments = found.pop("constructor_arguments", {}) if isinstance(node, ClassSection) else {}
    # A key of sam2ft that is also an argument of the constructor (lr) takes precedence over the default of the class.
    return arguments | found


def _is_legacy(extra: Mapping[str, Any], value: Any) -> bool:
    return "legacy" in extra and canonical_json(plain_values(value)) == canonical_json(extra["legacy"])


def _below(value: Any, what: str) -> Any:
    if isinstance(value, Section):
        return settings_affecting(value, what)
    if isinstance(value, Mapping):
        return {key: kept for key, entry in value.items() if (kept := _below(entry, what))}
    return None


@dataclass(frozen=True)
class _CanonicalJson:
    """A value of a content mapping that is already canonical JSON."""

    text: str


def _digest(content: Mapping[str, Any], length: int) -> str:
    """The first `length` hexadecimal digits of the sha256 of the canonical JSON of a content mapping."""
    entries = {
        key: value.text if isinstance(value, _CanonicalJson) else canonical_json(value)
        for key, value in content.items()
    }
    return sha256_text(_object(entries))[:length]


def _object(entries: Mapping[str, str]) -> str:
    """canonical_json of a mapping whose values are already canonical JSON."""
    return f"{{{','.join(f'{_key(key)}:{entries[key]}' for key in sorted(entries))}}}"


@cache
def _key(name: str) -> str:
    return canonical_json(name)


def _settings(experiment: Experiment, what: str) -> _CanonicalJson:
    """`affecting` as canonical JSON; sections that many points share are converted once."""
    texts = {name: _section_text(_ByIdentity(value), what) for name, value in experiment.identity_values().items()}
    return _CanonicalJson(_object({name: text for name, text in texts.items() if text}))


@dataclass(frozen=True, eq=False)
class _ByIdentity:
    """An immutable value compared by object identity, because 1 and true are equal but are different settings."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(maxsize=4096)
def _section_text(section: _ByIdentity, what: str) -> str:
    """Canonical JSON of a section; empty when nothing in it affects `what`."""
    found = _below(section.value, what)
    return canonical_json(found) if found else ""


@lru_cache(maxsize=64)
def _volumes_text(volumes: _ByIdentity) -> str:
    return canonical_json(volumes.value)


def _volumes(digests: Mapping[str, str]) -> _CanonicalJson:
    return _CanonicalJson(
        _volumes_text(_ByIdentity(digests)) if isinstance(digests, ReadOnlyDict) else canonical_json(dict(digests))
    )


def run_content(
    experiment: Experiment,
    *,
    train_digests: Mapping[str, str],
    split_digest: str,
    weights_sha256: str,
    slices_per_step: int,
) -> dict[str, Any]:
    """The content whose hash is the run_id.

    Args:
        train_digests: str(VolumeKey) -> content digest of every train and val volume that is used.
        split_digest: digest of the split.
        weights_sha256: sha256 of the initial weights.
        slices_per_step: batch_size x grad_accum x world size.
    """
    return {
        "settings": training_identity(experiment),
        "volumes": dict(train_digests),
        **_rest(split_digest, weights_sha256, slices_per_step),
    }


def _rest(split_digest: str, weights_sha256: str, slices_per_step: int) -> dict[str, Any]:
    """The content of a run without its settings and volumes."""
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
    """The run_id: `<experiment.name>-<16 hex>`, a hash of the `run_content` of the same arguments.

    Args:
        code_version: part of the hash with --strict-code; None: not part of it.
    """
    content = {
        "settings": _settings(experiment, "training"),
        "volumes": _volumes(train_digests),
        **_rest(split_digest, weights_sha256, slices_per_step),
    }
    return id_of(experiment, content, code_version)


def id_of(experiment: Experiment, content: Mapping[str, Any], code_version: str | None = None) -> str:
    """The run_id of a content mapping, such as that of `run_content`."""
    code = {} if code_version is None else {"code": code_version}
    return f"{experiment.experiment.name}-{_digest({**content, **code}, RUN_HEX)}"


def baseline_id(experiment: Experiment, *, weights_sha256: str, code_version: str | None = None) -> str:
    """The run_id of the baseline, the untrained initial weights: `<experiment.name>-<16 hex>`."""
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
    """The eval_id: 12 hex, a hash of the settings that affect an evaluation and of the content of the evaluated split.

    Args:
        split_digest: digest of the evaluated split.
        files_sha256: dotted key -> sha256 of each file that the settings name (`eval.boxes_file`); paths never count.
        model: model settings, where the run_id does not determine them (a checkpoint that is not from a run, or a run
            evaluated at another image size).
    """
    content = {
        "version": IDENTITY_VERSION,
        "settings": _settings(experiment, "evaluation"),
        "split": split_digest,
        **({"files": dict(files_sha256)} if files_sha256 else {}),
        **({"model": dict(model)} if model else {}),
    }
    return _digest(content, EVAL_HEX)
