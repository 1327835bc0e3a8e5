"""A run of two processes: trained and evaluated together, with the numbers of one."""

import os
import subprocess
import sys

import pytest
from fixtures.trainers import read_best

from sam2ft.core.tables.rows import TABLES, read_csv
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import history_values

pytestmark = [pytest.mark.sam2, pytest.mark.slow]


MIXTURE = (
    "module.prompts={box: 0.4, point: 0.3, mask: 0.3}",
    "module.trainable={prompt_encoder: true, image_encoder: false, mask_decoder: true}",
)


@pytest.mark.parametrize(
    "more", [(), ("module.lora={rank: 4, alpha: 8}",), MIXTURE], ids=["decoder", "lora", "mixed_prompts"]
)
def test_two_ranks_train_and_evaluate_one_run_as_one_rank_does(point_with, toy, more):
    """In float32 the sums of two ranks differ from those of one in the last digits; masks and counts do not."""
    settings = ("module.visualize=false", "module.num_epochs=1", "resources.tasks_per_node=2", *more)
    together = point_with(*settings)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (plan,) = toy.folder.glob("runs/toy/plan-*.json")
    job = ["-m", "sam2ft.jobs.job", "runs/toy", plan.stem.removeprefix("plan-"), "0", "train_eval"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # A rank that waits for ever must end with the test: a timeout would leave torchrun's children behind.
    limit = ["timeout", "--signal=TERM", "--kill-after=60", "150"]
    done = subprocess.run([*limit, *command, *job], env=environment, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text() for path in together.layout.logs.glob("*.log"))
    assert done.returncode == 0, logs + done.stderr
    assert (read_status(together.layout).state, read_status(together.layout).step) == ("done", 3)
    (by_two,) = history_values(together.layout)
    weights_of_two, _ = read_best(together.layout.best)
    rows_of_two = read_csv(together.evaluation.table("slice"), TABLES["slice"])
    together.layout.folder.rename(toy.folder / "by-two")

    alone = point_with(*settings)
    alone.train()
    (by_one,) = history_values(alone.layout)
    assert {name: by_two[name] for name in ("val_loss", "train_loss")} == pytest.approx(
        {name: by_one[name] for name in ("val_loss", "train_loss")}, rel=1e-3
    )
    weights, _ = read_best(alone.layout.best)
    assert max(float((weights[name] - weights_of_two[name]).abs().max()) for name in weights) < 1e-3
    alone.evaluate()
    rows = read_csv(alone.evaluation.table("slice"), TABLES["slice"])
    assert [row["dice"] for row in rows_of_two] == pytest.approx([row["dice"] for row in rows], abs=0.01, nan_ok=True)
