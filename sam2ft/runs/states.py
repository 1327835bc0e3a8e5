"""States of a run and classes of failure, each with all that depends on it."""

from enum import StrEnum
from typing import Self


class State(StrEnum):
    """State of a run, the least urgent first."""

    colour: str
    """Its colour on a terminal; empty for the ordinary one."""
    next_step: str
    """What to do next about a run of a plan."""

    def __new__(cls, word: str, colour: str = "", next_step: str = "") -> Self:
        """Return the state `word`."""
        state = str.__new__(cls, word)
        state._value_, state.colour, state.next_step = word, colour, next_step
        return state

    DONE = "done", "green", "nothing to do"
    UNCOUNTED = "uncounted", "yellow"
    """Done, but with an evaluation that does not count in a report, for example because a table was changed."""
    NEW = "new", "", "`make sweep` starts it"
    QUEUED = "queued", "", "nothing to do; `status --watch` follows it"
    STOPPED = "stopped", "yellow", "`make sweep` continues it from its newest checkpoint"
    STARTING = "starting", "cyan"
    TRAINING = "training", "cyan"
    EVALUATING = "evaluating", "cyan"
    RUNNING = "running", "cyan", "nothing to do; `tail -f` shows its log"
    """Starting, training or evaluating."""
    UNKNOWN = (
        "unknown",
        "yellow",
        "ask on a machine where SLURM answers; `make sweep ARGS='--retry all'` starts it again if it has ended",
    )
    LOST = "lost", "red", "`make sweep` starts it again from its newest checkpoint"
    FAILED = "failed", "red"

    @property
    def active(self) -> bool:
        """Whether an attempt at work writes it to status.json."""
        return self in (State.STARTING, State.TRAINING, State.EVALUATING)

    @property
    def reported(self) -> bool:
        """Whether status.json can hold it: what an attempt can say about itself."""
        return self.active or self in (State.STOPPED, State.DONE, State.FAILED)

    @property
    def live(self) -> bool:
        """Whether the run is at work, or will be by itself."""
        return self in (State.QUEUED, State.RUNNING)

    @property
    def startable(self) -> bool:
        """Whether a sweep starts the run without --retry or --force."""
        return self in (State.NEW, State.STOPPED, State.LOST)

    @property
    def bad(self) -> bool:
        """Whether the run counts as failed: its log is shown, and a report lists it."""
        return self in (State.FAILED, State.LOST)

    @property
    def group(self) -> str:
        """Its count in the coverage of a report: one of GROUPS."""
        return State.RUNNING if self.active else self if self in GROUPS else "missing"


GROUPS = (State.DONE, State.RUNNING, State.FAILED, "missing")


class FailureClass(StrEnum):
    """Why a run failed; `--retry` starts the runs of one class."""

    remedy: str
    """What to do before it is started again."""
    signs: tuple[str, ...]
    """Parts of an exception's message, or of the name of its type, that show it."""

    def __new__(cls, word: str, remedy: str = "", *signs: str) -> Self:
        """Return the class `word`."""
        known = str.__new__(cls, word)
        known._value_, known.remedy, known.signs = word, remedy, signs
        return known

    ERROR = "error", "fix the error in the log"
    OOM = (
        "oom",
        "more memory (resources.mem_gb), a smaller batch or image",
        # Of Python and torch on the CPU, of the CUDA libraries, and about a DataLoader worker that the kernel killed.
        "MemoryError",
        "can't allocate memory",
        "out of memory",
        "ALLOC_FAILED",
        "is killed by signal: Killed",
    )
    DEVICE = (
        "device",
        "look at the GPU of its node (driver, CUDA_VISIBLE_DEVICES), or exclude the node (slurm.exclude)",
        "DeviceError",
        "CUDA driver",
        "NVIDIA driver",
        "no CUDA-capable device",
        "No CUDA GPUs are available",
        "ECC error",
        "busy or unavailable",
        # A GPU that is older than those that torch was built for.
        "no kernel image is available",
    )
    TIMEOUT = "timeout", "more time (resources.hours) or more frequent checkpoints"
    NO_PROGRESS = "no_progress", "its restarts made no new step: read the log"
    DISK = (
        "disk",
        "make room, or wait until the file system works again",
        # The type of core/errors, and the words of the system, which a failed rank passes on.
        "DiskError",
        "No space left on device",
        "Disk quota exceeded",
        "Input/output error",
        "Read-only file system",
        "Stale file handle",
    )

    @classmethod
    def _missing_(cls, value: object) -> "FailureClass":
        """A class that another version wrote is an error like any other."""
        return FailureClass.ERROR

    @property
    def next_step(self) -> str:
        """What to do next."""
        asked = "" if self.passes else f" ARGS='--retry {self}'"
        return f"{self.remedy}, then `make sweep{asked}`"

    @property
    def passes(self) -> bool:
        """Whether nothing about the run has to change: a sweep starts it again without --retry."""
        return self is FailureClass.DISK

    @property
    def saved(self) -> bool:
        """Whether the run saved and only must not be requeued: then a `scancel` makes it a stopped one."""
        return self in (FailureClass.TIMEOUT, FailureClass.NO_PROGRESS)
