"""`status.json` of a run: what the run itself says. Only the attempt that holds the claim writes it."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from sam2ft.core.errors import ClaimedError, DataError
from sam2ft.core.files import read_json, write_json
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.layout import RunLayout

State = Literal["starting", "training", "evaluating", "stopped", "done", "failed"]
FailureClass = Literal["error", "oom", "timeout", "claimed", "no_progress"]

ACTIVE: tuple[State, ...] = ("starting", "training", "evaluating")
HEARTBEAT_S = 20.0
"""Seconds between two heartbeats of a run that is at work."""
SILENCE_S = 180.0
"""A run that is silent for longer is not known to be alive (file systems may show a heartbeat up to 60 s late)."""

Progress = tuple[int, int, int, int]
"""What a run has to show, in order of weight (runs/attempt/restarts.progress_of)."""

# The heartbeat thread and the training loop change one file.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class RunStatus:
    """The content of status.json; the JSON key of `failure_class` is `class`."""

    state: State
    attempt: Attempt
    heartbeat: str
    """UTC, ISO 8601: the last time this attempt said that it is alive."""
    failure_class: FailureClass | None = None
    reason: str = ""
    """Of a failure: the exception in one line."""
    epoch: int | None = None
    """0-based number of the last validated epoch."""
    num_epochs: int | None = None
    step: int | None = None
    best_value: float | None = None
    """Best value so far of the monitored quantity `monitor`."""
    best_epoch: int | None = None
    """0-based epoch that best.pt holds."""
    monitor: str | None = None
    mode: str | None = None
    """min or max: which end of `monitor` is better."""
    step_s: float | None = None
    """Seconds per optimizer step, recent mean."""
    save_s: float | None = None
    """Seconds that the last checkpoint took to write."""
    peak_memory_gb: float | None = None
    """Largest memory of training so far, of the device of rank 0 (on the CPU: of its process); GB."""
    trained: bool = False
    """Whether training ended (the last epoch or early stopping)."""
    best_sha256: str | None = None
    """Of best.pt, or of the initial weights for a baseline."""
    progress: Progress | None = None
    """What there was when this attempt began."""
    idle_restarts: int = 0
    """Restarts in a row before this attempt that brought nothing."""

    def silence_s(self, now: datetime | None = None) -> float:
        """Seconds since the last heartbeat."""
        return ((now or datetime.now(UTC)) - datetime.fromisoformat(self.heartbeat)).total_seconds()

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {"class" if name == "failure_class" else name: value for name, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        values = {"failure_class" if name == "class" else name: entry for name, entry in value.items()}
        values["attempt"] = Attempt.from_json(values["attempt"])
        values["progress"] = tuple(values["progress"]) if values.get("progress") else None
        if values["state"] not in get_args(State):
            raise ValueError(f"state {values['state']!r}")
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def read_status(layout: RunLayout) -> RunStatus | None:
    """What the run says, or None when it never started. Errors: DataError for a file that is not ours."""
    if not layout.status.is_file():
        return None
    value = read_json(layout.status)
    try:
        return RunStatus.from_json(value)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{layout.status}: not the status of a run ({error})") from None


def update_status(layout: RunLayout, attempt: Attempt, **changes: Any) -> RunStatus:
    """Write the status with `changes` and a fresh heartbeat; what is not named stays.

    Errors: ClaimedError when `attempt` does not hold the run any more.
    """
    with _LOCK:
        check_claim(layout, attempt)
        before = read_status(layout)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        status = before or RunStatus("starting", attempt, now)
        status = replace(status, attempt=attempt, heartbeat=now, **changes)
        write_json(layout.status, status.to_json())
        return status


@contextmanager
def heartbeat(layout: RunLayout, attempt: Attempt, every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Keep the heartbeat of `attempt` fresh while the block runs, however long one step or one volume takes."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            with _LOCK:
                if ended.is_set():
                    return
                try:
                    update_status(layout, attempt)
                except ClaimedError:
                    # The work itself finds this out before its next write, and ends the process.
                    return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_trained(layout: RunLayout) -> bool:
    """Whether the run says that its training ended and the weights are there."""
    status = read_status(layout)
    return status is not None and status.trained and layout.best.is_file()
