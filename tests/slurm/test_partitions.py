"""What Slurm prints about itself, as values: texts of a Slurm 22.05 and of sites with more settings."""

import pytest

from sam2ft.slurm.partitions import (
    ArrayLimits,
    ClusterLimits,
    NodeKind,
    gpus_of,
    minutes,
    parse_config,
    parse_nodes,
    parse_partitions,
)

PARTITIONS = """\
PartitionName=main AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL Default=YES QoS=N/A MaxNodes=UNLIMITED \
MaxTime=01:00:00 MinNodes=0 MaxCPUsPerNode=UNLIMITED Nodes=n[1-3] State=UP TotalCPUs=6 TotalNodes=3 \
DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED
PartitionName=gpu AllowGroups=ALL AllowAccounts=lab,guest AllowQos=short Default=NO MaxNodes=2 MaxTime=2-00:00:00 \
MaxCPUsPerNode=16 Nodes=g1 State=DRAIN TotalCPUs=64 TotalNodes=1 MaxMemPerNode=64000
"""


def test_partitions_with_and_without_limits():
    nodes = parse_nodes("main|2|8|16000|(null)\nmain|1|16|64000|(null)\ngpu|1|64|512000|gpu:a100:4(S:0-1)\n")
    main, gpu = parse_partitions(PARTITIONS, nodes)
    assert (main.name, main.is_default, main.state, main.max_time_min) == ("main", True, "UP", 60)
    assert (main.max_nodes, main.max_cpus_per_node, main.max_mem_per_node_mb, main.accounts, main.qos) == (None,) * 5
    assert main.nodes == (NodeKind(2, 8, 16000, 0), NodeKind(1, 16, 64000, 0))
    assert (gpu.state, gpu.max_time_min, gpu.max_nodes) == ("DRAIN", 2880, 2)
    assert (gpu.max_cpus_per_node, gpu.max_mem_per_node_mb) == (16, 64000)
    assert (gpu.accounts, gpu.qos) == (("lab", "guest"), ("short",))
    assert gpu.nodes == (NodeKind(1, 64, 512000, 4),)
    limits = ClusterLimits("big", ArrayLimits(), {partition.name: partition for partition in (main, gpu)})
    assert limits.partition(None) is main
    assert limits.partition("gpu") is gpu
    assert limits.partition("none such") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("UNLIMITED", None), ("30", 30), ("30:00", 30), ("01:30:00", 90), ("1-12:00:00", 2160), ("2-1", 2940)],
)
def test_times_as_slurm_writes_them(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("(null)", 0), ("gpu:2", 2), ("gpu:a100:4(S:0-1)", 4), ("gpu:a100:4(S:0,2),gpu:v100:2,shard:8", 6), ("gpu", 1)],
)
def test_gpus_of_a_node(text, expected):
    assert gpus_of(text) == expected


def test_the_number_of_elements_obeys_both_limits():
    assert ArrayLimits(101, None).elements == 101
    assert ArrayLimits(101, 40).elements == 40
    assert ArrayLimits(5, 40).elements == 5


def test_the_lines_of_show_config():
    text = "Configuration data as of 2026\nClusterName   = big\nMaxArraySize = 101\nSchedulerParameters = (null)\n"
    assert parse_config(text) == {"ClusterName": "big", "MaxArraySize": "101", "SchedulerParameters": "(null)"}
