"""`sam2ft.results`: tables, points and the best point of finished evaluations, and every block of its page."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sam2ft
from sam2ft.core.errors import DataError
from sam2ft.core.files import read_json, write_json
from sam2ft.core.tables.rows import TABLES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
ARCHIVE = ROOT / "tests" / "legacy" / "study-0.1.0.tar.xz"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment of two points and a baseline, and one whose training was stopped; without checkpoints."""
    folder = tmp_path_factory.mktemp("notebooks")

    def wanted(entry: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        return None if entry.name.endswith((".safetensors", ".npy")) else tarfile.data_filter(entry, path)

    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter=wanted)
    return folder


@pytest.fixture
def study(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(unpacked / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "study"


def test_tables_have_the_documented_columns_and_dtypes_and_every_row(study: Path) -> None:
    results = sam2ft.results("runs/study")
    assert set(results.tables) == set(TABLES)
    dtypes = {"text": "string", "integer": "Int64", "number": "float64"}
    for name in results.tables:
        frame, table = results[name], TABLES[name]
        assert list(frame.columns[: len(table.columns)]) == table.column_names()
        assert {column.name: str(frame[column.name].dtype) for column in table.columns} == {
            column.name: dtypes[column.kind] for column in table.columns
        }
        paths = study.glob(f"*/eval/*/{name}.csv")
        assert len(frame) == sum(len(path.read_text(encoding="utf-8").splitlines()) - 1 for path in paths)
    # The collated report holds the same numbers.
    report = pd.read_csv(study / "report" / "volume.csv")
    assert sorted(results["volume"]["dice"]) == sorted(report["dice"])


def test_a_frame_may_be_changed_without_changing_the_results(study: Path) -> None:
    results = sam2ft.results(study)
    frame = results["slice"]
    frame.loc[:, "dice"] = 0.0
    assert (results["slice"]["dice"].fillna(1.0) != 0.0).any()


def test_points_hold_the_swept_keys_and_the_best_is_chosen_by_validation(study: Path) -> None:
    results = sam2ft.results(study)
    points = results.points.set_index("point")
    assert list(points.index) == ["lr=0.001", "lr=0.0001", "baseline"]
    assert list(points["module.optimizer.lr"].dropna()) == [1e-3, 1e-4]
    best = results.best
    assert best is not None
    assert (best.name, best.monitor) == ("lr=0.001", "val_loss")
    assert best.value == points["val_loss"].min()
    assert best.checkpoint == study / best.run / "checkpoints" / "best.pt"
    assert best.config["module"]["optimizer"]["lr"] == 1e-3
    other = str(points.loc["lr=0.0001", "run"])
    assert results.config(other)["module"]["optimizer"]["lr"] == 1e-4
    with pytest.raises(KeyError, match="no run 'nobody'"):
        results.config("nobody")


def test_a_run_and_an_evaluation_are_read_alone(study: Path) -> None:
    (evaluation, *_) = sorted(study.glob("*/eval/*"))
    run = evaluation.parents[1]
    for folder in (run, evaluation):
        assert set(sam2ft.results(folder)["slice"]["run"]) == {run.name}
    assert len(sam2ft.results(run).points) == 1
    assert sam2ft.results(evaluation).best is None


def test_what_is_not_finished_is_named(study: Path) -> None:
    stopped = sam2ft.results("runs/stopped")
    assert len(stopped.missing) == 1
    assert stopped.missing[0].startswith("stopped: ")
    assert (stopped.tables, stopped.best) == ((), None)
    with pytest.raises(KeyError, match="no table 'slice'; these evaluations have: none"):
        stopped["slice"]


def test_other_folders_and_changed_tables_are_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        sam2ft.results("runs/nothing")
    with pytest.raises(DataError, match="not an experiment file"):
        sam2ft.results(tmp_path)
    path = next(study.glob("*/eval/*/slice.csv"))
    path.write_text(path.read_text(encoding="utf-8").replace("knees", "knee5"), encoding="utf-8")
    results = sam2ft.results(study)
    assert len(results["volume"])
    with pytest.raises(DataError, match=re.escape(f"{path} was changed after the evaluation wrote it; remove ")):
        results["slice"]


def test_a_table_that_only_some_runs_have_is_empty_for_the_others(study: Path) -> None:
    for success in sorted(study.glob("*/eval/*/_SUCCESS"))[1:]:
        value = read_json(success)
        del value["tables"]["instance"]
        write_json(success, value)
    assert sam2ft.results(study)["instance"]["run"].nunique() == 1


def test_every_block_of_the_page_runs(study: Path) -> None:
    study.rename(study.with_name("lr_grid"))
    names: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, names)
    assert names["best"].name == "lr=0.001"
    assert len(names["thickness"]) == 3 * 2
    assert set(names["scores"]["point"]) == {"lr=0.001", "lr=0.0001", "baseline"}


def test_the_package_offers_results_alone_and_imports_no_torch(study: Path) -> None:
    with pytest.raises(AttributeError, match="no attribute 'result'"):
        _ = sam2ft.result  # type: ignore[attr-defined]
    code = "import sam2ft, sys; sam2ft.results('runs/study')['slice']; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=study.parents[1]
    )
    assert done.stdout.strip() == "False"
