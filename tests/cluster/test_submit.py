"""What goes to Slurm, with a fake sbatch that keeps the script it is given."""

import pickle
import sys
from pathlib import Path

import pytest

from sam2ft.cluster.evidence import Evidence
from sam2ft.cluster.plan import make_plan
from sam2ft.cluster.queue import QueueEntry
from sam2ft.cluster.records import elements_of
from sam2ft.cluster.site import load_site
from sam2ft.cluster.standing import reconcile
from sam2ft.cluster.submit import SubmissionError, arrays_of, submit
from sam2ft.core.files import read_json
from sam2ft.run.job import run_point

GOLDEN = Path(__file__).parent / "golden"
SITE = """\
site: {name: here}
slurm: {partition: gpu, account: lab, constraint: a100, max_parallel: 4, stop_lead_s: 120, setup: [module load cuda]}
"""
FAKE_SBATCH = """#!/bin/sh
count=$(ls {folder}/script-* 2>/dev/null | wc -l)
cp "$1" {folder}/script-$count
env > {folder}/environment
echo "Submitted batch job $((100 + count))"
"""


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "here.yaml").write_text(SITE)
    return load_site("here", tmp_path / "sites")


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Folder in which the fake sbatch keeps the scripts, in the order of the calls."""
    folder = tmp_path / "fake"
    folder.mkdir()
    for name, text in {"sbatch": FAKE_SBATCH.format(folder=folder), "srun": "#!/bin/sh\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def shown(script, workplace):
    """A script without what differs from machine to machine."""
    return script.read_text().replace(str(workplace.folder), "/home/user").replace(sys.executable, "python")


def assert_golden(name, text):
    path = GOLDEN / name
    assert text == path.read_text(), f"{name} changed; if it is meant so, write the new text to {path}"


def test_one_array_for_points_of_equal_resources_then_the_report(workplace, site, sbatch):
    plan = workplace.plan()
    done = submit(workplace.layout, plan, plan.runs, site)
    assert (done.jobs, done.aggregate, done.num_runs) == (("100", "101"), "102", 3)
    names = ["train_eval.sh", "eval.sh", "report.sh"]
    scripts = [shown(sbatch / f"script-{count}", workplace).replace(plan.plan_id, "0123456789ab") for count in range(3)]
    for name, text in zip(names, scripts, strict=True):
        assert_golden(name, text)


def test_gpus_are_asked_for_per_node_or_as_gres(workplace, site, sbatch):
    plan = make_plan(workplace.resolved(["resources.gpus_per_node=2"], fill=site.fill))
    gres = site.model_copy(update={"slurm": site.slurm.model_copy(update={"gpu_option": "gres"})})
    submit(workplace.layout, plan, plan.runs[:1], site)
    submit(workplace.layout, plan, plan.runs[:1], gres)
    first, second = (sbatch / "script-0").read_text(), (sbatch / "script-2").read_text()
    assert "#SBATCH --gpus-per-node=2\n" in first
    assert "#SBATCH --ntasks-per-node=2\n" in first
    assert "#SBATCH --gres=gpu:2\n" in second
    assert "gpus-per-node" not in second


def test_what_is_pickled_is_a_name_and_plain_ids(workplace, site, sbatch):
    plan = workplace.plan()
    submit(workplace.layout, plan, plan.runs, site)
    folder = workplace.layout.submission(1).with_suffix("")
    for position in range(2):
        job = pickle.loads((folder / f"100_{position}_submitted.pkl").read_bytes())
        assert job.function is run_point
        assert job.args == (str(workplace.layout.folder.resolve()), plan.plan_id, position, "train_eval")
        assert job.kwargs == {}


def test_the_record_of_a_submission_maps_elements_to_runs(workplace, site, sbatch):
    plan = workplace.plan()
    submit(workplace.layout, plan, plan.runs, site)
    assert elements_of(workplace.layout) == {
        plan.runs[0].run_id: ["100_0"],
        plan.runs[1].run_id: ["100_1"],
        plan.runs[2].run_id: ["101"],
    }
    standings = reconcile(workplace.layout, plan, Evidence({"100_1": QueueEntry("RUNNING", "None", "n1")}))
    assert standings[1].state == "running"


def test_each_submission_has_a_number_and_job_names_of_its_own(workplace, site, sbatch):
    plan = workplace.plan()
    assert submit(workplace.layout, plan, plan.runs[:1], site).number == 1
    assert submit(workplace.layout, plan, plan.runs[1:2], site).number == 2
    names = {array.job_name for number in (1, 2) for array in arrays_of(plan, plan.runs, number)}
    assert len(names) == 4


def test_a_submission_from_inside_a_job_keeps_only_where_the_cluster_is(workplace, site, sbatch, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "3")
    monkeypatch.setenv("SLURM_CONF", "/etc/other/slurm.conf")
    plan = workplace.plan()
    submit(workplace.layout, plan, plan.runs[:1], site)
    variables = [line for line in (sbatch / "environment").read_text().splitlines() if line.startswith("SLURM_")]
    assert variables == ["SLURM_CONF=/etc/other/slurm.conf"]


def test_the_intent_is_on_disk_before_sbatch_and_a_refusal_is_shown(workplace, site, sbatch):
    (sbatch / "sbatch").write_text("#!/bin/sh\necho 'invalid partition specified: gpu' >&2\nexit 1\n")
    plan = workplace.plan()
    with pytest.raises(SubmissionError, match="invalid partition specified: gpu"):
        submit(workplace.layout, plan, plan.runs, site)
    record = read_json(workplace.layout.submission(1))
    assert [array["job"] for array in record["arrays"]] == [None, None]
    assert [run["index"] for run in record["arrays"][0]["runs"]] == [0, 1]
    assert elements_of(workplace.layout) == {}
