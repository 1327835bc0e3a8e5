"""The wheel: what a user installs without a checkout, built and used for the first steps of the demo."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
experiment: {name: wheel, baseline: false}
dataset: {knee_phantom: {store: data/knee}}
datamodule: {max_subject_set: 1, num_workers: 0, metric: {func: {dice: true, cartilagethickness: true}}}
module: {sam2_model_cfg: sam2_nano, image_size: 256, num_epochs: 1, visualize: false, optimizer: {lr: 1e-4}}
eval: {qc_slices: 1}
resources: {gpus_per_node: 0, cpus_per_task: 1}
"""


def run(*command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(path) if path else ""}
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, installed into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    # Not the checkout itself: building leaves build/ and egg-info there.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.split("\0"):
        if name.startswith("sam2ft/") or name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(source), cwd=folder)
    (wheel,) = folder.glob("sam2ft-*.whl")
    target = folder / "installed"
    run("-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel), cwd=folder)
    return target


@pytest.mark.slow
def test_the_first_steps_of_the_demo_run_from_the_wheel_outside_of_the_checkout(installed: Path, tmp_path: Path):
    assert not (installed / "launch").exists(), "scripts of a checkout, not a package to install"
    where = run("-c", "import sam2ft; print(sam2ft.__path__[0])", cwd=tmp_path, path=installed)
    assert Path(where.strip()) == installed / "sam2ft"
    assert "sweep" in run(str(installed / "bin" / "sam2ft"), "--help", cwd=tmp_path, path=installed)
    command = ("-m", "sam2ft.cli.prepare", "--phantom", "knee", "--subjects", "4", "--out", "data/knee")
    assert run(*command, cwd=tmp_path, path=installed).strip() == "data/knee"
    (tmp_path / "wheel.yaml").write_text(EXPERIMENT)
    sweep = ("-m", "sam2ft.cli.sweep", "wheel.yaml", "--local", "1")
    said = run(*sweep, cwd=tmp_path, path=installed)
    assert "1 to submit: 0 done" in said
    assert (tmp_path / "runs/wheel/report/index.html").is_file()
    provenance = json.loads(next(tmp_path.glob("runs/wheel/*/provenance.json")).read_text())
    assert provenance["attempts"][0]["code"]["commit"] is None, "it ran from the wheel, which is no checkout"
    assert "0 to submit: 1 done" in run(*sweep, cwd=tmp_path, path=installed)
