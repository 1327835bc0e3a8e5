import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sam2ft.engine.interrupt import STOP_SIGNALS, StopFlag, agreed, install


@pytest.fixture
def flag() -> Iterator[StopFlag]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield install()
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


def test_one_rank_that_is_told_to_stop_stops_all() -> None:
    told = [False, True, False]
    assert [agreed(mine, lambda _: max(map(int, told))) for mine in told] == [True, True, True]
    assert not agreed(False, lambda mine: mine)


@pytest.mark.parametrize("module", ["interrupt", "early_stopping", "prompting", "unsupported", "wide_tables"])
def test_these_modules_do_not_import_torch(module: str) -> None:
    code = f"import sys; import sam2ft.engine.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
