"""Slurm's states, against the lists in the manual pages of squeue and sacct (22.05)."""

import json

import pytest

from sam2ft.slurm.queue import parse_squeue
from sam2ft.slurm.states import SlurmState

WAITS = ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"]
WORKS = ["RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED"]
ENDED = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
]


@pytest.mark.parametrize(("words", "phase"), [(WAITS, "waits"), (WORKS, "works"), (ENDED, "ended")])
def test_every_state_of_the_manual_waits_works_or_has_ended(words, phase):
    assert {SlurmState(word).phase for word in words} == {phase}
    queue = parse_squeue("".join(f"{word}|{word}|None|n1|(null)|N/A\n" for word in words))
    assert list(queue) == ([] if phase == "ended" else words)
    assert all(entry.waits == (phase == "waits") for entry in queue.values())


def test_a_word_of_a_newer_slurm_is_kept_and_its_job_is_at_work():
    new = SlurmState("EXPEDITING")
    assert (new, f"{new}", new.phase, json.dumps(new)) == ("EXPEDITING", "EXPEDITING", "works", '"EXPEDITING"')
    assert new not in list(SlurmState)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("OUT_OF_ME+", "OUT_OF_MEMORY"),
        ("NODE_FAIL", "NODE_FAIL"),
        ("SOMETHING+", "SOMETHING+"),
        ("", "UNKNOWN"),
    ],
)
def test_the_forms_that_sacct_writes(text, state):
    assert SlurmState.of(text) == state
