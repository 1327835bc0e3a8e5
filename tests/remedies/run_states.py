"""Remedies of runs by their state, of damaged files of runs, and of commands of prepare and audit."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam2ft.core.digests.verified_files import read_sealed_json
from sam2ft.core.files import sha256_file
from sam2ft.data.store import writer
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.config_file import is_sealed, planned_experiment
from sam2ft.runs.plan_file import save_plan
from sam2ft.sweeps.status import watch as watch_module
from sam2ft.sweeps.status.watch import SnapshotCache
from sam2ft.tools.audit import tool
from sam2ft.tools.lock_file import read_lock
from sam2ft.training.checkpoints.checkpoint import read_resume, resume_files, save_resume
from tests.fixtures.workplace import planned_runs
from tests.remedies.conftest import ROOT, Desk, Raw, refusal
from tests.remedies.registry import executed_by, remedy

Command = Callable[..., str]
RETRY_ALL = ("--retry", "all")


# --- what `why` tells to do next ------------------------------------------------------------------------------------


def _plan(count: int) -> Any:
    from tests.sweeps.submit.test_submit import plan_of

    return plan_of(planned_runs(count))


@remedy("`status --watch` follows it")
def a_run_that_waits_in_the_queue(slurm: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    slurm.sweep(_plan(2))
    shown = desk.works(f"launch/status.py {slurm.layout.folder} why 0")
    now = [1000.0]

    def nap(_: float) -> None:
        now[0] += 600
        slurm.remove(*(job for job, *_ in slurm.jobs))

    monkeypatch.setattr(watch_module, "time", SimpleNamespace(sleep=nap, strftime=time.strftime))
    monkeypatch.setattr(watch_module, "SnapshotCache", lambda ask: SnapshotCache(ask, lambda: now[0]))
    first, last = desk.works(f"launch/status.py {slurm.layout.folder} --watch").splitlines()
    assert "2 queued" in first
    assert "2 new" in last
    return shown


@remedy("`tail -f` shows its log")
def a_run_that_is_at_work(workplace: Any, attempt: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> str:
    plan = workplace.plan()
    save_plan(workplace.layout, plan)
    run = plan.runs[0]
    workplace.write_status(run, "training", attempt())
    log = workplace.run(run).logs / "1.log"
    log.parent.mkdir(parents=True)
    log.write_text("epoch 1\n")
    shown = desk.works("launch/status.py toy.yaml why 0")

    def nap(_: float) -> None:
        with log.open("a") as stream:
            stream.write("epoch 2\n")
        workplace.finish(run, attempt())

    monkeypatch.setattr("sam2ft.sweeps.status.tail.time", SimpleNamespace(sleep=nap))
    followed = desk.works("launch/status.py toy.yaml tail 0 -f")
    assert "epoch 1\nepoch 2\n" in followed
    return shown


@remedy("`make sweep ARGS='--retry all'` starts it again if it has ended")
def a_run_of_which_nobody_knows(slurm: Any, desk: Desk) -> str:
    plan = _plan(2)
    slurm.sweep(plan)
    slurm.set("no_queue", "1")
    shown = desk.works(f"launch/status.py {slurm.layout.folder} why 0")
    (slurm.folder / "no_queue").unlink()
    slurm.remove(*(job for job, *_ in slurm.jobs))
    before = len(slurm.jobs)
    slurm.sweep(plan, retry="all")
    assert len(slurm.jobs) > before
    assert "state       queued" in desk.works(f"launch/status.py {slurm.layout.folder} why 0")
    return shown


# --- files of a run -------------------------------------------------------------------------------------------------


def _spoilt(path: Path, how: int) -> None:
    content = bytearray(path.read_bytes())
    if how == 0:
        content[len(content) // 2] ^= 1
    path.write_bytes((content, content[: len(content) // 2], b"{}\n")[how])


@remedy("`make sweep ARGS='--retry all'`, or launch/train.py", slow=True)
def a_status_that_cannot_be_read(stopped: Any, trains: Command, sweeps: Command) -> str:
    shutil.copytree("runs", "then")
    shown = ""
    for how, again in enumerate((lambda: sweeps(*RETRY_ALL), trains, lambda: sweeps(*RETRY_ALL))):
        _spoilt(stopped.layout.status, how)
        shown = refusal(lambda: read_status(stopped.layout))
        assert "after step 7" in again()
        found = read_status(stopped.layout)
        assert found is not None
        assert (found.state, found.trained) == ("done", True)
        shutil.rmtree("runs")
        shutil.copytree("then", "runs")
    return shown


@remedy("`make sweep` or launch/train.py writes the planned one again", slow=True)
def a_configuration_that_is_damaged(swept: Any, trains: Command, sweeps: Command) -> str:
    config, best = swept.layout.config, sha256_file(swept.layout.best)
    right, shown = config.read_bytes(), ""

    def changed() -> None:
        config.write_bytes(right.replace(b"num_epochs: 2", b"num_epochs: 3"))

    def cut() -> None:
        config.write_bytes(right[: len(right) // 2])

    def emptied() -> None:
        config.write_bytes(b"")

    for damage, again in ((changed, sweeps), (cut, trains), (emptied, trains), (config.unlink, trains)):
        damage()
        shown = refusal(lambda: planned_experiment(config))
        again()
        assert planned_experiment(config).module.num_epochs == 2
        assert is_sealed(config)
        assert sha256_file(swept.layout.best) == best
    return shown


@remedy("a sweep: launch/sweep.py with --force", slow=True)
def best_weights_that_cannot_be_made_again(swept: Any, desk: Desk, sweeps: Command) -> str:
    layout, (newest, older) = swept.layout, resume_files(swept.layout.checkpoints)
    recorded, snapshot = sha256_file(layout.best), read_resume(newest)
    # As if the first epoch had been the best one, whose resume file is removed in a longer training.
    state = snapshot["state"] | {"stopping": snapshot["state"]["stopping"] | {"best_epoch": 0}}
    save_resume(newest, snapshot | {"state": state}, keep=2)
    older.unlink()
    layout.best.write_bytes(layout.best.read_bytes()[:-1000])
    shown = desk.refused(f"launch/train.py {layout.config}")
    sweeps("--force")
    assert sha256_file(layout.best) == recorded == read_sealed_json(layout.status)["best_sha256"]
    return shown


executed_by(
    "aggregate again",
    of="changed while it was read",
    test="tests/report/tables/test_parts.py::test_an_evaluation_that_is_made_anew_meanwhile_is_an_error_and_no_mixture",
)
executed_by(
    "copy it to a folder of yours",
    test="tests/config/test_trust.py::test_the_remedies_for_a_file_of_another_user_work",
)


# --- commands -------------------------------------------------------------------------------------------------------


@remedy("--out STORE is missing")
def a_dataset_without_a_store(raw: Raw) -> str:
    shown = raw.desk.refused("launch/prepare.py ds.yaml")
    raw.desk.works("launch/prepare.py ds.yaml --out store")
    assert raw.whole() == ["a", "b"]
    return shown


@remedy("--prune removes the volume", of="^{}: its image is gone")
def an_upgrade_while_an_image_is_gone(raw: Raw, monkeypatch: pytest.MonkeyPatch) -> str:
    with monkeypatch.context() as patch:
        patch.setattr(writer, "STORE_VERSION", 1)
        raw.prepare()
    shutil.rmtree(raw.image("a"))
    shown = raw.prepare("--upgrade", "--yes", code=2)
    raw.prepare("--prune", "--yes")
    raw.prepare("--upgrade", "--yes")
    assert raw.whole() == ["b"]
    assert read_sealed_json(raw.store / "store.json")["version"] == 2
    return shown


@remedy("`make audit` installs it")
def a_tool_of_the_audit(tmp_path: Path) -> str:
    """What `make audit` would run; it needs a network to install."""
    names = {"bandit": "bandit", "pip-audit": "pip-audit", "cyclonedx-py": "cyclonedx-bom"}
    audit, shown = tmp_path / "venv", ""
    command = ["make", "--dry-run", "--always-make", "audit", f"AUDIT={audit}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert (
        f"{audit}/bin/python -m pip install -q --no-build-isolation --require-hashes -r requirements/audit.txt" in run
    )
    pinned = {pin.name for pin in read_lock(ROOT / "requirements/audit.txt").values()}
    (audit / "bin").mkdir(parents=True)
    for name, package in names.items():
        shown = refusal(lambda name=name: tool(audit / "bin", name))
        assert package in pinned
        (audit / "bin" / name).write_text("")
        assert tool(audit / "bin", name).is_file()
    return shown
