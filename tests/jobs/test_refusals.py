"""A run begins, and goes on, only with what is whole and what it began with: named if not, and nothing is written."""

import os
import pickle
import runpy
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sam2ft.core.digests.verified_files import write_sealed_json
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, sha256_file, write_json
from sam2ft.core.geometry import Geometry
from sam2ft.core.labels import LabelTable
from sam2ft.data.store.index import content_digest
from sam2ft.jobs.job import main as job_main
from sam2ft.runs.identity_file import content_differences, read_identity, volume_differences
from sam2ft.runs.layout import ExperimentLayout, RunLayout
from sam2ft.training.checkpoints.checkpoint import read_resume, resume_files

ROOT = Path(__file__).parents[2]


Called = tuple[int, str]
"""(exit code, what was printed on stderr)"""


@pytest.fixture
def call(toy: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """call("train.py", ...): a command as it is, in this process (a new one would spend seconds importing torch)."""

    def run(script: str, *arguments: str) -> Called:
        path = ROOT / "launch" / script if script.endswith(".py") else script
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)}
        capfd.readouterr()
        try:
            runpy.run_path(str(path), run_name="__main__") if isinstance(path, Path) else job_main(list(arguments))
        except SystemExit as ended:
            code = ended.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return int(code or 0), capfd.readouterr().err

    return run


@pytest.fixture
def train(call: Any) -> Callable[..., Called]:
    """launch/train.py toy.yaml, without pictures, which cost more than the training."""
    return lambda *arguments: call("train.py", "toy.yaml", "--set", "module.visualize=false", *arguments)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, call: Any) -> Callable[..., Called]:
    """The only run of the newest plan, as the local pool and Slurm start it."""
    monkeypatch.setattr("sam2ft.jobs.job.redirect_output", lambda log: None)  # stderr stays the test's

    def run(stage: str) -> Called:
        layout = ExperimentLayout.of("toy")
        plan = max(layout.folder.glob("plan-*.json"), key=lambda path: path.stat().st_mtime_ns)
        return call("job", "runs/toy", plan.stem.removeprefix("plan-"), "0", stage)

    return run


def results(layout: RunLayout) -> dict[str, bytes]:
    """Everything of a run but what an attempt says of itself."""
    own = {
        "claim.json",
        "status.json",
        "provenance.json",
        "config.yaml",
        "status.damaged.json",
        "provenance.damaged.json",
    }
    files = [path for path in layout.folder.rglob("*") if path.is_file() and path.name not in own]
    return {str(path): path.read_bytes() for path in files if layout.logs not in path.parents}


def change_image(store: Path, subject: str) -> tuple[str, str]:
    """Prepare one volume anew with another image; returns its digests before and after."""
    index = read_json(store / "store.json")
    path = next(store.glob(f"volumes/{subject}__*.image.npy"))
    np.save(path, np.load(path) // 2)
    entry = next(entry for entry in index["volumes"] if entry["subject"] == subject)
    before, entry["arrays"]["image"] = entry["digest"], sha256_file(path)
    labels, geometry = LabelTable.from_json(index["labels"]), Geometry.from_json(entry["geometry"])
    entry["digest"] = content_digest(entry["arrays"], geometry, labels)
    write_index(store, index)
    return before[:12], entry["digest"][:12]


def move(store: Path, subject: str, split: str) -> None:
    index = read_json(store / "store.json")
    for entry in index["volumes"]:
        if entry["subject"] == subject:
            entry["split"] = split
    write_index(store, index)


def write_index(store: Path, index: dict[str, Any]) -> None:
    """Write store.json, and what the records of the volumes repeat of it."""
    write_sealed_json(store / "store.json", index)
    for entry in index["volumes"]:
        path = next(store.glob(f"volumes/{entry['subject']}__*.json"))
        repeated = {name: entry[name] for name in ("arrays", "digest", "labelled_slices")}
        write_sealed_json(path, read_json(path) | repeated)


def assert_refused(called: Called, *parts: str) -> None:
    code, said = called
    assert code == 2, said
    assert "Traceback" not in said
    for part in parts:
        assert part in said, f"{part!r} is not in: {said}"


# --- resume files of another configuration ------------------------------------------------------------------------


@pytest.mark.sam2
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("module.ema={decay: 0.9}", "module.ema.decay: not set in the checkpoint, 0.9 now"),
        ("module.optimizer.lr=0.01", "module.optimizer.lr: 0.001 in the checkpoint, 0.01 now"),
        ("module.optimizer={type: SGD, lr: 0.001}", "module.optimizer.type: AdamW in the checkpoint, SGD now"),
        ("datamodule.batch_size=3", "slices per step: 2 in the checkpoint, 3 now"),
    ],
)
def test_a_resume_file_of_other_settings_is_refused_naming_them(
    stopped: Any, point_with: Any, train: Any, override: str, said: str
) -> None:
    other = point_with("module.visualize=false", override)
    shutil.copytree(stopped.layout.checkpoints, other.layout.checkpoints)
    before = results(other.layout)
    refused = train("--set", override)
    assert_refused(refused, said, f"belongs to the run {stopped.layout.run_id}", f"not to {other.layout.run_id}")
    assert "--fresh" in refused[1]
    assert "module.num_epochs" not in refused[1]
    after = results(other.layout)
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {str(other.layout.identity)}


@pytest.mark.sam2
def test_a_folder_with_the_files_of_another_run_is_refused_and_fresh_starts_anew_in_it(
    stopped: Any, point_with: Any, train: Any
) -> None:
    override = ("--set", "module.optimizer.lr=0.01")
    other = point_with("module.visualize=false", "module.optimizer.lr=0.01")
    shutil.copytree(stopped.layout.folder, other.layout.folder, dirs_exist_ok=True)
    before = results(other.layout)
    refused = train(*override)
    assert_refused(refused, f"{other.layout.identity}: belongs to the run {stopped.layout.run_id}", "--fresh")
    assert "module.optimizer.lr: 0.001 then, 0.01 now" in refused[1]
    assert results(other.layout) == before
    code, said = train("--fresh", *override)
    assert code == 0, said
    assert read_resume(resume_files(other.layout.checkpoints)[0])["run"] == other.layout.run_id
    assert read_identity(other.layout)["run"] == other.layout.run_id


@pytest.mark.sam2
def test_weights_that_changed_are_named_in_a_checkpoint_of_the_run_before(stopped: Any, toy: Any) -> None:
    known = read_resume(resume_files(stopped.layout.checkpoints)[0])["content"]
    assert known == read_identity(stopped.layout)["content"]
    assert known["weights"] == sha256_file(toy.weights)
    assert content_differences(known, {**known, "weights": "0" * 64}, "in the checkpoint") == [
        f"sha256 of the initial weights: {known['weights'][:12]}... in the checkpoint, 000000000000... now"
    ]


@pytest.mark.sam2
def test_a_damaged_newest_resume_file_falls_back_with_a_warning_and_all_damaged_is_a_message(
    stopped: Any, train: Any, caplog: pytest.LogCaptureFixture
) -> None:
    layout = stopped.layout
    newest, older = resume_files(layout.checkpoints)
    whole = older.read_bytes()
    newest.write_bytes(newest.read_bytes()[:-1000])
    older.write_bytes(b"PK not a checkpoint")
    before = results(layout)
    assert_refused(train(), newest.name, older.name, "--fresh")
    assert results(layout) == before
    older.write_bytes(whole)
    code, said = train()
    assert code == 0, said
    assert f"{newest}: damaged" in caplog.text
    assert f"falling back to {older.name}" in caplog.text


# --- a store that changed -----------------------------------------------------------------------------------------


@pytest.mark.sam2
def test_a_volume_that_changed_since_the_run_began_is_named_with_both_digests(stopped: Any, toy: Any, job: Any) -> None:
    before = results(stopped.layout)
    old, new = change_image(toy.store, "b")
    assert_refused(job("train_eval"), f"volume toy/b/image: content {old}... then, {new}... now", "toy-")
    assert results(stopped.layout) == before


@pytest.mark.sam2
def test_a_subject_that_moved_to_another_split_is_named(stopped: Any, toy: Any, job: Any) -> None:
    before = results(stopped.layout)
    move(toy.store, "a", "test")
    assert_refused(job("train"), "volume toy/a/image: split train then, test now", "restore it")
    assert results(stopped.layout) == before


@pytest.mark.sam2
def test_a_store_that_changed_between_plan_and_start_is_refused(point: Any, toy: Any, job: Any) -> None:
    change_image(toy.store, "b")
    before = results(point.layout)
    assert_refused(job("train_eval"), "changed after it was planned", "plan again")
    assert results(point.layout) == before


@pytest.mark.sam2
def test_a_test_volume_that_changed_is_refused_at_evaluation_and_an_earlier_evaluation_stays(
    finished: Any, toy: Any, job: Any
) -> None:
    before = results(finished.layout)
    old, new = change_image(toy.store, "e")
    assert_refused(job("train_eval"), f"volume toy/e/image: content {old}... then, {new}... now", finished.eval_id)
    assert results(finished.layout) == before


@pytest.mark.sam2
def test_bytes_that_changed_behind_the_index_are_found(point: Any, toy: Any, job: Any) -> None:
    path = next(toy.store.glob("volumes/b__*.mask.npy"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_refused(job("train"), str(path), "the content changed after preparation", "prepare.py with --verify")
    assert not point.layout.checkpoints.exists()


@pytest.mark.sam2
def test_a_run_that_is_new_because_something_changed_says_what(toy: Any, stopped: Any, train: Any) -> None:
    move(toy.store, "a", "test")
    code, said = train("--set", "module.num_epochs=1", "--set", "module.optimizer.lr=0.01")
    assert code == 0, said
    assert f"a new run: {stopped.layout.run_id}, the previous run, differs in" in said
    assert "  module.optimizer.lr: 0.001 in that run, 0.01 now" in said
    assert "  module.num_epochs: 2 in that run, 1 now" in said
    assert "  volume toy/a/image: split train then, test now" in said


def test_volumes_that_came_and_went_are_said() -> None:
    then = {"volumes": {"k/a/i": {"split": "train", "digest": "1"}, "k/b/i": {"split": "val", "digest": "2"}}}
    now = {"volumes": {"k/b/i": {"split": "val", "digest": "2"}, "k/c/i": {"split": "test", "digest": "3"}}}
    assert volume_differences(then, now) == [
        "volume k/a/i: in split train then, absent now",
        "volume k/c/i: absent then, in split test now",
    ]


def test_an_identity_that_is_not_ours_is_a_message(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "x-1")
    write_json(layout.identity, [1])
    with pytest.raises(DataError, match="not the identity of a run"):
        read_identity(layout)


# --- weights and splits that cannot be used -----------------------------------------------------------------------


class Sly:
    """A pickle that would run a command when it is read."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.trace}",))


def truncated(path: Path) -> None:
    torch.save({"model": {"a": torch.zeros(10_000)}}, path)
    path.write_bytes(path.read_bytes()[:-5_000])


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"model": Sly(path.with_name("trace"))}))


def saved_with_code(path: Path) -> None:
    torch.save({"model": Sly(path.with_name("trace"))}, path)


UNREADABLE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cut short": ("w.pt", truncated),
    "garbage": ("w.pt", lambda path: path.write_bytes(bytes(range(256)) * 40)),
    "empty": ("w.pt", lambda path: path.write_bytes(b"")),
    "text": ("w.pt", lambda path: path.write_text("experiment: {name: toy}\n")),
    "another format": ("w.safetensors", lambda path: torch.save({"model": {}}, path)),
    "a list": ("w.pt", lambda path: torch.save([1, 2], path)),
    "a bare state dict": ("w.pt", lambda path: torch.save({"a.weight": torch.zeros(1)}, path)),
    "a pickle with code": ("w.pt", pickled),
    "a checkpoint with code": ("w.pt", saved_with_code),
}


@pytest.mark.sam2
@pytest.mark.parametrize("case", UNREADABLE)
def test_weights_that_cannot_be_read_safely_are_refused_by_name(toy: Any, train: Any, call: Any, case: str) -> None:
    name, write = UNREADABLE[case]
    path = toy.folder / "weights" / name
    write(path)
    before = {file: content for file, content in toy.files().items() if not file.startswith("runs")}
    assert_refused(train("--set", f"module.sam2_checkpoint=weights/{name}"), name)
    assert_refused(call("eval.py", "--ckpt", f"weights/{name}", "--data", "data/toy", "--model", "sam2_nano"), name)
    assert {file: content for file, content in toy.files().items() if not file.startswith("runs")} == before
    assert not (toy.folder / "weights" / "trace").exists()
    assert not list(toy.folder.glob("runs/**/checkpoints"))


@pytest.mark.sam2
def test_a_best_pt_that_was_damaged_is_refused_at_evaluation(finished: Any, call: Any) -> None:
    best = finished.layout.best
    best.write_bytes(best.read_bytes()[:-2000])
    before = results(finished.layout)
    assert_refused(call("eval.py", "--ckpt", str(best)), str(best))
    assert results(finished.layout) == before


@pytest.mark.sam2
@pytest.mark.parametrize(("split", "subjects"), [("train", "abc"), ("val", "d")])
@pytest.mark.parametrize("script", ["train.py", "sweep.py"])
def test_a_split_without_volumes_or_without_labels_is_refused_before_anything_is_written(
    toy: Any, call: Any, split: str, subjects: str, script: str
) -> None:
    arguments = ("toy.yaml",) if script == "train.py" else ("toy.yaml", "--local", "1")
    index = toy.store / "store.json"
    whole = index.read_text()
    value = read_json(index)
    for entry in value["volumes"]:
        if entry["subject"] in subjects:
            entry["labelled_slices"] = {}
    write_index(toy.store, value)
    volumes = len(subjects)
    assert_refused(call(script, *arguments), f"split {split}: none of its {volumes} volumes holds a label")
    index.write_text(whole)
    for subject in subjects:
        move(toy.store, subject, "test")
    assert_refused(call(script, *arguments), f"split {split} has no volume in", "data/toy")
    assert not list(toy.folder.glob("runs/toy*"))
