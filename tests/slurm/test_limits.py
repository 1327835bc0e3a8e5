"""What a partition takes, and how sbatch's answers are read."""

import pytest

from sam2ft.runs.plan_file import Resources
from sam2ft.slurm.limits import limit_problems, parse_test_only, sbatch_options
from sam2ft.slurm.partitions import ArrayLimits, ClusterLimits, NodeKind, Partition
from sam2ft.slurm.site import Site


def partition(**changes):
    values = {
        "name": "gpu",
        "state": "UP",
        "is_default": True,
        "max_time_min": 720.0,
        "max_nodes": None,
        "max_cpus_per_node": None,
        "max_mem_per_node_mb": None,
        "num_nodes": 4,
        "nodes": (NodeKind(3, 32, 128 * 1024, 4), NodeKind(1, 64, 512 * 1024, 0)),
    }
    return Partition(**(values | changes))


def problems(asked=None, slurm=None, **changes):
    values = {"nodes": 1, "tasks_per_node": 1, "gpus_per_node": 1, "cpus_per_task": 8, "mem_gb": 64, "hours": 12}
    limits = ClusterLimits("big", ArrayLimits(), {"gpu": partition(**changes)})
    site = Site.model_validate({"site": {"name": "here"}, "slurm": slurm or {}})
    return limit_problems(Resources(**(values | (asked or {}))), site, limits)


def test_what_fits_has_no_problem():
    assert problems() == []
    assert problems({"nodes": 4, "tasks_per_node": 4, "gpus_per_node": 4}) == []
    assert problems(max_time_min=None) == []


@pytest.mark.parametrize(
    ("asked", "slurm", "changes", "expected"),
    [
        ({"hours": 13}, {}, {}, "resources.hours 13; partition gpu allows 12"),
        ({"nodes": 5}, {}, {}, "resources.nodes 5; partition gpu allows 4"),
        ({"nodes": 3}, {}, {"max_nodes": 2}, "resources.nodes 3; partition gpu allows 2"),
        ({"gpus_per_node": 8}, {}, {}, "8 GPUs per node; the largest node of partition gpu has 4"),
        ({"tasks_per_node": 9}, {}, {}, "72 cores per node; the largest node of partition gpu has 64"),
        ({"mem_gb": 600}, {}, {}, "600 GB memory per node; the largest node of partition gpu has 512 GB"),
        ({"cpus_per_task": 48}, {}, {}, "partition gpu has no node with 48 cores, 64 GB and 1 GPUs at once"),
        ({}, {}, {"max_cpus_per_node": 4}, "8 cores per node; partition gpu allows 4"),
        ({}, {}, {"max_mem_per_node_mb": 1024}, "resources.mem_gb 64; partition gpu allows 1"),
        ({}, {}, {"state": "DRAIN"}, "partition gpu is DRAIN"),
        ({}, {"account": "us"}, {"accounts": ("lab", "all")}, "slurm.account us; partition gpu allows lab, all"),
        ({}, {"qos": "long"}, {"qos": ("short",)}, "slurm.qos long; partition gpu allows short"),
        ({}, {"partition": "cpu"}, {}, "slurm.partition: cpu; known: gpu"),
        ({}, {}, {"is_default": False}, "slurm.partition: none given, and there is no default; known: gpu"),
    ],
)
def test_what_is_beyond_a_limit_is_named_with_what_is_allowed(asked, slurm, changes, expected):
    assert problems(asked, slurm, **changes) == [expected]


def test_nodes_that_nobody_describes_are_no_problem():
    assert problems({"gpus_per_node": 8}, nodes=()) == []


def test_jobs_may_be_queued_in_a_partition_that_is_down_for_now():
    assert problems(state="DOWN") == []


def test_the_answers_of_sbatch():
    said = "sbatch: Job 7 to start at 2026-11-23T20:40:15 using 1 processors on nodes n1 in partition main\n"
    assert parse_test_only(0, said).text == "would start at 2026-11-23 20:40:15"
    refused = parse_test_only(1, "sbatch: error: invalid partition specified: foo\nallocation failure: Invalid name\n")
    assert (refused.accepted, refused.text) == (False, "invalid partition specified: foo; Invalid name")
    assert parse_test_only(1, "").text == "refused with code 1"


def test_only_options_that_decide_are_asked_about():
    chosen = {"partition": "gpu", "mem": "1MB", "account": None, "setup": ["x"], "cpus_per_task": 2}
    more = {"additional_parameters": {"requeue": True, "reservation": "course"}}
    assert sbatch_options(chosen | more) == [
        "--partition=gpu",
        "--cpus-per-task=2",
        "--mem=1MB",
        "--reservation=course",
    ]
