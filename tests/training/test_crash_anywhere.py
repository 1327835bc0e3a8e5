"""A training of two convolutions that is cut off at every step and at every stage of every write, and goes on.

A killed process leaves its files as they are at that moment. So one training is made, the files are copied at each such
moment, and from every copy another training continues: it has to end with the same bytes. So has one that is told to
stop, by real signals, in the middle of what it does.
"""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import torch
from fixtures.file_sets import file_set
from fixtures.trainers import trainer_settings

from sam2ft.config.load_experiment import load_experiment
from sam2ft.config.schema.experiment import Experiment
from sam2ft.config.schema.optimizer import Scheduler
from sam2ft.core.errors import StopRequestedError
from sam2ft.core.events import Observers
from sam2ft.core.labels import Label, LabelTable
from sam2ft.data.samples.batch import Batch
from sam2ft.distributed.ranks import ALONE
from sam2ft.distributed.stop_signal import STOP_SIGNALS, StopFlag, install_stop_handlers
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.history import history_rows, history_text, read_history
from sam2ft.runs.layout import RunLayout
from sam2ft.training.checkpoints.checkpoint import read_resume, resume_files
from sam2ft.training.checkpoints.nested_state import pack
from sam2ft.training.run import restored_state
from sam2ft.training.schedule import build_scheduler
from sam2ft.training.state import TrainerContext, TrainState
from sam2ft.training.trainer import Trainer
from sam2ft.training.watching import observers
from sam2ft.training.watching.observers import CheckpointWriter, HistoryWriter, SilentObserver, StatusWriter

TOYS = run_path(str(Path(__file__).parents[1] / "fixtures" / "trainings.py"))
RUN = "toy-0123456789abcdef"
NUM_EPOCHS, STEPS_PER_EPOCH, STEPS = 6, 10, 40
YAML = """\
experiment: {name: toy}
dataset: {toy: {store: data/toy}}
module:
  sam2_model_cfg: sam2_nano
  checkpoint: {every_minutes: null, every_steps: 7, keep: 2}
"""
Files = dict[str, bytes]


class AtEveryStep(SilentObserver):
    def __init__(self, action: Callable[[str], None]):
        self._action = action

    def on_step(self, event: Any, state: TrainState) -> None:
        self._action(f"step {event.step}")


class Toy:
    """The run of the experiment above in a folder, with everything that a real one keeps but pictures and trackers."""

    def __init__(self, experiment: Experiment):
        self._experiment = experiment
        # 19 batches an epoch: nine groups of two, and a short one
        self._train, self._val = TOYS["ToyData"](19, 1), TOYS["ToyData"](2, 2)

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        return self._train.train(epoch, skip)

    def _trainer(self) -> Trainer:
        model = TOYS["TwoConvolutions"]()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
        choice = Scheduler(type="CosineAnnealingWarmRestarts", T_0=9, T_mult=2, interval="step", warmup_steps=5)
        schedule = build_scheduler(optimizer, choice, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=NUM_EPOCHS)
        rule = {"monitor": "val_loss", "patience": 2, "min_delta": 0.05}
        settings = trainer_settings(
            num_epochs=NUM_EPOCHS, seed=1, batches_per_step=2, clip_grad=0.5, ema={"decay": 0.8},
            early_stopping=rule, num_samples=0,
        )  # fmt: skip
        return Trainer(model, TOYS["PlainLoss"](), optimizer, schedule, settings)

    def train(
        self, layout: RunLayout, *, seen: Callable[[str], None] = lambda _: None, stop: StopFlag | None = None
    ) -> TrainState:
        """As training/run.train does it: go on with the newest resume file, or begin."""
        claim(layout, attempt := Attempt.current({}))
        trainer = self._trainer()
        state = restored_state(trainer, layout, {})
        module = trainer.settings.module
        keeper = CheckpointWriter(layout, attempt, self._experiment, LabelTable((Label(1, "disc"),)), {}, trainer)
        kept = (
            StatusWriter(layout, attempt, module),
            HistoryWriter(layout, attempt, state.epoch if state else 0),
        )
        keeper.history = kept[1]
        observers = Observers((AtEveryStep(seen), *kept, keeper))
        trainer.context = TrainerContext(ALONE, observers, stop or StopFlag(), keeper.save)
        return trainer.fit(self._batches, self._val.val, state)


class Moments:
    """The files of a folder at every moment at which a process could be killed, each different state once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.folder = folder
        self.states: list[tuple[str, Files]] = []
        self.num_moments = 0
        original = {name: getattr(Path, name) for name in ("replace", "unlink")}

        def fsync(descriptor: int) -> None:
            name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
            self(f"before {name} is synced", halves=True)

        def changing(name: str) -> Callable[..., Any]:
            def change(path: Path, *arguments: Any, **options: Any) -> Any:
                self(f"before {name} of {path.name}")
                result = original[name](path, *arguments, **options)
                self(f"after {name} of {path.name}")
                return result

            return change

        monkeypatch.setattr(os, "fsync", fsync)
        for name in original:
            monkeypatch.setattr(Path, name, changing(name))

    def __call__(self, moment: str, *, halves: bool = False) -> None:
        now = {str(path.relative_to(self.folder)): path.read_bytes() for path in self._paths()}
        self._keep(moment, now)
        if halves and any(".partial" in name for name in now):
            half = {name: data[: len(data) // 2] for name, data in now.items() if ".partial" in name}
            self._keep(f"half written, {moment}", now | half)

    def _paths(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def _keep(self, moment: str, files: Files) -> None:
        self.num_moments += 1
        if all(files != other for _, other in self.states[-8:]):
            self.states.append((moment, files))


@pytest.fixture(scope="module", autouse=True)
def no_writes_by_the_clock_and_one_thread() -> Iterator[None]:
    """Two threads on 8 x 8 pixels only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observers, "STATUS_EVERY_S", 1e9)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    path = tmp_path_factory.mktemp("toy") / "toy.yaml"
    path.write_text(YAML)
    return Toy(load_experiment(path).points[0].experiment)


@pytest.fixture(scope="module")
def moments(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Moments:
    """Of the uninterrupted training; the last state is its end."""
    layout = RunLayout(tmp_path_factory.mktemp("whole") / RUN)
    with pytest.MonkeyPatch.context() as patch:
        found = Moments(layout.folder, patch)
        assert toy.train(layout, seen=found).step == STEPS
    found("the end")
    return found


def continued(toy: Toy, files: Files, folder: Path) -> RunLayout:
    layout = RunLayout(folder / RUN)
    for name, data in files.items():
        (layout.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (layout.folder / name).write_bytes(data)
    toy.train(layout)
    return layout


def end_of(layout: RunLayout) -> dict[str, Any]:
    """Everything that must not depend on interruptions; only times may."""
    history = [{name: text for name, text in row.items() if name != "seconds"} for row in read_history(layout)]
    status = read_status(layout)
    assert status is not None
    # Weights, moments, averages, schedule and state; the order of the header's entries is safetensors' own affair.
    snapshot = read_resume(layout.resume(STEPS))
    rows = [row | {"seconds": ""} for row in history_rows(snapshot["history"])]
    assert len(rows) == len(history)
    snapshot["history"] = history_text(rows)
    tensors, text = pack(snapshot)
    return {
        "best.pt": layout.best.read_bytes(),
        "resume": text,
        "resumed tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "history": history,
        "status": (status.epoch, status.step, status.best_epoch, status.best_value),
        # A kill between the last save and the removal of the oldest resume file leaves one more.
        "files": {name for name in file_set(layout.folder) if not _is_resume(name)},
    }


def test_the_training_holds_what_is_to_be_lost(toy: Toy, moments: Moments) -> None:
    """Better and worse epochs, a stop before the last one, and enough moments."""
    layout = RunLayout(moments.folder)
    assert [row["improved"] for row in read_history(layout)] == ["1", "1", "0", "0"]
    assert len(read_history(layout)) < NUM_EPOCHS
    assert moments.num_moments >= 100 + STEPS
    written = {"best.pt", "history.csv", "status.json", "claim.json", "000000014.safetensors"}
    for name in written:
        assert any("half written" in moment and name in moment for moment, _ in moments.states), name
    assert any("unlink of 000000007.safetensors" in moment for moment, _ in moments.states)
    assert {"model.first.weight", "optimizer.state.0.exp_avg_sq", "average.first.weight"} <= end_of(layout)[
        "resumed tensors"
    ].keys()


@pytest.mark.slow
def test_a_training_that_is_killed_at_any_moment_ends_as_if_it_had_not_been(
    toy: Toy, moments: Moments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no power is lost here, and it takes its time
    expected = end_of(RunLayout(moments.folder))
    assert not [name for name in expected["files"] if ".partial" in name]
    for number, (moment, files) in enumerate(moments.states):
        found = end_of(continued(toy, files, tmp_path / str(number)))
        # One more than kept where the very last removal was cut off.
        assert len(resume_files(tmp_path / str(number) / RUN / "checkpoints")) <= 3
        differing = [name for name in expected if found[name] != expected[name]]
        assert not differing, f"killed {moment}: {differing} differ"


def test_a_damaged_newest_resume_file_costs_steps_but_changes_nothing(
    toy: Toy, moments: Moments, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = end_of(RunLayout(moments.folder))
    two = [files for moment, files in moments.states if sum(_is_resume(name) for name in files) == 2]
    for number, files in enumerate(islice(two, 0, None, max(1, len(two) // 6))):
        newest = max(name for name in files if _is_resume(name))
        damaged = bytearray(files[newest])
        damaged[-5] ^= 8
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            layout = continued(toy, files | {newest: bytes(damaged)}, tmp_path / str(number))
        assert f"{Path(newest).name}: damaged" in caplog.text
        assert "falling back to" in caplog.text
        assert end_of(layout) == expected


@pytest.fixture
def stop() -> Iterator[StopFlag]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    yield install_stop_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


def signal_at_syncs(monkeypatch: pytest.MonkeyPatch, wanted: dict[int, signal.Signals]) -> list[str]:
    """Send this process signals while it writes: number of the call of fsync -> signal. Returns the files' names."""
    names: list[str] = []

    def fsync(descriptor: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        if len(names) in wanted:
            os.kill(os.getpid(), wanted[len(names)])

    monkeypatch.setattr(os, "fsync", fsync)
    return names


# Every file is synced, then its folder: 1 claim, 3 status, 5 step 7, 7 status (of the save); 9 status, 11 digest of the
# history, 13 history, 15 best, 17 step 10, 19 status.
@pytest.mark.parametrize(
    ("first", "file", "stops_after", "second"),
    [(5, "7.safetensors", 7, 9), (11, "sha256", 10, 21), (13, "history", 10, 21), (15, "best", 10, 21)],
)
def test_a_signal_during_a_write_lets_it_end_and_stops_before_the_next_step(
    toy: Toy, moments: Moments, stop: StopFlag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    first: int, file: str, stops_after: int, second: int,
) -> None:  # fmt: skip
    """Also between two epochs; and a second signal, while the stop itself is being saved, changes nothing."""
    layout = RunLayout(tmp_path / RUN)
    names = signal_at_syncs(monkeypatch, {first: signal.SIGUSR2, second: signal.SIGTERM})
    with pytest.raises(StopRequestedError, match=f"after step {stops_after} "):
        toy.train(layout, stop=stop)
    assert file in names[first - 1]
    assert f"{stops_after}.safetensors" in names[second - 1]
    assert second == len(names) - 3, "the save of the stop is the last one, but for its seconds"
    assert stop.signal == signal.SIGUSR2
    assert resume_files(layout.checkpoints)[0] == layout.resume(stops_after)
    assert {name for name in file_set(layout.folder) if not _is_resume(name)} <= file_set(moments.folder)
    toy.train(layout)
    assert end_of(layout) == end_of(RunLayout(moments.folder))


def test_a_second_ctrl_c_while_the_stop_is_saved_leaves_the_file_before(
    toy: Toy, moments: Moments, stop: StopFlag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = RunLayout(tmp_path / RUN)

    def ask(moment: str) -> None:
        if moment == "step 13":
            os.kill(os.getpid(), signal.SIGINT)
            names = signal_at_syncs(monkeypatch, {1: signal.SIGINT})
            written.append(names)

    written: list[list[str]] = []
    with pytest.raises(KeyboardInterrupt):
        toy.train(layout, seen=ask, stop=stop)
    assert "000000013.safetensors" in written[0][0]
    assert [path.name for path in resume_files(layout.checkpoints)] == [
        "000000010.safetensors",
        "000000007.safetensors",
    ]
    assert not list(layout.folder.rglob(".partial"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    toy.train(layout)
    assert end_of(layout) == end_of(RunLayout(moments.folder))


def _is_resume(name: str) -> bool:
    return name.startswith("checkpoints/0")
