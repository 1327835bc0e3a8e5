"""Slurm's job states, as squeue and sacct write them."""

from enum import StrEnum
from typing import Literal, Self

Phase = Literal["waits", "works", "ended"]


class SlurmState(StrEnum):
    """State of a job: JOB STATE CODES in the manual pages of squeue and sacct.

    Every other word (COMPLETING, SUSPENDED, STOPPED, RESIZING, SIGNALING, STAGE_OUT, one of a newer Slurm) is kept as
    it is; such a job has its nodes.
    """

    phase: Phase
    """`waits`: it has not started, or will start again; `works`: it has nodes; `ended`: final for Slurm."""

    PENDING = "PENDING", "waits"
    CONFIGURING = "CONFIGURING", "waits"
    REQUEUED = "REQUEUED", "waits"
    REQUEUE_FED = "REQUEUE_FED", "waits"
    REQUEUE_HOLD = "REQUEUE_HOLD", "waits"
    RESV_DEL_HOLD = "RESV_DEL_HOLD", "waits"
    SPECIAL_EXIT = "SPECIAL_EXIT", "waits"
    RUNNING = "RUNNING", "works"
    BOOT_FAIL = "BOOT_FAIL", "ended"
    CANCELLED = "CANCELLED", "ended"
    COMPLETED = "COMPLETED", "ended"
    DEADLINE = "DEADLINE", "ended"
    FAILED = "FAILED", "ended"
    NODE_FAIL = "NODE_FAIL", "ended"
    OUT_OF_MEMORY = "OUT_OF_MEMORY", "ended"
    PREEMPTED = "PREEMPTED", "ended"
    REVOKED = "REVOKED", "ended"
    TIMEOUT = "TIMEOUT", "ended"

    def __new__(cls, word: str, phase: Phase = "works") -> Self:
        """Return the state `word`; called with the word alone, Enum looks it up."""
        state = str.__new__(cls, word)
        state._value_, state.phase = word, phase
        return state

    @classmethod
    def _missing_(cls, value: object) -> Self:
        word = str(value)
        state = str.__new__(cls, word)
        state._name_ = state._value_ = word
        state.phase = "works"
        return state

    @classmethod
    def of(cls, text: str) -> "SlurmState":
        """Read a column of sacct: `CANCELLED by 0`, or `OUT_OF_ME+` where it was cut; UNKNOWN for an empty one."""
        word = text.split(maxsplit=1)[0] if text else "UNKNOWN"
        whole = (state for state in cls if word.endswith("+") and state.startswith(word[:-1]))
        return next(whole, None) or cls(word)
