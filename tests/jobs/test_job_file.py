"""The job file is what a Slurm task starts from: plain ids, checked when they are read. There is no pickle."""

import ast
import contextlib
import os
import pickle
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.errors import DataError, UserError
from sam2ft.core.files import read_json, write_json, write_text
from sam2ft.jobs.job import main
from sam2ft.jobs.job_file import WAIT_S, JobFile, element_of, read_job_file, write_job_file
from sam2ft.runs.layout import ExperimentLayout
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, save_plan

PACKAGE = Path(__file__).parents[2] / "sam2ft"
CONFIG = """\
experiment: {name: toy}
dataset: {toy: {store: data/toy}}
module: {sam2_model_cfg: sam2_nano, num_epochs: 1}
"""


@pytest.mark.parametrize(
    "job_file",
    [
        JobFile("/runs/toy", "0123456789ab", "train", (0,)),
        JobFile("/runs/with space/ü", "0123456789ab", "eval", (3, 1, 2)),
        JobFile("/", "0" * 12, "train_eval", tuple(range(1000))),
    ],
)
def test_what_is_written_is_read(tmp_path: Path, job_file: JobFile) -> None:
    write_job_file(tmp_path / "a.json", job_file)
    assert read_job_file(tmp_path / "a.json") == job_file


def test_every_flipped_bit_and_every_cut_is_found(tmp_path: Path) -> None:
    path, good = tmp_path / "a.json", JobFile("/runs/toy", "0123456789ab", "train", (0, 12))
    write_job_file(path, good)
    text = path.read_bytes()
    damaged = [text[:length] for length in range(len(text) - 1)]
    damaged += [
        text[:at] + bytes([text[at] ^ 1 << bit]) + text[at + 1 :] for at in range(len(text)) for bit in range(8)
    ]
    for content in damaged:
        path.write_bytes(content)
        found: JobFile | None = None
        with contextlib.suppress(DataError):
            found = read_job_file(path)
        assert found in (None, good)  # white space may change


@pytest.mark.parametrize("change", [
    {"plan": "ba9876543210"}, {"stage": "eval"}, {"runs": [0, 13]}, {"runs": []}, {"experiment": "/runs/other"},
    {"sha256": None}, {"version": 2}, {"version": None}, {"stage": "boom"}, {"runs": ["x"]}, {"more": 1},
])  # fmt: skip
def test_an_edited_file_is_refused_with_what_to_do(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.json"
    write_job_file(path, JobFile("/runs/toy", "0123456789ab", "train", (0, 12)))
    write_json(path, read_json(path) | change)
    with pytest.raises(DataError, match=re.escape(str(path))) as refused:
        read_job_file(path)
    assert "submit again with launch/sweep.py" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "3", '"text"', "null"])
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="job file of version"):
        read_job_file(path)


@pytest.mark.parametrize("element", ["2", "-1", "", "0x0", "1 ", "${SLURM_ARRAY_TASK_ID}", "٣"])
def test_an_element_that_is_not_there_is_refused(element: str) -> None:
    job_file = JobFile("/runs/toy", "0123456789ab", "train", (5, 7))
    assert [element_of(job_file, Path("a.json"), text) for text in ("0", "1")] == [5, 7]
    with pytest.raises(DataError, match="it has 0 to 1"):
        element_of(job_file, Path("a.json"), element)


def test_a_file_that_a_network_file_system_shows_late_is_waited_for(tmp_path: Path) -> None:
    path, job_file, waits = tmp_path / "a.json", JobFile("/runs/toy", "0123456789ab", "train", (0,)), []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            write_job_file(path, job_file)

    assert read_job_file(path, sleep) == job_file
    assert len(waits) == 3


def test_a_file_that_never_comes_is_an_error_after_a_minute(tmp_path: Path) -> None:
    waits: list[float] = []
    with pytest.raises(DataError, match="no such file"):
        read_job_file(tmp_path / "a.json", waits.append)
    assert sum(waits) == WAIT_S


# --- a task -----------------------------------------------------------------------------------------------------------


class Poison:
    """A pickle that leaves a trace when it is read."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A job file of two runs, with pickles beside it, and a list of the runs that are evaluated."""
    for name in [name for name in os.environ if name.startswith("SLURM_")] + ["RANK", "WORLD_SIZE"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "100")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "101")
    layout, asked = ExperimentLayout(tmp_path / "toy"), Resources(1, 1, 0, 1, 1.0, 1.0)
    runs = tuple(
        PlannedRun(index, f"toy-{index:016x}", "train_eval", True, (PlannedPoint("p", (), "a" * 12),), asked, asked)
        for index in range(2)
    )
    plan = Plan("toy", "toy.yaml", False, runs)
    save_plan(layout, plan)
    for run in runs:
        write_text(layout.run(run.run_id).config, CONFIG)
    path = layout.scripts(1) / "name.json"
    write_job_file(path, JobFile(str(layout.folder), plan.plan_id, "eval", (0, 1)))
    for name in ("name.0.pkl", "name.1.pkl", "100_1_submitted.pkl", "100_0_submitted.pkl", "101_submitted.pkl"):
        (path.parent / name).write_bytes(pickle.dumps(Poison(tmp_path / "trace")))
    done: list[str] = []
    module = types.ModuleType("sam2ft.evaluation.run")
    vars(module)["evaluate"] = lambda _experiment, layout, *_, **__: done.append(layout.run_id)
    monkeypatch.setitem(sys.modules, "sam2ft.evaluation.run", module)
    monkeypatch.setattr("sam2ft.jobs.job.initial_weights", lambda _: Path("weights"))
    monkeypatch.setattr("sam2ft.jobs.job._refuse_changed_weights", lambda *_: None)
    return path, done


def test_a_task_does_its_element_and_reads_no_pickle(task: tuple[Path, list[str]], tmp_path: Path) -> None:
    path, done = task
    pickle.loads((path.parent / "name.0.pkl").read_bytes())
    (tmp_path / "trace").rmdir()  # the poison works
    before = sorted(entry.name for entry in path.parent.iterdir())
    main([str(path), "1"])
    assert done == [f"toy-{1:016x}"]
    assert not (tmp_path / "trace").exists()
    assert sorted(entry.name for entry in path.parent.iterdir()) == before


def test_a_task_without_its_element_does_nothing(task: tuple[Path, list[str]]) -> None:
    path, done = task
    with pytest.raises(UserError, match="has no element '2'"):
        main([str(path), "2"])
    assert done == []


@pytest.mark.parametrize("arguments", [[], ["a"], ["a", "b", "c"], ["a", "b", "0", "boom"], ["a"] * 5])
def test_other_arguments_are_told_how_it_is_called(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage: python -m sam2ft\.jobs\.job JOB_FILE ELEMENT"):
        main(arguments)


@pytest.mark.parametrize("module", ["sam2ft.jobs.job", "sam2ft.jobs.calibrate", "sam2ft.sweeps.state.collect"])
def test_no_module_of_a_job_imports_submitit_or_a_folder_of_the_caller(module: str, tmp_path: Path) -> None:
    """A batch script runs `python -P -m MODULE` in the folder where sbatch was called."""
    for name in ("json", "yaml", "numpy", "sam2ft"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted')")
    code = f"import sys, {module}; sys.exit(bool({{'submitit', 'cloudpickle'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- the whole package ------------------------------------------------------------------------------------------------

UNSAFE_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
SAFE_PARTS = {"UnpicklingError"}
UNSAFE_NAMES = {
    "DelayedSubmission",
    "read_pickle",
    "to_pickle",
    "eval",
    "exec",
    "unsafe_load",
    "full_load",
    "__import__",
}


def unsafe_imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        # `import pickle` alone does nothing; what is used of it is looked at below.
        names = [one.name for one in node.names if one.asname or one.name != "pickle"]
        return [name for name in names if name.partition(".")[0] in UNSAFE_MODULES]
    if isinstance(node, ast.ImportFrom):
        parts = [name.name for name in node.names]
        whole = (node.module or "").partition(".")[0] in UNSAFE_MODULES
        return [part for part in parts if part in UNSAFE_NAMES or (whole and part not in SAFE_PARTS)]
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in UNSAFE_MODULES:
        return [node.attr] if node.attr not in SAFE_PARTS else []
    return []


def unsafe_calls(node: ast.AST) -> list[str]:
    if not isinstance(node, ast.Call):
        return []
    text = ast.unparse(node.func)
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    attribute = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    plain = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
    # `model.eval()` is torch's, without arguments.
    unsafe = name in UNSAFE_NAMES or (attribute in UNSAFE_NAMES and bool(attribute != "eval" or node.args))
    unsafe |= text == "torch.load" and plain.get("weights_only") is not True
    unsafe |= bool(plain.get("allow_pickle")) or plain.get("weights_only") is False
    return [text] if unsafe else []


def unsafe_in(tree: ast.AST) -> list[str]:
    """What reads or writes pickles or runs text, in one module."""
    return [found for node in ast.walk(tree) for found in (*unsafe_imports(node), *unsafe_calls(node))]


@pytest.mark.parametrize("text", [
    "import pickle\npickle.loads(x)", "from pickle import loads", "import cloudpickle as c", "torch.load(path)",
    "import pickle\nclass A(pickle.Unpickler): pass", "eval(text)", "torch.load(path, weights_only=False)",
    "np.load(path, allow_pickle=True)", "pd.read_pickle(path)", "yaml.full_load(x)", "exec(code, {})",
    "from submitit.core.utils import DelayedSubmission", "frame.eval('a + b')", "from pickle import *",
])  # fmt: skip
def test_the_search_finds_what_it_looks_for(text: str) -> None:
    assert unsafe_in(ast.parse(text))


@pytest.mark.parametrize("text", [
    "model.eval()", "torch.load(path, weights_only=True)", "np.load(p, allow_pickle=False)",
    "import pickle\ntry: x()\nexcept pickle.UnpicklingError: pass",
])  # fmt: skip
def test_the_search_lets_the_rest_be(text: str) -> None:
    assert not unsafe_in(ast.parse(text))


def test_no_module_of_the_package_reads_a_pickle_or_runs_a_text() -> None:
    modules = sorted(PACKAGE.rglob("*.py"))
    assert len(modules) > 300
    found = {str(path.relative_to(PACKAGE)): unsafe_in(ast.parse(path.read_text("utf-8"))) for path in modules}
    # The reader of checkpoints derives from pickle's unpickler in Python, and replaces all that imports or calls.
    assert set(found.pop("model/files/inert.py")) <= {"_Unpickler", *pickle.__all__}
    assert {path: names for path, names in found.items() if names} == {}
