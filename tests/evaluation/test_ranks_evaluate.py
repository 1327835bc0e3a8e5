"""Real processes: any number of ranks gives the same bytes, and a stop of one of them is a stop of all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.sam2, pytest.mark.slow]
SCRIPT = Path(__file__).with_name("evaluating_ranks.py")


@pytest.fixture
def by_ranks(finished, point_with, tmp_path):
    """by_ranks(world size, stopped rank): how each rank ended, evaluating three subjects, and whom it saw."""
    point = point_with("eval.split=train", "module.visualize=false")

    def run(world_size, stopped=-1):
        out = tmp_path / f"{world_size}-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        many = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(world_size)]
        command = [sys.executable, *(many if world_size > 1 else []), str(SCRIPT)]
        arguments = [str(point.layout.folder), point.eval_id, str(stopped), str(out)]
        # A rank that waits for ever must end with the test: a timeout would leave torchrun's children behind.
        limit = ["timeout", "--signal=TERM", "--kill-after=60", "240"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*limit, *command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [(out / str(rank)).read_text().split("|") for rank in range(world_size)]

    run.evaluation = point.evaluation
    return run


def contents(evaluation):
    return {path.name: path.read_bytes() for path in sorted(evaluation.folder.rglob("*.csv"))}


def test_one_two_and_three_ranks_give_the_same_bytes(by_ranks):
    found = []
    for world_size in (1, 2, 3):
        by_ranks.evaluation.success.unlink(missing_ok=True)
        ended = by_ranks(world_size)
        assert [how for how, _ in ended] == ["done"] * world_size
        seen = [whom.split(",") for _, whom in ended]
        assert seen == [list("abc")[rank::world_size] for rank in range(world_size)]
        found.append(contents(by_ranks.evaluation))
    assert len(found[0]) > 4
    assert found[0] == found[1] == found[2]


def test_a_stop_of_one_rank_stops_all_and_another_number_of_ranks_goes_on(by_ranks):
    assert by_ranks(1) == [["done", "a,b,c"]]
    whole = contents(by_ranks.evaluation)
    by_ranks.evaluation.success.unlink()
    # Rank 0 has a and c, rank 1 has b: rank 0 finishes what it is at, and neither waits for the other.
    stopped = "stopped as asked after 2 of 3 volumes; they are kept"
    assert by_ranks(2, stopped=0) == [[stopped, "a"], [stopped, "b"]]
    assert not by_ranks.evaluation.success.exists()
    # The remaining one belongs to the last of three ranks.
    assert by_ranks(3) == [["done", ""], ["done", ""], ["done", "c"]]
    assert contents(by_ranks.evaluation) == whole
    # Rank 1 is through when it is told: there is nothing to stop.
    by_ranks.evaluation.success.unlink()
    assert by_ranks(2, stopped=1) == [["done", "a,c"], ["done", "b"]]
    assert contents(by_ranks.evaluation) == whole
