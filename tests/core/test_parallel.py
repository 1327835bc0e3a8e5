"""One function over many items in several processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sam2ft.core.parallel import parallel_map


def slow_first(number: int) -> tuple[int, int]:
    time.sleep(0.5 if number == 0 else 0.0)
    if number == 3:
        raise ValueError("three")
    return number, os.getpid()


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items_and_an_error_in_its_turn(workers: int) -> None:
    results = parallel_map(slow_first, [0, 1, 2, 3, 4], workers)
    found = [next(results) for _ in range(3)]
    assert [number for number, _ in found] == [0, 1, 2]
    processes = {process for _, process in found}
    assert (processes == {os.getpid()}) == (workers == 1)
    assert len(processes) == workers
    with pytest.raises(ValueError, match="three"):
        next(results)


def deadly(number: int) -> int:
    if number in (2, 5):
        os._exit(9)
    return number


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_item_whose_process_dies_costs_no_other_item(workers: int) -> None:
    assert list(parallel_map(deadly, range(8), workers, lost=lambda number: -number)) == [0, 1, -2, 3, 4, -5, 6, 7]


def stops(number: int) -> int:
    if number == 1:
        raise StopIteration
    return number


def test_a_stop_iteration_of_an_item_is_not_the_end_of_the_items() -> None:
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(parallel_map(stops, [0, 1, 2]))


def hold(path: Path) -> None:
    (path / str(os.getpid())).touch()
    time.sleep(600)


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_leaves_no_process_behind(tmp_path: Path, kill: signal.Signals) -> None:
    code = (
        "from pathlib import Path; from tests.core.test_parallel import hold; "
        "from sam2ft.core.parallel import parallel_map\n"
        f"if __name__ == '__main__': list(parallel_map(hold, [Path({str(tmp_path)!r})] * 2, 2))"
    )
    script = tmp_path / "command.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = subprocess.Popen([sys.executable, str(script)], env=environment)
    while len(workers := [int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal()]) < 2:
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(kill)
    command.wait()
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        time.sleep(0.05)
