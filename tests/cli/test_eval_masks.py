"""The forms of launch/eval.py that need no model."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from launch import eval as launch_eval
from sam2ft.core.errors import UserError
from sam2ft.core.tables.rows import TABLES, read_csv


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--ckpt", "a.pt", "--labels", "l.yaml"], "--labels does not go with --ckpt"),
        (["--predictions", "p", "--data", "s", "--model", "sam2_nano"], "--model does not go with --predictions"),
        (["--ckpt", "a.pt", "--believe", "sform"], "--believe does not go with --ckpt"),
        (["--predictions", "p", "--data", "s", "--slice-axis", "axial"], "--slice-axis does not go with --predictions"),
        (["--ckpt", "a.pt", "--axes", "zyx"], "--axes does not go with --ckpt"),
        (["--ckpt", "a.pt", "--spacing-mm", "3", "1", "1"], "--spacing-mm does not go with --ckpt"),
        (["--reference", "a", "--prediction", "b", "--spacing-mm", "3", "0", "1"], "--spacing-mm: found 0; allowed"),
        (["--predictions", "p", "--data", "s", "--set", "a=1"], "--set: a: does not apply to masks made elsewhere"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(given, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", *given])
    with pytest.raises(UserError, match=message):
        launch_eval.main()


def run(monkeypatch: pytest.MonkeyPatch, *given: object) -> int:
    monkeypatch.setattr(sys, "argv", ["eval.py", *(str(one) for one in given)])
    return launch_eval.main()


def test_arrays_are_scored_with_their_spacing_and_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.zeros((4, 9, 8), "u1")
    mask[1:3, 2:6, 2:7] = 1
    np.save(tmp_path / "a.npy", mask)
    np.savez(tmp_path / "b.npz", mask)
    pair = ("--reference", tmp_path / "a.npy", "--prediction", tmp_path / "b.npz", "--set", "eval.qc_slices=0")
    with pytest.raises(UserError, match="give the order, in the dataset file or with eval --axes: axes: zyx"):
        run(monkeypatch, *pair)
    with pytest.raises(UserError, match=r"or eval --spacing-mm 3 0.5 0.5"):
        run(monkeypatch, *pair, "--axes", "zyx")
    for spacing in ((3, 0.5, 0.5), (1, 2, 0.25), (0.5, 0.5, 2)):
        out = tmp_path / f"{spacing}"
        assert run(monkeypatch, *pair, "--axes", "zyx", "--spacing-mm", *spacing, "--out", out) == 0
        (row,) = read_csv(out / "volume.csv", TABLES["volume"])
        assert row["volume_reference_mm3"] == pytest.approx(40 * np.prod(spacing))


def test_believe_decides_between_a_picture_and_its_given_spacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((4, 9, 8), "u1")
    mask[1:3, 2:6, 2:7] = 1
    fields = {"axes": "ZYX", "spacing": 3.0, "unit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", mask, imagej=True, resolution=(2, 2), metadata=fields)
    pair = ("--reference", tmp_path / "a.tif", "--prediction", tmp_path / "a.tif", "--set", "eval.qc_slices=0")
    with pytest.raises(UserError, match=r"or believe: spacing .spacing_mm. in the dataset file, or eval --believe"):
        run(monkeypatch, *pair, "--spacing-mm", 3, 1, 1)
    for more, volume in ((("--spacing-mm", 3, 1, 1, "--believe", "spacing"), 120), ((), 30)):
        out = tmp_path / f"{volume}"
        assert run(monkeypatch, *pair, *more, "--out", out) == 0
        (row,) = read_csv(out / "volume.csv", TABLES["volume"])
        assert row["volume_reference_mm3"] == pytest.approx(volume)
