"""A person at a desk: runs commands as they are typed and reads what they print."""

import runpy
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2ft.cli import prepare as prepare_command
from sam2ft.core.errors import UserError
from sam2ft.data.images.volumes import read_volume, write_nifti
from sam2ft.data.prepare.outcomes import MINUTES, PrepareOptions
from sam2ft.data.store.store import Store
from sam2ft.jobs.job import main as job_main
from sam2ft.sweeps import sweep as sweep_module
from sam2ft.sweeps.local.pool import EndedTask
from tests.fixtures.stores import _edit, _write_series

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """What a command ended with, and all that it printed."""

    code: int
    text: str


@dataclass
class Desk:
    """Commands are run in this process (a new one would spend seconds importing torch)."""

    monkeypatch: pytest.MonkeyPatch
    capfd: pytest.CaptureFixture[str]

    def run(self, command: str, *more: str) -> Done:
        """`launch/prepare.py ds.yaml --out x`, `sam2ft status toy.yaml`: what is printed, and the exit code."""
        script, *words = [*shlex.split(command), *more]
        path = ROOT / script if script.startswith("launch/") else ROOT / "launch" / f"{words.pop(0)}.py"
        self.monkeypatch.setattr(sys, "argv", [str(path), *words])
        numbers = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
        handlers = {number: signal.getsignal(number) for number in numbers}
        self.capfd.readouterr()
        code: Any = 0
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as ended:
            code = ended.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        shown = self.capfd.readouterr()
        return Done(int(code or 0), shown.out + shown.err)

    def refused(self, command: str, *more: str, code: int = 2) -> str:
        """What a command prints that ends with `code`."""
        done = self.run(command, *more)
        assert done.code == code, f"{command}: {done.code}\n{done.text}"
        assert "Traceback" not in done.text
        return done.text

    def works(self, command: str, *more: str) -> str:
        """What a command prints that ends with 0."""
        return self.refused(command, *more, code=0)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Desk:
    return Desk(monkeypatch, capfd)


def refusal(action: Callable[[], Any]) -> str:
    """Text of the error that an action ends with."""
    with pytest.raises(UserError) as caught:
        action()
    return str(caught.value)


def in_this_process(*values: Any, **named: Any) -> PrepareOptions:
    """Options of a preparation that starts no process for every volume, which takes seconds; a time limit needs one."""
    return PrepareOptions(*values, **{**named, "isolated": named.get("minutes", MINUTES) != MINUTES})


DATASET = """\
dataset: {name: toy}
sources: {images: "dicom/{subject}", masks: "masks/{subject}.nii.gz"}
labels: {1: {name: cartilage}}
split: {train: 1, val: 0, test: 0}
"""


@dataclass
class Raw:
    """A folder of raw images that is prepared into `store`, in this process unless a test wants another."""

    folder: Path
    desk: Desk

    @property
    def yaml(self) -> Path:
        return self.folder / "ds.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def image(self, subject: str) -> Path:
        return self.folder / "dicom" / subject

    def mask(self, subject: str) -> Path:
        return self.folder / "masks" / f"{subject}.nii.gz"

    def settings(self, changed: str = "", to: str = "", more: str = "") -> None:
        assert changed in DATASET
        self.yaml.write_text(DATASET.replace(changed, to) + more)

    def add(self, subject: str, change: Callable[[Any, int], None] | None = None, **series: Any) -> None:
        """A series of five slices with an image of its own, and its mask."""

        def own(header: Any, z: int) -> None:
            noise = np.random.default_rng([*subject.encode(), z]).integers(0, 200, size=header.Rows * header.Columns)
            header.PixelData = (np.frombuffer(header.PixelData, "<u2") + noise).astype("<u2").tobytes()
            if change is not None:
                change(header, z)

        geometry = read_volume(_write_series(self.image(subject), **series)).geometry
        shutil.rmtree(self.image(subject))
        mask = np.zeros(geometry.shape_zyx, dtype=np.uint8)
        mask[1:3, 1:4, 2:5] = 1
        write_nifti(self.mask(subject), mask, geometry)
        _write_series(self.image(subject), change=own, **series)

    def edit(self, subject: str, **values: object) -> None:
        """Change attributes of all files of a series."""
        for path in sorted(self.image(subject).iterdir()):
            _edit(path, **values)

    def prepare(self, *more: str, code: int = 0, out: str = "store") -> str:
        """What `launch/prepare.py ds.yaml --out store` prints."""
        return self.desk.refused("launch/prepare.py ds.yaml", "--out", out, *more, code=code)

    def whole(self, out: str = "store") -> list[str]:
        """Subjects of the store, after every array was compared with its digest."""
        store = Store.open(self.folder / out)
        store.verify(store.volumes)
        return [record.key.subject for record in store.volumes]


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, desk: Desk) -> Raw:
    """Subjects a and b, each a DICOM series with a mask; the working directory is their folder."""
    folder = tmp_path / "raw"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(prepare_command, "PrepareOptions", in_this_process)
    found = Raw(folder, desk)
    for subject in "ab":
        found.add(subject)
    found.settings()
    return found


class PoolHere:
    """The local pool in this process: a child would spend seconds importing torch."""

    def __init__(self, workers: int, **_: Any):
        self.workers = workers

    def run(self, tasks: Any) -> list[EndedTask]:
        return [EndedTask(task.name, job_main(list(task.command[-4:]))) for task in tasks]


@pytest.fixture
def sweeps(toy: Any, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """sweeps(*options): `launch/sweep.py toy.yaml --local 1` of the toy without its baseline, without pictures."""
    monkeypatch.setattr(sweep_module, "Pool", PoolHere)
    monkeypatch.setattr("sam2ft.jobs.job.redirect_output", lambda log: None)

    def run(*options: str, code: int = 0) -> str:
        common = ("--set", "experiment.baseline=false", "--set", "module.visualize=false", "--local", "1")
        return desk.refused("launch/sweep.py toy.yaml", *common, *options, code=code)

    return run


@pytest.fixture
def trains(toy: Any, desk: Desk) -> Callable[..., str]:
    """trains(*options, code=0): `launch/train.py toy.yaml` without pictures."""
    return lambda *options, code=0: desk.refused(
        "launch/train.py toy.yaml --set module.visualize=false", *options, code=code
    )


@pytest.fixture
def swept(finished: Any, sweeps: Callable[..., str]) -> Any:
    """The finished toy as the only run of the newest plan."""
    sweeps()
    return finished
