"""Switches of the experiment file that the predecessor ignored, each seen from the file to the trained weights."""

import pytest
import torch
from fixtures.trainers import read_best
from safetensors.torch import load_file

from sam2ft.core.errors import ConfigError
from sam2ft.training.run import batches_per_rank

pytestmark = pytest.mark.sam2
QUICK = "module.visualize=false"
NEVER_GOOD_ENOUGH = "module.early_stopping={{enabled: {}, patience: 1, min_delta: 1000}}"


@pytest.mark.parametrize(("enabled", "num_epochs"), [("true", 2), ("false", 3)])
def test_early_stopping_stops_only_when_it_is_enabled(point_with, enabled, num_epochs):
    settings = (QUICK, "module.num_epochs=3", NEVER_GOOD_ENOUGH.format(enabled))
    assert point_with(*settings).train().epoch == num_epochs


def test_each_part_trains_or_stays_as_trainable_says(point_with, toy):
    trainable = "module.trainable={prompt_encoder: true, image_encoder: true, mask_decoder: false}"
    point = point_with(QUICK, "module.num_epochs=1", trainable)
    point.train()
    before, (after, _) = load_file(toy.weights), read_best(point.layout.best)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"image_encoder", "sam_prompt_encoder"}


@pytest.mark.parametrize(
    ("shares", "reached"),
    [
        ("{box: 1.0}", {"point_embeddings.2", "point_embeddings.3"}),
        ("{box: 0.0, point: 1.0}", {"point_embeddings.1"}),
        ("{box: 0.0, mask: 1.0}", {"mask_downscaling.0", "mask_downscaling.6"}),
        (
            "{box: 0.4, point: 0.3, mask: 0.3}",
            {
                "point_embeddings.1",
                "point_embeddings.2",
                "point_embeddings.3",
                "mask_downscaling.0",
                "mask_downscaling.6",
            },
        ),
    ],
)
def test_training_prompts_are_those_of_their_shares(point_with, toy, shares, reached):
    """Seen from the embeddings that moved: each kind of prompt teaches its own."""
    trainable = "module.trainable={prompt_encoder: true, image_encoder: false, mask_decoder: true}"
    point = point_with(QUICK, "module.num_epochs=1", trainable, f"module.prompts={shares}")
    point.train()
    before, (after, _) = load_file(toy.weights), read_best(point.layout.best)
    watched = [f"point_embeddings.{i}" for i in range(4)] + ["mask_downscaling.0", "mask_downscaling.6"]
    names = {part: f"sam_prompt_encoder.{part}.weight" for part in watched}
    assert {part for part, name in names.items() if not torch.equal(before[name], after[name])} == reached


def test_the_last_incomplete_group_of_batches_is_a_step(point_with):
    """9 slices in batches of 2 are 5 batches: two groups of 2 and one of 1."""
    ended = point_with(QUICK, "module.num_epochs=1", "module.grad_accum=2").train()
    assert ended.step == 3


def test_one_process_makes_the_steps_that_were_planned_for_two(point_with):
    """2 processes x 2 slices are 4 slices a step: 9 slices are 3 steps, whoever makes them."""
    ended = point_with(QUICK, "module.num_epochs=1", "resources.tasks_per_node=2").train()
    assert ended.step == 3


def test_processes_that_cannot_share_a_step_evenly_are_refused_with_the_numbers(point_with):
    experiment = point_with("module.grad_accum=3").experiment
    assert [batches_per_rank(experiment, 2, world_size) for world_size in (1, 2, 3, 6)] == [6, 3, 2, 1]
    with pytest.raises(ConfigError, match=r"12 slices .* which 4 processes cannot share evenly; use a divisor of 6"):
        batches_per_rank(experiment, 2, 4)
