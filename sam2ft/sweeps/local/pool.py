"""Local pool of child processes: first in, first out, at most `workers` at a time, with divided cores and GPUs."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sam2ft.core.errors import StopRequestedError
from sam2ft.core.system.nvidia import all_gpus, named_gpus, with_allocator

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_POLL_S = 0.2


@dataclass(frozen=True)
class LocalTask:
    """One child process."""

    name: str
    command: Sequence[str]
    output: Path
    """File for the output of the child before it opens its own log."""


@dataclass(frozen=True)
class EndedTask:
    """End of a child; `code` is its exit code, negative for the signal that killed it, None when it was not started."""

    name: str
    code: int | None


@dataclass
class Pool:
    """A first-in first-out pool of child processes."""

    workers: int
    cores: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    gpus: Sequence[str] = field(default_factory=lambda: visible_gpus(os.environ))
    on_poll: Callable[[Sequence[str]], None] = lambda running: None
    """Called a few times per second with the names of the running tasks."""

    def run(self, tasks: Sequence[LocalTask]) -> list[EndedTask]:
        """Run all tasks; returns the end of each, in the order given.

        At a stop every child is asked to save and stop, and the pool waits for them; a second stop kills the children.

        Raises:
            KeyboardInterrupt: stopped by Ctrl-C.
            StopRequestedError: stopped by SIGTERM or SIGHUP (a closed terminal).
        """
        with _raise_at_stop_signal():
            return self._run(tasks)

    def _run(self, tasks: Sequence[LocalTask]) -> list[EndedTask]:
        waiting = deque(tasks)
        free = list(range(self.workers))
        running: dict[str, tuple[int, subprocess.Popen[bytes]]] = {}
        codes: dict[str, int] = {}
        try:
            while waiting or running:
                while waiting and free:
                    task, slot = waiting.popleft(), free.pop(0)
                    running[task.name] = slot, self._start(task, slot, min(self.workers, len(tasks)))
                self.on_poll(tuple(running))
                time.sleep(_POLL_S)
                for name, (slot, process) in list(running.items()):
                    if (code := process.poll()) is not None:
                        codes[name] = code
                        del running[name]
                        free.append(slot)
        except BaseException:
            _stop([process for _, process in running.values()])
            raise
        self.on_poll(())
        for task in tasks:
            if task.output.is_file() and task.output.stat().st_size == 0:
                task.output.unlink()
        return [EndedTask(task.name, codes.get(task.name)) for task in tasks]

    def _start(self, task: LocalTask, slot: int, children: int) -> subprocess.Popen[bytes]:
        task.output.parent.mkdir(parents=True, exist_ok=True)
        environment = child_environment(os.environ, self.cores, children)
        if self.gpus:
            environment = with_allocator(environment) | {"CUDA_VISIBLE_DEVICES": self.gpus[slot % len(self.gpus)]}
        with task.output.open("ab") as output:
            # A session of its own: Ctrl-C reaches only the pool, which then asks its children to save.
            return subprocess.Popen(
                task.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )


@contextmanager
def _raise_at_stop_signal() -> Iterator[None]:
    """Raise StopRequestedError at SIGTERM and SIGHUP while the block runs: children must not outlive their pool."""

    def stop(number: int, _frame: object) -> None:
        raise StopRequestedError(f"stopped by {signal.Signals(number).name}; the children saved and stopped")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    try:
        for process in processes:
            process.wait()
    except (KeyboardInterrupt, StopRequestedError):
        # A second stop: do not wait any longer.
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def child_environment(environment: Mapping[str, str], cores: int, children: int) -> dict[str, str]:
    """Return `environment` with the thread counts of one child: `cores` divided by `children`, at least 1.

    Two children with the default number of threads on two cores ran 6 times slower.
    """
    threads = str(max(1, cores // children))
    return {**environment, **dict.fromkeys(THREAD_VARIABLES, threads)}


def visible_gpus(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the GPUs that children may use, as values of CUDA_VISIBLE_DEVICES: those that it names, or all UUIDs."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    return all_gpus() if given is None else named_gpus(given)
