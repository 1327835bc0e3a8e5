"""Remedies of slices in files of their own: what is missing, double or damaged, and distances of voxels."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.errors import DataError, IncompleteError
from sam2ft.tools.slice_files import main
from tests.remedies.registry import remedy


def _gather(*more: str) -> None:
    patterns = [f"--{folder}={folder}/{{subject}}-{{slice}}.npy" for folder in ("images", "masks")]
    main([*patterns, "--out", "out", *more])


@remedy("remove one of them", of="is slice {} of {} as")
@remedy("copy all files of the subject")
@remedy("copy it again", of="not a readable numpy array")
@remedy("give --spacing-mm, or --metadata")
def slices_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "masks"):
        Path(folder).mkdir()
        for index in range(4):
            np.save(f"{folder}/a-{index:03d}.npy", np.ones((5, 6), np.uint8))
    spacing = ("--spacing-mm", "3", "1", "1")
    shown = ""

    def refused(spoil: Callable[[], object], mend: Callable[[], object], *given: str) -> None:
        nonlocal shown
        spoil()
        with pytest.raises((DataError, IncompleteError)) as caught:
            _gather(*given)
        shown += f" {caught.value} {capsys.readouterr().err}"
        mend()
        _gather(*spacing)

    one = Path("images/a-002.npy")
    content, both = one.read_bytes(), (one, Path("masks/a-002.npy"))
    refused(lambda: None, lambda: None)
    fields = {"pixel_spacing": [1, 1], "slice_spacing": 3, "split": "train"}
    Path("metadata_for_ml.json").write_text(json.dumps({"a": fields}))
    _gather("--metadata", "metadata_for_ml.json")
    twin = Path("images/a-02.npy")
    refused(lambda: twin.write_bytes(content), twin.unlink, *spacing)
    refused(lambda: one.write_bytes(content[:90]), lambda: one.write_bytes(content), *spacing)
    refused(lambda: [path.unlink() for path in both], lambda: [path.write_bytes(content) for path in both], *spacing)
    return " ".join(shown.split())
