"""Code that made a run and code that is here: known to differ, or not."""

from sam2ft.core.files import write_json
from sam2ft.runs.provenance import CODE_FOLDERS, code_digest, code_version
from sam2ft.runs.states import State
from sam2ft.sweeps.plan.stale_code import is_other, stale_note, stale_runs
from sam2ft.sweeps.state.reconcile import ReconciledRun

NOW = {"commit": "c", "modified": False, "digest": "d"}


def test_digests_decide_and_without_them_only_clean_commits():
    assert not is_other({"commit": "b", "modified": True, "digest": "d"}, NOW)
    assert is_other({"commit": "c", "modified": False, "digest": "e"}, NOW)
    assert is_other({"commit": "b", "modified": False}, NOW)
    assert not is_other({"commit": "c", "modified": False}, NOW)
    assert not is_other({"commit": "b", "modified": True}, NOW)
    assert not is_other({"commit": None, "modified": None}, NOW)


def test_runs_of_other_code_are_named_when_they_are_done_or_run(workplace):
    plan = workplace.plan()
    first, second, third = plan.runs
    other = code_version() | {"digest": "other"}
    for run, code in ((first, [code_version()]), (second, [other, code_version()]), (third, [other])):
        write_json(workplace.run(run).provenance, {"attempts": [{"code": one} for one in code]})
    states = [
        ReconciledRun(first, State.DONE, "", None),
        ReconciledRun(second, State.DONE, "", None),
        ReconciledRun(third, State.FAILED, "", None),
    ]
    assert stale_runs(workplace.layout, states) == (second.name,)
    assert "1 run was made with different code (lr=0.0001)" in stale_note([second.name])
    assert stale_note([]) == ""


def test_the_digest_changes_with_code_that_moves_numbers_and_with_no_other(tmp_path):
    for name in (*CODE_FOLDERS, "report"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "module.py").write_text("a = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "report" / "module.py").write_text("a = 2\n")
    (tmp_path / "core" / "notes.md").write_text("words")
    assert code_digest(tmp_path) == before
    (tmp_path / "metrics" / "module.py").write_text("a = 2\n")
    assert code_digest(tmp_path) != before
    (tmp_path / "metrics" / "module.py").write_text("a = 1\n")
    assert code_digest(tmp_path) == before


def test_a_strict_plan_names_runs_by_the_code(workplace):
    from sam2ft.runs.plan_file import load_plan, save_plan
    from sam2ft.sweeps.plan.plan import make_plan

    loose, strict, other = (workplace.resolved(code=code) for code in (None, "a", "b"))
    names = [[run.planned.run_id for run in resolved.runs] for resolved in (loose, strict, other)]
    assert all(len({*ids}) == 3 for ids in zip(*names, strict=True))
    plan = make_plan(strict, code="a")
    assert plan.plan_id != make_plan(strict).plan_id
    save_plan(workplace.layout, plan)
    assert load_plan(workplace.layout, plan.plan_id) == plan
