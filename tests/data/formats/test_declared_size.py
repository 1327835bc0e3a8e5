"""The size of an image is known before anything is decoded."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from sam2ft.data.formats.declared_size import declared_size


def test_a_series_has_the_bytes_of_its_files(tmp_path: Path, write_series: Callable[..., Path]) -> None:
    folder = write_series(tmp_path / "s", 5, shape=(6, 8))
    assert declared_size(folder / "001.dcm")[1] == 6 * 8 * 2
    assert declared_size(folder)[1] == 5 * 6 * 8 * 2


@pytest.mark.parametrize(
    ("frames", "samples", "bits", "size"),
    [(10, 1, 16, 960), (1, 3, 8, 144), (4, 1, 32, 768), (1000000, 1, 16, 96000000)],
)
def test_frames_samples_and_bits_count(
    tmp_path: Path, write_series: Callable[..., Path], edit: Callable[..., None], frames, samples, bits, size
) -> None:
    path = write_series(tmp_path / "s", 1) / "001.dcm"
    edit(path, NumberOfFrames=frames, SamplesPerPixel=samples, BitsAllocated=bits)
    assert declared_size(path)[1] == size


@pytest.mark.parametrize("shape", [(6, 8), (600, 800), (3000, 3000)])
def test_a_deflated_file_is_not_inflated_for_it(tmp_path: Path, write_series: Callable[..., Path], shape) -> None:
    path = write_series(tmp_path / "s", 1, shape=shape) / "001.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.save_as(path, enforce_file_format=True)
    assert declared_size(path)[1] == shape[0] * shape[1] * 2


@pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz", "a.nrrd", "a.txt"])
@pytest.mark.parametrize("content", [b"", b"x" * 200, b"\0" * 400])
def test_a_file_that_says_nothing_has_no_size(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert declared_size(tmp_path / name) is None


def test_an_absent_file_and_an_empty_folder_have_no_size(tmp_path: Path) -> None:
    assert declared_size(tmp_path / "absent.nii") is None
    assert declared_size(tmp_path) is None
