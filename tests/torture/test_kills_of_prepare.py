"""`prepare` killed at every write with which it finishes a store: every state in between opens, and the same command
heals it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.store.metadata import load_meta
from sam2ft.data.store.store import Store
from torture.campaign import Trial, contents, run, trial_of
from torture.commands import PREPARE, fresh, write_scans
from torture.shim.shim import Action, Fault, Nursery

FILES = ("metadata_for_ml.json", "metadata_for_stats.json", "store.json")
KILLS = (Action.KILL_BEFORE, Action.KILL_INSIDE, Action.KILL_AFTER)


def first_time(_work: Path) -> None:
    """There is no store yet."""


def changed_and_more(work: Path) -> None:
    """The store has three volumes; of them one is another now, and there is a new one."""
    for kind in ("images", "masks"):
        shutil.copyfile(work / "later" / kind / "e.nii.gz", work / kind / "a.nii.gz")
        shutil.move(work / "later" / kind / "d.nii.gz", work / kind / "d.nii.gz")


def other_splits(work: Path) -> None:
    """Every subject moves to another split."""
    (work / "split.json").write_text('{"test": ["a"], "train": ["b"], "val": ["c"]}')
    dataset = work / "dataset.yaml"
    dataset.write_text(dataset.read_text().partition("split:")[0] + "split: {file: split.json}\n")


CHANGES = {change.__name__: change for change in (first_time, changed_and_more, other_splits)}


@pytest.fixture(params=CHANGES)
def prepared(nursery: Nursery, tmp_path: Path, request: pytest.FixtureRequest) -> Trial:
    """`prepare` after a change, and what it leaves undisturbed."""
    change: Callable[[Path], None] = CHANGES[request.param]
    template = tmp_path / "template"
    write_scans(template, "abc")
    write_scans(template / "later", "abcde")
    if change is not first_time:
        ended = run(nursery, PREPARE, template)
        assert ended.code == 0, ended.err
        change(template)
    return trial_of(nursery, PREPARE, template, tmp_path / "work")


def numbers(store: Path) -> set[str]:
    """What readers find in a store, all of it verified."""
    opened = Store.open(store)
    opened.verify(opened.volumes)
    found = {f"{one.key} {one.split} {one.digest} {one.stored} {opened.image(one.key).sum()}" for one in opened.volumes}
    return found | {f"{name} {entry}" for kind in (True, False) for name, entry in load_meta(store, kind).items()}


def check(trial: Trial, every: int) -> None:
    fresh(trial.template, trial.work)
    before = Store.open(trial.work / "store").volumes if (trial.work / "store").exists() else None
    assert run(trial.nursery, PREPARE, trial.work).code == 0
    after = numbers(trial.work / "store")
    counts = {}
    for file in FILES:
        fresh(trial.template, trial.work)
        run(trial.nursery, PREPARE, trial.work, Fault(file=file))
        counts[file] = trial.nursery.shim.count
    assert counts["store.json"], "the index was not written"
    places = [(file, at, action) for file in FILES for at in range(1, counts[file] + 1) for action in KILLS]
    for number, (file, at, action) in enumerate(places[::every]):
        where = f"{action.name} of call {at} for {file}"
        fresh(trial.template, trial.work)
        killed = run(trial.nursery, PREPARE, trial.work, Fault(at=at, action=action, file=file))
        assert killed.code == -9, where
        store = trial.work / "store"
        if before is None and not (store / "store.json").exists():
            with pytest.raises(DataError, match=r"store\.json|store"):
                Store.open(store)
        else:
            numbers(store)
        if number % 2:  # a second kill, at the same place of what is left to do
            run(trial.nursery, PREPARE, trial.work, Fault(at=at, action=action, file=file))
        again = run(trial.nursery, PREPARE, trial.work)
        assert again.code == 0, f"{where}: {again.err}"
        assert numbers(store) == after, where
        assert contents(trial.work).keys() == trial.left.keys(), where


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_states_between_two_calls_open_and_are_healed(prepared: Trial) -> None:
    """Every thirteenth call; SAM2FT_KILLS=1 takes every one, which is an hour."""
    check(prepared, every=int(os.environ.get("SAM2FT_KILLS", "13")))
