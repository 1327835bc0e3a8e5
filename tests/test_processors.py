"""The numeric tests with the instructions of older processors: no tolerance may depend on how this one rounds float32.

torch, oneDNN and NumPy are restricted to the code that they choose there.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
LEGACY = "tests/legacy/test_legacy.py"
NUMERIC = (
    "tests/data/images",
    f"{LEGACY}::test_aggregation_gives_the_same_bytes_with_what_the_earlier_version_kept_and_without",
    f"{LEGACY}::test_an_evaluation_writes_the_bytes_that_it_wrote",
    f"{LEGACY}::test_predictions_of_the_earlier_version_score_as_they_did",
    "tests/metrics",
    "tests/model",
    "--ignore=tests/model/files",  # bytes, no arithmetic; most of the time of its room
    "tests/statistics",
    "tests/training/test_trainer.py",
)
OF_AVX2 = ("AVX2", "FMA3", "F16C", "X86_V3")


def numpy_without(avx2: bool) -> str:
    """NumPy's dispatched features above AVX2, or with AVX2, that this build could use."""
    dispatched = np._core._multiarray_umath.__cpu_dispatch__
    return " ".join(name for name in dispatched if "512" in name or name == "X86_V4" or (not avx2 and name in OF_AVX2))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("torch_uses", "onednn_uses", "avx2"), [("default", "SSE41", False), ("avx2", "AVX2", True)], ids=["sse", "avx2"]
)
def test_numbers_are_right_with_the_instructions_of_older_processors(torch_uses: str, onednn_uses: str, avx2: bool):
    restricted = {
        "ATEN_CPU_CAPABILITY": torch_uses,
        "ONEDNN_MAX_CPU_ISA": onednn_uses,
        "NPY_DISABLE_CPU_FEATURES": numpy_without(avx2),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not slurm", *NUMERIC]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **restricted}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
