"""Files to load, and the problems of files as lines of text."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2ft.core.errors import ProblemsError

MINIMAL = """\
experiment: {name: tiny}
dataset:
  knee: {store: data/knee}
module:
  sam2_model_cfg: sam2_nano
"""


@pytest.fixture
def write(in_empty_folder: Path) -> Callable[..., Path]:
    """write(text, name) makes a file in an empty working directory; its path is relative, as a user would type it."""

    def write_file(text: str | bytes, name: str = "file.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


@pytest.fixture
def minimal() -> str:
    """The smallest experiment file."""
    return MINIMAL


@pytest.fixture
def problems_of() -> Callable[..., list[str]]:
    """problems_of(function, *arguments): the problems that the call ends with, one text each."""

    def call(function: Callable[..., Any], *arguments: Any) -> list[str]:
        with pytest.raises(ProblemsError) as caught:
            function(*arguments)
        return [str(problem) for problem in caught.value.problems]

    return call
