"""Limits of memory and time around the reading of one volume."""

import gzip
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from sam2ft.core.errors import DataError
from sam2ft.data.prepare.limits import GIB, limited
from tests.fixtures.peak import measured
from tests.fixtures.stores import _write_series

HERE = Path(__file__)


def fresh(function: Callable[[], None]) -> None:
    """Call in a process of its own: the heap of one that ran other tests may hold a gigabyte that is free."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(function).result()


def too_much_and_lifted_again() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    too_much = pytest.raises(DataError, match=r"limit of 0\.25 GiB a volume; .*raise it with --max-volume-gb")
    with too_much, limited(HERE, 0.25 * GIB, 60):
        np.ones(GIB, dtype=np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert np.ones(GIB, dtype=np.uint8).all()


def fits() -> None:
    with limited(HERE, 0.25 * GIB, 60):
        assert np.ones(GIB // 4, dtype=np.uint8).all()


def test_what_needs_more_than_the_budget_is_refused_and_the_limit_is_lifted_again() -> None:
    fresh(too_much_and_lifted_again)


def test_what_fits_into_the_budget_is_read() -> None:
    fresh(fits)


def test_what_takes_too_long_is_refused_and_the_timer_is_gone() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises(DataError, match=r"test_limits\.py: was not read within 0\.2 s; .*--max-volume-minutes"),
        limited(HERE, GIB, 0.2, own_process=True),
    ):
        time.sleep(60)
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_without_a_process_of_its_own_there_is_no_timer() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    with limited(HERE, GIB, 0.001):
        assert signal.getsignal(signal.SIGALRM) is handler
        time.sleep(0.01)


def write_mask(folder: Path, shape_xyz: tuple[int, int, int]) -> None:
    (folder / "masks").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(np.ones(shape_xyz, np.uint8), np.eye(4)), folder / "masks" / "bomb.nii.gz")


def huge_nifti(folder: Path) -> str:
    """A header of 2000 x 2000 x 2000 voxels before a kilobyte of zeros."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((2000, 2000, 2000))
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "bomb.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1024)))
    return "images/{subject}.nii.gz"


def nrrd_bomb(folder: Path) -> str:
    """700 kB that become 0.7 GB, as the header says."""
    (folder / "images").mkdir(parents=True)
    text = (
        "NRRD0004\ntype: int16\ndimension: 3\nsizes: 1024 1024 350\nencoding: gzip\nendian: little\n"
        "space: right-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n\n"
    )
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    content = b"".join(packer.compress(bytes(2**20)) for _ in range(700)) + packer.flush()
    (folder / "images" / "bomb.nrrd").write_bytes(text.encode() + content)
    return "images/{subject}.nrrd"


def deflated_dicom(folder: Path) -> str:
    """One slice of 6 x 8 pixels whose deflated data set holds a private element of 1 GB."""
    path = _write_series(folder / "images" / "bomb", 1) / "001.dcm"
    header = pydicom.dcmread(path)
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    header.private_block(0x0099, "bomb", create=True).add_new(1, "OB", bytes(2**30))
    header.save_as(path, enforce_file_format=True)
    return "images/{subject}"


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [huge_nifti, nrrd_bomb, deflated_dicom])
def test_a_bomb_is_refused_with_less_than_a_gigabyte(tmp_path: Path, bomb: Callable[[Path], str]) -> None:
    pattern = bomb(tmp_path)
    write_mask(tmp_path, (8, 6, 1))
    (tmp_path / "ds.yaml").write_text(
        f'dataset: {{name: toy}}\nsources: {{images: "{pattern}", masks: "masks/{{subject}}.nii.gz"}}\n'
        "labels: {1: {name: a}}\n"
    )
    command = [sys.executable, str(HERE.parents[3] / "launch" / "prepare.py"), "ds.yaml", "--out", "store"]
    limits = ["--max-volume-gb", "0.25"]
    done, peak_gb = measured([*command, *limits], tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "images/bomb" in done.stderr
    assert peak_gb < 1
