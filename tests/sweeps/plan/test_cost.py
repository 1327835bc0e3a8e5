"""What a plan costs, by arithmetic on paper; what is unknown never becomes 0."""

import pytest

from sam2ft.model.memory_needs import optimizer_copies
from sam2ft.runs.plan_file import Resources
from sam2ft.sweeps.plan.cost import (
    Amount,
    EvaluationSpeed,
    Task,
    TrainingSpeed,
    Workload,
    checkpoint_bytes,
    class_costs,
    cpu_hours,
    evaluation_seconds,
    gpu_hours,
    prediction_bytes,
    requeues,
    steps_left,
    steps_per_epoch,
    training_seconds,
)

TWO_BY_FOUR = Resources(nodes=2, tasks_per_node=4, gpus_per_node=4, cpus_per_task=8, mem_gb=64, hours=12)
CPU = Resources(nodes=1, tasks_per_node=2, gpus_per_node=0, cpus_per_task=3, mem_gb=4, hours=1)
WORK = Workload(
    steps_per_epoch=50,
    num_epochs=10,
    eval_slices=300,
    eval_bytes=300 * 100,
    num_parameters=1000,
    resume_copies=3,
    keep=2,
)


def test_steps_of_an_epoch_count_the_last_incomplete_batch_and_group():
    # 101 slices / (4 slices x 2 processes) = 13 batches each; 13 batches / 4 accumulated = 4 steps
    assert steps_per_epoch(101, batch_size=4, world_size=2, grad_accum=4) == 4
    assert steps_per_epoch(8, batch_size=4, world_size=2, grad_accum=4) == 1


def test_a_run_that_stopped_has_only_the_rest_to_do():
    assert steps_left(WORK, None) == 500
    assert steps_left(WORK, 120) == 380
    assert steps_left(WORK, 501) == 0


def test_training_is_steps_and_a_validation_after_each_epoch():
    speed = TrainingSpeed(step_s=2.0, epoch_rest_s=30.0)
    assert training_seconds(WORK, 500, speed) == 500 * 2 + 10 * 30
    # 120 steps are two epochs and a part of the third, which ends with its validation too
    assert training_seconds(WORK, 120, speed) == 120 * 2 + 3 * 30
    assert training_seconds(WORK, 0, None) == 0


def test_an_unknown_speed_makes_unknown_seconds_and_hours():
    assert training_seconds(WORK, 500, None) is None
    assert training_seconds(WORK, 500, TrainingSpeed(2.0, None)) is None
    assert evaluation_seconds(WORK, None) is None
    assert gpu_hours(None, TWO_BY_FOUR) is None
    assert cpu_hours(None, CPU) is None
    assert requeues(None, 12, 180) is None


def test_hours_count_every_gpu_and_core_of_the_allocation():
    assert gpu_hours(7200, TWO_BY_FOUR) == 2 * 8
    assert cpu_hours(7200, TWO_BY_FOUR) == 2 * 8 * 8
    # without GPUs there are no GPU-hours, however unknown the time is
    assert gpu_hours(None, CPU) == 0
    assert cpu_hours(1800, CPU) == 0.5 * 2 * 3


def test_slices_to_evaluate_are_dealt_out_to_the_processes():
    assert evaluation_seconds(WORK, EvaluationSpeed(0.5)) == 150
    assert evaluation_seconds(WORK, EvaluationSpeed(0.5), world_size=4) == 37.5


@pytest.mark.parametrize(
    ("seconds", "hours", "expected"),
    # 1 h less 180 s of lead leaves 3420 s of each allocation
    [(3420, 1, 0), (3421, 1, 1), (6840, 1, 1), (6841, 1, 2), (10**6, None, 0), (10, 0.05, None)],
)
def test_a_training_longer_than_its_limit_is_requeued(seconds, hours, expected):
    assert requeues(seconds, hours, 180) == expected


@pytest.mark.parametrize(
    ("kind", "arguments", "copies"),
    [
        ("AdamW", {}, 2),
        ("AdamW", {"amsgrad": True}, 3),
        ("SGD", {}, 0),
        ("SGD", {"momentum": 0.9}, 1),
        ("RMSprop", {"momentum": 0.9, "centered": True}, 3),
        ("Adagrad", {}, 1),
    ],
)
def test_what_optimizers_keep_per_parameter(kind, arguments, copies):
    assert optimizer_copies(kind, arguments) == copies


def test_checkpoints_are_as_measured_or_at_most_what_the_parameters_make():
    # best.pt 4000 bytes; two resume files of weights and two Adam states, 3 x 4000 bytes each
    assert checkpoint_bytes(WORK, None) == 4000 + 2 * 12000
    assert checkpoint_bytes(WORK, TrainingSpeed(1, 1, best_bytes=4100, resume_bytes=5000)) == 4100 + 2 * 5000
    unknown = Workload(50, 10, 300, 0, None, 3, 2)
    assert checkpoint_bytes(unknown, None) is None
    assert checkpoint_bytes(unknown, TrainingSpeed(1, 1)) is None
    assert prediction_bytes(WORK, None) == 30000
    assert prediction_bytes(WORK, EvaluationSpeed(1, slice_bytes=7)) == 2100


def test_the_best_epoch_and_the_resume_files_match_the_optimizer():
    assert 1 + optimizer_copies("AdamW", {}) == WORK.resume_copies


def test_an_amount_with_an_unknown_term_has_no_total_but_a_known_part():
    amount = Amount.of([1.5, None, 2.0])
    assert (amount.known, amount.num_unknown, amount.total) == (3.5, 1, None)
    assert Amount.of([1.5, 2.0]).total == 3.5
    assert (amount + Amount.of([1.0])) == Amount(4.5, 1)
    assert Amount.of([]).total == 0


def test_tasks_that_ask_for_the_same_make_one_class_cut_into_arrays():
    train = [Task("train", TWO_BY_FOUR, steps, 2.0, 3600.0, "2 runs") for steps in (100, 500, 100, 100, 100, 100)]
    other = [Task("eval", CPU, seconds=1800.0), Task("eval", CPU)]
    first, second = class_costs(
        [*train[:3], other[0], *train[3:], other[1]], limited=True, stop_lead_s=180, elements_per_array=5
    )
    assert (first.stage, first.num_tasks, first.num_arrays) == ("train", 6, 2)
    assert first.step_s == (2.0, 2.0)
    assert first.steps == (100, 500)
    assert first.gpu_hours == Amount(6 * 8)
    assert first.requeues == Amount(0)
    assert first.sources == ("2 runs",)
    assert (second.stage, second.num_tasks, second.num_arrays, second.step_s) == ("eval", 2, 1, None)
    assert second.gpu_hours == Amount(0)
    assert second.cpu_hours == Amount(0.5 * 6, 1)
    assert second.requeues == Amount(0, 1)


def test_one_task_of_unknown_speed_hides_the_range_of_the_others():
    tasks = [Task("train", CPU, 10, 2.0, 20.0), Task("train", CPU, 10)]
    (cost,) = class_costs(tasks, limited=False, stop_lead_s=180, elements_per_array=None)
    assert cost.step_s is None
    assert cost.cpu_hours.total is None
    assert cost.num_arrays == 0
