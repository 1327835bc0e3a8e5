"""GPUs, driver and torch as a job's own Python finds them on a machine, and what a site check says about them.

No torch at import: `show_gpu_facts` runs in the Python of the job.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from sam2ft.core.system.nvidia import CPU_TORCH, driver_text, driver_version, is_too_old

GpuResult = Literal["ok", "problem", "unknown"]


@dataclass(frozen=True)
class GpuFacts:
    """What the Python of a job says about the machine on which it was started."""

    package: str
    """Folder that sam2ft is imported from."""
    cuda: str | None
    """Version of CUDA that torch was built for; None: torch is for CPUs."""
    driver: str | None
    gpus: tuple[tuple[str, int], ...] = ()
    """Name and compute capability (80 for 8.0) of each GPU that torch sees."""
    oldest: int | None = None
    """Lowest compute capability that torch was built for."""


def gpu_facts() -> GpuFacts:
    """The facts of this process."""
    import torch

    import sam2ft

    package, cuda, driver = str(sam2ft.__path__[0]), torch.version.cuda, driver_version()
    if not torch.cuda.is_available():
        return GpuFacts(package, cuda, driver)
    seen = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    built = [int(name[3:]) for name in torch.cuda.get_arch_list() if name.startswith("sm_") and name[3:].isdecimal()]
    gpus = tuple((one.name, 10 * one.major + one.minor) for one in seen)
    return GpuFacts(package, cuda, driver, gpus, min(built, default=None))


def show_gpu_facts() -> None:
    """Print the facts as the last line of standard output, after whatever the lines of a site print."""
    print("\n" + json.dumps(asdict(gpu_facts())), flush=True)


def read_gpu_facts(output: str) -> GpuFacts | None:
    """The facts that `show_gpu_facts` printed; None where that is something else."""
    lines = output.strip().splitlines()
    try:
        value = json.loads(lines[-1])
        gpus = tuple((str(name), int(capability)) for name, capability in value["gpus"])
        return GpuFacts(**value | {"gpus": gpus})
    except (IndexError, ValueError, TypeError, KeyError):
        return None


def gpu_finding(facts: GpuFacts) -> tuple[GpuResult, str]:
    """Result and text of the line about GPUs: the driver against the one that torch needs, and GPUs that are too old.

    A login node without GPUs is no problem: only a node can answer.
    """
    if facts.cuda is None:
        return "problem", CPU_TORCH
    text = driver_text(facts.cuda, facts.driver) or f"torch needs a driver for CUDA {facts.cuda}"
    old = [name for name, capability in facts.gpus if facts.oldest is not None and capability < facts.oldest]
    if old:
        return "problem", (
            f"{old[0]} is older than the GPUs of this torch (compute capability {_dotted(facts.oldest)} or newer); "
            "name other nodes (slurm.constraint, slurm.exclude)"
        )
    if facts.gpus:
        return "ok", f"torch sees {len(facts.gpus)} x {facts.gpus[0][0]} here, driver {facts.driver or 'unknown'}"
    if facts.driver is None:
        return "unknown", f"{text} here: compare with `nvidia-smi` on a node, or check the site in a job on one"
    if is_too_old(facts.driver, facts.cuda):
        return "problem", f"{text}; ask for a newer one, or name nodes that have it (slurm.constraint, slurm.exclude)"
    return "unknown", f"{text}, but torch sees no GPU here: check the site in a job with a GPU"


def _dotted(capability: int | None) -> str:
    return "unknown" if capability is None else f"{capability // 10}.{capability % 10}"
