import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from runpy import run_path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from sam2ft.core.errors import ConfigError
from sam2ft.distributed.device import choose_device
from sam2ft.distributed.ranks import ALONE, process_group, seed_step

SLURM = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "n[1-2]",
}  # fmt: skip


def test_a_process_on_its_own_needs_no_group(tmp_path: Path) -> None:
    with process_group(tmp_path, device="cpu", environment={}) as ranks:
        assert (ranks.rank, ranks.world_size, ranks.is_main) == (0, 1, True)
        assert ranks.total([1.5, 2.0]) == [1.5, 2.0]
        assert ranks.maxima([3, 1]) == [3, 1]
        model = torch.nn.Linear(1, 1)
        assert ranks.wrap(model) is model
        assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(ConfigError, match="no GPU is visible"):
        choose_device("cuda")


def test_a_step_s_draws_depend_on_seed_step_and_rank_only() -> None:
    def draws(*key: int) -> tuple[float, float, float]:
        seed_step(*key)
        return float(torch.rand(1)), float(np.random.random()), random.random()

    assert draws(1, 2, 3) == draws(1, 2, 3)
    assert len({draws(*key) for key in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3), (3, 2, 1))}) == 5


def of_two_ranks() -> list[dict[str, str]]:
    """The environments of two tasks of one Slurm step."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
    clean |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    step = {**SLURM, "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "n1"}
    return [clean | step | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1")]


class Ended(NamedTuple):
    """What the trainings of two_ranks.py said, alone and on either of two ranks, and how the two processes ended."""

    alone: dict[str, Any]
    ranks: list[dict[str, Any]]
    codes: list[int]
    last_words: str
    """Of rank 0, whose peer died."""
    seconds: float
    """How long it went on after that."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    script = Path(__file__).with_name("two_ranks.py")
    folder = tmp_path_factory.mktemp("ranks")
    children = []
    for rank, environment in enumerate(of_two_ranks()):
        with (folder / f"{rank}.log").open("w") as log:
            command = [sys.executable, str(script), str(folder / "end")]
            children.append(subprocess.Popen(command, env=environment, stderr=log, stdout=log))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SLURM_")]:
                patch.delenv(name)
            run_path(str(script))["main"](str(folder / "end"))
        dead = children[1].wait(timeout=120)
        began = time.monotonic()
        codes = [children[0].wait(timeout=120), dead]
        seconds = time.monotonic() - began
        alone, *ranks = (torch.load(folder / f"end.{name}.pt", weights_only=False) for name in ("1.0", "2.0", "2.1"))
        yield Ended(alone, ranks, codes, (folder / "0.log").read_text(), seconds)
    finally:
        for child in children:
            child.kill()
            child.wait()


STOPPED = """
import sys, torch
from pathlib import Path
from sam2ft.core.errors import StopRequestedError
from sam2ft.distributed.ranks import process_group
try:
    with process_group(Path(sys.argv[1]), device="cpu") as ranks:
        ranks.barrier()
        raise StopRequestedError("stopped as asked")
except StopRequestedError as error:
    sys.exit(f"{error}, with a group" if torch.distributed.is_initialized() else 75)
"""


def test_a_stop_takes_the_group_down_before_the_process_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path)]
    children = [subprocess.Popen(command, env=environment) for environment in of_two_ranks()]
    try:
        assert [child.wait(timeout=120) for child in children] == [75, 75]
    finally:
        for child in children:
            child.kill()


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Over all tensors, as a share of the largest value."""
    largest = max(float(tensor.abs().max()) for tensor in one.values())
    return max(float((tensor - other[name]).abs().max()) for name, tensor in one.items()) / largest


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_step_of_eight_slices_is_the_same_in_batches_of_8_4_2_and_1_on_one_rank_and_two(
    ended: Ended, dtype: torch.dtype, tolerance: float
) -> None:
    """Slices of one to three instances; the last group is short, and there one rank has nothing left to do."""
    big = ended.alone[f"{dtype} batches of 8"]
    assert big["slices"] == [8, 5, 8, 5]
    small = [ended.alone[f"{dtype} batches of 2"]]
    small += [ended.ranks[0][f"{dtype} batches of {size}"] for size in (4, 2, 1)]
    for other in small:
        assert other["slices"] == big["slices"]
        assert largest_difference(big["weights"], other["weights"]) <= tolerance
        for one, two in zip(big["gradients"], other["gradients"], strict=True):
            assert 0 <= largest_difference(one, two) <= tolerance
        for values, others in zip(big["values"], other["values"], strict=True):
            assert values == pytest.approx(others, rel=tolerance)
    for size in (4, 2, 1):
        first, second = (rank[f"{dtype} batches of {size}"] for rank in ended.ranks)
        assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())
        assert second["values"] == []


def test_a_loss_that_is_not_finite_on_one_rank_is_skipped_by_all_and_each_names_its_slices(ended: Ended) -> None:
    first, second = (rank["poisoned"] for rank in ended.ranks)
    # slices 0|1, 2|3, 4|5, 6|7
    assert first["said"].startswith("step 4: loss or gradient was not finite in 2 steps in a row")
    assert first["said"].endswith("the last one held toy/s1/v1 slice 6")
    assert second["said"].endswith("the last one held toy/s1/v1 slice 7")
    assert all(torch.equal(tensor, second["weights"][name]) for name, tensor in first["weights"].items())
    assert all(tensor.isfinite().all() for tensor in first["weights"].values())


def test_all_ranks_stop_early_after_the_same_epoch(ended: Ended) -> None:
    first, second = (rank["early_stopped"] for rank in ended.ranks)
    assert first == second
    assert 2 < first["epoch"] < 30
    assert first["stopping"].best_epoch == first["epoch"] - 3 == ended.alone["early_stopped"]["epoch"] - 3


def test_all_ranks_stop_when_one_is_told_to_and_the_main_one_saves(ended: Ended) -> None:
    first, second = (rank["stopped"] for rank in ended.ranks)
    assert first["said"] == second["said"]
    assert first["said"].startswith("stopped as asked after step 3 ")
    assert (first["saved"], second["saved"]) == ([(0, 3)], [])


def test_all_ranks_stop_in_validation_before_the_same_batch(ended: Ended) -> None:
    first, second = (rank["stopped_in_validation"] for rank in ended.ranks)
    assert first["said"] == second["said"]
    assert first["said"].startswith("stopped as asked after step 7 (epoch 1)")
    assert first["batches"] == second["batches"] < 40
    assert ended.alone["stopped_in_validation"]["batches"] == 6


def test_a_rank_that_dies_brings_the_other_down(ended: Ended) -> None:
    assert ended.codes == [1, 7]
    assert ended.seconds < 30
    assert "RuntimeError" in ended.last_words


def test_ranks_alone_are_the_default() -> None:
    assert ALONE.gather([1.0]) == [[1.0]]
