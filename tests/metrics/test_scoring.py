import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2ft.core.errors import DataError
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Box
from sam2ft.core.tables.rows import TABLES, format_csv, stamped
from sam2ft.metrics.counts import Overlap, total
from sam2ft.metrics.measurement import Measurement, metric
from sam2ft.metrics.scoring import PromptedMask

ALL = ("dice", "iou", "precision", "recall", "hd", "hd95", "assd", "nsd")
MAPS = hnp.arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2))


def two_slices() -> tuple[np.ndarray, np.ndarray]:
    """Slice 0: label 1 has 4 px, 2 found and 1 too many. Slice 1: 2 px of label 1 missed, 1 px of label 2 made up."""
    reference, prediction = np.zeros((2, 4, 4), np.uint8), np.zeros((2, 4, 4), np.uint8)
    reference[0, 0, :4] = 1
    prediction[0, 0, :2] = 1
    prediction[0, 1, 0] = 1
    reference[1, 2, :2] = 1
    prediction[1, 0, 3] = 2
    return prediction, reference


def row(rows, **key):
    (found,) = [one for one in rows if all(one[name] == value for name, value in key.items())]
    return found


def test_slice_rows_hold_the_counts_of_the_picture(score):
    rows = score(*two_slices(), spacing=(3.0, 0.5, 2.0))["slice"]
    assert [(one["slice"], one["label"]) for one in rows] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    first = row(rows, slice=0, label=1)
    assert (first["tp"], first["fp"], first["fn"], first["tn"]) == (2, 1, 2, 11)
    assert (first["area_reference_mm2"], first["area_prediction_mm2"]) == (4.0, 3.0)
    assert first["dice"] == pytest.approx(4 / 7)
    assert [one["status"] for one in rows] == ["ok", "absent", "missed", "spurious"]
    assert math.isnan(row(rows, slice=0, label=2)["dice"])
    assert row(rows, slice=1, label=1)["recall"] == row(rows, slice=1, label=1)["precision"] == 0


def test_volume_rows_are_sums_of_slice_rows_and_keep_the_slice_mean_apart(score):
    rows = score(*two_slices(), spacing=(3.0, 0.5, 2.0))
    volume = row(rows["volume"], label=1)
    for count in ("tp", "fp", "fn", "tn"):
        assert volume[count] == sum(one[count] for one in rows["slice"] if one["label"] == 1)
    assert volume["dice"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 4))
    assert volume["dice_slice_mean"] == pytest.approx((4 / 7 + 0) / 2)
    assert (volume["volume_reference_mm3"], volume["volume_prediction_mm3"]) == (18.0, 9.0)
    assert volume["num_slices"] == 2


def test_ten_large_good_slices_and_six_small_bad_ones_give_volume_dice_of_0_945(score):
    """The predecessor wrote 0.706, the mean of slice Dice, into the column of the volume."""
    # Ten times as many pixels as in the case, so that Dice 0.30 is a whole number of them: 36 of 120.
    reference, prediction = np.zeros((16, 100, 120), np.uint8), np.zeros((16, 100, 120), np.uint8)
    for index in range(10):
        reference[index].flat[:10_000] = 1
        prediction[index].flat[500:10_500] = 1
    for index in range(10, 16):
        reference[index].flat[:120] = 1
        prediction[index].flat[84:204] = 1
    volume = row(score(prediction, reference)["volume"], label=1)
    assert volume["dice"] == pytest.approx(0.945, abs=5e-4)
    assert volume["dice_slice_mean"] == pytest.approx(0.706, abs=5e-4)


def test_distances_are_empty_unless_asked_for(score):
    rows = score(*two_slices(), names=("dice", "hd95"))
    first = row(rows["slice"], slice=0, label=1)
    assert first["hd95_mm"] > 0
    assert all(math.isnan(first[name]) for name in ("hd_mm", "assd_mm", "nsd"))


def test_a_missed_label_gets_the_diagonal_of_the_volume_in_slice_and_volume_rows(score):
    rows = score(*two_slices(), names=ALL, spacing=(3.0, 0.5, 2.0))
    diagonal = math.sqrt((2 * 3.0) ** 2 + (4 * 0.5) ** 2 + (4 * 2.0) ** 2)
    for found in (
        row(rows["slice"], slice=1, label=1),
        row(rows["slice"], slice=1, label=2),
        row(rows["volume"], label=2),
    ):
        assert [found[name] for name in ("hd_mm", "hd95_mm", "assd_mm", "nsd")] == [diagonal] * 3 + [0]
    assert math.isnan(row(rows["slice"], slice=0, label=2)["hd_mm"])


def test_a_configured_distance_replaces_the_diagonal(score):
    rows = score(*two_slices(), names=("hd",), missed_distance=12.5)
    assert row(rows["slice"], slice=1, label=1)["hd_mm"] == 12.5


def test_slice_distances_use_the_spacing_in_the_plane_and_volume_distances_all_three(score):
    reference, prediction = np.zeros((3, 5, 5), np.uint8), np.zeros((3, 5, 5), np.uint8)
    reference[1, 2, 2] = prediction[1, 2, 4] = 1
    reference[2, 2, 4] = 1
    rows = score(prediction, reference, names=("hd", "assd"), spacing=(4.0, 1.0, 0.5))
    assert row(rows["slice"], slice=1, label=1)["hd_mm"] == 1.0
    # In 3-D the predicted voxel is 1 mm from its slice's voxel; the voxel one slice on is 4 mm from it.
    assert row(rows["volume"], label=1)["hd_mm"] == 4.0
    assert row(rows["volume"], label=1)["assd_mm"] == pytest.approx((1 + 1 + 4) / 3)


def test_every_component_of_the_reference_is_an_instance_corners_joined(score):
    reference = np.zeros((1, 5, 5), np.uint8)
    reference[0, 0, 0] = reference[0, 1, 1] = reference[0, 4, 4] = 1
    assert row(score(reference, reference)["slice"], label=1)["num_instances"] == 2


def test_instance_rows_come_from_prompts_before_composition(score):
    reference = np.zeros((1, 4, 4), np.uint8)
    component, answer = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    component[0, :2] = answer[0, :3] = True
    prompted = [PromptedMask(0, 2, 1, Box(0, 0, 1, 0), answer, component)]
    (found,) = score(reference, reference, prompted=prompted)["instance"]
    assert (found["tp"], found["fp"], found["fn"], found["status"]) == (2, 1, 0, "ok")
    assert found["box"] == "0 0 1 0"
    assert found["label_name"] == "two"


def test_masks_made_elsewhere_have_no_instance_rows(score):
    assert score(*two_slices())["instance"] == []


def test_only_evaluated_slices_are_looked_at(score):
    rows = score(*two_slices(), names=ALL, slices=(0,))
    assert {one["slice"] for one in rows["slice"]} == {0}
    volume = row(rows["volume"], label=1)
    assert (volume["fn"], volume["num_slices"]) == (2, 1)
    assert row(rows["volume"], label=2)["status"] == "absent"


def test_a_label_that_the_table_lacks_is_named_with_its_slice(score):
    prediction, reference = two_slices()
    prediction[1, 0, 0] = 7
    with pytest.raises(
        DataError, match="phantom/anna/v1 slice 1: prediction: label 7 is not in the label table; known: 1 one, 2 two"
    ):
        score(prediction, reference)


def test_a_label_in_the_reference_that_the_table_lacks_is_named_even_where_nothing_is_predicted(score):
    prediction, reference = two_slices()
    reference[1, 3, 3] = 9
    prediction[1] = 0
    with pytest.raises(DataError, match="phantom/anna/v1 slice 1: reference: label 9 is not in the label table"):
        score(prediction, reference)
    with pytest.raises(DataError, match="slice 1: reference: label -3 is not in the label table"):
        score(prediction.astype(np.int16), np.where(reference == 9, -3, reference.astype(np.int16)))


def test_counts_beyond_32_bits_stay_whole_numbers():
    one = Overlap(2**31, 3, 5, 2**40)
    summed = total([one] * 3)
    assert (summed.tp, summed.fp, summed.fn, summed.tn) == (3 * 2**31, 9, 15, 3 * 2**40)
    assert 1 - summed.dice == pytest.approx(24 / (6 * 2**31 + 24))


def test_every_count_of_a_row_is_a_whole_number_and_they_add_up_to_the_slice(score):
    rows = score(*two_slices())
    for row_of in (*rows["slice"], *rows["volume"]):
        counts = [row_of[name] for name in ("tp", "fp", "fn", "tn")]
        assert all(type(count) is int for count in counts)
        assert sum(counts) == 16 * row_of.get("num_slices", 1)


def test_masks_on_another_grid_are_refused_with_both_shapes(score):
    with pytest.raises(DataError, match=r"prediction has shape \(1, 4, 4\) \(z, y, x\), the volume \(2, 4, 4\)"):
        score(two_slices()[0][:1], two_slices()[1])


def test_masks_of_floats_are_refused(score):
    with pytest.raises(DataError, match="prediction has type float64"):
        score(two_slices()[0].astype(float), two_slices()[1])


def test_a_metric_whose_map_is_missing_is_refused_naming_the_volume(score):
    with pytest.raises(DataError, match="phantom/anna/v1: t2 needs a t2 map; maps here: t1rho"):
        score(*two_slices(), names=("t2",), maps={"t1rho": np.ones((2, 4, 4), np.float32)})


def test_a_metric_of_ones_own_becomes_a_column_after_the_fixed_ones(score):
    @metric("pixels")
    def pixels(pair):
        yield Measurement("volume", "pixels_twice", 2.0 * pair.overlap.prediction)

    rows = score(*two_slices(), metrics=(pixels,))
    assert row(rows["volume"], label=1)["pixels_twice"] == 6.0
    text = format_csv(TABLES["volume"], stamped(rows["volume"], run="r", eval="e", split="test", protocol="box"))
    assert text.splitlines()[0].endswith(",status,pixels_twice,num_specks")


def test_all_tables_can_be_written(score):
    bones = LabelTable((Label(1, "plate", "bone"), Label(2, "bone")))
    prediction, reference = np.zeros((6, 8, 8), np.uint8), np.zeros((6, 8, 8), np.uint8)
    reference[:, :3], reference[:, 3:5] = 2, 1
    prediction[:, :3], prediction[:, 3:6] = 2, 1
    names = (*ALL, "specificity", "tissuevolume", "tissueheight", "cartilagethickness", "t2")
    rows = score(prediction, reference, names=names, labels=bones, maps={"t2": np.full((6, 8, 8), 40, np.float32)})
    for name, found in rows.items():
        text = format_csv(TABLES[name], stamped(found, run="r", eval="e", split="test", protocol="box"))
        assert len(text.splitlines()) == len(found) + 1


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(MAPS, MAPS)
def test_moving_both_masks_moves_nothing_in_volume_rows_but_the_background(score, prediction, reference):
    padding = ((1, 2), (2, 1), (3, 1))
    plain = score(prediction, reference, names=ALL, missed_distance=9.0)["volume"]
    moved = score(np.pad(prediction, padding), np.pad(reference, padding), names=ALL, missed_distance=9.0)["volume"]
    for one, other in zip(plain, moved, strict=True):
        for name in (
            "tp",
            "fp",
            "fn",
            "dice",
            "iou",
            "hd_mm",
            "hd95_mm",
            "assd_mm",
            "nsd",
            "dice_slice_mean",
            "status",
        ):
            assert one[name] == other[name] or (math.isnan(one[name]) and math.isnan(other[name])), name


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(MAPS, MAPS)
def test_swapping_the_masks_swaps_errors_and_keeps_symmetric_measures(score, prediction, reference):
    for one, other in zip(
        score(prediction, reference, names=ALL)["volume"],
        score(reference, prediction, names=ALL)["volume"],
        strict=True,
    ):
        assert (one["fp"], one["fn"]) == (other["fn"], other["fp"])
        for name in ("dice", "iou", "hd_mm", "hd95_mm", "assd_mm", "nsd"):
            assert one[name] == pytest.approx(other[name], nan_ok=True)
