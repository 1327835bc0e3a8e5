"""One window per volume."""

import numpy as np
import pytest

from sam2ft.core.errors import DataError
from sam2ft.data.store.intensity import intensity_window, to_uint16


def test_the_window_comes_from_all_voxels_and_not_slice_by_slice() -> None:
    image = np.concatenate([np.zeros((1, 10, 10)), np.full((1, 10, 10), 100.0)])
    assert intensity_window(image, (0, 100)) == (0.0, 100.0)


def test_percentiles_cut_off_outliers() -> None:
    image = np.arange(1001, dtype=np.float32).reshape(1, 7, 143)
    image[0, 0, 0] = 1e6
    low, high = intensity_window(image, (0.5, 99.5))
    assert (low, high) == pytest.approx((6, 996), abs=1)


def test_levels_run_from_0_to_65535_and_clip() -> None:
    levels = to_uint16(np.array([[[-5.0, 0.0, 50.0, 100.0, 900.0]]]), (0.0, 100.0))
    assert levels.tolist() == [[[0, 0, 32768, 65535, 65535]]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([7, 7, 7, 7], "constant: every voxel is 7"),
        ([1.0, np.nan, 2.0, np.inf], "2 NaN or infinite voxels of 4"),
    ],
)
def test_an_image_without_contrast_or_with_holes_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        intensity_window(np.array(values).reshape(1, 2, 2), (0.5, 99.5))


def test_percentiles_that_coincide_are_refused() -> None:
    image = np.zeros((1, 100, 100))
    image[0, 0, 0] = 1
    with pytest.raises(DataError, match=r"percentiles 0\.5 and 99\.5 of the image are both 0"):
        intensity_window(image, (0.5, 99.5))
