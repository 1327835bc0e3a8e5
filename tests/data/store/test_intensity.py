"""One window per volume."""

import numpy as np
import pytest

from sam2ft.config.schema.dataset import Intensity
from sam2ft.core.errors import DataError
from sam2ft.data.store.intensity import _percentiles, intensity_window, missing_values, to_uint16


def test_the_window_comes_from_all_voxels_and_not_slice_by_slice() -> None:
    image = np.concatenate([np.zeros((1, 10, 10)), np.full((1, 10, 10), 100.0)])
    assert intensity_window(image, Intensity(clip_percentiles=(0, 100))) == (0.0, 100.0)


def test_percentiles_cut_off_outliers() -> None:
    image = np.arange(1001, dtype=np.float32).reshape(1, 7, 143)
    image[0, 0, 0] = 1e6
    low, high = intensity_window(image, Intensity())
    assert (low, high) == pytest.approx((6, 996), abs=1)


def test_levels_run_from_0_to_65535_and_clip() -> None:
    levels = to_uint16(np.array([[[-5.0, 0.0, 50.0, 100.0, 900.0]]]), (0.0, 100.0))
    assert levels.tolist() == [[[0, 0, 32768, 65535, 65535]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([7, 7, 7, 7], "constant: every voxel is 7"),
        ([np.nan, 3.0, np.inf, 3.0], "constant: every voxel is 3"),
        ([np.nan, np.nan, -np.inf, np.nan], "no value: all 4 voxels are NaN, infinite or padding"),
    ],
)
def test_an_image_without_contrast_or_values_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        intensity_window(np.array(values).reshape(1, 2, 2), Intensity())


def test_percentiles_that_coincide_are_refused() -> None:
    image = np.zeros((1, 100, 100))
    image[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"percentiles 0\.5 and 99\.5 of the image are both 0"):
        intensity_window(image, Intensity())


@pytest.mark.parametrize(
    ("intensity", "expected"),
    [
        (Intensity(window=(-160.0, 240.0)), (-160, 240)),
        (Intensity(zscore=(-3.0, 3.0)), (4 - 3 * 2, 4 + 3 * 2)),
        (Intensity(clip_percentiles=(0.0, 100.0)), (2, 6)),
    ],
)
def test_each_window_leaves_out_voxels_without_a_value(intensity: Intensity, expected: tuple[float, float]) -> None:
    image = np.array([[[2.0, 6.0, np.nan, 2.0, 6.0, np.inf, -np.inf]]])  # mean 4, sd 2
    assert intensity_window(image, intensity) == pytest.approx(expected)
    levels = to_uint16(image, expected)[0, 0]
    assert levels[[2, 5, 6]].tolist() == [0, 0, 0]
    assert missing_values(image) == ("3 of 7 voxels have no value (NaN, infinite or padding); they are 0 in the store",)
    assert missing_values(image[..., :2]) == missing_values(np.zeros((1, 2, 2), dtype=np.int16)) == ()


def test_a_fixed_window_is_the_same_for_every_image_and_must_meet_it() -> None:
    hounsfield = np.array([[[-1000, -160, 40, 240, 3000]]], dtype=np.int16)
    window = intensity_window(hounsfield, Intensity(window=(-160.0, 240.0)))
    assert to_uint16(hounsfield, window).tolist() == [[[0, 0, 32768, 65535, 65535]]]
    for outside in ((4000.0, 5000.0), (-3000.0, -2000.0), (3000.0, 3001.0)):
        with pytest.raises(DataError, match=r"spans -1000 to 3000, all outside intensity\.window"):
            intensity_window(hounsfield, Intensity(window=outside))


@pytest.mark.parametrize("percentages", [(0.5, 99.5), (0, 100), (1, 50), (25, 75.3), (49.9999, 50)])
@pytest.mark.parametrize("seed", range(6))
def test_percentiles_of_float32_are_those_of_numpy_to_the_bit(seed: int, percentages: tuple[float, float]) -> None:
    draw = np.random.default_rng(seed)
    shape = tuple(draw.integers(1, 12, size=3))
    kinds = [
        draw.normal(0, 1000, shape),
        draw.integers(-5, 6, shape),
        draw.exponential(1, shape) * 10.0 ** draw.integers(-30, 30, shape),
        np.where(draw.random(shape) < 0.5, -0.0, draw.normal(size=shape)),
    ]
    for values in [one.astype(np.float32) for one in kinds] + [kinds[0].astype(np.float32).ravel()]:
        assert _percentiles(values, percentages) == tuple(float(edge) for edge in np.percentile(values, percentages))


def old_levels(image: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Levels as version 0.1.0 computed them, of the whole image at once."""
    low, high = window
    values = image.astype(np.float64)
    unit = np.clip((np.where(np.isfinite(values), values, low) - low) / (high - low), 0, 1)
    return np.round(unit * 65535).astype(np.uint16)


DTYPES = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.float32, np.float64]


def random_image(dtype: type, seed: int) -> np.ndarray:
    """Noise with air, of which every second image is 0 in many voxels, in one of three orders of axes."""
    rng = np.random.default_rng(seed)
    scale = 30 if np.dtype(dtype).itemsize == 1 else 700
    values = rng.gamma(2, scale / 4, (6, 10, 14)) - (0 if np.dtype(dtype).kind == "u" else scale / 3)
    values[rng.random(values.shape) < 0.4 * (seed % 2)] = 0
    values = np.clip(values, 0 if np.dtype(dtype).kind == "u" else -128, 120 if scale == 30 else 1e9).astype(dtype)
    return [values, np.asfortranarray(values), values.transpose(1, 2, 0)][seed % 3]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("percentages", [(0.5, 99.5), (0.0, 100.0), (1.3, 97.9)])
def test_windows_and_levels_are_those_of_the_plain_definition(
    percentages: tuple[float, float], seed: int, dtype: type
) -> None:
    image = random_image(dtype, seed)
    window = intensity_window(image, Intensity(clip_percentiles=percentages))
    exact = np.percentile(image.astype(np.float64), percentages) if dtype != np.float32 else window
    assert window == (float(exact[0]), float(exact[1]))
    levels = to_uint16(image, window)
    assert levels.dtype == np.uint16
    assert np.array_equal(levels, old_levels(image, window))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(6))
def test_levels_of_voxels_without_a_value_are_those_of_the_plain_definition(seed: int, dtype: type) -> None:
    image = random_image(dtype, seed)
    image[np.random.default_rng(seed).random(image.shape) < 0.1] = [np.nan, np.inf, -np.inf][seed % 3]
    window = intensity_window(image, Intensity())
    assert window == intensity_window(image[np.isfinite(image)], Intensity())
    assert np.array_equal(to_uint16(image, window), old_levels(image, window))


def test_neighbouring_ranks_of_16_bit_may_be_further_apart_than_16_bit() -> None:
    """`np.percentile` of int16 overflows there: 32767.5."""
    image = np.array([[[-32768] * 10 + [32767] * 10]], dtype=np.int16)
    window = intensity_window(image, Intensity(clip_percentiles=(50, 100)))
    assert window == (-0.5, 32767)


@pytest.mark.parametrize("chosen", [{"zscore": (-2.0, 2.0)}, {"window": (-50.0, 80.0)}, {}])
@pytest.mark.parametrize("seed", range(3))
def test_whole_numbers_have_one_window_whatever_their_type(seed: int, chosen: dict[str, tuple[float, float]]) -> None:
    """A DICOM series is int16 or float32, as its header allows."""
    image = random_image(np.int16, seed)
    windows = {intensity_window(image.astype(dtype), Intensity(**chosen)) for dtype in (np.int16, np.int32, np.float32)}
    assert len(windows) == 1
    levels = [to_uint16(image.astype(dtype), *windows) for dtype in (np.int16, np.int32, np.float32)]
    assert all(np.array_equal(levels[0], other) for other in levels)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int8, np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("order", ["C", "F", "transposed"])
def test_levels_in_place_are_those_in_new_memory(dtype: type, order: str) -> None:
    values = np.random.default_rng(3).integers(-40 if np.dtype(dtype).kind != "u" else 0, 120, (4, 6, 8)).astype(dtype)
    image = values.transpose(1, 2, 0) if order == "transposed" else np.asarray(values, order=order)  # type: ignore[call-overload]
    before = image.copy()
    expected = to_uint16(image, (3.0, 100.0))
    assert np.array_equal(image, before)
    found = to_uint16(image, (3.0, 100.0), in_place=True)
    assert np.array_equal(found, expected)
    assert found.flags.c_contiguous
    assert np.shares_memory(found, image) == (np.dtype(dtype).itemsize == 2 and order == "C")


def test_an_image_that_cannot_be_written_to_is_left_as_it_is() -> None:
    for dtype in (np.int16, np.uint16):
        image = np.arange(24, dtype=dtype).reshape(2, 3, 4)
        image.flags.writeable = False
        levels = to_uint16(image, (0.0, 23.0), in_place=True)
        assert levels.max() == 65535
        assert image.max() == 23
