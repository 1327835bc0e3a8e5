"""The best point, taken away: it runs as it is, and its weights are those of the run."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.errors import CheckpointError, DataError
from sam2ft.core.files import sha256_file
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.report.comparison.compare import Comparison, PointRun, compare
from sam2ft.report.export_best import export_best
from sam2ft.report.request import RunState
from sam2ft.runs.attempt.status import read_status
from sam2ft.runs.resources.resources import resources_of
from sam2ft.runs.states import State


def state_of(point):
    return RunState(point.planned, point.layout, State.DONE, "", read_status(point.layout))


def comparison_of(point) -> Comparison:
    return compare([PointRun(0, "toy", point.planned.run_id, validation=0.5)], [])


def test_the_exported_experiment_trains_what_the_run_trained(finished, tmp_path):
    experiment, _ = export_best(comparison_of(finished), [state_of(finished)], tmp_path / "out")
    exported = load_experiment(experiment)
    assert exported.experiment.experiment.name == "toy-best"
    run = resolve(exported, fill=resources_of).runs[0]
    # The name is not part of the hash: all else being equal, the digests are.
    assert run.planned.run_id.rpartition("-")[2] == finished.planned.run_id.rpartition("-")[2]


def test_the_exported_weights_are_the_runs_in_the_stock_layout(finished, tmp_path):
    _, weights = export_best(comparison_of(finished), [state_of(finished)], tmp_path)
    assert sha256_file(weights) == read_status(finished.layout).best_sha256
    assert "model" in torch.load(weights, weights_only=True)
    finished.layout.best.unlink()
    assert weights.is_file()


def test_without_a_best_point_nothing_is_written(finished, tmp_path):
    comparison = Comparison((), None, "no point has finished with a validation value, so none is called the best")
    with pytest.raises(DataError, match="no point to export: no point has finished"):
        export_best(comparison, [state_of(finished)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_the_runs_are_not_given_away(finished, tmp_path):
    Path(finished.layout.best).write_bytes(b"other")
    with pytest.raises(DataError, match=r"best\.pt: missing, or not the weights recorded in"):
        export_best(comparison_of(finished), [state_of(finished)], tmp_path / "out")


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_weights_that_were_damaged_before_their_digest_was_recorded_are_not_given_away(finished, tmp_path, place):
    best, state = finished.layout.best, state_of(finished)
    data = bytearray(best.read_bytes())
    data[int(len(data) * place)] ^= 4
    best.write_bytes(data)
    recorded = replace(state, status=replace(state.status, best_sha256=sha256_file(best)))
    with pytest.raises(CheckpointError, match=r"best\.pt: "):
        export_best(comparison_of(finished), [recorded], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_change_while_they_are_copied_are_not_given_away(finished, tmp_path, monkeypatch):
    def copied(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:-1] + b"x")

    monkeypatch.setattr(shutil, "copyfile", copied)
    with pytest.raises(DataError, match=r"best\.pt: changed while it was copied"):
        export_best(comparison_of(finished), [state_of(finished)], tmp_path / "out")
    assert not (tmp_path / "out" / "best.pt").exists()
