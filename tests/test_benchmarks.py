"""The benchmarks still run: their `--quick` form measures one thing once."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("bench_training_step.py", "nano-256 bf16 against plain fp32"),
        ("bench_memory.py", "nano-256"),
        ("bench_data.py", "prepare against SimpleITK"),
        ("bench_loader.py", "nano-256  2 workers"),
        ("bench_aggregate.py", "sam2ft, one new run"),
        ("bench_evaluation.py", "of the time inside encoder and decoder"),
        ("bench_propagation.py", "16 objects per call"),
        ("bench_plan.py", "100 points, no torch"),
        ("bench_status.py", "status of 20 runs"),
    ],
)
def test_a_benchmark_runs(script: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), "--quick"], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert line in done.stdout
    assert "nan" not in done.stdout.lower().replace("nano", "")
