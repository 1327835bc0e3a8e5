"""Fits of decays: exact without noise, right on average with it, invalid voxels empty, and as another program fits."""

import json
from pathlib import Path

import numpy as np
import pytest

from sam2ft.config.schema.maps import MapSource
from sam2ft.core.errors import DataError
from sam2ft.data.images.relaxometry import Decay, checked_times, fit_decay

ECHOES_MS = tuple(6.312 * number for number in range(1, 9))
SPIN_LOCKS_MS = (0.0, 10.0, 40.0, 80.0)
T2 = MapSource(bounds_ms=(0, 100))
T1RHO = MapSource(bounds_ms=(0, 500))


def decay_of(images: np.ndarray, times_ms: tuple[float, ...], source: MapSource) -> Decay:
    assert source.bounds_ms is not None
    return fit_decay(images, times_ms, source.bounds_ms, source)


def decays(t_ms: np.ndarray, times_ms: tuple[float, ...], s0: float | np.ndarray = 1000) -> np.ndarray:
    return s0 * np.exp(-np.array(times_ms)[:, None] / t_ms)


@pytest.mark.parametrize(("times_ms", "settings"), [(ECHOES_MS, T2), (SPIN_LOCKS_MS, T1RHO)])
def test_decays_without_noise_are_recovered_to_a_ten_thousandth_of_a_millisecond(times_ms, settings) -> None:
    true = np.linspace(3, 0.99 * settings.bounds_ms[1], 20_000)
    s0 = np.random.default_rng(0).uniform(1, 4000, len(true))
    fit = decay_of(decays(true, times_ms, s0), times_ms, settings)
    assert np.abs(fit.t_ms - true).max() < 1e-4
    assert np.abs(fit.s0 / s0 - 1).max() < 1e-5
    assert fit.r2.min() > 1 - 1e-6


def test_a_fit_is_the_minimum_that_scipy_finds_from_the_truth() -> None:
    from scipy.optimize import curve_fit

    rng = np.random.default_rng(1)
    true = rng.uniform(20, 70, 60)
    noisy = decays(true, ECHOES_MS) + rng.normal(0, 30, (len(ECHOES_MS), 60))
    fit = decay_of(noisy, ECHOES_MS, MapSource(bounds_ms=(0, 1000), r2_min=0))
    for voxel in range(60):
        (s0, t), _ = curve_fit(
            lambda x, s0, t: s0 * np.exp(-x / t), ECHOES_MS, noisy[:, voxel], (1000, true[voxel]), ftol=1e-12
        )
        assert (fit.t_ms[voxel], fit.s0[voxel]) == pytest.approx((t, s0), rel=1e-5)


@pytest.mark.parametrize(("snr", "bias_ms", "sd_ms"), [(200, 0.05, 0.5), (50, 0.2, 1.8)])
def test_rician_noise_moves_the_mean_little(snr: float, bias_ms: float, sd_ms: float) -> None:
    rng = np.random.default_rng(2)
    channels = rng.normal(0, 1000 / snr, (2, len(ECHOES_MS), 20_000))
    noisy = np.hypot(decays(np.full(20_000, 40.0), ECHOES_MS) + channels[0], channels[1])
    error = decay_of(noisy.astype(np.float32), ECHOES_MS, T2).t_ms - 40
    assert np.isfinite(error).all()
    assert abs(error.mean()) < bias_ms
    assert error.std() < sd_ms


def test_voxels_that_are_no_decay_within_bounds_are_empty_and_never_clipped() -> None:
    fits = {
        "beyond 100 ms": decays(np.array([140.0]), ECHOES_MS)[:, 0],
        "growing": decays(np.array([-30.0]), ECHOES_MS)[:, 0],
        "constant": np.full(8, 500.0),
        "no signal": np.zeros(8),
        "negative": np.full(8, -5.0),
        "one echo is not finite": np.where(np.arange(8) == 3, np.nan, decays(np.array([40.0]), ECHOES_MS)[:, 0]),
        "infinite": np.where(np.arange(8) == 3, np.inf, decays(np.array([40.0]), ECHOES_MS)[:, 0]),
        "only the first echo": np.where(np.arange(8) == 0, 900.0, 0.0),
        "up and down": np.array([900.0, 100, 900, 100, 900, 100, 900, 100]),
        "good": decays(np.array([40.0]), ECHOES_MS)[:, 0],
    }
    fit = decay_of(np.stack(list(fits.values()), axis=1), ECHOES_MS, T2)
    assert [name for name, t in zip(fits, fit.t_ms, strict=True) if np.isfinite(t)] == ["good"]
    assert np.isnan(fit.s0).tolist() == np.isnan(fit.t_ms).tolist()


def test_bounds_and_r2_are_what_is_asked_for() -> None:
    true = np.array([20.0, 60.0, 140.0])
    images = decays(true, ECHOES_MS)
    assert np.isfinite(decay_of(images, ECHOES_MS, MapSource(bounds_ms=(0, 200))).t_ms).all()
    assert np.isfinite(decay_of(images, ECHOES_MS, MapSource(bounds_ms=(30, 60))).t_ms).tolist() == [False, True, False]
    wavy = images[:, 1] * (1 + 0.1 * np.array([1, -1] * 4))
    r2 = float(decay_of(wavy[:, None], ECHOES_MS, T2).r2[0])
    assert 0.8 < r2 < 0.99
    assert np.isfinite(decay_of(wavy[:, None], ECHOES_MS, MapSource(bounds_ms=(0, 100), r2_min=r2 - 0.001)).t_ms[0])
    assert np.isnan(decay_of(wavy[:, None], ECHOES_MS, MapSource(bounds_ms=(0, 100), r2_min=r2 + 0.001)).t_ms[0])


def test_skipping_the_first_echo_takes_it_out() -> None:
    images = decays(np.array([40.0]), ECHOES_MS)
    images[0] *= 0.8
    assert abs(decay_of(images, ECHOES_MS, T2).t_ms[0] - 40) > 2
    assert decay_of(images, ECHOES_MS, MapSource(bounds_ms=(0, 100), skip_first=True)).t_ms[0] == pytest.approx(
        40, abs=1e-4
    )


def test_a_voxel_is_fitted_the_same_whatever_lies_beside_it() -> None:
    rng = np.random.default_rng(3)
    images = decays(rng.uniform(5, 95, 9000), ECHOES_MS) + rng.normal(0, 60, (8, 9000))
    whole = decay_of(images.reshape(8, 90, 100), ECHOES_MS, T2)
    part = decay_of(images[:, 4000:4101], ECHOES_MS, T2)
    assert whole.t_ms.shape == (90, 100)
    assert np.array_equal(whole.t_ms.ravel()[4000:4101], part.t_ms, equal_nan=True)


def test_scaling_the_signal_changes_only_s0() -> None:
    rng = np.random.default_rng(4)
    images = decays(rng.uniform(5, 95, 500), ECHOES_MS) + rng.normal(0, 20, (8, 500))
    once, twice = decay_of(images, ECHOES_MS, T2), decay_of(4 * images, ECHOES_MS, T2)
    assert np.array_equal(once.t_ms, twice.t_ms, equal_nan=True)
    assert np.array_equal(4 * once.s0, twice.s0, equal_nan=True)


@pytest.mark.parametrize(
    ("times_ms", "message"),
    [
        ((10, 20, 20, 30), "times 10, 20, 20, 30 ms do not increase"),
        ((10, 30, 20, 40), "times 10, 30, 20, 40 ms do not increase"),
        ((10, 20), "2 times .* at least 3"),
    ],
)
def test_times_that_cannot_be_fitted_are_refused(times_ms: tuple[float, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_times(times_ms, skip_first=False)
    with pytest.raises(DataError, match="3 times for 4 images"):
        decay_of(np.ones((4, 2)), (1, 2, 3), T2)


def test_real_knee_echoes_are_fitted_as_dosma_does() -> None:
    oracle = json.loads((Path(__file__).parent / "dosma_knee_t2.json").read_text())
    fit = decay_of(np.array(oracle["signals"]).T, oracle["times_ms"], T2)
    theirs = np.array(oracle["t2_ms"])
    valid = theirs > 0
    assert (np.isfinite(fit.t_ms) == valid).all()
    assert valid.sum() == 150
    assert np.abs(fit.t_ms - theirs)[valid].max() < 0.01
    assert np.abs(fit.r2 - np.array(oracle["r2"]))[valid].max() < 1e-4
