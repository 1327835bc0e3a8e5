"""NVIDIA driver and GPUs of this machine, without torch: version, the one that CUDA needs, UUIDs, torch's allocator."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# "Minimum Driver Version" of each major version of CUDA, within which any minor version runs:
# docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, table 1.
_NEEDED_DRIVERS = {11: 450, 12: 525, 13: 580}
_TIMEOUT_S = 30
# Other ranks wait for the one that asks, and a job whose GPU works is not held up for long.
_DRIVER_TIMEOUT_S = 20
CPU_TORCH = "this torch is for CPUs; install the one of requirements/run.txt (`make setup`)"
_MEMORY_QUERY = ("--query-gpu=uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits")
# Of the loaded driver, whether or not its programs are installed (containers).
_MODULE_VERSION = Path("/sys/module/nvidia/version")
_PROC = Path("/proc/driver/nvidia/gpus")
_DEVICES = Path("/dev")

# The names that torch reads, the first one first (c10/cuda/CUDAAllocatorConfig.h, instance()).
_ALLOCATOR_NAMES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
_ALLOCATOR = "expandable_segments:True"
"""Memory of a GPU in segments that grow: batches of different sizes leave less of it unusable."""


def with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with torch's allocator for GPUs; a user's own value of either name stays alone."""
    own = any(name in environment for name in _ALLOCATOR_NAMES)
    return dict(environment) if own else {**environment, _ALLOCATOR_NAMES[-1]: _ALLOCATOR}


def allocator_line() -> str:
    """Return the same as a line of a shell script."""
    own = "".join(f"${{{name}+x}}" for name in _ALLOCATOR_NAMES)
    return f'[ -n "{own}" ] || export {_ALLOCATOR_NAMES[-1]}={_ALLOCATOR}'


def nvidia_smi(*arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
    """Return the standard output of nvidia-smi; empty when it is missing, cannot start or does not answer in time.

    Its exit code does not count: with one broken GPU it fails, and lists the others.
    """
    try:
        program = subprocess.Popen(
            ["nvidia-smi", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError:
        return ""
    try:
        return program.communicate(timeout=timeout_s)[0]
    except subprocess.TimeoutExpired:
        # Of a broken driver it hangs in the kernel, where a signal does not reach it: it is left, not waited for.
        with suppress(OSError):
            os.killpg(program.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            program.wait(timeout=1)
        return ""
    finally:
        assert program.stdout is not None
        program.stdout.close()


def driver_version() -> str | None:
    """Version of the loaded driver, such as 580.65.06; None without one, or when it does not answer."""
    # Read first: it is there at once, and never hangs.
    with suppress(OSError, UnicodeDecodeError):
        if found := _version_in(_MODULE_VERSION.read_text("ascii")):
            return found
    return _version_in(nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader", timeout_s=_DRIVER_TIMEOUT_S))


def _version_in(text: str) -> str | None:
    """The first line that is a version; a broken driver answers in words."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if re.fullmatch(r"\d+(\.\d+)+", line)), None)


def needed_driver(cuda: str | None) -> int | None:
    """Major version of the oldest driver that runs programs built for `cuda`, such as 13.0; None where not known."""
    major = (cuda or "").partition(".")[0]
    return _NEEDED_DRIVERS.get(int(major)) if major.isdecimal() else None


def is_too_old(driver: str, cuda: str | None) -> bool:
    """Whether a driver of this version cannot run programs built for `cuda`; false where not known."""
    needed = needed_driver(cuda)
    return needed is not None and int(driver.partition(".")[0]) < needed


def driver_text(cuda: str | None, found: str | None) -> str:
    """What a message says about the driver `found` and the one that torch's `cuda` needs; empty where not known."""
    needed = needed_driver(cuda)
    if needed is None:
        return ""
    if found is None:
        return f"CUDA {cuda} needs the NVIDIA driver {needed} or newer, and no driver answers"
    if is_too_old(found, cuda):
        return f"CUDA {cuda} needs the NVIDIA driver {needed} or newer, found {found}"
    return f"the NVIDIA driver {found} is new enough for CUDA {cuda}"


def all_gpus() -> tuple[str, ...]:
    """UUIDs of the GPUs of this machine (container), in the driver's order; of a divided GPU those of its instances.

    UUIDs and not numbers: in a container that has only /dev/nvidia3, CUDA calls this GPU 0.
    """
    found: dict[str, list[str]] = {}
    for line in nvidia_smi("-L").splitlines():
        if match := re.search(r"\(UUID: (GPU-[^)\s]+)\)", line):
            found[match[1]] = []
        elif (match := re.search(r"\(UUID: (MIG-[^)\s]+)\)", line)) and found:
            found[next(reversed(found))].append(match[1])
    if not found:
        return tuple(_gpus_of_the_kernel())
    return tuple(name for gpu, instances in found.items() for name in (instances or [gpu]))


def _gpus_of_the_kernel() -> Iterator[str]:
    """UUIDs of the GPUs with a device file here, as the driver shows them in /proc; for containers without nvidia-smi.

    Instances of a divided GPU are not listed there.
    """
    for path in sorted(_PROC.glob("*/information")):
        try:
            facts = dict(re.findall(r"^([^:\n]+):[ \t]*(\S+)", path.read_text("utf-8", "replace"), re.MULTILINE))
        except OSError:
            continue
        uuid = facts.get("GPU UUID", "")
        if uuid.startswith("GPU-") and (_DEVICES / f"nvidia{facts.get('Device Minor', '')}").exists():
            yield uuid


def named_gpus(value: str) -> tuple[str, ...]:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES names, as CUDA reads it: up to the first one that is none.

    A value that starts with something else than a GPU (`all`) is returned as it is, for CUDA to refuse; empty for
    those that mean none (empty, -1, none, NoDevFiles).
    """
    words = [word.strip() for word in value.split(",")]
    if words[0] in ("", "-1", "none", "NoDevFiles"):
        return ()
    # All are numbers, or all are UUIDs of one kind; each may be cut short after the first characters.
    kinds = (r"\d+", r"GPU-\S+", r"MIG-\S+")
    kind = next((one for one in kinds if re.fullmatch(one, words[0])), None)
    if kind is None:
        return (words[0],)
    named: list[str] = []
    for word in words:
        if not re.fullmatch(kind, word):
            break
        if word not in named and (kind == r"\d+" or not any(_same(word, other) for other in named)):
            named.append(word)
    return tuple(named)


def _same(uuid: str, other: str) -> bool:
    """Whether one is the beginning of the other."""
    return uuid.startswith(other) or other.startswith(uuid)


def least_gpu_memory(names: Sequence[str], listed: Callable[[], str] | None = None) -> int | None:
    """Return the memory in bytes of the smallest of these GPUs (UUIDs, or numbers of CUDA); None where it is not known.

    A number may be another GPU for CUDA than for nvidia-smi: then the smallest GPU of the machine counts. The size of
    an instance of a divided GPU (MIG) is not asked.

    Args:
        listed: uuid, memory in MiB and MIG mode of each GPU as lines of CSV; by default nvidia-smi is called.
    """
    if not names:
        return None
    lines = (listed or (lambda: nvidia_smi(*_MEMORY_QUERY)))().splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    uuids = tuple(name for name in names if name.startswith("GPU-"))
    chosen = [row for row in rows if not uuids or row[0].startswith(uuids)]
    # A GPU that shares the memory of the machine says 0 or [N/A].
    is_known = [len(row) == 3 and row[1].isdecimal() and int(row[1]) > 0 and row[2] != "Enabled" for row in chosen]
    if not chosen or not all(is_known) or any(name.startswith("MIG-") for name in names):
        return None
    return min(int(row[1]) for row in chosen) * 2**20
