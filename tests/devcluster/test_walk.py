"""The page about a first cluster, followed on a real one: its site file, with its own names, and its commands."""

import re
from pathlib import Path

import pytest

from sam2ft.config.yaml.loading import dump_yaml, load_yaml

pytestmark = pytest.mark.slurm

PAGE = Path(__file__).parents[2] / "docs/start/your-cluster.md"
CALLS = {
    "site-check": ("sweep", "--check-site", "mine"),
    "plan": ("sweep", "walk.yaml", "--site", "mine", "--dry-run"),
    "sweep": ("sweep", "walk.yaml", "--site", "mine"),
    "status": ("status", "walk.yaml"),
}
"""What the make targets of the page run; the Makefile is tested with the documentation."""
TWO_POINTS = "sweep: {seeds: 2}\n"


def write_site(page: str, folder: Path) -> None:
    """The site file of the page, with the partition and the resources that this cluster has."""
    (text,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if block.startswith("site:"))
    path = folder / "slurm" / "sites" / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    site = load_yaml(path).value
    assert site["resources"].keys() == {"gpus_per_node", "cpus_per_task", "mem_gb", "hours"}
    del site["slurm"]["account"]
    site["slurm"]["partition"] = site["report"]["partition"] = "main"
    site["resources"] |= {"gpus_per_node": 0, "cpus_per_task": 1, "mem_gb": 3, "hours": 0.5}
    site["report"]["mem_gb"] = 2
    path.write_text(dump_yaml(site), encoding="utf-8")


def test_your_cluster_in_ten_minutes_works_as_it_is_written(experiment):
    page = PAGE.read_text(encoding="utf-8")
    walk = experiment("walk", TWO_POINTS)
    write_site(page, walk.folder)
    targets = [target for target in re.findall(r"^make ([a-z-]+)", page, re.MULTILINE) if target in CALLS]
    assert targets == ["site-check", "plan", "sweep", "status", "sweep"]
    for target in targets[:-1]:
        script, *arguments = CALLS[target]
        walk.launch(script, *arguments)
    walk.wait_for_end()
    assert {state["state"] for state in walk.states()} == {"done"}
    assert (walk.layout.folder / "report" / "index.html").is_file()
    (shown,) = re.findall(r"```text\n(.*?)\n```", page, re.DOTALL)
    script, *arguments = CALLS[targets[-1]]
    assert shown in walk.launch(script, *arguments)
