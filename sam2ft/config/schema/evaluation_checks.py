"""Refusal of `eval` settings that the protocol does not use, and the types of these settings. No torch."""

from collections.abc import Sequence
from typing import Literal, Protocol

from sam2ft.core.errors import ConfigError

InstanceMode = Literal["per_instance", "per_label"]
Direction = Literal["outward", "both"]


class NoiseSection(Protocol):
    """The section `eval.prompt_noise`."""

    @property
    def shifts(self) -> Sequence[int]: ...
    @property
    def seeds(self) -> Sequence[int]: ...


class EvaluationSection(Protocol):
    """The keys of the section `eval` that the Tester reads."""

    @property
    def instances(self) -> InstanceMode: ...
    @property
    def protocol(self) -> str: ...
    @property
    def points_k(self) -> int: ...
    @property
    def propagate_seed(self) -> Literal["largest", "middle"]: ...
    @property
    def bbox_shift(self) -> int: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def include_empty_slices(self) -> bool: ...
    @property
    def prompt_chunk(self) -> int: ...
    @property
    def encode_batch(self) -> int: ...
    @property
    def precision(self) -> Literal["fp32", "bf16", "fp16"]: ...
    @property
    def prompt_noise(self) -> NoiseSection | None: ...


def unavailable_in_evaluation(section: EvaluationSection) -> list[tuple[str, str]]:
    """(key, message) for every setting in `eval` that the protocol does not use; no setting is ignored silently."""
    found = []
    if section.bbox_shift and section.protocol != "box":
        found.append(
            (
                "eval.bbox_shift",
                f"it moves boxes of protocol box, not of {section.protocol}; allowed: 0",
            )
        )
    if section.prompt_noise is not None and section.protocol != "box":
        message = f"it moves boxes of protocol box, not of {section.protocol}; allowed: null"
        found.append(("eval.prompt_noise", message))
    return found


def refuse_unsupported(evaluation: EvaluationSection) -> None:
    """Check that the protocol uses every setting in `eval`.

    Raises:
        ConfigError: it does not; the message names every such key.
    """
    if found := unavailable_in_evaluation(evaluation):
        raise ConfigError("; ".join(f"{key}: {message}" for key, message in found))
