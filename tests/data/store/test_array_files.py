"""The bytes of an array and their digest are those of np.save and of the file."""

from pathlib import Path

import numpy as np
import pytest

from sam2ft.core.files import sha256_file
from sam2ft.data.store.array_files import write_npy

ARRAYS = {
    "image": np.arange(24, dtype=np.uint16).reshape(2, 3, 4),
    "mask": np.ones((3, 1, 2), np.uint8),
    "map": np.array([[[np.nan, 1.5], [-0.0, np.inf]]], np.float32),
    "turned": np.arange(24, dtype=np.uint16).reshape(4, 3, 2).transpose(2, 1, 0),
    "strided": np.arange(48, dtype=np.int16).reshape(2, 3, 8)[:, ::-1, ::2],
    "longer than a part": np.arange(3 << 19, dtype=np.uint16).reshape(3, 1 << 9, 1 << 10),
    "empty": np.zeros((0, 3, 2), np.uint8),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_file_is_that_of_numpy_and_has_the_digest(tmp_path: Path, name: str) -> None:
    found, expected = tmp_path / "found.npy", tmp_path / "expected.npy"
    with found.open("wb") as stream:
        digest = write_npy(stream, ARRAYS[name])
    with expected.open("wb") as stream:
        np.save(stream, np.ascontiguousarray(ARRAYS[name]), allow_pickle=False)
    assert found.read_bytes() == expected.read_bytes()
    assert digest == sha256_file(expected)


def test_python_objects_are_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as stream, pytest.raises(ValueError, match="objects"):
        write_npy(stream, np.array([object()]))
