"""A site is proven line by line: ok, problem, or could not be checked; nothing is submitted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sam2ft.core.errors import UserError
from sam2ft.slurm import site_check
from sam2ft.slurm.limits import SbatchAnswer
from sam2ft.slurm.partitions import ArrayLimits, ClusterLimits, NodeKind, Partition
from sam2ft.slurm.site_check import check_site, show_site_check

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sites(workplace):
    folder = workplace.folder / "slurm" / "sites"
    folder.mkdir(parents=True)

    def write(text, name="here"):
        (folder / f"{name}.yaml").write_text(f"site: {{name: {name}, cluster_name: big}}\n{text}")

    write("slurm: {partition: gpu}\nresources: {gpus_per_node: 1, cpus_per_task: 2, mem_gb: 4, hours: 2}\n")
    return write


@pytest.fixture
def slurm(monkeypatch, sites):
    """A Slurm that answers; `asked` notes the resources that sbatch was asked about."""
    asked = []

    def would_take(resources, site, *, report=False):
        asked.append((resources, report))
        return SbatchAnswer(True, "would start now")

    gpu = Partition("gpu", "UP", True, 240.0, None, None, None, 2, (NodeKind(2, 16, 65536, 4),))
    monkeypatch.setattr(site_check, "slurm_is_installed", lambda: True)
    monkeypatch.setattr(site_check, "read_limits", lambda: ClusterLimits("big", ArrayLimits(), {"gpu": gpu}))
    monkeypatch.setattr(site_check, "try_submission", would_take)
    # The launcher's own Python is tried for real by one test.
    monkeypatch.setattr(site_check, "_python", lambda site, with_gpus: [site_check.Finding("python", "ok", "imports")])
    return asked


def verdicts(*arguments):
    return {finding.subject: (finding.result, finding.text) for finding in check_site(*arguments)}


def test_a_good_site_has_no_problem(slurm, capsys):
    assert show_site_check("here", None, ()) == 0
    shown = capsys.readouterr()
    assert "ok                    partition of points: gpu is up: 2 nodes, 8 GPUs, at most 4 h" in shown.out
    assert "problem" not in shown.out
    assert shown.err == "site here: 9 ok, 1 could not be checked\n"
    (points, as_report), (report, is_report) = slurm
    assert (points.gpus_per_node, points.cpus_per_task, points.hours, as_report) == (1, 2, 2, False)
    assert (report.gpus_per_node, is_report) == (0, True)


def test_every_problem_is_a_line_and_the_code_is_2(slurm, sites, capsys):
    sites(
        "slurm: {partition: gpu, account: lab, mail: 'no body', container: 'apptainer exec /none.sif'}\n"
        "resources: {hours: 5}\nreport: {partition: short}\n"
    )
    assert show_site_check("here", None, (), as_json=True) == 2
    found = {entry["subject"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found["partition of report"]["text"] == "short; known: gpu"
    assert found["account"]["verdict"] == "unknown"
    assert found["mail"]["verdict"] == "problem"
    assert found["container"]["text"] == "/none.sif: no such image"


def test_times_over_the_limit_are_found_although_sbatch_takes_them(slurm, sites):
    sites("slurm: {partition: gpu}\nresources: {hours: 5, mem_gb: 4}\n")
    findings = list(check_site("here"))
    assert ("problem", "resources.hours 5; partition gpu allows 4") in [(one.result, one.text) for one in findings]


def test_the_points_of_an_experiment_are_tried_each_kind_once(slurm, workplace):
    text = workplace.experiment.read_text().replace("hours: 1}", "hours: 1, eval: {hours: 0.5}}")
    workplace.experiment.write_text(text)
    found = [subject for subject in verdicts("here", workplace.experiment) if subject.startswith(("train", "eval"))]
    assert [subject.partition(" (")[0] for subject in found] == ["train of lr=0.001", "eval of lr=0.001"]


def test_another_cluster_and_a_slurm_that_is_silent_are_problems(slurm, sites, monkeypatch):
    sites("slurm: {partition: gpu}\n")
    (Path("slurm/sites") / "here.yaml").write_text("site: {name: here, cluster_name: small}\nslurm: {partition: gpu}\n")
    assert verdicts("here")["cluster"] == ("problem", "site.cluster_name is 'small', this Slurm is 'big'")

    def silent():
        raise UserError("`scontrol show config` does not answer")

    monkeypatch.setattr(site_check, "read_limits", silent)
    assert verdicts("here")["Slurm"][0] == "problem"


def test_away_from_the_cluster_the_rest_is_checked(slurm, monkeypatch):
    monkeypatch.setattr(site_check, "slurm_is_installed", lambda: False)
    found = verdicts("here")
    assert found["Slurm"][0] == "unknown"
    assert found["file"][0] == "ok"
    assert "runs" in found


def test_an_unknown_site_names_the_known_ones_and_a_bad_file_its_lines(slurm, sites, capsys):
    assert show_site_check("there", None, ()) == 2
    assert "known: here" in capsys.readouterr().out
    sites("slurm: {partion: gpu}\n", "bad")
    assert show_site_check("bad", None, ()) == 2
    assert "bad.yaml:2: slurm.partion" in capsys.readouterr().out


def test_the_python_of_the_job_is_started_behind_the_jobs_own_lines(sites, workplace):
    sites(f"slurm: {{environment: {{PYTHONPATH: {ROOT}}}, python: '{sys.executable}'}}\n")
    findings = list(check_site("here"))
    finding = next(one for one in findings if one.subject == "python")
    assert finding.result == "ok", finding.text
    # On a login node only the driver that the nodes need is known.
    (gpu,) = (one for one in findings if one.subject == "GPU driver")
    assert gpu.result in ("unknown", "ok")
    assert "driver" in gpu.text
    sites(f"slurm: {{environment: {{PYTHONPATH: {ROOT}}}}}\nresources: {{gpus_per_node: 0}}\n")
    assert not [one for one in check_site("here") if one.subject == "GPU driver"]
    sites("slurm: {python: /no/python}\n")
    finding = next(one for one in check_site("here") if one.subject == "python")
    assert finding.result == "problem"
    assert "/no/python" in finding.text


def test_the_command_line_needs_no_experiment(sites, workplace):
    command = [sys.executable, str(ROOT / "launch" / "sweep.py")]
    done = subprocess.run([*command, "--check-site", "nowhere"], capture_output=True, text=True, check=False)
    assert (done.returncode, "known: here" in done.stdout) == (2, True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "experiment file missing; launch/sweep.py experiments/NAME.yaml\n")
