"""Hardware and precision that a run computed with: written into provenance.json for every attempt, read back as text.

No torch at import: reports read it on login nodes.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from sam2ft.core.system.nvidia import driver_version
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.provenance import COMPUTED, add_to_attempt, recorded_in_attempt

if TYPE_CHECKING:
    import torch

    from sam2ft.distributed.ranks import Ranks

TRAINING, EVALUATION = "training", "evaluation"
NOT_RECORDED = "not recorded"
_CPU = "CPU"
# A broken nvidia-smi must not hold up a job whose GPU works.
_DRIVER_TIMEOUT_S = 20


@dataclass(frozen=True)
class RankDevice:
    """Device of one rank."""

    host: str
    name: str
    """Name of the GPU, of a divided one with its share; `CPU` without one."""
    memory_gib: float | None = None
    capability: str | None = None
    """Compute capability, such as 8.0."""
    driver: str | None = None
    """Version of the NVIDIA driver; None when it does not answer."""

    @property
    def text(self) -> str:
        """The device without its host: `NVIDIA A100 (79.2 GiB, compute capability 8.0, driver 580.65.06)`."""
        if self.name == _CPU:
            return self.name
        facts = [f"{self.memory_gib:g} GiB"] if self.memory_gib is not None else []
        facts += [f"compute capability {self.capability}"] if self.capability else []
        return f"{self.name} ({', '.join([*facts, f'driver {self.driver or NOT_RECORDED}'])})"


@dataclass(frozen=True)
class Computed:
    """What one attempt computed with in one stage."""

    stage: str
    """TRAINING or EVALUATION."""
    precision: str
    """The one that was used: of a training that is continued the one in which it was begun."""
    devices: tuple[RankDevice, ...]
    """One per process, in order of rank."""
    cuda: str | None = None
    """Version of CUDA that torch was built for; None on CPUs, as `cudnn`."""
    cudnn: str | None = None
    tf32: bool = False
    """Whether products of float32 were computed in TF32."""
    deterministic: bool = False
    """Whether torch used deterministic algorithms only, where it has them."""
    eval_id: str = ""

    @property
    def text(self) -> str:
        """Devices with their number, the software below torch, precision; of two kinds of GPUs in one job both."""
        counted = Counter(device.text for device in self.devices)
        parts = [" and ".join(f"{count} x {text}" for text, count in counted.items())]
        if self.cuda is not None:
            parts += [f"CUDA {self.cuda}", f"cuDNN {self.cudnn or NOT_RECORDED}"]
        parts.append(self.precision)
        if self.cuda is not None:
            parts.append(f"TF32 {'on' if self.tf32 else 'off'}")
        return ", ".join(parts + (["deterministic algorithms"] if self.deterministic else []))


def record_computed(
    layout: RunLayout, attempt: Attempt, ranks: "Ranks", *, stage: str, precision: str, eval_id: str = ""
) -> None:
    """Record in provenance.json what this attempt computes with; all ranks call it, and the main one writes.

    Nothing is written where the attempt itself was not recorded.
    """
    devices = [RankDevice(**json.loads(text)) for text in ranks.texts(json.dumps(asdict(_device(ranks.device))))]
    if not ranks.is_main:
        return
    found = Computed(stage, precision, tuple(devices), **_software(ranks.device), eval_id=eval_id)
    same = (stage, eval_id)
    others = [one for one in recorded_in_attempt(layout, attempt, COMPUTED) or () if _key(one) != same]
    add_to_attempt(layout, attempt, COMPUTED, [*others, asdict(found)])


def _key(value: Mapping[str, Any]) -> tuple[Any, Any]:
    return value.get("stage"), value.get("eval_id")


def _device(device: "torch.device") -> RankDevice:
    host = os.uname().nodename
    if device.type != "cuda":
        return RankDevice(host, _CPU)
    import torch

    facts = torch.cuda.get_device_properties(device)
    memory = round(facts.total_memory / 2**30, 1)
    return RankDevice(host, facts.name, memory, f"{facts.major}.{facts.minor}", driver_version(_DRIVER_TIMEOUT_S))


def _software(device: "torch.device") -> dict[str, Any]:
    """CUDA, cuDNN and the settings of this process that change products on a GPU."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    if device.type != "cuda":
        return {"deterministic": deterministic}
    return {
        "cuda": torch.version.cuda,
        "cudnn": _cudnn_text(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "deterministic": deterministic,
    }


def _cudnn_text(number: int | None) -> str | None:
    """92400 -> 9.24.0, and before cuDNN 9 8907 -> 8.9.7 (CUDNN_VERSION in cudnn_version.h)."""
    if number is None:
        return None
    major, rest = divmod(number, 10000 if number >= 90000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def computed_in(attempts: Iterable[Mapping[str, Any]]) -> list[Computed]:
    """What `record_computed` wrote into the attempts of a run (provenance.recorded_attempts); of 0.1.0 nothing."""
    return [found for attempt in attempts for found in _records(attempt) if found is not None]


def _records(attempt: Mapping[str, Any]) -> list[Computed | None]:
    """The records of an attempt; None for one that is missing, as in 0.1.0, or that this version cannot read."""
    entries = attempt.get(COMPUTED)
    return [_from_json(entry) for entry in entries] if isinstance(entries, list) else [None]


def _from_json(value: Any) -> Computed | None:
    """A record without the keys that a later version added; None when a key is missing or not of its kind."""
    try:
        devices = tuple(RankDevice(**_known(RankDevice, one)) for one in value["devices"])
        found = Computed(**_known(Computed, value) | {"devices": devices})
        return found if devices and found.text else None
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: one for name, one in value.items() if name in names}


def hardware_texts(runs: Sequence[Sequence[Mapping[str, Any]]], stage: str) -> tuple[str, ...]:
    """What `stage` of several runs was computed with, the most frequent first, each with its number of runs.

    Args:
        runs: the attempts of each run. A run whose attempts differ counts for each.

    Returns:
        texts such as `2 x NVIDIA A100 (...), CUDA 13.0, cuDNN 9.24.0, bf16, TF32 off (3 runs)`. Runs with an attempt
        that did not record it, or in a form that cannot be read, count as `not recorded`. Empty when no run had this
        stage.
    """
    counted: Counter[str] = Counter()
    for attempts in runs:
        texts = dict.fromkeys(one.text for one in computed_in(attempts) if one.stage == stage)
        if any(None in _records(attempt) for attempt in attempts):
            texts[NOT_RECORDED] = None
        counted.update(texts.keys())
    alone = len(runs) == 1
    return tuple(
        text if alone else f"{text} ({count} run{'s' if count != 1 else ''})" for text, count in counted.most_common()
    )
