"""Plans of others are read for their reports: their ids name folders inside of the experiment's."""

import re
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, load_plan, save_plan

ASKED = Resources(1, 1, 0, 1, 1.0, 1.0)


def saved(folder: Path, run_id: str, eval_id: str) -> tuple[ExperimentLayout, Plan]:
    """A plan whose content has the id in its name, whatever is in it."""
    run = PlannedRun(0, run_id, "train_eval", False, (PlannedPoint("p", (), eval_id),), ASKED, ASKED)
    layout, plan = ExperimentLayout(folder), Plan("toy", "toy.yaml", False, (run,))
    save_plan(layout, plan)
    return layout, plan


@pytest.mark.parametrize("name", ["..", ".", "", "/etc", "../other/run", "a/b", "a/", "a\0b", "../../../home/me"])
@pytest.mark.parametrize("which", ["run", "evaluation"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str, which: str) -> None:
    layout, plan = saved(tmp_path, *((name, "a" * 12) if which == "run" else ("toy-0", name)))
    with pytest.raises(DataError, match=re.escape(repr(name))) as refused:
        load_plan(layout, plan.plan_id)
    assert str(layout.plan(plan.plan_id)) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["toy-0123456789abcdef", "knee..2", ".hidden", "ü b", "a\\b"])
def test_other_names_are_read(tmp_path: Path, name: str) -> None:
    layout, plan = saved(tmp_path, name, "a" * 12)
    assert load_plan(layout, plan.plan_id) == plan
