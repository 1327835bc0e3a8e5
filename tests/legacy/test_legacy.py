"""A working directory that an earlier version left: everything in it keeps its name and its numbers, and goes on.

Each archive was made by its version with make.py; a new release adds one. The ids and the bytes of tables in it must
never move: a change here renames or changes what users have on their disks. Undo it, or raise the version that is part
of the id and say so in the CHANGELOG under "Results".
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.box_filler import BoxFiller
from submitit.core.utils import DelayedSubmission

from sam2ft.config.load_experiment import load_experiment
from sam2ft.core.files import read_json, sha256_file
from sam2ft.distributed.stop_signal import StopFlag
from sam2ft.evaluation import evaluate_volumes
from sam2ft.evaluation.run import evaluate
from sam2ft.jobs.calibrate import calibrate
from sam2ft.jobs.job import run_point
from sam2ft.jobs.preflight.preflight import resolve
from sam2ft.runs.attempt.claim import Attempt, claim
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import load_plan
from sam2ft.runs.resources.resources import resources_of
from sam2ft.sweeps.plan.plan import make_plan
from sam2ft.sweeps.state.collect import aggregate_folder

pytestmark = pytest.mark.sam2
HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
ARCHIVES = sorted(HERE.glob("study-*.tar.xz"))
OVERLAP = ("dice", "iou", "precision", "recall")
DISTANCES = ("hd", "hd95", "assd", "nsd", "hd95_surfel", "assd_surfel")
METRICS = dict.fromkeys((*OVERLAP, *DISTANCES, "cartilagethickness", "tissuevolume", "t2"), True)
# Of the evaluation by BoxFiller; the same in every version so far.
EVALUATION = json.loads((HERE / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.xz"))
def unpacked(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("legacy")
    with tarfile.open(request.param) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def study(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of the earlier version; a copy, removed after the test (70 MB)."""
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    folder = Path(shutil.copytree(unpacked, tmp_path / "study"))
    monkeypatch.chdir(folder)
    # Configurations beside runs name stores by absolute paths: the directory is as if it had been made here.
    (plan,) = folder.glob("runs/study/plan-*.json")
    made_in = str(Path(read_json(plan)["source"]).parent)
    for path in folder.rglob("config.yaml"):
        path.write_text(path.read_text(encoding="utf-8").replace(made_in, str(folder)), encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / script, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def csv_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.csv"))}


LATER_TABLES = {"improvement.csv", "misses.csv"}
LATER_COLUMNS = {"point_tests.csv": ["difference_sd"]}


def as_earlier(tables: dict[str, bytes]) -> dict[str, bytes]:
    """The tables without what later versions add: whole tables, and columns at the end of others."""
    found = {name: content for name, content in tables.items() if name not in LATER_TABLES}
    for name, columns in LATER_COLUMNS.items():
        rows = list(csv.reader(found[name].decode().splitlines()))
        if rows[0][-len(columns) :] != columns:
            continue
        with io.StringIO(newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows(row[: -len(columns)] for row in rows)
            found[name] = stream.getvalue().encode()
    return found


def without_stamps(path: Path) -> list[dict[str, str]]:
    """Rows of a table but for which run and evaluation they are of."""
    with path.open(newline="") as stream:
        return [
            {name: value for name, value in row.items() if name not in ("run", "eval", "protocol")}
            for row in csv.DictReader(stream)
        ]


def without_later_columns(path: Path) -> Path:
    """The table as the earlier version wrote it: volume.csv has gained num_specks as its last column."""
    if path.name == "volume.csv":
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].endswith(",num_specks")
        path.write_text("".join(line.rpartition(",")[0] + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["study", "stopped"])
def test_plans_runs_and_evaluations_have_the_names_that_they_had(study: Path, name: str) -> None:
    resolved = resolve(load_experiment(Path(f"{name}.yaml")), fill=resources_of)
    layout = ExperimentLayout.of(name)
    (path,) = layout.folder.glob("plan-*.json")
    plan = make_plan(resolved)
    assert f"plan-{plan.plan_id}.json" == path.name
    assert load_plan(layout, plan.plan_id).runs == plan.runs
    for planned in plan.runs:
        assert layout.run(planned.run_id).config.is_file()
        for eval_id in planned.eval_ids if name == "study" else ():
            assert layout.run(planned.run_id).evaluation(eval_id).success.is_file()
        # What the earlier version wrote beside a run is the same experiment to this one.
        written = load_experiment(layout.run(planned.run_id).config).experiment.model_dump_json()
        there = str(Path(load_plan(layout, plan.plan_id).source).parent)
        assert written.replace(there, str(study)) == resolved.runs[planned.index].experiment.model_dump_json()


def test_status_reads_what_is_there_and_a_sweep_finds_nothing_to_do(study: Path) -> None:
    states = json.loads(run("status.py", "study.yaml", "--json"))
    assert [entry["state"] for entry in states] == ["done"] * 3
    assert "0 to submit: 3 done, 0 running, 0 failed" in run("sweep.py", "study.yaml", "--local", "1")


@pytest.mark.slow
def test_aggregation_gives_the_same_bytes_with_what_the_earlier_version_kept_and_without(study: Path) -> None:
    report = ExperimentLayout.of("study").report
    before = csv_files(report)
    assert {"slice.csv", "instance.csv", "volume.csv", "global.csv", "biomarker_volume.csv"} < before.keys()
    run("aggregate.py", "study.yaml", "--require-complete")
    assert as_earlier(csv_files(report)) == before
    shutil.rmtree(report)
    shutil.rmtree(report.with_name(".report"))
    run("aggregate.py", "study.yaml", "--require-complete")
    again = csv_files(report)
    assert as_earlier(again) == before
    assert again.keys() - before.keys() == LATER_TABLES


def test_predictions_of_the_earlier_version_score_as_they_did(study: Path) -> None:
    evaluation = next(study.glob("runs/study/*/eval/*"))
    run("eval.py", "--predictions", str(evaluation / "predictions"), "--data", "data/knees", "--out", "scored",
        "--set", "datamodule.metric.func=" + json.dumps(METRICS))  # fmt: skip
    for name in ("slice", "volume", "global", "biomarker_slice", "biomarker_volume", "biomarker_global"):
        path = without_later_columns(study / "scored" / f"{name}.csv")
        assert without_stamps(path) == without_stamps(evaluation / f"{name}.csv"), name


def test_an_evaluation_writes_the_bytes_that_it_wrote(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a store to every table, with a model whose answers are arithmetic."""
    monkeypatch.setattr(evaluate_volumes, "build_segmenter", lambda *_, **__: BoxFiller(64))
    resolved = resolve(load_experiment(Path("study.yaml"), ["experiment.name=golden"]), fill=resources_of)
    planned, experiment = resolved.runs[0].planned, resolved.runs[0].experiment
    place, attempt = ExperimentLayout.of("golden").run(planned.run_id), Attempt.current()
    claim(place, attempt)
    (eval_id,) = planned.eval_ids
    given = {"checkpoint": Path("weights/nano.safetensors"), "eval_id": eval_id, "stop": StopFlag()}
    folder = evaluate(experiment, place, attempt, **given).folder
    found = {path.name: sha256_file(without_later_columns(path)) for path in sorted(folder.rglob("*.csv"))}
    assert {"run": planned.run_id, "eval": eval_id, "tables": found} == EVALUATION


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_its_end(study: Path) -> None:
    (folder,) = study.glob("runs/stopped/stopped-*")
    before = (folder / "history.csv").read_text(encoding="utf-8")
    run("sweep.py", "stopped.yaml", "--local", "1")
    assert json.loads((folder / "status.json").read_text(encoding="utf-8"))["state"] == "done"
    after = (folder / "history.csv").read_text(encoding="utf-8")
    assert after.startswith(before), "the epochs before the stop are those that were trained then"
    assert after.count("\n") == 1 + 3
    (evaluation,) = folder.glob("eval/*")
    assert (evaluation / "_SUCCESS").is_file()


@pytest.mark.slow
def test_a_checkpoint_of_the_earlier_version_is_evaluated_on_other_subjects(study: Path) -> None:
    best = next(study.glob("runs/study/*/checkpoints/best.pt"))
    out = run("eval.py", "--ckpt", str(best), "--split", "val", "--set", "eval.qc_slices=0")
    assert (Path(out.splitlines()[-1]) / "slice.csv").is_file()


@pytest.mark.parametrize(
    ("name", "function"), [("run", run_point), ("report", aggregate_folder), ("calibrate", calibrate)]
)
def test_a_job_that_the_earlier_version_queued_finds_its_function(name: str, function: Callable[..., None]) -> None:
    """Slurm keeps a job for days: its pickle names the function by the module of the version that submitted it."""
    assert DelayedSubmission.load(HERE / f"{name}-0.1.0.pkl").function is function


@pytest.mark.parametrize("module", ["job", pytest.param("calibrate_run", marks=pytest.mark.slow)])
def test_a_local_child_of_the_earlier_version_does_its_work(study: Path, module: str) -> None:
    """A launcher that was started before the update goes on to start children by the modules that it knows."""
    if module == "job":
        (path,) = study.glob("runs/study/plan-*.json")
        arguments = ["runs/study", path.stem.removeprefix("plan-"), "0", "eval"]
        result = next(study.glob("runs/study/study-412ec6a26620f1b0/eval/*")) / "_SUCCESS"
        result.unlink()
    else:
        run("sweep.py", "stopped.yaml", "--local", "1", "--calibrate")
        task = min(study.glob("runs/stopped/calibration/*.task.json"))
        result = task.with_name(task.name.replace(".task", ""))
        arguments = ["runs/stopped", result.stem]
        result.unlink()
    command = [sys.executable, "-m", f"sam2ft.run.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert result.is_file()
    assert subprocess.run(command[:3], capture_output=True, check=False).returncode != 0, "without arguments"
