"""--strict-code: a run that is named by its code is trained by that code alone."""

from pathlib import Path

import pytest

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.files import read_json
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.jobs.job import execute_job, planned_job
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs import identity_file
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import save_plan
from sam2ft.runs.provenance import code_digest
from sam2ft.runs.resources.resources import resources_of
from sam2ft.sweeps.plan.plan import make_plan, write_configs


@pytest.fixture
def job(toy):
    """The first run of a strict plan of the toy experiment."""
    code = code_digest()
    resolved = resolve(load_experiment(Path("toy.yaml"), ("module.visualize=false",)), fill=resources_of, code=code)
    layout, plan = ExperimentLayout.of("toy"), make_plan(resolved, code=code)
    save_plan(layout, plan)
    write_configs(layout, resolved, [0])
    return planned_job(layout.folder, plan.plan_id, 0, "train")


@pytest.mark.sam2
def test_the_planned_code_trains_it_and_other_code_neither_begins_nor_goes_on(job, monkeypatch, capsys):
    with monkeypatch.context() as other_code:
        other_code.setattr(identity_file, "code_digest", lambda: "0" * 16)
        assert execute_job(job, StopFlag()) == 2
    assert "configuration, or the code, changed after it was planned" in capsys.readouterr().err
    assert execute_job(job, StopFlag()) == 0
    assert read_json(job.layout.identity)["content"]["code"] == code_digest()
    assert read_json(job.layout.provenance)["attempts"][-1]["code"]["digest"] == code_digest()
