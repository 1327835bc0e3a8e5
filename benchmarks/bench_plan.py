"""Benchmark of planning a sweep on a login node: points per second of each stage, and a complete dry run.

python benchmarks/bench_plan.py [--points 10000] [--repeat 3] [--quick]

The aim: 10,000 points validated, checked against a store, named, planned and reconciled in under 10 s in one process,
and a dry run of 100 points in under 1 s including the start of the interpreter; neither imports torch. The best
repetition counts, because other work on the machine can only add time. Each repetition is a new interpreter.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "scipy", "pandas", "monai", "sam2", "submitit")

Laps = dict[str, tuple[float, float]]
"""Stage -> wall seconds and CPU seconds of the process; CPU seconds depend little on other work of the machine."""

EXPERIMENT = """\
experiment: {name: plan}
dataset:
  knee_phantom: {store: knee}
module:
  sam2_model_cfg: sam2_nano
sweep:
  grid:
    module.optimizer.lr: {range: {start: 1e-6, stop: %s, step: 1e-6}}
    datamodule.bbox_shift: [0, 1, 2, 3, 4]
    experiment.seed: [1, 2]
"""


def stages(path: Path) -> Laps:
    """Seconds of each stage. Runs in a new interpreter, so that importing is one of the stages."""
    laps, last = {}, (time.perf_counter(), time.process_time())

    def lap(name: str) -> None:
        nonlocal last
        now = (time.perf_counter(), time.process_time())
        laps[name], last = (now[0] - last[0], now[1] - last[1]), now

    from sam2ft.config.load_experiment import load_experiment
    from sam2ft.jobs.preflight.preflight import resolve
    from sam2ft.runs.layout import ExperimentLayout
    from sam2ft.runs.plan_file import save_plan
    from sam2ft.sweeps.plan.plan import make_plan
    from sam2ft.sweeps.state.reconcile import reconcile
    from sam2ft.sweeps.state.slurm_snapshot import SlurmSnapshot

    lap("import")
    loaded = load_experiment(path)
    lap("load and validate")
    resolved = resolve(loaded)
    lap("check and name")
    plan, layout = make_plan(resolved), ExperimentLayout.of(resolved.name)
    save_plan(layout, plan)
    lap("plan and write")
    reconcile(layout, plan, SlurmSnapshot(None))
    lap("reconcile")
    if imported := [name for name in HEAVY if name in sys.modules]:
        raise SystemExit(f"planning imported {', '.join(imported)}")
    return laps


def in_new_interpreter(folder: Path) -> Laps:
    """Run `stages` on exp.yaml in `folder`."""
    code = (
        f"import sys, json; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'benchmarks')!r}]\n"
        "from pathlib import Path; from bench_plan import stages; print(json.dumps(stages(Path('exp.yaml'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True)
    found: Laps = json.loads(done.stdout)
    return found


def dry_run(folder: Path) -> tuple[float, float]:
    """(wall, CPU) seconds of `launch/sweep.py --dry-run --local 1`, from process start to exit."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(ROOT / "launch" / "sweep.py"), "exp.yaml", "--dry-run", "--local", "1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, cpu_s


def write(folder: Path, num_points: int) -> None:
    """Write exp.yaml with `num_points` points and remove earlier plans."""
    (folder / "exp.yaml").write_text(EXPERIMENT % f"{num_points // 10 * 1e-6:.6f}")
    shutil.rmtree(folder / "runs", ignore_errors=True)


def main() -> None:
    from timing import machine_line, say  # imports torch, which the planning process must not

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000, help="a multiple of 10")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="100 points once: a short trial")
    given = parser.parse_args()
    num_points, repeat = (100, 1) if given.quick else (given.points, given.repeat)
    say(machine_line())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, str(ROOT / "launch" / "prepare.py"), "--phantom", "knee", "--subjects", "6"]
        subprocess.run([*command, "--out", str(folder / "knee")], check=True, capture_output=True)
        runs = []
        for _ in range(repeat):
            write(folder, num_points)
            runs.append(in_new_interpreter(folder))
        for stage in runs[0]:
            wall_s, cpu_s = (min(laps[stage][side] for laps in runs) for side in (0, 1))
            rate = "" if stage == "import" else f"{num_points / cpu_s:12,.0f} points per CPU second"
            say(f"{stage:18} {wall_s:6.2f} s, CPU {cpu_s:6.2f} s {rate}")
        wall_s, cpu_s = (min(sum(lap[side] for lap in laps.values()) for laps in runs) for side in (0, 1))
        say(f"{'together':18} {wall_s:6.2f} s, CPU {cpu_s:6.2f} s   {num_points:,} points, no torch")
        write(folder, 100)
        times = [dry_run(folder) for _ in range(repeat + 1)]
        wall_s, cpu_s = (min(side) for side in zip(*times, strict=True))
        say(f"dry run of 100 points, with the start of Python: {wall_s:.2f} s, CPU {cpu_s:.2f} s")


if __name__ == "__main__":
    main()
