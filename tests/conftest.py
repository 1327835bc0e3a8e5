"""What all tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of small real images; tests that need it are marked `real`."""
    folder = Path(os.environ.get("SAM2FT_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}; set SAM2FT_REAL_DATA")
    return folder


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty working directory: paths in a YAML are relative to it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
