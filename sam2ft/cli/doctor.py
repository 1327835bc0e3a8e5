"""Show versions, hardware, SLURM, disk space and prepared stores, as one text for a bug report."""

import argparse
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sam2ft.core.command import run_command
from sam2ft.core.errors import DataError
from sam2ft.core.system.nvidia import driver_text, driver_version

OTHERS = ("submitit", "nibabel", "pynrrd", "pyarrow", "safetensors", "wandb", "tensorboard", "highdicom")
"""Packages besides those that can change a number (runs/provenance)."""
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_CONF"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"),
)
_GB = 2**30

Entry = tuple[str, str]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="the text names no person and no file but the stores; read it before you post it"
    )
    parser.add_argument(
        "stores", type=Path, nargs="*", metavar="STORE", help="prepared stores (default: every store in data/)"
    )
    return parser


def main() -> int:
    given = parser().parse_args()
    stores = given.stores or sorted(path.parent for path in Path("data").glob("*/store.json"))
    sections = {
        "sam2ft": versions(),
        "machine": machine(),
        "torch": torch_facts(),
        "slurm": slurm_facts(),
        "disk": disk(),
        "stores": [entry for path in stores for entry in store_facts(path)] or [("", "none in data/")],
    }
    for title, entries in sections.items():
        print(f"[{title}]")
        for name, text in entries:
            print(f"{name:<22} {text}".rstrip() if name else text)
    return 0


def versions() -> Iterator[Entry]:
    """Version and code of sam2ft, Python, and the packages it uses."""
    from sam2ft.runs.provenance import code_version, package_versions

    code = code_version()
    commit = f"commit {code['commit'][:12]}{' (modified)' if code['modified'] else ''}, " if code["commit"] else ""
    yield "code", f"{commit}digest {code['digest']}"
    yield "python", platform.python_version()
    yield from package_versions().items()
    others = package_versions(OTHERS)
    yield from ((name, others.get(name, "not installed")) for name in OTHERS)


def machine() -> Iterator[Entry]:
    """Operating system, processor cores, memory, and the variables that limit threads."""
    yield "system", platform.platform()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "cores", f"{usable} of {os.cpu_count()}"
    yield "memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GB:.1f} GB"
    for name in VARIABLES:
        if name in os.environ:
            yield name, os.environ[name]


def torch_facts() -> Iterator[Entry]:
    """What torch computes with: processor instructions, CUDA devices, and the precisions they support."""
    try:
        import torch
    except (ImportError, OSError) as error:
        yield "import torch", f"failed: {str(error).strip().splitlines()[-1]}"
        return
    yield "cpu capability", torch.backends.cpu.get_cpu_capability()
    yield "threads", str(torch.get_num_threads())
    yield "built for CUDA", str(torch.version.cuda or "no")
    if driver := driver_text(torch.version.cuda, driver_version()):
        yield "driver", driver
    if not torch.cuda.is_available():
        yield "CUDA", "no GPU is visible to this process"
        return
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        yield f"GPU {number}", f"{facts.name}, {facts.total_memory / _GB:.0f} GB, compute {facts.major}.{facts.minor}"
    yield "bf16", "supported" if torch.cuda.is_bf16_supported() else "not supported"


def slurm_facts() -> Iterator[Entry]:
    """Version of SLURM on PATH, the cluster's name, and the job that this process runs in."""
    from sam2ft.slurm.queue import cluster_name, slurm_is_installed

    if not slurm_is_installed():
        yield "sbatch, squeue", "not on PATH"
        return
    try:
        done = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=30, check=False)
        # With an error in its configuration, the last line says what is wrong.
        yield "version", (done.stdout or done.stderr).strip().splitlines()[-1]
        yield "cluster", cluster_name() or "does not answer"
    except (OSError, subprocess.TimeoutExpired) as error:
        yield "sbatch --version", f"failed: {error}"
    if "SLURM_JOB_ID" in os.environ:
        yield "inside job", os.environ["SLURM_JOB_ID"]


def disk() -> Iterator[Entry]:
    """Free space where runs and temporary files go."""
    for name, path in (("working directory", Path()), ("temporary files", Path(tempfile.gettempdir()))):
        if path.is_dir():
            free, total = shutil.disk_usage(path).free, shutil.disk_usage(path).total
            yield name, f"{free / _GB:.0f} of {total / _GB:.0f} GB free"


def store_facts(path: Path) -> Iterator[Entry]:
    """Size and splits of a prepared store; a store that cannot be read is reported as such."""
    from sam2ft.data.store.store import Store

    try:
        store = Store.open(path)
        counts = {split: len(store.split_volumes(split)) for split in ("train", "val", "test")}
    except (DataError, OSError) as error:
        yield str(path), f"cannot be read: {error}"
        return
    volumes = ", ".join(f"{split} {count}" for split, count in counts.items())
    yield str(path), f"{len(store.labels)} labels; volumes: {volumes}"


if __name__ == "__main__":
    run_command(main)
