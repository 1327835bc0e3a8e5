"""The forms of launch/eval.py that need no model."""

import sys

import pytest

from launch import eval as launch_eval
from sam2ft.core.errors import UserError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--ckpt", "a.pt", "--labels", "l.yaml"], "--labels does not go with --ckpt"),
        (["--predictions", "p", "--data", "s", "--model", "sam2_nano"], "--model does not go with --predictions"),
        (["--ckpt", "a.pt", "--believe", "sform"], "--believe does not go with --ckpt"),
        (["--predictions", "p", "--data", "s", "--slice-axis", "axial"], "--slice-axis does not go with --predictions"),
        (["--predictions", "p", "--data", "s", "--set", "a=1"], "--set: a: does not apply to masks made elsewhere"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(given, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["eval.py", *given])
    with pytest.raises(UserError, match=message):
        launch_eval.main()
