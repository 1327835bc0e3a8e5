"""The driver's own program and the files of the kernel are replaced by scripts and folders of the test."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sam2ft.core.system import nvidia
from sam2ft.core.system.nvidia import (
    all_gpus,
    allocator_line,
    driver_text,
    driver_version,
    named_gpus,
    needed_driver,
    nvidia_smi,
    with_allocator,
)

A, B = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-00000000-1111-2222-3333-444444444444"
TWO = f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: {B})\n"
DIVIDED = f"""GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})
  MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  1: (UUID: MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: {B})
"""
# Names of the instances before driver 470.
DIVIDED_EARLIER = f"GPU 0: A100 (UUID: {A})\n  MIG 1g.5gb Device 0: (UUID: MIG-{A}/7/0)\n"
BROKEN = f"Unable to determine the device handle for GPU0: 0000:41:00.0: Unknown Error\nGPU 1: H100 (UUID: {B})\n"

Program = Callable[[str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Writes an nvidia-smi of the given shell lines, the only one on PATH; the kernel shows no driver."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(nvidia, "_MODULE_VERSION", tmp_path / "version")
    monkeypatch.setattr(nvidia, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(nvidia, "_DEVICES", tmp_path / "dev")

    def write(lines: str) -> None:
        path = tmp_path / "bin" / "nvidia-smi"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)

    return write


def kernel_shows(folder: Path, minor: int, uuid: str, *, here: bool) -> None:
    """A GPU in /proc, and its device file where the container has it."""
    place = folder / "proc" / f"0000:{minor}1:00.0"
    place.mkdir(parents=True)
    text = (
        f"Model: \t\t NVIDIA A100\nIRQ:   \t\t 312\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\nDevice Minor: \t {minor}\n"
    )
    (place / "information").write_text(text)
    if here:
        (folder / "dev").mkdir(exist_ok=True)
        (folder / "dev" / f"nvidia{minor}").write_text("")


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        (TWO, 0, (A, B)),
        (
            DIVIDED,
            0,
            ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb", B),
        ),
        (DIVIDED_EARLIER, 0, (f"MIG-{A}/7/0",)),
        (BROKEN, 15, (B,)),
        ("No devices found.\n", 6, ()),
        ("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.\n", 9, ()),
        ("", 0, ()),
        ("(UUID: )\nMIG (UUID: MIG-1)\n\x01\x7f", 0, ()),
    ],
)
def test_gpus_are_what_the_driver_lists(program: Program, lines: str, code: int, expected: tuple[str, ...]) -> None:
    program(f"[ \"$1\" = -L ] && cat <<'END'\n{lines}END\nexit {code}")
    assert all_gpus() == expected


def test_a_program_of_bytes_that_are_no_text_is_read(program: Program) -> None:
    program(f"printf 'GPU 0: \\377\\376 (UUID: {A})\\n'")
    assert all_gpus() == (A,)


def test_a_program_that_hangs_is_left_after_its_time_with_all_that_it_started(program: Program, tmp_path: Path) -> None:
    program(f"sleep 600 &\necho $! >{tmp_path / 'child'}\nwait")
    assert nvidia_smi("-L", timeout_s=3) == ""
    child = int((tmp_path / "child").read_text())
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        time.sleep(0.05)  # the test's own time limit ends a sleep that was not killed


def test_without_its_program_the_gpus_with_a_device_file_here_are_those_of_the_kernel(
    program: Program, tmp_path: Path
) -> None:
    assert nvidia_smi("-L") == ""
    kernel_shows(tmp_path, 0, A, here=False)
    kernel_shows(tmp_path, 3, B, here=True)
    assert all_gpus() == (B,)
    program("echo nonsense; exit 1")
    assert all_gpus() == (B,)
    kernel_shows(tmp_path, 4, "??", here=True)  # a driver that may not tell
    assert all_gpus() == (B,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        (" ", ()),
        ("-1", ()),
        ("-1,0", ()),
        ("none", ()),
        ("NoDevFiles", ()),
        ("3, 1", ("3", "1")),
        ("1,-1,0", ("1",)),
        ("0,1,NoDevFiles", ("0", "1")),
        ("0,,1", ("0",)),
        ("1,10,1", ("1", "10")),
        ("0,GPU-5c89", ("0",)),
        ("GPU-5c89,0", ("GPU-5c89",)),
        (f"GPU-5c89,{A},{B}", ("GPU-5c89", B)),
        ("MIG-1,MIG-2,GPU-5c89", ("MIG-1", "MIG-2")),
        (f"MIG-{A}/7/0,MIG-{A}/8/0", (f"MIG-{A}/7/0", f"MIG-{A}/8/0")),
        ("all", ("all",)),
        ("cuda:0", ("cuda:0",)),
    ],
)
def test_named_gpus_end_where_those_of_cuda_end_and_none_counts_twice(value: str, expected: tuple[str, ...]) -> None:
    assert named_gpus(value) == expected


@pytest.mark.parametrize(
    ("lines", "version"),
    [
        ("echo 580.65.06; echo 580.65.06", "580.65.06"),
        ("echo 535.104", "535.104"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", None),
        ("echo '[N/A]'", None),
        ("exit 127", None),
    ],
)
def test_the_driver_says_its_version_or_none_is_known(program: Program, lines: str, version: str | None) -> None:
    program(f'[ "$1" = --query-gpu=driver_version ] || exit 1\n{lines}')
    assert driver_version() == version


def test_the_version_of_a_loaded_driver_is_known_without_its_program(program: Program, tmp_path: Path) -> None:
    assert driver_version() is None
    (tmp_path / "version").write_text("570.86.15\n")
    assert driver_version() == "570.86.15"
    (tmp_path / "version").write_text("??")
    assert driver_version() is None
    program("echo 580.65.06")
    assert driver_version() == "580.65.06"


@pytest.mark.parametrize(
    ("cuda", "found", "words"),
    [
        ("13.0", "580.65.06", "the NVIDIA driver 580.65.06 is new enough for CUDA 13.0"),
        ("13.2", "579.99", "CUDA 13.2 needs the NVIDIA driver 580 or newer, found 579.99"),
        ("12.8", "525.60.13", "the NVIDIA driver 525.60.13 is new enough for CUDA 12.8"),
        ("12.8", "470.57", "CUDA 12.8 needs the NVIDIA driver 525 or newer, found 470.57"),
        ("13.0", None, "CUDA 13.0 needs the NVIDIA driver 580 or newer, and no driver answers"),
        ("99.1", "580.65.06", ""),
        (None, "580.65.06", ""),
    ],
)
def test_a_driver_is_compared_with_the_one_that_cuda_needs(cuda: str | None, found: str | None, words: str) -> None:
    assert driver_text(cuda, found) == words


def test_the_driver_of_the_pinned_torch_is_known() -> None:
    """A torch for the next CUDA needs a line in the table, and the README another number."""
    root = Path(__file__).parents[3]
    pinned = re.search(
        r"^nvidia-cuda-runtime==(\d+\.\d+)", (root / "requirements" / "run.txt").read_text(), re.MULTILINE
    )
    assert pinned is not None
    needed = needed_driver(pinned[1])
    assert needed is not None
    for page in ("README.md", "docs/cluster.md", "slurm/container/README.md"):
        assert f"driver {needed} or newer" in " ".join((root / page).read_text().split()), page


@pytest.mark.parametrize("own", ["", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
@pytest.mark.parametrize("value", ["", "max_split_size_mb:64"])
def test_the_allocator_is_chosen_only_where_the_user_has_not_in_the_pool_as_in_the_shell(own: str, value: str) -> None:
    given = {"PATH": os.environ["PATH"]} | ({own: value} if own else {})
    script = f"{allocator_line()}\nenv"
    done = subprocess.run(["bash", "-eu", "-c", script], env=given, capture_output=True, text=True, check=True)
    in_shell = dict(line.split("=", 1) for line in done.stdout.splitlines() if "ALLOC_CONF" in line)
    in_pool = {name: text for name, text in with_allocator(given).items() if "ALLOC_CONF" in name}
    assert in_shell == in_pool
    assert in_pool == ({own: value} if own else {"PYTORCH_ALLOC_CONF": "expandable_segments:True"})
