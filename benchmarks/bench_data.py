"""Benchmark of preparing: MB/s from image and mask files to a store, against reading the same files by libraries.

python benchmarks/bench_data.py [--only KIND ...] [--repeat 3] [--workers] [--memory] [--folder FOLDER] [--quick]

The peers only read: SimpleITK and nibabel, image and mask, to arrays. sam2ft reads and checks both (reading alone), and
prepares them whole: window, levels, labels, digests, arrays and metadata on the disk. All sides of a repetition run
directly after each other in this process. `--workers`: 4 volumes by one and by two worker processes, their start
included. `--memory`: peak of a new process above its start, per voxel.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data_inputs import KINDS, write_inputs
from timing import Stopwatch, machine_line, say, spread

SHAPE, QUICK = (100, 512, 512), (20, 64, 64)
AIM = 0.5
_BYTES_OF_MASK = 1


def sitk_read(image: Path, mask: Path) -> None:
    import SimpleITK

    if image.is_dir() and len(files := SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(image))) > 1:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files))
    else:
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(next(image.iterdir()) if image.is_dir() else image)))
    SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(mask)))


def nibabel_read(image: Path, mask: Path) -> None:
    import nibabel

    for path in (image, mask):
        np.asarray(nibabel.load(path, mmap=False).dataobj)  # what is mapped only was not read


def our_read(image: Path, mask: Path) -> None:
    from sam2ft.data.images.volumes import read_volume
    from sam2ft.data.masks.read_masks import read_placed_mask

    read_placed_mask(mask, read_volume(image))


def our_prepare(dataset: Path, workers: int = 0) -> None:
    """Prepare into a new folder; `workers` 0: in this process."""
    from sam2ft.config.load_dataset import load_dataset
    from sam2ft.data.prepare.outcomes import STORED, PrepareOptions
    from sam2ft.data.prepare.prepare import prepare_dataset

    out = dataset.parent / "store"
    options = PrepareOptions(max(1, workers), isolated=workers > 0)
    summary = prepare_dataset(load_dataset(dataset), dataset.parent, out, lambda *_: None, options)
    if any(outcome.result != STORED for outcome in summary.outcomes):
        raise RuntimeError(summary.outcomes)
    shutil.rmtree(out)


def timed(call: Callable[[], None]) -> Stopwatch:
    started = Stopwatch.now()
    call()
    return started.elapsed()


def compare(folder: Path, kind: str, shape: tuple[int, int, int], repeat: int) -> None:
    dataset = write_inputs(folder, kind, shape, 1)
    _, image_ending, mask_ending = KINDS[kind]
    image, mask = dataset.parent / f"images/s0{image_ending}", dataset.parent / f"masks/s0{mask_ending}"
    sides: dict[str, Callable[[], None]] = {"SimpleITK": lambda: sitk_read(image, mask)}
    if image_ending.startswith(".nii"):
        sides["nibabel"] = lambda: nibabel_read(image, mask)
    sides |= {"our reading": lambda: our_read(image, mask), "prepare": lambda: our_prepare(dataset)}
    found: dict[str, list[Stopwatch]] = {name: [] for name in sides}
    for number in range(repeat + 1):
        for name, call in sides.items():
            took = timed(call)
            if number:  # the first fills the page cache and imports
                found[name].append(took)
    bytes_of_image = 4 if "float32" in kind else 2
    megabytes = np.prod(shape) * (bytes_of_image + _BYTES_OF_MASK) / 1e6
    rates = "   ".join(
        f"{name} {megabytes / statistics.median(each.cpu_s for each in took):6.0f}" for name, took in found.items()
    )
    say(f"{kind:20} MB/s of CPU time: {rates}")
    for name in ("our reading", "prepare"):
        pairs = list(zip(found["SimpleITK"], found[name], strict=True))
        cpu, wall = (spread([a[i] / b[i] for a, b in pairs]) for i in (1, 0))
        say(f"{'':20} {name} against SimpleITK: CPU {cpu}, wall {wall}")


def compare_workers(folder: Path, kind: str, shape: tuple[int, int, int], repeat: int) -> None:
    dataset = write_inputs(folder, kind, shape, 4)
    ratios, seconds = [], []
    for number in range(repeat):
        one, two = (timed(lambda n=n: our_prepare(dataset, n)).wall_s for n in (1, 2))
        if number or repeat == 1:
            ratios.append(one / two)
            seconds.append((one, two))
    middle = [statistics.median(each[i] for each in seconds) for i in (0, 1)]
    say(f"{kind:20} 4 volumes: 1 worker {middle[0]:.2f} s, 2 workers {middle[1]:.2f} s, ratio {spread(ratios)}")


def peak_of(folder: Path, kind: str, shape: tuple[int, int, int]) -> None:
    dataset = write_inputs(folder, kind, shape, 1)
    command = [sys.executable, __file__, "--peak-of", str(dataset)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout)["bytes"]
    say(f"{kind:20} peak {peak / 1e6:7.0f} MB above the start: {peak / np.prod(shape):.1f} bytes per voxel")


def say_peak(dataset: Path) -> None:
    """In a new process: prepare once small imports, then measure."""
    import sam2ft.data.prepare.prepare  # noqa: F401

    # A child inherits the peak of its parent (Linux), which this resets.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _peak_bytes()
    our_prepare(dataset)
    print(json.dumps({"bytes": _peak_bytes() - before}))


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def say_start(repeat: int) -> None:
    """Seconds until `prepare --help` ends, and what it imports."""
    code = (
        "import sys, time; a = time.process_time(); import sam2ft.data.prepare.prepare; "
        "print(time.process_time() - a, len(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    found = [subprocess.check_output(command, text=True).split() for _ in range(repeat)]
    say(f"import of prepare: {min(float(one[0]) for one in found):.2f} s of CPU, {found[0][1]} modules")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="kinds to measure")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--folder", type=Path, help="where inputs and stores lie meanwhile (default: a temporary one)")
    parser.add_argument("--quick", action="store_true", help="small volumes of one kind, once: a short trial")
    parser.add_argument("--peak-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peak_of:
        say_peak(given.peak_of)
        return
    shape, repeat = (QUICK, 1) if given.quick else (SHAPE, given.repeat)
    work: Any = peak_of if given.memory else compare_workers if given.workers else compare
    say(machine_line())
    say_start(repeat)
    for kind in given.only[:1] if given.quick else given.only:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            if work is peak_of:
                peak_of(Path(folder) / "inputs", kind, shape)
            else:
                work(Path(folder) / "inputs", kind, shape, repeat)


if __name__ == "__main__":
    main()
