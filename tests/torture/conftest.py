"""Working directories of the commands, made once, and a process that has imported them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from torture.campaign import Trial, run, trial_of
from torture.commands import AGGREGATE, EVALUATE, PREPARE, SWEEP, TRAIN, fresh, write_scans
from torture.shim.shim import Nursery, Shim, built

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
def templates(
    nursery: Nursery, scans: Path, short_toy: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Command -> what it finds."""
    folder = tmp_path_factory.mktemp("templates")
    done = fresh(short_toy, folder / "aggregate")
    ended = run(nursery, SWEEP, done)
    assert ended.code == 0, ended.err
    shutil.rmtree(done / "runs" / "toy" / "report")
    shutil.rmtree(done / "runs" / "toy" / ".report", ignore_errors=True)
    weights = fresh(short_toy, folder / "eval")
    (best,) = done.glob("runs/toy/*/checkpoints/best.pt")
    shutil.copyfile(best, weights / "best.pt")
    return {"prepare": scans, "train": short_toy, "eval": weights, "aggregate": done}


@pytest.fixture(scope="session")
def trials(nursery: Nursery, templates: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trial]:
    """The four commands that write, each with what it leaves undisturbed."""
    work = tmp_path_factory.mktemp("work") / "folder"
    commands = {"prepare": PREPARE, "train": TRAIN, "eval": EVALUATE, "aggregate": AGGREGATE}
    return {name: trial_of(nursery, command, templates[name], work) for name, command in commands.items()}
