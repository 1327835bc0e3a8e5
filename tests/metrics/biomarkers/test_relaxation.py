import math

import numpy as np
import pytest

from sam2ft.core.labels import Label, LabelTable


def values(rows, biomarker, definition):
    (found,) = [
        one for one in rows if (one["label"], one["biomarker"], one["definition"]) == (1, biomarker, definition)
    ]
    return found


def block(*shape: int) -> np.ndarray:
    return np.ones(shape, np.uint8)


def test_a_map_of_40_everywhere_is_40_in_every_tissue(score):
    """The predecessor's "total" over the tissues was 26.7."""
    mask = block(2, 6, 6)
    mask[:, 3:] = 2
    rows = score(mask, mask, names=("t1rho",), maps={"t1rho": np.full(mask.shape, 40, np.float32)})["biomarker_volume"]
    means = [one for one in rows if one["definition"] == "mean"]
    assert [(one["label"], one["reference"], one["prediction"], one["unit"]) for one in means] == [
        (1, 40, 40, "ms"),
        (2, 40, 40, "ms"),
    ]


@pytest.mark.parametrize("biomarker", ["t2", "t1rho"])
def test_failed_fits_are_left_out_not_counted_as_zero_and_not_clipped(score, biomarker):
    """Half of the voxels 0, a fifth at 2000, the rest 40: the predecessor wrote 32."""
    times = np.full((1, 10, 10), 40, np.float32)
    times.flat[:50] = 0
    times.flat[50:70] = 2000
    times.flat[70] = np.nan
    rows = score(block(1, 10, 10), block(1, 10, 10), names=(biomarker,), maps={biomarker: times})["biomarker_volume"]
    found = values(rows, biomarker, "mean")
    assert (found["reference"], found["n_reference"]) == (40, 29)
    assert values(rows, biomarker, "sd")["reference"] == 0
    assert values(rows, biomarker, "valid_share")["reference"] == pytest.approx(0.29)


def test_voxels_are_pooled_not_slices_averaged(score):
    """10,000 voxels at 40 and 4 at 80 in another slice: the predecessor wrote 60."""
    mask, times = np.zeros((2, 100, 100), np.uint8), np.full((2, 100, 100), 40, np.float32)
    mask[0], mask[1, 0, :4], times[1] = 1, 1, 80
    rows = score(mask, mask, names=("t2",), maps={"t2": times})
    assert values(rows["biomarker_volume"], "t2", "mean")["prediction"] == pytest.approx(40.016, abs=5e-4)
    assert [one["reference"] for one in rows["biomarker_slice"]] == [40, 80]
    assert values(rows["biomarker_volume"], "t2", "median")["reference"] == 40


def test_an_empty_prediction_has_no_t2_and_says_missed(score):
    rows = score(0 * block(1, 4, 4), block(1, 4, 4), names=("t2",), maps={"t2": np.full((1, 4, 4), 30, np.float32)})
    found = values([one for one in rows["biomarker_volume"] if one["label"] == 1], "t2", "mean")
    assert (found["reference"], found["status"], found["n_prediction"]) == (30, "missed", 0)
    assert math.isnan(found["prediction"])
    assert math.isnan(found["difference"])


def test_the_bound_of_t1rho_can_be_set(score):
    from sam2ft.metrics.factory import metric_factory

    times = {"t1rho": np.array([[[40, 150]]], np.float32)}
    narrow = metric_factory("T1rho", upper_ms=100.0)
    rows = score(block(1, 1, 2), block(1, 1, 2), names=(), metrics=(narrow,), maps=times)["biomarker_volume"]
    assert values(rows, "t1rho", "mean")["reference"] == 40


def test_the_bound_of_t1rho_is_a_setting(score):
    times = {"t1rho": np.array([[[40, 150, 501]]], np.float32)}
    for bound, number in ((500.0, 2), (100.0, 1), (1000.0, 3)):
        rows = score(block(1, 1, 3), block(1, 1, 3), names=("t1rho",), maps=times, t1rho_upper_ms=bound)
        assert values(rows["biomarker_volume"], "t1rho", "mean")["n_reference"] == number


def plate_on_bone(num_rows: int = 6) -> tuple[np.ndarray, LabelTable]:
    mask = np.zeros((6, 24, 20), np.uint8)
    mask[:, :8], mask[:, 8 : 8 + num_rows] = 2, 1
    return mask, LabelTable((Label(1, "plate", interface="bone"), Label(2, "bone")))


def test_layers_are_the_halves_by_depth_from_the_bone(score):
    """A plate of 6 rows: 10, 20, 30 ms in the three at the bone and 50, 60, 70 ms in the three above."""
    mask, labels = plate_on_bone()
    times = np.zeros(mask.shape, np.float32)
    times[:, 8:14] = np.array([10, 20, 30, 50, 60, 70])[:, None]
    rows = score(mask, mask, names=("t2",), labels=labels, tissues=(1,), maps={"t2": times}, spacing=(3, 0.5, 0.4))
    found = {one["definition"]: one for one in rows["biomarker_volume"]}
    assert {name: one["reference"] for name, one in found.items() if name.startswith(("mean", "median"))} == {
        "mean": 40, "mean_deep": 20, "mean_superficial": 60,
        "median": 40, "median_deep": 20, "median_superficial": 60,
    }  # fmt: skip
    assert found["sd_deep"]["reference"] == pytest.approx(8.2, abs=0.1)
    assert found["mean_deep"]["n_reference"] + found["mean_superficial"]["n_reference"] == (mask == 1).sum()


def test_the_layers_of_a_prediction_are_halves_of_its_own_thickness(score):
    """The prediction has the two deepest of four rows: one is its deep half, one its superficial."""
    mask, labels = plate_on_bone(4)
    prediction = np.where(np.arange(24)[:, None] < 10, mask, 0).astype(np.uint8)
    times = np.zeros(mask.shape, np.float32)
    times[:, 8:12] = np.array([10, 20, 30, 40])[:, None]
    rows = score(prediction, mask, names=("t2",), labels=labels, tissues=(1,), maps={"t2": times})
    found = {one["definition"]: (one["reference"], one["prediction"]) for one in rows["biomarker_volume"]}
    assert (found["mean_deep"], found["mean_superficial"]) == ((15, 10), (35, 20))


def test_the_layers_of_a_curved_plate_split_its_shell_by_depth(score):
    z, y, x = np.meshgrid(*(np.arange(56) * 0.8 - 22.1,) * 3, indexing="ij")
    radius = np.sqrt(z * z + y * y + x * x)
    mask = np.where(radius < 16, 2, np.where((radius < 20) & (y > 2), 1, 0)).astype(np.uint8)
    labels = plate_on_bone()[1]
    depth = ((radius - 16) / 4).astype(np.float32)
    rows = score(mask, mask, names=("t2",), labels=labels, tissues=(1,), maps={"t2": 100 * depth}, spacing=(0.8,) * 3)
    found = {one["definition"]: one["reference"] for one in rows["biomarker_volume"]}
    # Means of depth over the halves 16 to 18 mm and 18 to 20 mm of a shell.
    deep, superficial = (
        100 * ((outer**4 - inner**4) / 4 / ((outer**3 - inner**3) / 3) - 16) / 4
        for inner, outer in ((16, 18), (18, 20))
    )
    assert found["mean_deep"] == pytest.approx(deep, abs=1.5)
    assert found["mean_superficial"] == pytest.approx(superficial, abs=1.5)


def test_a_tissue_without_a_bone_has_no_layers(score):
    rows = score(block(2, 4, 4), block(2, 4, 4), names=("t2",), maps={"t2": np.full((2, 4, 4), 40, np.float32)})
    assert not [one for one in rows["biomarker_volume"] if "deep" in one["definition"]]


def test_the_bound_of_t2_is_a_setting_whose_default_is_that_of_dosma(score):
    """A disc at 80 and 150 ms: 80 with the default, which cuts half of it away, and 115 with a bound above 150."""
    times = {"t2": np.array([[[80, 150]]], np.float32)}
    for given, mean, share in (({}, 80, 0.5), ({"t2_upper_ms": 150.0}, 115, 1.0), ({"t2_upper_ms": 79.0}, None, 0.0)):
        rows = score(block(1, 1, 2), block(1, 1, 2), names=("t2",), maps=times, **given)["biomarker_volume"]
        found = values(rows, "t2", "mean")["reference"]
        assert math.isnan(found) if mean is None else found == mean
        assert values(rows, "t2", "valid_share")["reference"] == share
