"""States of a run and classes of failure: what is read and written, and which of them another version may know."""

import json
from dataclasses import asdict

import pytest

from sam2ft.core.errors import DeviceError
from sam2ft.runs.attempt.claim import Attempt
from sam2ft.runs.attempt.ending import failure_class_of
from sam2ft.runs.attempt.status import RunStatus
from sam2ft.runs.states import GROUPS, FailureClass, State

ATTEMPT = Attempt("local", 0, "n1", 1, "2026-01-01T00:00:00+00:00")


def read(**values):
    return RunStatus.from_json({"attempt": asdict(ATTEMPT), "heartbeat": "2026-01-01T00:00:00+00:00"} | values)


@pytest.mark.parametrize("state", [state for state in State if state.reported])
def test_a_status_is_written_as_the_words_that_it_was_read_from(state):
    status = read(**{"state": str(state), "class": "oom"})
    assert (status.state, status.failure_class) == (state, FailureClass.OOM)
    assert f'"state": "{state.value}"' in json.dumps(status.to_json(), indent=2)
    assert '"class": "oom"' in json.dumps(status.to_json())


@pytest.mark.parametrize("state", ["queued", "lost", "new", "uncounted", "trainin", None])
def test_what_no_attempt_can_say_about_itself_is_no_status(state):
    with pytest.raises(ValueError, match=str(state)):
        read(state=state)


def test_a_class_that_a_newer_version_wrote_is_an_error_like_any_other():
    assert read(**{"state": "failed", "class": "meteorite"}).failure_class is FailureClass.ERROR
    assert read(**{"state": "stopped", "class": None}).failure_class is None


def test_every_state_has_one_count_in_a_report():
    groups = {group: [state for state in State if state.group == group] for group in GROUPS}
    assert sorted(state for states in groups.values() for state in states) == sorted(State)
    assert groups["done"] == ["done"]
    assert groups["failed"] == ["failed"]
    assert groups["running"] == ["starting", "training", "evaluating", "running"]


def test_what_a_plan_can_conclude_says_what_to_do_next():
    told = {state for state in State if state.next_step} | {State.FAILED}
    assert told == {state for state in State if not state.active} - {State.UNCOUNTED}
    assert not FailureClass.DEVICE.passes, "a sweep would send the run to the same node again"
    assert FailureClass.DISK.next_step.endswith("then `make sweep`")
    assert FailureClass.OOM.next_step.endswith("a smaller batch or image, then `make sweep ARGS='--retry oom'`")


class _ArrayMemoryError(MemoryError):
    """As numpy's, whose message does not name memory."""


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (MemoryError(), "oom"),
        (_ArrayMemoryError("Unable to allocate 1 TiB"), "oom"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), "oom"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Aborted."), "error"),
        (ValueError("odd"), "error"),
        (OSError(28, "No space left on device", "best.pt"), "disk"),
        (OSError(122, "Disk quota exceeded"), "disk"),
        (OSError(30, "Read-only file system", "best.pt"), "disk"),
        (FileNotFoundError(2, "No such file or directory", "x"), "error"),
        (RuntimeError("rank 1 (n2) failed: OSError: [Errno 5] Input/output error: 'best.pt'"), "disk"),
        (RuntimeError("rank 1 (n2) failed: DiskError: best.pt: over quota"), "disk"),
        (DeviceError("resources.gpus_per_node: 1 planned, but torch sees no GPU"), "device"),
        (RuntimeError("rank 1 (n2) failed: DeviceError: 1 planned"), "device"),
        (RuntimeError("The NVIDIA driver on your system is too old (found version 11040)"), "device"),
        (RuntimeError("CUDA error: no kernel image is available for execution on the device"), "device"),
        (RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"), "device"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "device"),
        (RuntimeError("CUDA error: device-side assert triggered"), "error"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "error"),
    ],
)
def test_an_exception_shows_its_class(error, known):
    assert failure_class_of(error) is FailureClass(known)
