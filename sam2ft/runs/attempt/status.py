"""Status file of a run (status.json): state, heartbeat, progress and failure class.

Only the attempt that holds the claim writes it. When the file is damaged, a running attempt writes it again from what
it wrote last, and the next attempt begins a new one: what was trained and evaluated is in other files.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sam2ft.core.digests.verified_files import RUN, read_of_run, tell_damage, write_sealed_json
from sam2ft.core.errors import CheckpointError, ClaimedError, DataError
from sam2ft.core.files import listed_names
from sam2ft.runs.attempt.claim import Attempt, check_claim
from sam2ft.runs.layout import RunLayout
from sam2ft.runs.states import FailureClass, State

HEARTBEAT_S = 20.0
"""Seconds between two heartbeats of a running attempt."""
SILENCE_S = 180.0
"""Seconds without a heartbeat after which a run may be dead (a file system may show a heartbeat up to 60 s late)."""

Progress = tuple[int, int, int, int]
"""Progress of a run, the most important number first (runs/attempt/restarts.progress_of)."""

# The heartbeat thread and the training loop write the same file.
_LOCK = threading.RLock()
# What this process wrote last, for the case that the file is damaged meanwhile.
_WRITTEN: dict[Path, "RunStatus"] = {}
_START_AGAIN = (
    "if no process is working on the run, start it again (`make sweep ARGS='--retry all'`, or launch/train.py): it "
    "writes the file again and continues from the newest checkpoint"
)


@dataclass(frozen=True)
class RunStatus:
    """The content of status.json; the JSON key of `failure_class` is `class`."""

    state: State
    attempt: Attempt
    heartbeat: str
    """Time of the last heartbeat of this attempt; UTC, ISO 8601."""
    failure_class: FailureClass | None = None
    reason: str = ""
    """Exception of a failure, in one line."""
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
    """Seconds per optimizer step, mean of the most recent steps."""
    save_s: float | None = None
    """Seconds for writing the last checkpoint."""
    peak_memory_gb: float | None = None
    """Peak memory of training so far on the device of rank 0 (on the CPU: of its process); GB."""
    trained: bool = False
    """Whether training ended (the last epoch or early stopping)."""
    best_sha256: str | None = None
    """Of best.pt, or of the initial weights for a baseline."""
    progress: Progress | None = None
    """Progress at the start of this attempt."""
    idle_restarts: int = 0
    """Consecutive restarts without progress before this attempt."""

    def silence_s(self, now: datetime | None = None) -> float:
        """Return the seconds since the last heartbeat."""
        return ((now or datetime.now(UTC)) - datetime.fromisoformat(self.heartbeat)).total_seconds()

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        return {"class" if name == "failure_class" else name: value for name, value in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        values = {"failure_class" if name == "class" else name: entry for name, entry in value.items()}
        values["attempt"] = Attempt.from_json(values["attempt"])
        values["progress"] = tuple(values["progress"]) if values.get("progress") else None
        values["state"] = State(values["state"])
        if not values["state"].reported:
            raise ValueError(f"state {values['state']}")
        values["failure_class"] = FailureClass(name) if (name := values.get("failure_class")) else None
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def read_status(layout: RunLayout) -> RunStatus | None:
    """Read status.json; None when the run never started.

    Raises:
        DataError: the file is damaged, or not the status of a run; the message says what to do.
    """
    if not layout.status.is_file():
        return None
    try:
        return RunStatus.from_json(read_of_run(layout.status, layout.run_id))
    except DataError as error:
        raise DataError(f"{error}; {_START_AGAIN}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{layout.status}: not the status of a run ({error}); {_START_AGAIN}") from None


def status_if_readable(layout: RunLayout) -> RunStatus | None:
    """`read_status`, and None for a damaged file: for callers that need no more than a hint."""
    try:
        return read_status(layout)
    except DataError:
        return None


def status_at_start(layout: RunLayout, *, fresh: bool = False) -> RunStatus | None:
    """Return the last status of the previous attempt, for the attempt that has just claimed the run.

    A damaged file is put aside, and the run continues from its checkpoints. Whether its training had ended is then
    found out again by its newest resume file.

    Args:
        fresh: whether the run is trained from the start.

    Raises:
        CheckpointError: the file is damaged, and there is a best.pt but no resume file to continue from: a training
            from the start would replace what may be finished.
    """
    try:
        return read_status(layout)
    except DataError as error:
        if not fresh and layout.best.is_file() and not listed_names(layout.checkpoints, "*.safetensors"):
            raise CheckpointError(
                f"{str(error).removesuffix(f'; {_START_AGAIN}')}; whether {layout.best} is of a training that ended is "
                "unknown, and there is no resume file to continue from: remove best.pt to train again, or evaluate it "
                "with launch/eval.py --ckpt"
            ) from None
        tell_damage(f"{error}; kept as {put_aside(layout.status).name}, continued from the newest checkpoint")
        return None


def put_aside(path: Path) -> Path:
    """Rename a damaged file to `<name>.damaged<ext>` (numbered when there is one already); returns the new path."""
    number, aside = 1, path.with_name(f"{path.stem}.damaged{path.suffix}")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
    path.rename(aside)
    return aside


def update_status(layout: RunLayout, attempt: Attempt, **changes: Any) -> RunStatus:
    """Write the status with `changes` and a new heartbeat; other fields keep their values.

    Raises:
        ClaimedError: `attempt` no longer holds the run.
    """
    with _LOCK:
        check_claim(layout, attempt)
        try:
            before = read_status(layout)
        except DataError as error:
            before = _WRITTEN.get(layout.status.absolute())
            if before is None:
                raise
            tell_damage(f"{error}; written again by the running attempt")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        status = before or RunStatus(State.STARTING, attempt, now)
        status = replace(status, attempt=attempt, heartbeat=now, **changes)
        write_sealed_json(layout.status, {RUN: layout.run_id} | status.to_json())
        _WRITTEN[layout.status.absolute()] = status
        return status


@contextmanager
def heartbeat(layout: RunLayout, attempt: Attempt, every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Update the heartbeat of `attempt` in a thread while the block runs, however long a step or a volume takes."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            with _LOCK:
                if ended.is_set():
                    return
                try:
                    update_status(layout, attempt)
                except ClaimedError:
                    # The main thread detects this before its next write and ends the process.
                    return
                except OSError:
                    # The main thread reports a disk that fails at its own next write; until then it may recover.
                    continue

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_trained(layout: RunLayout) -> bool:
    """Whether the training has ended according to status.json and best.pt exists; no, when the file is damaged."""
    status = status_if_readable(layout)
    return status is not None and status.trained and layout.best.is_file()
