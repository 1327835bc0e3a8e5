"""Benchmark of T2 and T1rho fits: effect of noise, and speed and agreement against DOSMA on real knee echoes.

python benchmarks/bench_relaxometry.py                               bias and SD of fits to decays with Rician noise
python benchmarks/bench_relaxometry.py --echoes DICOM_FOLDER --dosma PYTHON [--voxels N] [--repetitions N]

PYTHON is the interpreter of an environment with dosma 0.1.2 (GPL, never a dependency; it needs numpy<2, scipy<1.14,
pandas<2.3, scikit-image<0.25, pydicom<3); DICOM_FOLDER holds one multi-echo series.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from timing import machine_line, ratio_line, say

from sam2ft.data.dicom.relaxometry_series import read_echoes
from sam2ft.data.images.relaxometry import FitSettings, fit_decay

T2 = FitSettings(bounds_ms=(0, 100))
ECHOES_MS, SPIN_LOCKS_MS = tuple(6.312 * number for number in range(1, 9)), (0.0, 10.0, 40.0, 80.0)
# Voxels with less signal in the first echo hold air.
LEAST_SIGNAL = 300
PEER = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
from dosma.core.fitting import MonoExponentialFit
from dosma.core.med_volume import MedicalVolume
given = np.load(sys.argv[1])
echoes = [MedicalVolume(echo.reshape(-1, 1, 1).astype(float), np.eye(4)) for echo in given["signals"]]
fit = MonoExponentialFit(bounds=(0, 100), tc0="polyfit", r2_threshold=0.9, decimal_precision=10)
start = time.perf_counter()
t2, r2 = fit.fit(given["times_ms"], echoes)
np.savez(sys.argv[2], t2=t2.volume.ravel(), seconds=time.perf_counter() - start)
"""


def with_noise(
    times_ms: tuple[float, ...], true_ms: float, snr: float, voxels: int = 50_000
) -> npt.NDArray[np.float32]:
    """Magnitudes of decays that start at 1000; both channels have Gaussian noise with an SD of 1000 / snr."""
    rng = np.random.default_rng([int(10 * true_ms), int(snr)])
    real, imaginary = rng.normal(0, 1000 / snr, (2, len(times_ms), voxels))
    decay = 1000 * np.exp(-np.array(times_ms) / true_ms)[:, None]
    return np.hypot(decay + real, imaginary).astype(np.float32)


def say_noise() -> None:
    for name, times_ms, settings in (
        ("T2, 8 echoes 6.3 to 50.5 ms", ECHOES_MS, T2),
        ("T1rho, spin locks 0, 10, 40, 80 ms", SPIN_LOCKS_MS, FitSettings(bounds_ms=(0, 500))),
    ):
        say(f"{name}; signal at time 0 over noise (SNR), bias and SD in ms of the valid voxels")
        for true_ms in (20.0, 40.0, 60.0):
            for snr in (200, 100, 50, 20):
                error = fit_decay(with_noise(times_ms, true_ms, snr), times_ms, settings).t_ms.astype(float) - true_ms
                valid = np.isfinite(error)
                say(
                    f"  {true_ms:3.0f} ms  SNR {snr:3d}  bias {error[valid].mean():+7.3f}  "
                    f"SD {error[valid].std():6.3f}  valid {valid.mean():6.1%}"
                )


def compare(folder: Path, python: Path, voxels: int, repetitions: int) -> None:
    series = read_echoes(folder)
    flat = series.images_tzyx.reshape(len(series.times_ms), -1)
    tissue = np.flatnonzero(flat[0] > LEAST_SIGNAL)
    peer_s, ours_s, worst_ms, both = [], [], 0.0, 0
    for repetition in range(repetitions):
        chosen = np.random.default_rng(repetition).choice(tissue, min(voxels, len(tissue)), replace=False)
        signals = np.ascontiguousarray(flat[:, np.sort(chosen)])
        theirs, seconds = peer(python, signals, series.times_ms)
        start = time.perf_counter()
        ours = fit_decay(signals, series.times_ms, T2).t_ms
        ours_s.append(time.perf_counter() - start)
        peer_s.append(seconds)
        valid = np.isfinite(ours) & (theirs > 0)
        worst_ms, both = max(worst_ms, float(np.abs(ours - theirs)[valid].max())), both + int(valid.sum())
        only = (int((np.isfinite(ours) & (theirs == 0)).sum()), int((np.isnan(ours) & (theirs > 0)).sum()))
        rates = len(chosen) / seconds, len(chosen) / ours_s[-1]
        say(
            f"voxels a second: DOSMA {rates[0]:,.0f}, sam2ft {rates[1]:,.0f}; "
            f"valid in sam2ft alone {only[0]}, in DOSMA alone {only[1]}"
        )
    say(ratio_line("T2 fit", peer_s, ours_s, f"{len(chosen):,} voxels"))
    say(f"largest difference {worst_ms:.4f} ms over {both:,} voxels that are valid in both")


def peer(
    python: Path, signals: npt.NDArray[np.float32], times_ms: tuple[float, ...]
) -> tuple[npt.NDArray[np.float64], float]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, signals=signals, times_ms=times_ms)
        subprocess.run([str(python), "-c", PEER, str(given), str(found)], check=True, stdout=subprocess.DEVNULL)
        result = np.load(found)
        return result["t2"], float(result["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--echoes", type=Path, metavar="FOLDER", help="one multi-echo DICOM series")
    parser.add_argument("--dosma", type=Path, metavar="PYTHON", help="interpreter of an environment with dosma 0.1.2")
    parser.add_argument("--voxels", type=int, default=3000)
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    say(machine_line())
    if given.echoes and given.dosma:
        compare(given.echoes, given.dosma, given.voxels, given.repetitions)
    else:
        say_noise()


if __name__ == "__main__":
    main()
