"""Remedies about GPUs, drivers and torch's CUDA: the work is at the nodes of a cluster."""

from tests.remedies.registry import excused, executed_by

executed_by(
    "plan with gpus_per_node: 0 for the CPU",
    test="tests/jobs/test_job.py::"
    "test_a_slurm_job_without_its_planned_gpus_fails_as_device_and_never_computes_on_the_cpu",
)
excused(
    "elsewhere",
    ("look there at `nvidia-smi` and CUDA_VISIBLE_DEVICES, or exclude that node", "sees no GPU, the others do"),
    ("look at the GPU of its node", "look at the GPU of its node"),
    ("install the one of requirements/run.txt", "this torch is for CPUs"),
    ("`make setup`", "this torch is for CPUs"),
    ("name other nodes", "is older than the GPUs of this torch"),
    ("ask for a newer one", "ask for a newer one, or name nodes"),
    ("name nodes that have it", "ask for a newer one, or name nodes"),
    ("check the site in a job on one", "compare with `nvidia-smi` on a node"),
    ("check the site in a job with a GPU", "but torch sees no GPU here"),
)
