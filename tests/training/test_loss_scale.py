"""The scale of the loss in fp16, with gradients that one of two ranks makes infinite; across a stop, to the bit."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("scaled_ranks.py")
PLANTED, CASES = (run_path(str(SCRIPT))[name] for name in ("PLANTED", "CASES"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What the trainings kept: of one process alone, and of each of two ranks."""
    folder = tmp_path_factory.mktemp("scaled")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2])}
    step = {"SLURM_JOB_ID": "78", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
    ranks = [clean | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1")]
    command = [sys.executable, str(SCRIPT), str(folder / "end")]
    children = [subprocess.Popen(command, env=environment) for environment in (clean, *ranks)]
    try:
        assert [child.wait(timeout=200) for child in children] == [0, 0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait()
    read = {name: torch.load(folder / f"end.{name}.pt", weights_only=False) for name in ("1.0", "2.0", "2.1")}
    return {"alone": [read["1.0"]], "two ranks": [read["2.0"], read["2.1"]]}


def equal(one: Any, other: Any) -> bool:
    """Whether two snapshots hold the same, every tensor to the bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return bool(one == other) or (one != one and other != other)


@pytest.mark.parametrize("where", ["alone", "two ranks"])
@pytest.mark.parametrize("case", CASES)
def test_all_ranks_skip_the_step_in_which_one_gradient_is_infinite_and_halve_their_scale(
    found: dict[str, list[Any]], where: str, case: str
) -> None:
    for rank in found[where]:
        whole = rank[case]["whole"]
        assert [step for step, skipped in enumerate(whole["skipped"]) if skipped] == [PLANTED]
        assert whole["scales"] == [65536.0] * PLANTED + [32768.0] * (len(whole["scales"]) - PLANTED)
        before, after = whole["weights"][PLANTED - 1], whole["weights"][PLANTED]
        assert equal(before, after)
        assert not equal(after, whole["weights"][PLANTED + 1])
        state = whole["snapshots"][PLANTED]["state"]
        assert (state["skipped_steps"], state["scale_searches"], state["skipped_in_a_row"]) == (1, 1, 0)
        assert whole["end"]["state"]["scale_searches"] == 0


@pytest.mark.parametrize("where", ["alone", "two ranks"])
@pytest.mark.parametrize("case", CASES)
def test_a_training_stopped_before_at_or_after_the_skip_ends_as_if_it_had_not_been(
    found: dict[str, list[Any]], where: str, case: str
) -> None:
    """Weights, averaged weights, optimizer, scale and its growth, and all counters."""
    for rank in found[where]:
        whole = rank[case]["whole"]
        assert rank[case]["resumed"]
        for stop, resumed in rank[case]["resumed"].items():
            assert resumed["scales"] == whole["scales"][stop:]
            assert all(map(equal, resumed["snapshots"], whole["snapshots"][stop:]))
            assert equal(resumed["end"], whole["end"])


def test_both_ranks_have_the_same_after_every_step(found: dict[str, list[Any]]) -> None:
    for case in CASES:
        first, second = (rank[case]["whole"]["snapshots"] for rank in found["two ranks"])
        for one, other in zip(first, second, strict=True):
            # The numbers that are shown are summed over the ranks too.
            assert equal(one, other)
