import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from sam2ft.metrics.masks.detection import detect

NAMES = ("detection_tp", "detection_fp", "detection_fn", "pq", "sq", "rq")


def picture(*blocks: tuple[int, int]) -> np.ndarray:
    """One row of pixels in which each block (start, stop) is set."""
    mask = np.zeros((1, 40), bool)
    for start, stop in blocks:
        mask[0, start:stop] = True
    return mask


def test_one_found_well_one_missed_one_made_up():
    reference, prediction = picture((0, 10), (15, 20)), picture((1, 10), (30, 35))
    found = detect(prediction, reference)
    assert (found.tp, found.fp, found.fn) == (1, 1, 1)
    assert (found.sq, found.rq) == (0.9, 0.5)
    assert found.pq == pytest.approx(0.9 * 0.5)


def test_a_pair_that_overlaps_by_exactly_half_is_no_match():
    half = detect(picture((0, 5)), picture((0, 10)))
    assert (half.tp, half.fp, half.fn, half.pq, half.sq) == (0, 1, 1, 0.0, 0.0)
    assert detect(picture((0, 6)), picture((0, 10))).tp == 1


def test_an_instance_in_two_pieces_is_found_once_by_the_larger():
    found = detect(picture((0, 7), (8, 10)), picture((0, 10)))
    assert (found.tp, found.fp, found.fn) == (1, 1, 0)


def test_components_of_slices_are_counted_in_slices_and_of_volumes_in_3_d(score):
    """A rod through three slices: three components in 2-D, one in 3-D; the prediction lacks it in the middle slice."""
    reference = np.zeros((3, 5, 5), np.uint8)
    reference[:, 1:3, 1:3] = 1
    prediction = reference.copy()
    prediction[1] = 0
    rows = score(prediction, reference, names=("detection",))
    slices = [one for one in rows["slice"] if one["label"] == 1]
    assert [(one["detection_tp"], one["detection_fn"]) for one in slices] == [(1, 0), (0, 1), (1, 0)]
    (volume,) = [one for one in rows["volume"] if one["label"] == 1]
    # Two pieces of a third each: neither covers more than half.
    assert [volume[name] for name in NAMES] == [0, 2, 1, 0, 0, 0]


def test_absent_labels_have_nothing_to_detect_and_misses_count_as_zero(score):
    reference, prediction = np.zeros((1, 5, 5), np.uint8), np.zeros((1, 5, 5), np.uint8)
    reference[0, 1, 1] = 1
    one, two = score(prediction, reference, names=("detection",))["slice"]
    assert [one[name] for name in NAMES] == [0, 0, 1, 0, 0, 0]
    assert all(math.isnan(two[name]) for name in NAMES)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(bool, (6, 7)), hnp.arrays(bool, (6, 7)))
def test_matching_is_what_comparing_every_pair_of_components_gives(prediction, reference):
    corners = np.ones((3, 3))
    (true, num_true), (predicted, num_predicted) = (
        ndimage.label(mask, structure=corners) for mask in (reference, prediction)
    )
    ious = [
        ((true == i) & (predicted == j)).sum() / ((true == i) | (predicted == j)).sum()
        for i in range(1, num_true + 1)
        for j in range(1, num_predicted + 1)
    ]
    matched = [iou for iou in ious if iou > 0.5]
    if num_true + num_predicted:
        found = detect(prediction, reference)
        assert (found.tp, found.fp, found.fn) == (len(matched), num_predicted - len(matched), num_true - len(matched))
        assert found.sum_iou == pytest.approx(sum(matched))
        assert found.pq == pytest.approx(found.sq * found.rq)


@given(st.integers(1, 5))
def test_everything_found_exactly_is_1(count):
    mask = picture(*[(8 * i, 8 * i + 4) for i in range(count)])
    found = detect(mask, mask)
    assert (found.tp, found.pq, found.sq, found.rq) == (count, 1.0, 1.0, 1.0)
