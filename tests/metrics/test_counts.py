import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2ft.metrics.counts import Overlap, label_overlaps, overlap, total

MASKS = hnp.arrays(bool, (5, 6))
MAPS = hnp.arrays(np.int32, (5, 6), elements=st.integers(0, 3))


def test_counts_of_a_picture_drawn_by_hand():
    reference = np.array([[1, 1, 0], [1, 1, 0]], bool)
    prediction = np.array([[0, 1, 1], [0, 0, 0]], bool)
    found = overlap(prediction, reference)
    assert found == Overlap(tp=1, fp=1, fn=3, tn=1)
    assert (found.dice, found.iou, found.precision, found.recall) == (2 / 6, 1 / 5, 1 / 2, 1 / 4)
    assert found.specificity == 1 / 2
    assert found.volume_similarity == pytest.approx(1 - 2 / 6)


def test_a_label_in_neither_mask_has_no_ratios():
    absent = Overlap(0, 0, 0, 10)
    assert absent.status == "absent"
    assert all(math.isnan(value) for value in (absent.dice, absent.iou, absent.precision, absent.recall))


@pytest.mark.parametrize(("counts", "status"), [(Overlap(0, 0, 4, 6), "missed"), (Overlap(0, 4, 0, 6), "spurious")])
def test_a_label_in_one_mask_only_has_ratios_of_zero(counts: Overlap, status: str):
    assert counts.status == status
    assert (counts.dice, counts.iou, counts.precision, counts.recall) == (0, 0, 0, 0)


def test_dice_of_a_volume_is_not_the_mean_of_its_slices():
    slices = [Overlap(900, 50, 50, 0), Overlap(1, 4, 4, 0)]
    assert total(slices).dice == pytest.approx(2 * 901 / (2 * 901 + 54 + 54))
    assert total(slices).dice == pytest.approx(0.943, abs=5e-4)
    assert sum(one.dice for one in slices) / 2 == pytest.approx(0.574, abs=5e-4)


def test_masks_of_two_shapes_are_refused_naming_both():
    with pytest.raises(ValueError, match=r"prediction is \(2, 3\) but reference is \(3, 2\)"):
        overlap(np.zeros((2, 3), bool), np.zeros((3, 2), bool))


@given(MASKS, MASKS)
def test_dice_and_iou_do_not_care_which_mask_is_the_reference(first, second):
    one, other = overlap(first, second), overlap(second, first)
    assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp)
    assert one.dice == other.dice or math.isnan(one.dice)


@given(MAPS, MAPS)
def test_one_pass_over_label_maps_counts_what_one_mask_at_a_time_counts(prediction, reference):
    for label, found in enumerate(label_overlaps(prediction, reference, 3), start=1):
        assert found == overlap(prediction == label, reference == label)


@given(MAPS, MAPS, st.permutations([1, 2, 3]))
def test_renaming_labels_moves_counts_with_them(prediction, reference, order):
    renamed = np.array([0, *order])
    before = label_overlaps(prediction, reference, 3)
    after = label_overlaps(renamed[prediction], renamed[reference], 3)
    assert [after[new - 1] for new in order] == list(before)
