"""Working directories of the commands, made once, and a process that has imported them."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from torture.campaign import Trial, run, trial_of
from torture.commands import AGGREGATE, EVALUATE, PREPARE, SWEEP, TRAIN, fresh, write_scans
from torture.shim.shim import Nursery, Shim, built

MakeTrial = Callable[[str], Trial]
SHORT = {"  num_epochs: 2": "  num_epochs: 1", "qc_slices: 4": "qc_slices: 1"}


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="session")
def nursery(shim_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder = tmp_path_factory.mktemp("nursery")
    made = Nursery(Shim(shim_library, folder / "control"), folder, ["torture.everything"])
    yield made
    made.close()


@pytest.fixture(scope="session")
def short_toy(toy_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy with one epoch and one picture."""
    folder = Path(shutil.copytree(toy_parts, tmp_path_factory.mktemp("short") / "toy"))
    text = (folder / "toy.yaml").read_text()
    for before, after in SHORT.items():
        assert before in text
        text = text.replace(before, after)
    (folder / "toy.yaml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, masks and dataset file of four subjects."""
    folder = tmp_path_factory.mktemp("scans")
    write_scans(folder)
    return folder


@pytest.fixture(scope="session")
def done_toy(nursery: Nursery, short_toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The short toy after a sweep, without its report."""
    folder = fresh(short_toy, tmp_path_factory.mktemp("done") / "toy")
    ended = run(nursery, SWEEP, folder)
    assert ended.code == 0, ended.err
    shutil.rmtree(folder / "runs" / "toy" / "report")
    shutil.rmtree(folder / "runs" / "toy" / ".report", ignore_errors=True)
    return folder


@pytest.fixture(scope="session")
def trial(request: pytest.FixtureRequest, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> MakeTrial:
    """trial(name): one of the four commands that write, with what it leaves undisturbed."""

    @cache
    def make(name: str) -> Trial:
        work = tmp_path_factory.mktemp("work") / "folder"
        if name == "prepare":
            return trial_of(nursery, PREPARE, request.getfixturevalue("scans"), work)
        if name == "train":
            return trial_of(nursery, TRAIN, request.getfixturevalue("short_toy"), work)
        done = request.getfixturevalue("done_toy")
        if name == "aggregate":
            return trial_of(nursery, AGGREGATE, done, work)
        weights = fresh(request.getfixturevalue("short_toy"), tmp_path_factory.mktemp("weights") / "toy")
        (best,) = done.glob("runs/toy/*/checkpoints/best.pt")
        shutil.copyfile(best, weights / "best.pt")
        return trial_of(nursery, EVALUATE, weights, work)

    return make
