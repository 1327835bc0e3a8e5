import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from sam2ft.distributed.stop_signal import STOP_SIGNALS, StopConsensus, StopFlag, install_stop_handlers


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield install_stop_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_only_sets_the_flag(flag: StopFlag, number: signal.Signals) -> None:
    assert not flag.requested
    os.kill(os.getpid(), number)
    assert flag.requested
    assert flag.signal == number


def test_the_first_signal_is_remembered(flag: StopFlag) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGTERM)
    assert flag.signal == signal.SIGUSR2


def test_a_second_ctrl_c_does_not_wait(flag: StopFlag) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_forked_child_does_not_take_the_signal_for_its_own(flag: StopFlag) -> None:
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(9 if flag.requested else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not flag.requested


def asked_before(mine_s: float, slowest_s: float, every_s: float = 1.0) -> list[int]:
    """The batches (of 40) before which a rank asks; its own take mine_s each, those of the slowest rank slowest_s."""
    now, asked = 0.0, []

    def maxima(values: Sequence[float]) -> list[float]:
        asked.append(done)
        return [0.0, values[1] * slowest_s / mine_s]

    asking = StopConsensus(maxima, every_s, clock=lambda: now)
    for done in range(40):  # noqa: B007 (maxima reads it)
        assert not asking.says_stop(False)
        now += mine_s
    return asked


@pytest.mark.parametrize("mine_s", [2**-7, 2**-3])
def test_ranks_ask_at_the_same_batches_as_often_as_the_slowest_takes_a_second(mine_s: float) -> None:
    assert asked_before(mine_s, slowest_s=0.125) == [0, 1, 3, 7, 15, 23, 31, 39]


def test_slow_batches_are_all_asked_about_and_so_are_those_of_a_rank_alone() -> None:
    assert asked_before(0.5, slowest_s=2.0) == list(range(40))
    assert asked_before(0.001, slowest_s=0.001, every_s=0.0) == list(range(40))


def test_one_rank_that_is_told_to_stop_stops_all() -> None:
    told = [False, True, False]
    assert [StopConsensus(lambda _: [float(any(told)), 0.0]).says_stop(mine) for mine in told] == [True, True, True]


@pytest.mark.parametrize(
    "module",
    [
        "config.schema.evaluation",
        "distributed.stop_signal",
        "evaluation.outputs.wide_tables",
        "evaluation.prompt_noise",
        "evaluation.protocols.boxes_file",
        "evaluation.protocols.mask",
        "evaluation.protocols.points",
        "training.early_stopping",
    ],
)
def test_these_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys; import sam2ft.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
@pytest.mark.parametrize("ignored", [True, False])
def test_a_signal_while_the_interpreter_ends_does_not_change_the_exit_code_of_finished_work(
    number: signal.Signals, ignored: bool
) -> None:
    """The object is taken down with its module, when the interpreter has removed its handlers already."""
    program = f"""
import os, signal
from sam2ft.distributed.stop_signal import ignore_stop_signals, install_stop_handlers

install_stop_handlers()
if {ignored}:
    ignore_stop_signals()

class Late:
    def __del__(self, kill=os.kill, process=os.getpid()):
        kill(process, {int(number)})

late = Late()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == (0 if ignored else -number)
