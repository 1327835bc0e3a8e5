import os
import signal
import sys
import threading
import time

import pytest

from sam2ft.core.errors import StopRequestedError
from sam2ft.core.system.nvidia import least_gpu_memory
from sam2ft.sweeps.local.pool import LocalTask, Pool, child_environment, visible_gpus

# Each child notes when it starts and ends, in one file per child.
CHILD = """
import os, sys, time
place, seconds, code = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
print("hello from", os.path.basename(place), flush=True)
start, gpu = time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES", "-")
time.sleep(seconds)
with open(place, "w") as stream:
    print(start, time.monotonic(), os.environ["OMP_NUM_THREADS"], gpu, file=stream)
sys.exit(code)
"""


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A shell's background job, as a test run may be, begins with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def task(folder, name, *, seconds=0.05, code=0):
    command = [sys.executable, "-S", "-c", CHILD, str(folder / name), str(seconds), str(code)]
    return LocalTask(name, command, folder / "logs" / f"{name}.out")


def spans(folder, names):
    return [tuple(float(value) for value in (folder / name).read_text().split()[:2]) for name in names]


def test_twelve_tasks_with_two_workers_never_run_more_than_two_and_start_in_order(tmp_path):
    names = [f"t{count:02d}" for count in range(12)]
    ended = Pool(2, gpus=()).run([task(tmp_path, name) for name in names])
    assert [(end.name, end.code) for end in ended] == [(name, 0) for name in names]
    times = spans(tmp_path, names)
    assert max(sum(start <= moment < end for start, end in times) for moment, _ in times) == 2
    # Two that are started in the same moment may reach their first line in either order.
    starts = [start for start, _ in times]
    assert all(max(starts[:count]) < min(starts[count + 1 :]) for count in range(1, 11))


def test_codes_are_those_of_the_children_and_output_is_kept(tmp_path):
    ended = Pool(1, gpus=()).run([task(tmp_path, "good"), task(tmp_path, "bad", code=3)])
    assert [end.code for end in ended] == [0, 3]
    assert (tmp_path / "logs" / "bad.out").read_text() == "hello from bad\n"


def test_cores_are_divided_among_the_children():
    environment = child_environment({"HOME": "/h", "OMP_NUM_THREADS": "64"}, cores=8, children=3)
    assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == "2"
    assert environment["HOME"] == "/h"
    assert child_environment({}, cores=2, children=4)["OMP_NUM_THREADS"] == "1"


def test_fewer_tasks_than_workers_share_all_cores(tmp_path):
    Pool(8, cores=8, gpus=()).run([task(tmp_path, "a"), task(tmp_path, "b")])
    assert [(tmp_path / name).read_text().split()[2] for name in "ab"] == ["4", "4"]


def test_a_child_that_is_killed_ends_with_its_signal_and_the_others_go_on(tmp_path):
    killed = [sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)"]
    ended = Pool(1, gpus=()).run([LocalTask("killed", killed, tmp_path / "killed.out"), task(tmp_path, "next")])
    assert [end.code for end in ended] == [-signal.SIGKILL, 0]


def test_children_get_one_gpu_each_in_turn(tmp_path):
    Pool(2, gpus=("4", "7")).run([task(tmp_path, name, seconds=0.3) for name in ("a", "b")])
    assert [(tmp_path / name).read_text().split()[3] for name in ("a", "b")] == ["4", "7"]


def test_gpus_are_those_that_are_allowed_else_all_that_the_driver_lists(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A100 (UUID: GPU-1-2)'\necho 'GPU 1: A100 (UUID: GPU-3-4)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert visible_gpus({}) == ("GPU-1-2", "GPU-3-4")
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ("1",)
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == ()


def test_the_allocator_of_gpus_is_chosen_for_children_with_one_and_a_users_own_value_stays(tmp_path, monkeypatch):
    show = "import os, sys; print(*(n + '=' + v for n, v in os.environ.items() if 'ALLOC_CONF' in n))"

    def shown(*gpus):
        place = tmp_path / "out"
        place.unlink(missing_ok=True)
        Pool(1, gpus=gpus).run([LocalTask("a", [sys.executable, "-S", "-c", show], place)])
        return place.read_text().strip()

    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    assert shown() == ""
    assert shown("0") == "PYTORCH_ALLOC_CONF=expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:64")
    assert shown("0") == "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:64"


@pytest.mark.parametrize(
    ("number", "raised"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        (signal.SIGTERM, StopRequestedError),
        (signal.SIGHUP, StopRequestedError),
    ],
)
def test_a_stop_asks_the_children_to_save_and_starts_no_further_one(tmp_path, number, raised):
    saving = (
        "import signal, sys, time\n"
        "def stop(*_):\n    open(sys.argv[1], 'w').write('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open(sys.argv[1] + '.ready', 'w').close()\n"
        "time.sleep(60)\n"
    )

    def child(name):
        return LocalTask(name, [sys.executable, "-S", "-c", saving, str(tmp_path / name)], tmp_path / f"{name}.out")

    def interrupt_when_ready():
        while not (tmp_path / "first.ready").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt_when_ready, daemon=True).start()
    with pytest.raises(raised):
        Pool(1, gpus=()).run([child("first"), child("second")])
    assert (tmp_path / "first").read_text() == "saved"
    assert not (tmp_path / "second.out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_stop_kills_children_that_do_not_want_to_end(tmp_path, number):
    stubborn = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: open(sys.argv[1] + '.asked', 'w').close())\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "end = time.monotonic() + 60\n"
        "while time.monotonic() < end: time.sleep(0.1)\n"
    )
    place = tmp_path / "child"
    child = LocalTask("child", [sys.executable, "-S", "-c", stubborn, str(place)], tmp_path / "child.out")

    def stop_twice():
        for path in (place, tmp_path / "child.asked"):
            while not (path.exists() and (path.suffix or path.read_text())):
                time.sleep(0.02)
            os.kill(os.getpid(), number)

    threading.Thread(target=stop_twice, daemon=True).start()
    started = time.monotonic()
    with pytest.raises((KeyboardInterrupt, StopRequestedError)):
        Pool(1, gpus=()).run([child])
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text()), 0)


TWO_GPUS = "GPU-aa, 81559, Disabled\nGPU-bb, 16384, [N/A]\n"


@pytest.mark.parametrize(
    ("names", "listed", "mib"),
    [
        (("GPU-aa",), TWO_GPUS, 81559),
        (("GPU-aa", "GPU-bb"), TWO_GPUS, 16384),
        (("GPU-a",), TWO_GPUS, 81559),  # CUDA takes the beginning of a UUID
        (("0",), TWO_GPUS, 16384),  # another one for CUDA, perhaps
        ((), TWO_GPUS, None),
        (("GPU-cc",), TWO_GPUS, None),
        (("MIG-aa",), TWO_GPUS, None),
        (("0",), "GPU-aa, 81559, Enabled\n", None),
        (("0",), "GPU-aa, [N/A], Disabled\n", None),
        (("0",), "GPU-aa, 0, Disabled\n", None),
        (("0",), "", None),
        (("0",), "Failed to initialize NVML: Driver/library version mismatch\n", None),
    ],
)
def test_the_memory_of_the_smallest_gpu_or_nothing(names, listed, mib):
    assert least_gpu_memory(names, lambda: listed) == (None if mib is None else mib * 2**20)


def test_without_a_driver_no_memory_is_known(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert least_gpu_memory(("0",)) is None
