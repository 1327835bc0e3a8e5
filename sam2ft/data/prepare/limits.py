"""Limits of memory and time for the preparation of one volume, so that a damaged or huge file costs no other volume."""

import faulthandler
import math
import os
import resource
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sam2ft.config.schema.dataset import AS_IS, Reading
from sam2ft.core.errors import DataError
from sam2ft.data.dicom.series import read_slices
from sam2ft.data.formats.declared_size import BYTES_BESIDES, needed_bytes

GIB = 2**30
# Above the budget: a half more for a reader's own copies, and room for libraries that are imported meanwhile.
_SHARE, _ROOM = 1.5, 256 * 2**20
# A library that hangs outside the interpreter cannot be interrupted; its process is ended this much later.
_GRACE_S = 5.0


def refuse_too_large(
    image: Path, mask: Path, maps: Collection[Path], budget_bytes: float, reading: Reading = AS_IS
) -> None:
    """Check the memory that a volume needs by the headers of its files, before anything is decoded.

    Raises:
        DataError: naming the file that needs the most, and what it needs.
    """
    needed: dict[Path, float] = {path: needed_bytes(path, reading.of_maps) for path in maps}
    needed |= {mask: needed_bytes(mask, reading.of_masks), image: needed_bytes(image, reading)}
    # Image and mask are on one grid: what a voxel needs holds both.
    of_maps = sum(needed[path] for path in maps)
    if (total := max(needed[image], needed[mask]) + of_maps) > budget_bytes:
        needed[image] = min(needed[image], _of_chosen(image, reading))
        total = max(needed[image], needed[mask]) + of_maps
    if total > budget_bytes:
        largest = max(needed, key=needed.__getitem__)
        raise DataError(
            f"{largest}: by its header its voxels need {needed[largest] / GIB:.3g} GiB, the volume {total / GIB:.3g} "
            f"GiB; allowed: {budget_bytes / GIB:.3g} GiB; if the header is right, raise it with --max-volume-gb (or "
            "max_volume_gb in the dataset file)"
        )


def _of_chosen(folder: Path, reading: Reading) -> float:
    """What the chosen series of a folder with several needs; infinite where there is none."""
    try:
        images = read_slices(folder, reading) if folder.is_dir() else ()
    except DataError:
        return math.inf
    sizes = [image.size[0] * image.size[1] * (int(image.header.BitsAllocated) // 8 + BYTES_BESIDES) for image in images]
    return sum(sizes) if sizes else math.inf


@contextmanager
def limited(what: Path, budget_bytes: float, seconds: float, *, own_process: bool = False) -> Iterator[None]:
    """Run the block with at most 1.5 budgets + 0.25 GiB more memory than now, and for at most `seconds`.

    Args:
        what: file that a message names.
        own_process: whether this is the main thread of a process that serves only such blocks. Without it there is no
            time limit, because an exception that a timer raises at any point can leave a lock of the interpreter held
            (that of `logging`, for one), for which another thread then waits for ever. With it, the process ends when
            a library hangs outside the interpreter (`parallel_map` with `lost` reports the item).

    Raises:
        DataError: a limit was reached.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = _data_bytes() + int(_SHARE * budget_bytes) + _ROOM
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        if own_process:
            before = signal.signal(signal.SIGALRM, _raise_timeout)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            faulthandler.dump_traceback_later(seconds + _GRACE_S, exit=True, file=_devnull())
        yield
    except MemoryError:
        raise DataError(
            f"{what}: needs more memory than {_SHARE:g} times the limit of {budget_bytes / GIB:.3g} GiB a volume; if "
            "the file is not damaged, raise it with --max-volume-gb (or max_volume_gb in the dataset file)"
        ) from None
    except _TimeUpError:
        raise DataError(
            f"{what}: was not read within {seconds:g} s; if it is not damaged, give more with --max-volume-minutes"
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        if own_process:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            faulthandler.cancel_dump_traceback_later()


class _TimeUpError(Exception):
    """The timer of `limited` has run out."""


def _raise_timeout(*_: Any) -> None:
    raise _TimeUpError


def _data_bytes() -> int:
    """Memory of this process that counts for RLIMIT_DATA (VmData of proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


@cache
def _devnull() -> int:
    return os.open(os.devnull, os.O_WRONLY)
