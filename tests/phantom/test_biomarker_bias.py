"""Solids of known size on a grid of one's own, measured by the metrics that score predictions."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sam2ft.phantom.biomarker_bias import Bias, measure_biases
from sam2ft.phantom.solids import solids

ROOT = Path(__file__).parents[2]


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch" / "prepare.py"), "--phantom-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_solid_has_the_volume_that_its_truth_says_whatever_its_place() -> None:
    for offset in ((0, 0, 0), (0.3, -0.2, 0.45)):
        for solid in solids((0.5, 0.5, 0.5), offset):
            counted = int((solid.mask_zyx == 1).sum()) * solid.geometry.voxel_volume_mm3
            assert counted == pytest.approx(solid.truth["tissuevolume", "volume", "mm3"], rel=0.02)
            inner = solid.mask_zyx[1:-1, 1:-1, 1:-1]
            assert int((inner == 1).sum()) == int((solid.mask_zyx == 1).sum())


def test_moving_a_solid_by_a_part_of_a_voxel_changes_its_mask_and_not_its_truth() -> None:
    first, second = solids((0.7, 0.4, 0.4), (0, 0, 0))[0], solids((0.7, 0.4, 0.4), (0.4, 0, 0))[0]
    assert first.truth == second.truth
    assert not np.array_equal(first.mask_zyx, second.mask_zyx)


def test_biases_on_a_knee_grid_are_small_and_every_truth_is_measured() -> None:
    found = {(bias.solid, bias.biomarker, bias.definition): bias for bias in measure_biases((1.0, 0.6, 0.5))}
    assert all(math.isfinite(value) for bias in found.values() for value in bias.measured)
    for key in (
        ("shell", "cartilagethickness", "ThCcAB"),
        ("plate", "cartilagethickness", "ThCtAB"),
        ("shell", "tissuevolume", "volume"),
        ("shell", "t2", "mean"),
        ("shell", "t1rho", "median"),
        ("disc", "tissueheight", "height"),
    ):
        assert abs(found[key].to_json()["bias_percent"]) < 3


def test_a_number_that_does_not_come_out_is_none_and_not_zero() -> None:
    summary = Bias("disc", "tissueheight", "height", "mm", 8.0, (math.nan, 8.4)).to_json()
    assert summary["measured"] == [None, 8.4]
    assert summary["bias_percent"] == pytest.approx(5)
    assert Bias("disc", "tissueheight", "height", "mm", 8.0, (math.nan,)).to_json()["bias_percent"] is None


def test_the_command_takes_rows_columns_slices_in_this_order_and_prints_json() -> None:
    done = check("--spacing", "0.8,0.9,3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["spacing_mm"] == [0.8, 0.9, 3]
    assert len(result["biases"]) > 15
    assert "measured sub-voxel position 5 of 5" in done.stderr
    assert "torch" not in done.stderr


def test_the_command_prints_a_table() -> None:
    done = check("--spacing", "1.5,1.5,3")
    assert done.returncode == 0, done.stderr
    assert "1.5 x 1.5 mm pixels (rows x columns), slices 3 mm apart" in done.stdout
    assert "mean and range over 5 sub-voxel positions" in done.stdout
    assert "%" in next(line for line in done.stdout.splitlines() if "ThCcAB" in line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "needs --spacing"),
        (("--spacing", "0.5,x,3"), "'0.5,x,3'; allowed: three numbers"),
        (("--spacing", "0.5,3"), "--spacing 0.5,3; allowed: row, column and slice distance, each 0.1 to 10 mm"),
        (("--spacing", "0.5,0.5,0"), "--spacing 0.5,0.5,0; allowed"),
        (("--spacing", "0.5,0.5,nan"), "allowed: row, column and slice"),
    ],
)
def test_a_spacing_that_is_none_is_refused(arguments: tuple[str, ...], message: str) -> None:
    done = check(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
