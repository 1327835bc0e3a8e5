"""Instances and specks: pictures with arithmetic."""

import numpy as np
import pytest

from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.metrics.instances import divided, mask_instances, pair_instances
from sam2ft.metrics.measurement import MaskPair
from sam2ft.metrics.scoring import Scene, ScoreSettings, score_volume


def blocks(*sizes: int, shape: tuple[int, int, int] = (3, 60, 60)) -> np.ndarray:
    """Blocks of so many voxels in the middle slice, one above the other with two rows between."""
    mask = np.zeros(shape, bool)
    row = 1
    for size in sizes:
        height = -(-size // 40)
        for number in range(size):
            mask[1, row + number // 40, 2 + number % 40] = True
        row += height + 2
    return mask


@pytest.mark.parametrize(
    ("sizes", "instances", "specks"),
    [
        ((100, 3), 1, 1),
        ((100, 5), 2, 0),  # 5 % is not below 5 %
        ((100, 4), 1, 1),
        ((80, 80, 2, 3, 1), 2, 3),
        ((200, 90), 2, 0),  # a disc in two large pieces is two instances
        ((3, 2), 2, 0),  # relative to the largest of the label
        ((), 0, 0),
    ],
)
def test_a_speck_is_below_5_percent_of_the_largest_component(sizes, instances, specks):
    mask = blocks(*sizes)
    found = mask_instances(mask, 1.0)
    assert found.numbers.max(initial=0) == instances
    assert pair_instances(mask, mask, (1.0, 1.0, 1.0)).num_specks == specks
    assert ((found.numbers > 0) | found.specks == mask).all()
    assert not (found.specks & (found.numbers > 0)).any()


@pytest.mark.parametrize(("min_mm3", "instances"), [(0.5, 3), (3.0, 3), (3.1, 2), (5.0, 2), (60.0, 0)])
def test_the_smallest_volume_can_be_given_in_mm3(min_mm3, instances):
    """Of 100, 10 and 6 voxels of half a mm3: 50, 5 and 3 mm3; an instance may be exactly as large as asked."""
    found = mask_instances(blocks(100, 10, 6), 0.5, min_mm3)
    assert found.numbers.max() == instances


def test_numbers_count_on_over_a_speck_in_raster_order():
    numbers = mask_instances(blocks(2, 100, 80), 1.0).numbers
    assert np.bincount(numbers.ravel())[1:].tolist() == [100, 80]


@pytest.mark.parametrize(
    ("shift", "expected"),
    [
        ((0, 0), 2),  # identical masks count each once
        ((0, 2), 2),  # side by side: they touch
        ((1, 2), 2),  # corner at corner
        ((0, 10), 4),  # apart: a speck each
    ],
)
def test_specks_of_both_masks_that_touch_are_one(shift, expected):
    reference, prediction = np.zeros((3, 40, 40), bool), np.zeros((3, 40, 40), bool)
    for mask, (y, x) in ((reference, (0, 0)), (prediction, shift)):
        mask[1, 2:12, 2:12] = True
        mask[1, 20 + y, 5 + x : 7 + x] = mask[1, 30 + y, 5 + x : 7 + x] = True
    assert pair_instances(prediction, reference, (1.0, 1.0, 1.0)).num_specks == expected
    swapped = pair_instances(reference, prediction, (1.0, 1.0, 1.0)).num_specks
    assert swapped == expected


def test_a_predicted_speck_in_another_instance_is_not_part_of_it():
    """The speck lies in reference instance 2, whose prediction is missed; today's number would have been 2."""
    reference = np.zeros((3, 60, 40), bool)
    reference[:, 5:15, 5:35] = reference[:, 30:40, 5:35] = True
    prediction = reference.copy()
    prediction[:, 30:40] = False
    prediction[1, 33, 10:12] = True
    pair = MaskPair(prediction, reference, Geometry.axis_aligned(reference.shape, (1.0, 1.0, 1.0)))
    assert set(np.unique(pair.prediction_instances_zyx)) == {0, 1}
    assert pair.num_specks == 1
    assert pair.prediction_instances_zyx[1, 33, 10] == 0


def test_a_prediction_on_a_speck_of_the_reference_is_an_instance_of_its_own():
    reference, prediction = blocks(100, 80, 3), blocks(100, 80, 60)
    pair = MaskPair(prediction, reference, Geometry.axis_aligned(reference.shape, (1.0, 1.0, 1.0)))
    assert set(np.unique(pair.prediction_instances_zyx)) == {0, 1, 2, 3}
    assert set(np.unique(pair.reference_instances_zyx)) == {0, 1, 2}


def touching(*widths: int, gap: int = 0, shape: tuple[int, int, int] = (3, 12, 60)) -> np.ndarray:
    """Ids 7, 17, 27, ... side by side in blocks of 8 rows."""
    ids = np.zeros(shape, np.int32)
    column = 2
    for number, width in enumerate(widths):
        ids[:, 2:10, column : column + width] = 7 + 10 * number
        column += width + gap
    return ids


LABELS = LabelTable((Label(1, "cell"), Label(2, "other")))


def scored(prediction, reference, ids, *, metrics=(), **scene):
    from sam2ft.metrics.factory import load_metrics

    geometry = Geometry.axis_aligned(reference.shape, (1.0, 1.0, 1.0))
    made = load_metrics(dict.fromkeys(metrics, True))
    given = Scene(geometry, LABELS, reference_instances_zyx=ids, **scene)
    return score_volume(VolumeKey("d", "s", "v"), prediction, reference, given, (), made, ScoreSettings())


@pytest.mark.parametrize("widths", [(8, 8), (8, 8, 8), (5, 15, 9, 7)])
@pytest.mark.parametrize("gap", [0, 3])
def test_given_ids_are_the_instances_and_identical_masks_are_perfect(widths, gap):
    ids = touching(*widths, gap=gap)
    mask = (ids > 0).astype(np.uint8)
    rows = scored(mask, mask, ids, metrics=("detection",))
    volume = next(row for row in rows["volume"] if row["label"] == 1)
    assert [row["num_instances"] for row in rows["slice"] if row["label"] == 1] == [len(widths)] * 3
    assert (volume["detection_tp"], volume["detection_fp"], volume["detection_fn"]) == (len(widths), 0, 0)
    assert (volume["pq"], volume["num_specks"]) == (1.0, 0)
    pair = MaskPair(mask > 0, mask > 0, Geometry.axis_aligned(mask.shape, (1.0, 1.0, 1.0)), given_instances_zyx=ids)
    assert (pair.reference_instances_zyx == ids).all()
    assert (pair.prediction_instances_zyx == ids).all()


def test_without_ids_touching_instances_are_one():
    ids = touching(8, 8, 8)
    mask = (ids > 0).astype(np.uint8)
    rows = scored(mask, mask, None, metrics=("detection",))
    assert [row["num_instances"] for row in rows["slice"] if row["label"] == 1] == [1] * 3
    assert rows["volume"][0]["detection_tp"] == 1


def test_a_prediction_over_touching_instances_is_divided_and_a_missed_one_stays_missed():
    """A prediction of the first two of three, two voxels too wide: the third has 2 of 20 columns, but 2 < 5 % of 60."""
    ids = touching(20, 20, 20, shape=(3, 12, 70))
    numbers = np.searchsorted(np.unique(ids), ids).astype(np.int32)
    prediction = (numbers == 1) | (numbers == 2)
    prediction[:, 1] = prediction[:, 2]  # a row more
    prediction[1, 4, 42] = True
    parts, count = divided(prediction, numbers, (1.0, 1.0, 1.0))
    assert count == 2
    assert set(np.unique(parts[:, 1:10, 2:22])) == {1}
    assert set(np.unique(parts[:, 1:10, 22:42])) == {2}
    found = pair_instances(prediction, numbers > 0, (1.0, 1.0, 1.0), given=ids)
    assert set(np.unique(found.prediction)) == set(np.unique(ids)[:3])
    assert found.num_specks == 0


def test_an_instance_in_several_pieces_is_one_and_its_specks_are_left_out():
    """Id 1 lies in two halves and a speck, id 2 beside: both halves are one instance, in both masks."""
    ids = np.zeros((3, 40, 40), np.int32)
    ids[:, 2:10, 2:10] = ids[:, 20:28, 2:10] = 1
    ids[:, 2:10, 20:30] = 2
    ids[1, 35, 35] = 1
    mask = ids > 0
    found = pair_instances(mask, mask, (1.0, 1.0, 1.0), given=ids)
    assert found.num_specks == 1
    expected = np.where((np.indices(ids.shape)[1] == 35), 0, ids)
    assert (found.reference == expected).all()
    assert (found.prediction == expected).all()
    rows = scored(mask.astype(np.uint8), mask.astype(np.uint8), ids, metrics=("detection",))
    assert rows["volume"][0]["pq"] > 0.99


@pytest.mark.parametrize("spoil", [lambda ids: ids[1:], lambda ids: ids * 1.0, lambda ids: np.where(ids == 7, 0, ids)])
def test_ids_that_do_not_fit_the_mask_are_refused_in_one_line(spoil):
    from sam2ft.core.errors import DataError

    ids = touching(8, 8)
    mask = (ids > 0).astype(np.uint8)
    with pytest.raises(DataError) as caught:
        scored(mask, mask, spoil(ids))
    assert "\n" not in str(caught.value)
    assert "instance id" in str(caught.value)


def test_a_label_without_ids_keeps_its_components():
    ids = touching(8, 8)
    mask = (ids > 0).astype(np.uint8)
    mask[:, 2:10, 30:34] = mask[:, 2:10, 40:44] = 2
    rows = scored(mask, mask, ids)
    assert [row["num_instances"] for row in rows["slice"] if row["slice"] == 1] == [2, 2]


def test_the_smallest_volume_of_a_scene_reaches_the_column():
    mask = blocks(100, 10, 6).astype(np.uint8)
    specks = [scored(mask, mask, None, instances_min_mm3=low)["volume"][0]["num_specks"] for low in (None, 7.0, 11.0)]
    assert specks == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_properties_of_random_masks(seed):
    rng = np.random.default_rng(seed)
    reference, prediction = (rng.random((4, 14, 14)) < 0.25 for _ in range(2))
    ids = rng.integers(1, 5, reference.shape) * reference
    for given in (None, ids):
        found = pair_instances(prediction, reference, (2.0, 1.0, 1.0), given=given)
        same = pair_instances(reference, reference, (2.0, 1.0, 1.0), given=given)
        assert not (found.reference[~reference]).any()
        assert not (found.prediction[~prediction]).any()
        assert found.num_specks >= 0
        if given is None:
            assert (same.reference == same.prediction).all()
            numbers = np.unique(found.reference)
            assert numbers.tolist() == list(range(len(numbers)))


@pytest.mark.parametrize("ids", [(1, 2, 7), (2, 3, 4), (11, 500, 65535)])
def test_given_ids_stay_what_they_are_and_what_belongs_to_none_follows_after_them(ids):
    given = np.zeros((3, 12, 40), np.int32)
    for number, one in enumerate(ids):
        given[:, 1:5, 1 + 8 * number : 7 + 8 * number] = one
    given[1, 7, 1] = 65536 if ids[-1] == 65535 else ids[-1] + 1  # a speck: its id is not given away
    prediction = given > 0
    prediction[:, 1:5, 30:38] = True
    prediction[1, 7, 1] = False
    found = pair_instances(prediction, given > 0, (1.0, 1.0, 1.0), given=given, min_mm3=5)
    assert tuple(np.unique(found.reference)) == (0, *ids)
    extra = int(given.max()) + 1
    assert tuple(np.unique(found.prediction)) == (0, *ids, extra)
    assert (found.prediction[:, 1:5, 30:38] == extra).all()


def test_many_given_ids_cost_what_their_voxels_cost():
    given = np.zeros((16, 256, 256), np.uint16)
    for number in range(1024):
        row, column = divmod(number, 32)
        given[2:14, 8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7] = number + 1
    found = mask_instances(given > 0, 1.0, None, given)
    assert (found.numbers == given).all()
