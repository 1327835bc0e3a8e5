from pathlib import Path

import pytest

from sam2ft.core.errors import ConfigError, ProblemsError
from sam2ft.slurm.site import SITES, detect_site, load_site

SHIPPED = Path(__file__).parents[2] / SITES
TEXT = "site: {name: here, cluster_name: big}\nslurm:\n  partition: gpu\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_site_is_valid(name):
    assert load_site(name, SHIPPED).name == name


def test_all_problems_of_a_site_file_come_at_once_with_their_lines(tmp_path):
    (tmp_path / "here.yaml").write_text(TEXT + "  partion: x\n  max_parallel: 0\n")
    with pytest.raises(ProblemsError) as caught:
        load_site("here", tmp_path)
    lines = sorted(str(problem) for problem in caught.value.problems)
    assert len(lines) == 2
    assert lines[0].startswith(f"{tmp_path}/here.yaml:4: slurm.partion: ")
    assert "partition" in lines[0]
    assert lines[1].startswith(f"{tmp_path}/here.yaml:5: slurm.max_parallel: ")


def test_an_unknown_site_names_the_known_ones(tmp_path):
    (tmp_path / "here.yaml").write_text(TEXT)
    with pytest.raises(ConfigError, match=r"site 'there'.*known: here"):
        load_site("there", tmp_path)


def test_a_site_is_found_by_the_name_of_its_cluster(tmp_path):
    (tmp_path / "here.yaml").write_text(TEXT)
    assert detect_site("big", tmp_path).name == "here"
    with pytest.raises(ConfigError, match=r"cluster_name 'small'.*--site: here"):
        detect_site("small", tmp_path)


def test_a_site_fills_only_what_the_experiment_does_not_say(tmp_path, workplace):
    (tmp_path / "here.yaml").write_text(TEXT + "resources: {cpus_per_task: 3, mem_gb: 7, gpus_per_node: 4}\n")
    text = workplace.experiment.read_text().replace(
        "resources: {nodes: 1, gpus_per_node: 0, cpus_per_task: 1, mem_gb: 1, hours: 1}", "resources: {mem_gb: 2}"
    )
    workplace.experiment.write_text(text)
    site = load_site("here", tmp_path)
    asked = workplace.resolved(fill=site.fill).runs[0].planned.resources
    assert (asked.cpus_per_task, asked.gpus_per_node, asked.mem_gb, asked.hours) == (3, 4, 2, 12)
    # One process per GPU unless something else is said: the step then takes four times the slices, another run.
    assert asked.tasks_per_node == 4
    assert workplace.resolved(fill=site.fill).runs[0].planned.run_id != workplace.resolved().runs[0].planned.run_id


@pytest.mark.parametrize(
    "value", [".inf", "-.inf", ".nan", "1e400", "16384", "0", '"16"', "{a100: 40, t4: 16}", "true"]
)
def test_numbers_that_mean_nothing_are_problems_of_their_key(tmp_path, value):
    (tmp_path / "here.yaml").write_text(TEXT + f"  gpu_memory_gb: {value}\nresources: {{hours: {value}}}\n")
    with pytest.raises(ProblemsError) as caught:
        load_site("here", tmp_path)
    shown = [str(problem) for problem in caught.value.problems]
    assert any(
        f"{tmp_path}/here.yaml:4: slurm.gpu_memory_gb: found " in text and "; allowed: " in text for text in shown
    )


def test_whole_numbers_of_a_site_may_be_written_as_floats(tmp_path):
    (tmp_path / "here.yaml").write_text(TEXT + "  gpu_memory_gb: 16\n  max_parallel: 8.0\n")
    slurm = load_site("here", tmp_path).slurm
    assert (slurm.gpu_memory_gb, slurm.max_parallel) == (16.0, 8)
